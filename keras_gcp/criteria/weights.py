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
    """The weights with channels of one layer."""
    found = [channels.weights.get(id(variable)) for variable in operation.weights]
    return [weight for weight in found if weight is not None]


def kernels(channels: ChannelMap, path: str, operation: Any) -> list[tuple[Weight, int]]:
    """The layer's weights along one axis of which its channels begin, with that axis.

    A recurrent layer has several matrices side by side, so a channel several places on that axis.

    Raises:
        UnsupportedModel: the layer's rule declares no such weight.
    """
    produced = channels.produced[path]
    found = [
        (weight, axis)
        for weight in own_weights(channels, operation)
        for axis in weight.produced
        if len(weight.axes[axis]) == len(produced) or np.isin(produced, weight.axes[axis]).all()
    ]
    if not found:
        raise UnsupportedModel(
            f"Layer '{path}' (class {type(operation).__name__}) produces channels, but its rule "
            "declares no weight whose axis they lie along, so they cannot be scored by weights. "
            "Declare it with `site.weight(..., produces={axis: ids})`."
        )
    return found


def channel_norms(
    channels: ChannelMap, path: str, operation: Any, norm: Callable[[np.ndarray], np.ndarray]
) -> np.ndarray:
    """`norm` of `(width, entries)`, all that the layer's kernels have for each channel."""
    produced = channels.produced[path]
    rows = [
        by_channel(ops.convert_to_numpy(weight.variable), weight.axes[axis], axis, produced)
        for weight, axis in kernels(channels, path, operation)
    ]
    return norm(np.concatenate(rows, axis=1).astype(np.float64))


def by_channel(
    values: np.ndarray, coupled: np.ndarray, axis: int, produced: np.ndarray
) -> np.ndarray:
    """`(width, entries)`: what an array has for each channel that a layer produces.

    Args:
        values: An array of a weight's shape.
        coupled: The coupled channels along an axis of it.
        axis: That axis.
        produced: The coupled channels that the layer produces, `(width,)`.
    """
    rows = np.moveaxis(values, axis, 0).reshape(len(coupled), -1)
    if len(coupled) == len(produced):
        return rows
    places = [np.flatnonzero(coupled == one) for one in produced]
    most = max(len(found) for found in places)
    padded = [np.pad(found, (0, most - len(found)), constant_values=-1) for found in places]
    rows = np.concatenate([rows, np.zeros_like(rows[:1])])  # where a channel has fewer places
    return rows[np.array(padded)].reshape(len(produced), -1)
