"""How much of what channels hold is not zero, where zeros arise."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np

from keras_gcp.backend.calls import as_floats, examples_that_fit, inputs_that_fit, run_calls
from keras_gcp.channels.map import ChannelMap
from keras_gcp.graph import Call, Tensor
from keras_gcp.sample import DrawnSample


def channel_densities(
    model: Any, channels: ChannelMap, sample: DrawnSample, batch_size: int = 256
) -> np.ndarray:
    """The share of values that are not zero, for each set of coupled channels.

    It is taken where zeros arise: at the output of an activation function (of a layer of its own,
    or of the layer that makes the channels), and of whatever else gives back more zeros than it
    was given, in the same shape. What pooling or the next layer makes of them does not count. Of
    several such places, as in a residual stream, the mean.

    Args:
        model: The model.
        channels: Its channel map.
        sample: Examples, all of which are used.
        batch_size: Examples per pass; bounds the memory.

    Returns:
        `(coupled_count,)`, in [0, 1]; 1 for channels without such a place.
    """
    places: dict[int, np.ndarray] = {}
    size = min(batch_size, examples_that_fit(model, channels.graph, sample))
    for start in range(0, len(sample), size):
        part = sample.rows(np.arange(start, min(start + size, len(sample))))
        for index, counts in _counts(model, channels, part).items():
            places[index] = places.get(index, 0) + counts
    densities, numbers = np.zeros((2, channels.coupled_count))
    for alive, total in places.values():
        present = total > 0
        densities[present] += alive[present] / total[present]
        numbers += present
    return np.where(numbers > 0, densities / np.maximum(numbers, 1), 1.0)


def _counts(model: Any, channels: ChannelMap, sample: DrawnSample) -> dict[int, np.ndarray]:
    """Tensor index to `(2, coupled_count)`, values that are not zero and all values."""
    graph, found = channels.graph, {}
    shares: dict[int, float] = {}
    inputs = inputs_that_fit(model, graph, sample, len(sample))
    for call, values in run_calls(model, graph, inputs):
        for y in call.outputs:
            block = channels.tensors[y.index]
            if not channels.prunable[block].any():
                continue
            alive = as_floats(values[y.index]) != 0
            shares[y.index] = float(alive.mean())
            if not _zeros_arise(call, y, shares, channels):
                continue
            coupled = np.broadcast_to(block, alive.shape[1:]).reshape(-1)
            counts = np.zeros((2, channels.coupled_count))
            np.add.at(counts[0], coupled, alive.reshape(len(alive), -1).sum(axis=0))
            np.add.at(counts[1], coupled, len(alive))
            found[y.index] = counts
    return found


def _zeros_arise(call: Call, y: Tensor, shares: dict[int, float], channels: ChannelMap) -> bool:
    block = channels.tensors[y.index]
    alike = [
        shares[x.index]
        for x in call.inputs
        if x.index in shares
        and x.shape == y.shape
        and np.array_equal(channels.tensors[x.index], block)
    ]
    if alike:
        return _is_activation(call) or shares[y.index] < min(alike)
    return _is_activation(call)


def _is_activation(call: Call) -> bool:
    """Whether a call ends in a function of each value that may make zeros of it."""
    layer: Any = getattr(call.operation, "layer", call.operation)  # TimeDistributed
    if isinstance(layer, keras.layers.ReLU):
        return True
    function = getattr(layer, "activation", None)
    return callable(function) and function is not keras.activations.linear
