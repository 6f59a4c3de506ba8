"""Checks and steps that several rule files share."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np

from keras_gcp import keras_state
from keras_gcp.channels.channel_ids import ChannelIds
from keras_gcp.channels.declared import declaration_of
from keras_gcp.channels.rules.names import FUNCTIONS, OPERATORS
from keras_gcp.channels.site import Site, Unprunable
from keras_gcp.channels.trying import require_elementwise_function
from keras_gcp.graph import Shape

# Functions of `keras.activations` that compute an output channel from several input channels.
CHANNEL_MIXING = frozenset(
    keras.activations.get(name) for name in ("softmax", "log_softmax", "sparsemax", "glu")
)
_NOT_ELEMENTWISE = ("deserialize", "get", "glu", "log_softmax", "serialize", "softmax", "sparsemax")
_ELEMENTWISE = frozenset(
    function
    for module in (keras.activations, keras.ops)
    for name in dir(keras.activations)
    if callable(function := getattr(module, name, None)) and name not in _NOT_ELEMENTWISE
)


_ELEMENT_BY_ELEMENT = frozenset((*FUNCTIONS, *OPERATORS))


def places_of(site: Site, shape: Shape) -> Shape:
    """The axes of a shape that are neither examples nor channels."""
    return tuple(size for axis, size in enumerate(shape) if axis not in (0, site.channel_axis))


def apply_activation(site: Site, ids: ChannelIds, attribute: str = "activation") -> None:
    """Anchors channels whose (fused) activation is not known to treat each one by itself.

    Args:
        site: The layer.
        ids: The channels.
        attribute: Where the layer holds the function.
    """
    activation = getattr(site.layer, attribute, None)
    if activation is None or activation in _ELEMENTWISE or is_elementwise_layer(activation):
        return
    if (declaration := declaration_of(activation)) is not None:
        require_elementwise_function(site, declaration, activation)
        return
    if activation not in CHANNEL_MIXING and _consists_of_elementwise_operations(activation):
        return
    name = getattr(activation, "__name__", str(activation))
    why = (
        "mixes channels"
        if activation in CHANNEL_MIXING
        else "is not recognised as a function of single elements; if it is one, "
        "`keras_gcp.elementwise(function)` says so"
    )
    site.anchor(ids, f"activation '{name}' of layer '{site.path}' {why}")


def is_elementwise_layer(activation: object) -> bool:
    """Whether a layer object used as an activation treats each channel by itself."""
    return isinstance(activation, keras.layers.ReLU | keras.layers.LeakyReLU | keras.layers.ELU)


def _consists_of_elementwise_operations(function: Callable[..., Any]) -> bool:
    """Whether a function of the user's own (a lambda, say) computes each element by itself.

    It is run on a symbolic tensor, and the operations that it calls are looked up. What cannot
    run on one, such as the functions of a framework, is not recognised.
    """
    x = keras.KerasTensor((None, 2, 3))
    try:
        y = function(x)
    except Exception:
        return False
    if not isinstance(y, keras.KerasTensor) or y.shape != x.shape:
        return False
    return all(
        type(operation).__name__ in _ELEMENT_BY_ELEMENT
        and not keras_state.is_layer(operation)
        and not any(is_array(a) and not isinstance(a, keras.KerasTensor) for a in arguments)
        and not any(is_array(value) for value in vars(operation).values())
        for operation, arguments in keras_state.calls_between([x], [y])
    )


def require_plain_kernel(site: Site) -> None:
    """Refuses layers whose kernel is not a plain variable (LoRA adapters, quantization)."""
    layer = site.layer
    if getattr(layer, "lora_enabled", False):
        raise Unprunable("LoRA is enabled, so its kernel is a product; merge the adapter first")
    if getattr(layer, "quantization_mode", None) is not None:
        raise Unprunable("its weights are quantized; prune before quantizing")


def is_array(value: object) -> bool:
    """Whether a value is an array of any framework, or a variable."""
    return hasattr(value, "shape") and hasattr(value, "dtype")


def anchor_under_array(site: Site, block: ChannelIds, shape: Sequence[int | None]) -> None:
    """Anchors channels that a constant array of this shape treats one by one.

    The constant belongs to the layer's configuration, or to its Python code, and is not cut.
    """
    aligned = (1,) * (block.ndim + 1 - len(shape)) + tuple(shape)
    if any(aligned[axis] != 1 for axis in varying_axes(block)):
        site.anchor(block, f"'{site.path}' has a constant number for each of these channels")


def varying_axes(block: ChannelIds) -> Sequence[int]:
    """The axes (batch axis counted) along which the ids of a block vary."""
    return [axis + 1 for axis, size in enumerate(block.shape) if size > 1]


def broadcast_block(block: ChannelIds, shape: Sequence[int | None]) -> ChannelIds:
    """The block at the full size of its tensor; unknown sizes count as 1."""
    sizes = [n if known is None else known for n, known in zip(block.shape, shape[1:], strict=True)]
    return np.broadcast_to(block, sizes)


def compact_block(site: Site, full: ChannelIds) -> ChannelIds:
    """Shrinks to size 1 every axis along which the ids do not vary.

    A tensor can only be cut along whole slices. If ids vary along several axes at once, the
    positions of the last such axis keep their identity, and slices along it are tied. A last axis
    of size 1 is a single channel: it must read like a wider one that was pruned down to it.
    """
    if full.size == 0:
        raise Unprunable("one of its axes has size 0")
    block = full
    for axis in range(full.ndim):
        first = block.take([0], axis)
        if np.array_equal(np.broadcast_to(first, block.shape), block):
            block = first
    varying = [axis for axis, size in enumerate(block.shape) if size > 1]
    single = len(varying) > 1 and full.shape[-1] == 1
    for axis in varying if single else varying[:-1]:
        first = block.take([0], axis)
        site.tie(first, block)
        block = first
    return block
