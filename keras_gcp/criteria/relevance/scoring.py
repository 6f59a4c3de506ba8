"""Relevance of the channels of whole layers, over many examples."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
from keras import ops

from keras_gcp import backend, keras_state
from keras_gcp.channels.map import ChannelMap
from keras_gcp.channels.trace import trace_as_planned
from keras_gcp.classification.asker import Asker
from keras_gcp.classification.head import Head, find_head
from keras_gcp.classification.targets import Targets, hits, negated, start, targets_of
from keras_gcp.criteria.relevance.backward_pass import BackwardPass, Probe
from keras_gcp.criteria.relevance.backward_route import find_route
from keras_gcp.criteria.relevance.rules import Compiler
from keras_gcp.criteria.relevance.statistics import (
    ClassStatistics,
    checked_class_weights,
    mean_over_classes,
    normalised,
)
from keras_gcp.graph import Call, Graph, Tensor
from keras_gcp.sample import DrawnSample, draw_sample
from keras_gcp.validation import require_integer

DEFAULT_BATCH_SIZE = 64

ASKER = Asker(
    "feature_relevance",
    "For other tasks take another criterion, e.g. criterion='taylor' or 'l2_norm'.",
)
"""Relevance starts at the class that an example has."""

Probes = Mapping[str, Sequence[Probe]]
"""Layer to its tensors: one for each call."""


def relevance_scores(
    model: Any,
    x: Any,
    y: Any,
    class_weights: Any = None,
    *,
    batch_size: int = DEFAULT_BATCH_SIZE,
) -> dict[str, np.ndarray]:
    """How relevant each channel of each layer is for telling the classes apart.

    Layer-wise relevance propagation from the true classes of every example, after Aketi et al.,
    "Gradual Channel Pruning While Training Using Feature Relevance Scores for Convolutional
    Neural Networks" (IEEE Access, 2020): the relevance at a layer's output is averaged over
    space and over the examples of each class, the classes are weighted and averaged, and the
    absolute values divided by their L2 norm.

    The output's shape and last activation tell the kind of classifier; the compiled loss does where
    there is no activation:

    - multi-class, `(batch, classes)`: softmax, or logits;
    - binary, `(batch, 1)`: sigmoid, or logits. Class 0 is explained by minus the logit: by the
      last weighted layer with its kernel negated;
    - multi-label, `(batch, classes)`: sigmoid, or logits compiled with a binary cross-entropy.
      Every pair of an example and a class present in it counts as an example;
    - per place, `(batch, ..., classes)`, such as a class for every pixel: one of the above. Every
      pair of an example and a class present in it counts; its relevance starts in equal shares at
      the places of that class.

    Args:
        model: A built functional or sequential classifier with one output.
        x: Inputs, `(examples, ...)`, or a list or dict of arrays for several inputs.
        y: True classes: `(examples,)` integers (0 or 1 for a binary head), or rows `(examples,
            classes)`, one-hot, for a multi-label head with any number of ones. Per place:
            `(examples, ...)` or `(examples, ..., classes)`. A class without examples is left out of
            the mean, and so is an example without a class, with a warning.
        class_weights: One weight of 0 or more per class; None takes
            `sigmoid(1 / (accuracy of the class / best accuracy))` with the model's own accuracies
            on `x` and `y` (multi-label: how often a class present is predicted; per place: at how
            many of its places).
        batch_size: Examples per pass; bounds the memory. The scores do not depend on it.

    Returns:
        Dict: name of the layer (`"model/layer"` in a nested model) to scores `(channels,)`, for
        every layer and `keras.ops` operation with one output of rank 2 or more. The calls of a
        layer that is used several times are added; if they differ in width, it is left out.

    Raises:
        UnsupportedModel: the model is not a classifier, has several outputs, or a layer has no
            relevance rule.
        InvalidArgument: `x`, `y` or `class_weights` do not fit the model.

    Example:

    ```python
    scores = keras_gcp.relevance_scores(model, x_train[:512], y_train[:512])
    least = np.argsort(scores["conv3"])[:8]  # the eight least relevant channels
    ```
    """
    batch_size = require_integer("batch_size", batch_size, least=1)
    channels = trace_as_planned(model)
    probes = {}
    for path, calls in _calls_by_path(channels).items():
        found = [probe for call in calls if (probe := output_probe(call, channels)) is not None]
        if found and len({probe.channels for probe in found}) == 1:
            probes[path] = found
    return score_probes(model, channels, probes, x, y, class_weights, batch_size)


def score_probes(
    model: Any,
    channels: ChannelMap,
    probes: Probes,
    x: Any,
    y: Any,
    class_weights: Any = None,
    batch_size: int = DEFAULT_BATCH_SIZE,
) -> dict[str, np.ndarray]:
    """Scores of chosen tensors; arguments and result as for `relevance_scores`."""
    head = find_head(model, channels.graph, ASKER)
    sample = draw_sample(DrawnSample(x, y), None, None, model)
    targets = targets_of(head, sample.y, ASKER)
    if class_weights is not None:
        class_weights = checked_class_weights(class_weights, head.classes)
    flat = [probe for found in probes.values() for probe in found]
    statistics = ClassStatistics.empty(head.classes, sum(probe.channels for probe in flat))
    for rows, measured in over_units(
        partial(_measured, head=head), model, channels.graph, flat, targets, sample.x, batch_size
    ):
        relevance, finite, right, trials = (
            ops.convert_to_numpy(part)[: len(rows)] for part in measured
        )
        statistics.add(relevance, finite, targets.classes[rows], right, trials)
    _report_left_out(targets, len(sample))
    return _by_layer(mean_over_classes(statistics, class_weights), probes)


def over_units(
    measure: Callable[..., Any],
    model: Any,
    graph: Graph,
    probes: Sequence[Probe],
    targets: Targets,
    x: Any,
    batch_size: int,
) -> Iterator[tuple[np.ndarray, Any]]:
    """Propagates relevance for all targets, batch by batch, compiled where that pays.

    Args:
        measure: Pure function `(backward_pass, weights, inputs, classes, mask) -> tensors`.
        model: The model.
        graph: Its graph.
        probes: Where the relevance is wanted.
        targets: What is propagated.
        x: The model's inputs of all examples.
        batch_size: Targets per batch.

    Yields:
        `(rows, measured)`: which targets, and the tensors of a whole batch; rows after
        `len(rows)` are repetitions.
    """
    batch_size = keras_state.fixed_batch(model) or batch_size
    as_a_whole = backend.worth_compiling(model, len(targets), batch_size)
    route = find_route(graph, {probe.tensor for probe in probes})
    compiler = Compiler(wanted=not as_a_whole)
    states = keras_state.fresh_states(model)
    backward_pass = BackwardPass(route, probes, model.weights, compiler, states)
    run: Any = partial(measure, backward_pass)
    if as_a_whole:
        run = backend.compiled(run, model)
    weights = backend.local_weights(model)
    for rows, inputs, classes, mask in unit_batches(targets, x, model, graph, batch_size):
        yield rows, run(weights, inputs, classes, mask)
    backend.forget_gradients(run)


def _measured(
    backward_pass: BackwardPass, weights: Any, inputs: Any, classes: Any, mask: Any, *, head: Head
) -> tuple[Any, Any, Any, Any]:
    """One batch, a pure function of tensors: relevance, finite outputs, hits and trials."""
    relevance, outputs = backward_pass(
        weights, inputs, partial(start, head, classes, mask), negated(head, classes)
    )
    finite = ops.all(ops.isfinite(outputs), axis=tuple(range(1, len(outputs.shape))))
    return relevance, finite, *hits(head, classes, mask, outputs)


def unit_batches(
    targets: Targets, x: Any, model: Any, graph: Graph, batch_size: int
) -> Iterator[tuple[np.ndarray, list[Any], Any, Any]]:
    """Batches of targets, all of one size, as tensors.

    Yields:
        `(rows, inputs, classes, mask)`: which targets; and of these, filled up with repetitions to
        the size of a batch, so that what was compiled for the first one fits: the model's inputs,
        the classes `(targets,)`, and where they are present `(targets, ...)`.
    """
    arrays = keras_state.ordered_inputs(model, x)
    size = keras_state.fixed_batch(model) or min(batch_size, len(targets))
    for first in range(0, len(targets), size):
        rows = np.arange(first, min(first + size, len(targets)))
        filled = np.resize(rows, size)
        inputs = [
            ops.convert_to_tensor(array[targets.examples[filled]], dtype=tensor.dtype)
            for array, tensor in zip(arrays, graph.inputs, strict=True)
        ]
        classes = ops.convert_to_tensor(targets.classes[filled])
        yield rows, inputs, classes, ops.convert_to_tensor(targets.mask(filled))


def _report_left_out(targets: Targets, examples: int) -> None:
    without = examples - len(np.unique(targets.examples))
    if without:
        warnings.warn(
            f"{without} of {examples} examples have no class and are left out of the channel "
            "scores.",
            stacklevel=2,
        )


def output_probe(call: Call, channels: ChannelMap) -> Probe | None:
    """What to measure at the output of a call; None if it has no channel axis."""
    return tensor_probe(call, call.outputs[0], channels) if len(call.outputs) == 1 else None


def tensor_probe(call: Call, output: Tensor, channels: ChannelMap) -> Probe | None:
    """What to measure at one of the outputs of a call; None if it has no channel axis."""
    if len(output.shape) < 2:
        return None
    axis = _channel_axis(call, output, channels)
    size = output.shape[axis]
    if size is None:
        return None
    return Probe(output.index, axis, size, in_steps=bool(call.repeats))


def _channel_axis(call: Call, output: Tensor, channels: ChannelMap) -> int:
    """Where the channels of an output of a call lie, batch axis counted."""
    rank = len(output.shape)
    if rank > 2 and getattr(call.operation, "data_format", None) == "channels_first":
        return 1
    block = channels.tensors[output.index]
    varying = [axis + 1 for axis, size in enumerate(block.shape) if size > 1]
    return varying[0] if len(varying) == 1 else rank - 1


def _calls_by_path(channels: ChannelMap) -> dict[str, list[Call]]:
    calls: dict[str, list[Call]] = {}
    for call in channels.graph.calls:
        calls.setdefault(call.path, []).append(call)
    return calls


def _by_layer(relevance: np.ndarray, probes: Probes) -> dict[str, np.ndarray]:
    scores = {}
    start = 0
    for path, found in probes.items():
        width = found[0].channels
        end = start + width * len(found)
        scores[path] = normalised(relevance[start:end].reshape(-1, width).sum(axis=0))
        start = end
    return scores
