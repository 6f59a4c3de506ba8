"""Layers that combine several tensors: element by element, or side by side."""

from __future__ import annotations

import numpy as np
from keras import layers

from keras_gcp.channels.channel_ids import ChannelIds
from keras_gcp.channels.registry import register_rule
from keras_gcp.channels.rules.common import anchor_under_array, compact_block, is_array
from keras_gcp.channels.rules.names import OPERATORS
from keras_gcp.channels.site import Site, Unprunable
from keras_gcp.graph import Shape, Tensor, leaves


@register_rule(
    layers.Add,
    layers.Subtract,
    layers.Multiply,
    layers.Average,
    layers.Maximum,
    layers.Minimum,
    "keras.src.applications.inception_resnet_v2.CustomScaleLayer",
    *(f"ops.{name}" for name in OPERATORS),
)
def elementwise_merge(site: Site) -> ChannelIds:
    """Channels at equal positions are tied. A single channel that is broadcast stays."""
    return merged(site)


def merged(site: Site) -> ChannelIds:
    """The block of an output each of whose elements depends on that place in all inputs."""
    rank = len(site.output_shapes[0])
    operands = [
        _aligned(block, shape, rank)
        for block, shape in zip(site.inputs, site.input_shapes, strict=True)
    ]
    varying = np.max([block.shape for block, _ in operands], axis=0) > 1
    tied = []
    for block, shape in operands:
        if any(varying[axis] and size == 1 for axis, size in enumerate(shape)):
            site.anchor(block, f"single channel that '{site.path}' stretches over others")
        else:
            tied.append(block)
    if not tied:
        raise Unprunable("its inputs stretch each other along different axes")
    widest = max(tied, key=np.size)
    for block in tied:
        if block is not widest:
            site.tie(widest, block)
    for value in leaves((site.call.args, site.call.kwargs)):
        if is_array(value) and not isinstance(value, Tensor):
            anchor_under_array(site, widest, value.shape)
    return compact_block(site, widest)


def _aligned(block: ChannelIds, shape: Shape, rank: int) -> tuple[ChannelIds, Shape]:
    """A block and its sizes without batch axis, as seen by an operation of higher rank."""
    missing = rank - 1 - block.ndim
    return block.reshape((1,) * missing + block.shape), (1,) * missing + tuple(shape[1:])


@register_rule(layers.Concatenate, "ops.Concatenate")
def concatenate(site: Site) -> ChannelIds:
    """Along the channel axis ids stand side by side; along another axis they are tied."""
    axis = site.layer.axis % len(site.output_shapes[0])
    if axis == 0:
        raise Unprunable("it concatenates along the batch axis")
    if any(is_array(x) and not isinstance(x, Tensor) for x in leaves(site.call.args)):
        raise Unprunable("one of the tensors that it concatenates is a constant")
    if all(block.shape[axis - 1] == 1 for block in site.inputs) and any(
        block.size > 1 for block in site.inputs
    ):
        for block in site.inputs[1:]:
            site.tie(site.inputs[0], block)
        return max(site.inputs, key=np.size)
    return _side_by_side(site, axis)


def _side_by_side(site: Site, axis: int) -> ChannelIds:
    common = np.max([block.shape for block in site.inputs], axis=0)
    pieces = []
    for block, shape in zip(site.inputs, site.input_shapes, strict=True):
        length = shape[axis]
        if length is None:
            raise Unprunable("the size of the axis it concatenates along is unknown")
        size = [length if i == axis - 1 else n for i, n in enumerate(common)]
        pieces.append(np.broadcast_to(block, size))
    return compact_block(site, np.concatenate(pieces, axis - 1))
