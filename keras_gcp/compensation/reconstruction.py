"""What is reconstructed, layer class by layer class: kernels, biases, and means of normalizations.

Every function sees one layer in the wide network and in the cut one, and returns new values of its
variables. A layer without an entry in the table runs as it is, with removed channels masked.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from keras import layers, ops

from keras_gcp import keras_state
from keras_gcp.backend.calls import as_floats
from keras_gcp.channels.opaque import WITH_KERNEL
from keras_gcp.channels.patches import channel_axis, channels_last, geometry_of, some_places
from keras_gcp.channels.registry import entry_for
from keras_gcp.compensation import readers
from keras_gcp.compensation.least_squares import correction
from keras_gcp.compensation.place import Place, Reconstruct, Values

_CHECKED_ROWS = 32


def reconstruction_for(layer: Any) -> Reconstruct | None:
    """How a layer is reconstructed; None if it is left as it is."""
    return entry_for(layer, _RECONSTRUCTIONS)


def _reconstruct_affine(place: Place) -> Values:
    """Kernel by least squares where channels that it reads have gone, then the bias."""
    layer = place.layer
    values: Values = {}
    if place.settings.method == "least_squares" and place.reads_removed:
        values.update(_refitted_kernel(place))
    if place.settings.method is not None and getattr(layer, "bias", None) is not None:
        missing = as_floats(place.wide_output) - as_floats(place.run(values))
        shift = _mean_by_channel(missing, channel_axis(layer, missing.ndim))
        bias = ops.convert_to_numpy(layer.bias)
        values[id(layer.bias)] = (bias + shift).astype(bias.dtype)
    return values


def _refitted_kernel(place: Place) -> Values:
    kernel, axis = _kernel_of(place)
    if kernel is None:
        return {}
    x = channels_last(place.layer, as_floats(place.narrow_inputs[0]))
    present = channels_last(place.layer, as_floats(place.run({})))
    wanted = channels_last(place.layer, as_floats(place.wide_output))
    geometry = geometry_of(place.layer, x.shape[1:-1])
    if geometry is None:
        return {}
    if not geometry.sizes:
        x, present, wanted = (a.reshape(-1, a.shape[-1]) for a in (x, present, wanted))
    kept = place.keep[place.channels.weights[id(kernel)].axes[axis]]
    entries = math.prod(geometry.sizes) * int(kept.sum())
    at = some_places(wanted.shape[:-1], entries)
    rows = geometry.rows(x[..., kept], at)
    old = ops.convert_to_numpy(kernel).astype(rows.dtype)
    narrow = old[..., kept, :]
    if not _reproduces(rows, narrow, present[at], place.layer):
        return {}
    has_bias = getattr(place.layer, "bias", None) is not None
    change = correction(rows, wanted[at] - present[at], has_bias or place.before_normalization)
    new = np.zeros_like(old)
    new[..., kept, :] = narrow + change.reshape(narrow.shape)
    return {id(kernel): new}


def _reproduces(rows: np.ndarray, kernel: np.ndarray, outputs: np.ndarray, layer: Any) -> bool:
    """Whether the patches are what the layer really sums over; if in doubt, it stays as it is."""
    few = slice(_CHECKED_ROWS)
    computed = rows[few] @ kernel.reshape(-1, kernel.shape[-1])
    if getattr(layer, "bias", None) is not None:
        computed = computed + ops.convert_to_numpy(layer.bias)
    scale = max(float(np.abs(outputs[few]).max(initial=0.0)), 1e-6)
    return bool(np.abs(computed - outputs[few]).max(initial=0.0) <= 0.05 * scale)


def _kernel_of(place: Place) -> tuple[Any, int]:
    """The one weight that sums over input channels, with the axis of these."""
    weights = [place.channels.weights.get(id(v)) for v in place.layer.weights]
    found = [(w.variable, axis) for w in weights if w is not None for axis in w.consumed]
    return found[0] if len(found) == 1 else (None, 0)


def _reconstruct_normalization(place: Place) -> Values:
    """Moving mean and variance follow the change of the inputs, seen on the sample.

    The outputs' mean (and variance, if recalibrated) become those of the wide network. Where inputs
    do not change, statistics do not: the sample is small, and not augmented.
    """
    layer = place.layer
    wide, narrow = (as_floats(x[0]) for x in (place.wide_inputs, place.narrow_inputs))
    axis = layer.axis % wide.ndim
    mean, variance = (ops.convert_to_numpy(v) for v in (layer.moving_mean, layer.moving_variance))
    new_variance = variance
    if place.settings.recalibrate:
        old, new = (_variance_by_channel(x, axis) for x in (wide, narrow))
        ratio = np.where(old > 0, new / np.where(old > 0, old, 1), 1)
        new_variance = np.maximum((variance + layer.epsilon) * ratio - layer.epsilon, 0)
    stretch = np.sqrt((new_variance + layer.epsilon) / (variance + layer.epsilon))
    before, now = (_mean_by_channel(x, axis) for x in (wide, narrow))
    values = {id(layer.moving_mean): (now - (before - mean) * stretch).astype(mean.dtype)}
    if place.settings.recalibrate:
        values[id(layer.moving_variance)] = new_variance.astype(variance.dtype)
    return values


def _mean_by_channel(x: np.ndarray, axis: int) -> np.ndarray:
    others = tuple(a for a in range(x.ndim) if a != axis % x.ndim)
    return x.mean(axis=others, dtype=np.float64)


def _variance_by_channel(x: np.ndarray, axis: int) -> np.ndarray:
    others = tuple(a for a in range(x.ndim) if a != axis % x.ndim)
    return x.var(axis=others, dtype=np.float64)


def _reconstruct_recurrent(place: Place) -> Values:
    return readers.reconstructed(place, readers.of_recurrent(place))


def _reconstruct_attention(place: Place) -> Values:
    bias = keras_state.projections(place.layer).output.bias
    return readers.reconstructed(place, readers.of_attention(place), bias)


def _reconstruct_einsum(place: Place) -> Values:
    return readers.reconstructed(place, readers.of_einsum(place), place.layer.bias)


_RECURRENT = (layers.Bidirectional, layers.GRU, layers.LSTM, layers.RNN, layers.SimpleRNN)
_ATTENTION = (layers.GroupQueryAttention, layers.MultiHeadAttention)

_RECONSTRUCTIONS: Mapping[type | str, Reconstruct] = {
    **dict.fromkeys(WITH_KERNEL, _reconstruct_affine),
    **dict.fromkeys(_RECURRENT, _reconstruct_recurrent),
    **dict.fromkeys(_ATTENTION, _reconstruct_attention),
    layers.EinsumDense: _reconstruct_einsum,
    layers.BatchNormalization: _reconstruct_normalization,
}
