"""Who reads channels: the weights that sum over them, and what these are multiplied with."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from keras_gcp.backend.calls import as_floats, inputs_that_fit, run_calls
from keras_gcp.channels.map import ChannelMap, Weight
from keras_gcp.criteria.base import prunable_layers
from keras_gcp.errors import UnsupportedModel
from keras_gcp.graph import Call, Tensor
from keras_gcp.sample import DrawnSample


@dataclass(frozen=True, eq=False)
class Reader:
    """A weight that sums over channels, in one call of its layer.

    Attributes:
        call: The call.
        weight: The weight.
        axis: Along this axis.
        source: The tensor with these channels: an input; the output where a recurrent layer reads
            its own units.
    """

    call: Call
    weight: Weight
    axis: int
    source: Tensor

    @property
    def coupled(self) -> np.ndarray:
        """The coupled channels along the axis."""
        return self.weight.axes[self.axis]


def readers_of(channels: ChannelMap) -> Iterator[Reader]:
    """All weights that sum over channels that may be pruned, in network order."""
    for call in channels.graph.calls:
        for variable in call.weights:
            weight = channels.weights.get(id(variable))
            if weight is None:
                continue
            for axis in weight.consumed:
                if channels.prunable[weight.axes[axis]].any():
                    yield Reader(call, weight, axis, _source(call, weight.axes[axis], channels))


def require_readers(criterion: str, channels: ChannelMap) -> None:
    """Refuses channels that nothing with weights reads.

    Raises:
        UnsupportedModel: there are some.
    """
    read = np.zeros(channels.coupled_count, bool)
    for reader in readers_of(channels):
        read[reader.coupled] = True
    for path in prunable_layers(channels):
        coupled = channels.produced[path]
        if not read[coupled[channels.prunable[coupled]]].all():
            raise UnsupportedModel(
                f"Criterion '{criterion}' scores channels by the layers that read them, and some "
                f"channels of layer '{path}' are read by no layer with weights. Take another "
                "criterion, e.g. criterion='l2_norm'."
            )


def readers_with_inputs(
    model: Any, channels: ChannelMap, sample: DrawnSample, examples: int
) -> Iterator[tuple[Reader, np.ndarray]]:
    """Runs the model call by call; gives every reader with what it reads.

    Args:
        model: The model.
        channels: Its channel map.
        sample: Examples.
        examples: At most so many of them are used, and as many as fit into some 512 MB per tensor.
    """
    by_call: dict[int, list[Reader]] = {}
    for reader in readers_of(channels):
        by_call.setdefault(id(reader.call), []).append(reader)
    inputs = inputs_that_fit(model, channels.graph, sample, examples)
    for call, values in run_calls(model, channels.graph, inputs):
        for reader in by_call.get(id(call), []):
            yield reader, as_floats(values[reader.source.index])


Scored = Callable[[Reader, np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]
"""A reader, what it reads, and the coupled channels of that, to (coupled channels, scores)."""


def summed_over_readers(
    model: Any, channels: ChannelMap, sample: DrawnSample, examples: int, scored: Scored
) -> dict[str, np.ndarray]:
    """Scores of channels, added over all that reads them. Arguments as above."""
    total = np.zeros(channels.coupled_count)
    for reader, x in readers_with_inputs(model, channels, sample, examples):
        coupled, scores = scored(reader, x, channels.tensors[reader.source.index])
        np.add.at(total, coupled, scores)
    return {path: total[channels.produced[path]] for path in prunable_layers(channels)}


def _source(call: Call, coupled: np.ndarray, channels: ChannelMap) -> Tensor:
    for x in (*call.inputs, *call.outputs):
        if np.isin(coupled, channels.tensors[x.index]).all():
            return x
    return call.inputs[0]
