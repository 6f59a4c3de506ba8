"""What is reconstructed, layer class by layer class: kernels, biases, and means of normalizations.

Every function sees one layer in the wide network and in the cut one, and returns new values of its
variables. A layer without an entry in the table runs as it is, with removed channels masked.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from keras import layers, ops

from keras_gcp import keras_state
from keras_gcp.backend.calls import as_floats
from keras_gcp.channels.opaque import WITH_KERNEL
from keras_gcp.channels.patches import channel_axis, channels_last, some_places
from keras_gcp.channels.products import Product, products_of
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
    """The kernel that fits what the layer receives now, product by product."""
    layer = place.layer
    x = channels_last(layer, as_floats(place.narrow_inputs[0]))
    products = products_of(layer, x.shape[1:-1])
    if products is None or not _sums_over_channels(place, products[0]):
        return {}
    computed = channels_last(layer, as_floats(place.run_few()))
    wanted = channels_last(layer, as_floats(place.wide_output))
    kernel = products[0].variable
    new = np.zeros(kernel.shape, x.dtype)
    for product in products:
        matrix = _refitted(place, product, x, wanted, computed)
        if matrix is None:
            return {}
        product.write(matrix, new)
    return {id(kernel): new}


def _sums_over_channels(place: Place, product: Product) -> bool:
    weight = place.channels.weights.get(id(product.variable))
    return weight is not None and product.axis in weight.consumed


def _refitted(
    place: Place, product: Product, x: np.ndarray, wanted: np.ndarray, computed: np.ndarray
) -> np.ndarray | None:
    """One product's matrix, refitted; None if the product is not what the layer computes.

    Args:
        place: The layer, in both networks.
        product: The product.
        x: What enters the layer in the cut network, channels last like the outputs.
        wanted: What leaves it in the wide network.
        computed: What the first examples leave there with the kernel as it is.
    """
    kept = place.keep[place.channels.weights[id(product.variable)].axes[product.axis]]
    entries = kept[product.positions]
    bias = getattr(place.layer, "bias", None)
    constant = np.zeros(1) if bias is None else ops.convert_to_numpy(bias)[product.outputs]
    matrix = product.matrix(ops.convert_to_numpy(product.variable).astype(x.dtype))
    few = tuple(at[:_CHECKED_ROWS] for at in some_places(computed.shape[:-1], 1))
    found = product.rows(x[: len(computed)], few, kept) @ matrix[entries] + constant
    if not _are_equal(found, computed[few][:, product.outputs]):
        return None
    at = some_places(wanted.shape[:-1], int(entries.sum()), thorough=True)
    rows = product.rows(x, at, kept)
    missing = wanted[at][:, product.outputs] - constant.astype(x.dtype) - rows @ matrix[entries]
    new = np.zeros_like(matrix)
    intercept = bias is not None or place.before_normalization
    new[entries] = matrix[entries] + correction(rows, missing, intercept, place.ridge)
    return new


def _are_equal(found: np.ndarray, computed: np.ndarray) -> bool:
    """Whether a product is what the layer really sums; if in doubt, the kernel stays as it is."""
    away = np.abs(found - computed).max(initial=0.0)
    scale = max(float(np.abs(computed).max(initial=0.0)), 1e-6)
    return bool(away <= 0.05 * scale)


def _reconstruct_normalization(place: Place) -> Values:
    """Moving mean and variance follow the change of the inputs, seen on the sample.

    The outputs' mean (and variance, if recalibrated) become those of the wide network. Where inputs
    do not change, statistics do not: the sample is small, and not augmented.
    """
    layer = place.layer
    mean, variance = (ops.convert_to_numpy(v) for v in (layer.moving_mean, layer.moving_variance))
    (before, old), (now, new) = (
        statistics_by_channel(layer, x[0]) for x in (place.wide_inputs, place.narrow_inputs)
    )
    new_variance = variance
    if place.settings.recalibrate:
        ratio = np.where(old > 0, new / np.where(old > 0, old, 1), 1)
        new_variance = np.maximum((variance + layer.epsilon) * ratio - layer.epsilon, 0)
    stretch = np.sqrt((new_variance + layer.epsilon) / (variance + layer.epsilon))
    values = {id(layer.moving_mean): (now - (before - mean) * stretch).astype(mean.dtype)}
    if place.settings.recalibrate:
        values[id(layer.moving_variance)] = new_variance.astype(variance.dtype)
    return values


def statistics_by_channel(layer: Any, x: Any) -> tuple[np.ndarray, np.ndarray]:
    """Mean and variance of what enters a normalization, channel by channel."""
    floats = as_floats(x)
    axis = layer.axis % floats.ndim
    mean = _mean_by_channel(floats, axis)
    by_channel = [-1 if a == axis else 1 for a in range(floats.ndim)]
    deviations = floats - mean.astype(floats.dtype).reshape(by_channel)
    return mean, _mean_by_channel(np.square(deviations, out=deviations), axis)


def _mean_by_channel(x: np.ndarray, axis: int) -> np.ndarray:
    others = tuple(a for a in range(x.ndim) if a != axis % x.ndim)
    return x.mean(axis=others, dtype=np.float64)


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
