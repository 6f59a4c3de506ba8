"""Data movement along whole axes: the same movement is done on the channel ids."""

from __future__ import annotations

import numpy as np
from keras import layers

from keras_gcp.channels.channel_ids import ChannelIds
from keras_gcp.channels.registry import register_rule
from keras_gcp.channels.rules.common import varying_axes
from keras_gcp.channels.site import Site, Unprunable


def _with_batch(block: ChannelIds) -> ChannelIds:
    return block[None]


def _without_batch(moved: ChannelIds) -> ChannelIds:
    if moved.shape[0] != 1:
        raise Unprunable("it moves the batch axis")
    return moved[0]


def _axis(site: Site, axis: int) -> int:
    return axis % len(site.input_shapes[0])


@register_rule(layers.Permute)
def permute(site: Site) -> ChannelIds:
    """Axes change places."""
    return np.transpose(site.inputs[0], [axis - 1 for axis in site.layer.dims])


@register_rule("ops.Transpose")
def transpose(site: Site) -> ChannelIds:
    """Axes change places, the batch axis excepted."""
    axes = site.layer.axes
    if axes is None or _axis(site, axes[0]) != 0:
        raise Unprunable("it moves the batch axis")
    return _without_batch(np.transpose(_with_batch(site.inputs[0]), axes))


@register_rule("ops.Moveaxis")
def moveaxis(site: Site) -> ChannelIds:
    """Axes move to other places."""
    source, destination = np.atleast_1d(site.layer.source), np.atleast_1d(site.layer.destination)
    order = [a for a in range(len(site.input_shapes[0])) if a not in _axes(site, source)]
    for to, origin in sorted(zip(_axes(site, destination), _axes(site, source), strict=True)):
        order.insert(to, origin)
    if order[0] != 0:
        raise Unprunable("it moves the batch axis")
    return _without_batch(np.transpose(_with_batch(site.inputs[0]), order))


def _axes(site: Site, axes: np.ndarray) -> list[int]:
    return [_axis(site, int(axis)) for axis in axes]


@register_rule("ops.Swapaxes")
def swapaxes(site: Site) -> ChannelIds:
    """Two axes change places."""
    first, second = _axis(site, site.layer.axis1), _axis(site, site.layer.axis2)
    if 0 in (first, second) and first != second:
        raise Unprunable("it moves the batch axis")
    return np.swapaxes(_with_batch(site.inputs[0]), first, second)[0]


@register_rule("ops.ExpandDims")
def expand_dims(site: Site) -> ChannelIds:
    """Axes of size 1 are put in."""
    axis = site.layer.axis
    axes = list(axis) if isinstance(axis, list | tuple) else [axis]
    rank = len(site.output_shapes[0])
    if 0 in [a % rank for a in axes]:
        raise Unprunable("it puts an axis before the batch axis")
    return _without_batch(np.expand_dims(_with_batch(site.inputs[0]), tuple(axes)))


@register_rule("ops.Squeeze")
def squeeze(site: Site) -> ChannelIds:
    """Axes of size 1 are taken out; an axis of channels must not become one of them."""
    axis, shape = site.layer.axis, site.input_shapes[0]
    if axis is None:
        axes = [a for a, size in enumerate(shape) if size == 1]
        for varying in varying_axes(site.inputs[0]):
            site.at_least(site.channels(0, varying), 2, f"'{site.path}' takes out axes of size 1")
    else:
        axes = [_axis(site, a) for a in (axis if isinstance(axis, list | tuple) else [axis])]
    if 0 in axes:
        raise Unprunable("it takes out the batch axis")
    return np.squeeze(site.inputs[0], tuple(a - 1 for a in axes))


@register_rule("ops.Flip")
def flip(site: Site) -> ChannelIds:
    """An axis is reversed."""
    axis = site.layer.axis
    if axis is None:
        raise Unprunable("it reverses the batch axis")
    axes = [_axis(site, a) for a in (axis if isinstance(axis, list | tuple) else [axis])]
    if 0 in axes:
        raise Unprunable("it reverses the batch axis")
    return np.flip(site.inputs[0], tuple(a - 1 for a in axes))


@register_rule("ops.Roll")
def roll(site: Site) -> ChannelIds:
    """An axis without channels is turned."""
    axis = site.layer.axis
    if axis is None:
        raise Unprunable("it turns the batch axis")
    axes = [_axis(site, a) for a in (axis if isinstance(axis, list | tuple) else [axis])]
    if 0 in axes or set(axes) & set(varying_axes(site.inputs[0])):
        raise Unprunable("it turns channels by a fixed number of places")
    return site.inputs[0]


@register_rule("ops.Repeat")
def repeat(site: Site) -> ChannelIds:
    """Every position of an axis comes several times in a row."""
    axis, repeats = site.layer.axis, site.layer.repeats
    if axis is None or _axis(site, axis) == 0:
        raise Unprunable("it repeats along the batch axis")
    if not isinstance(repeats, int | np.integer):
        raise Unprunable("it repeats positions unequally often")
    axis = _axis(site, axis)
    if axis not in varying_axes(site.inputs[0]):
        return site.inputs[0]
    return np.repeat(site.inputs[0], repeats, axis - 1)


@register_rule("ops.Tile")
def tile(site: Site) -> ChannelIds:
    """A tensor comes several times, side by side."""
    rank = len(site.output_shapes[0])
    repeats = np.atleast_1d(site.layer.repeats)
    repeats = np.concatenate([np.ones(rank - len(repeats), int), repeats])
    block = site.inputs[0].reshape((1,) * (rank - 1 - site.inputs[0].ndim) + site.inputs[0].shape)
    if repeats[0] != 1 or rank != len(site.input_shapes[0]):
        raise Unprunable("it repeats along the batch axis")
    varying = varying_axes(block)
    return np.tile(block, [n if a in varying else 1 for a, n in enumerate(repeats) if a])


@register_rule(layers.RepeatVector)
def repeat_vector(site: Site) -> ChannelIds:
    """`(channels,)` becomes `(n, channels)`."""
    return site.inputs[0][None, :]


@register_rule("ops.Stack")
def stack(site: Site) -> ChannelIds:
    """Tensors side by side along a new axis: equal channels are tied."""
    rank = len(site.output_shapes[0])
    axis = site.layer.axis % rank
    if axis == 0:
        raise Unprunable("it stacks along a new axis before the batch axis")
    blocks = [np.expand_dims(block, axis - 1) for block in site.inputs]
    for block in blocks[1:]:
        site.tie(blocks[0], block)
    return max(blocks, key=np.size)


@register_rule("ops.DepthToSpace")
def depth_to_space(site: Site) -> ChannelIds:
    """Channels become a square of places (pixel shuffle); those of one square are tied."""
    axis, block_size = site.channel_axis, site.layer.block_size
    if varying_axes(site.inputs[0]) not in ([], [axis]):
        raise Unprunable("its channels lie along another axis than the one it works on")
    # Channel `(row * block + column) * channels + c` goes to channel c.
    by_place = site.channels(0, axis).reshape(block_size**2, -1)
    site.tie(by_place[:1], by_place)
    return site.along(by_place[0], axis, len(site.input_shapes[0]))


@register_rule("ops.SpaceToDepth")
def space_to_depth(site: Site) -> ChannelIds:
    """A square of places becomes channels."""
    axis, block_size = site.channel_axis, site.layer.block_size
    if varying_axes(site.inputs[0]) not in ([], [axis]):
        raise Unprunable("its channels lie along another axis than the one it works on")
    return site.along(
        np.tile(site.channels(0, axis), block_size**2), axis, len(site.input_shapes[0])
    )
