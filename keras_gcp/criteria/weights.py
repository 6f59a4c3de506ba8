"""The weights that belong to the channels of a producing layer."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from keras import ops

from keras_gcp.channels.map import ChannelMap, Weight
from keras_gcp.errors import UnsupportedModel


def operations_by_path(channels: ChannelMap) -> dict[str, Any]:
    """Path to layer, for every layer of the model."""
    return {call.path: call.operation for call in channels.graph.calls}


def own_weights(channels: ChannelMap, operation: Any) -> list[Weight]:
    """The labelled weights of one layer."""
    found = [channels.weights.get(id(variable)) for variable in operation.weights]
    return [weight for weight in found if weight is not None]


def kernels(channels: ChannelMap, path: str, operation: Any) -> list[tuple[Weight, int]]:
    """The layer's weights along one axis of which its channels begin, with that axis.

    Raises:
        UnsupportedModel: the layer's rule declares no such weight.
    """
    width = len(channels.produced[path])
    found = [
        (weight, axis)
        for weight in own_weights(channels, operation)
        for axis in weight.produced
        if weight.variable.shape[axis] == width
    ]
    if not found:
        raise UnsupportedModel(
            f"Layer '{path}' (class {type(operation).__name__}) produces channels, but its rule "
            "declares no weight whose axis they lie along, so they cannot be scored by weights. "
            "Declare it with `site.weight(..., produces={axis: labels})`."
        )
    return found


def channel_norms(
    channels: ChannelMap, path: str, operation: Any, norm: Callable[[np.ndarray], np.ndarray]
) -> np.ndarray:
    """`norm` of `(width, entries)`, all that the layer's kernels have for each channel."""
    rows = [
        np.moveaxis(ops.convert_to_numpy(weight.variable), axis, 0).reshape(
            weight.variable.shape[axis], -1
        )
        for weight, axis in kernels(channels, path, operation)
    ]
    return norm(np.concatenate(rows, axis=1).astype(np.float64))
