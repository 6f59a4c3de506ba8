"""Where relevance is kept, lost or blown up on its way through a network."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from types import MappingProxyType
from typing import Any

import numpy as np
from keras import ops

from keras_gcp.channels.trace import trace_as_planned
from keras_gcp.classification.head import Head, find_head
from keras_gcp.classification.targets import negated, start, targets_of
from keras_gcp.criteria.relevance.backward_pass import BackwardPass, Probe
from keras_gcp.criteria.relevance.scoring import ASKER, DEFAULT_BATCH_SIZE, over_units
from keras_gcp.graph import Graph
from keras_gcp.sample import DrawnSample, draw_sample


@dataclass(frozen=True)
class Conservation:
    """Relevance of one tensor, in targets of what starts at the output.

    Attributes:
        total: Sum over the tensor, mean over the examples. 1 where all relevance has to pass, less
            on one of several branches.
        least: The smallest sum of an example.
        greatest: The greatest sum of an example.
        peak: The largest absolute relevance of a single element of any example.
    """

    total: float
    least: float
    greatest: float
    peak: float


def conservation_report(
    model: Any, x: Any, y: Any, batch_size: int = DEFAULT_BATCH_SIZE
) -> Mapping[str, Conservation]:
    """How much relevance arrives at every layer, and whether single elements blow up.

    A check of relevance scores on a network: alpha-beta conserves the sum, so what arrives at the
    model's inputs should be 1, except where layers credit gates (more) or features end, as in an
    embedding (less). Scores are means over examples and places; a peak far above 1 says that a
    few places of a few examples decide them.

    Args:
        model: A classifier, as for `keras_gcp.relevance_scores`.
        x: Inputs.
        y: True classes.
        batch_size: Examples per pass; bounds the memory.

    Returns:
        Dict in network order: name of the model's input or of the layer to its `Conservation`. A
        layer called several times, or with several outputs, has one entry for each, named
        `"layer:1"` and so on. Layers that no relevance reaches are missing.

    Raises:
        UnsupportedModel: the model is not a classifier, or a layer has no relevance rule.
        InvalidArgument: `x` or `y` does not fit the model.

    Example:

    ```python
    for name, found in conservation_report(model, x_test[:64], y_test[:64]).items():
        print(f"{name:30} {found.total:8.3f} {found.peak:8.3f}")
    ```
    """
    channels = trace_as_planned(model)
    head = find_head(model, channels.graph, ASKER)
    sample = draw_sample(DrawnSample(x, y), None, None, model)
    targets = targets_of(head, sample.y, ASKER)
    names = _names(channels.graph)
    probes = [Probe(index, -1, 0) for index in names]
    sums: dict[int, list[np.ndarray]] = {}
    peaks: dict[int, float] = {}
    for rows, measured in over_units(
        partial(_sums_and_peaks, head=head),
        model,
        channels.graph,
        probes,
        targets,
        sample.x,
        batch_size,
    ):
        for index, (total, peak) in measured.items():
            sums.setdefault(index, []).append(ops.convert_to_numpy(total)[: len(rows)])
            peaks[index] = max(peaks.get(index, 0.0), float(ops.convert_to_numpy(peak)))
    return MappingProxyType(
        {
            name: _summary(np.concatenate(sums[index]), peaks[index])
            for index, name in names.items()
            if index in sums
        }
    )


def _summary(totals: np.ndarray, peak: float) -> Conservation:
    return Conservation(float(totals.mean()), float(totals.min()), float(totals.max()), peak)


def _sums_and_peaks(
    backward_pass: BackwardPass, weights: Any, inputs: Any, classes: Any, mask: Any, *, head: Head
) -> dict[int, tuple[Any, Any]]:
    found, outputs = backward_pass.tensors(
        weights, inputs, partial(start, head, classes, mask), negated(head, classes)
    )
    examples = ops.shape(outputs)[0]  # Inside a repeated model, a tensor has more rows than that.
    return {
        index: (ops.sum(ops.reshape(r, (examples, -1)), axis=1), ops.max(ops.abs(r)))
        for index, r in found.items()
    }


def _names(graph: Graph) -> dict[int, str]:
    """Tensor to name, for every tensor with an axis besides the batch axis."""
    tensors = [(f"input {place}", x) for place, x in enumerate(graph.inputs)]
    tensors += [(call.path, y) for call in graph.calls for y in call.outputs]
    counts: dict[str, int] = {}
    names = {}
    for name, x in tensors:
        place = counts[name] = counts.get(name, -1) + 1
        if len(x.shape) > 1:
            names[x.index] = f"{name}:{place}" if place else name
    return names
