"""Reshaping: the same movement is done on the channel ids."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from keras import layers

from keras_gcp.channels.channel_ids import ChannelIds
from keras_gcp.channels.registry import register_rule
from keras_gcp.channels.rules.common import broadcast_block, compact_block
from keras_gcp.channels.site import Site, Unprunable
from keras_gcp.graph import Shape


@register_rule(layers.Flatten)
def flatten(site: Site) -> ChannelIds:
    """A channel becomes one position for every place of the map."""
    block = site.inputs[0]
    if getattr(site.layer, "data_format", "channels_last") == "channels_first" and block.ndim > 1:
        # Keras moves the channels last before it flattens.
        shape = site.input_shapes[0]
        moved = np.moveaxis(block, 0, -1)
        return _reshaped(site, moved, (shape[0], *shape[2:], shape[1]))
    return _reshaped(site, block, site.input_shapes[0])


@register_rule(layers.Reshape)
def reshape(site: Site) -> ChannelIds:
    """Channel ids are reshaped like the data; sizes in `target_shape` follow the channels."""
    block = _reshaped(site, site.inputs[0], site.input_shapes[0])
    site.config("target_shape", with_counts(site, site.layer.target_shape, block))
    return block


@register_rule("ops.Reshape")
def reshape_with_batch(site: Site) -> ChannelIds:
    """The same with the batch axis among the sizes; it has to stay by itself."""
    shape, output = site.input_shapes[0], site.output_shapes[0]
    sizes = [*shape[1:], *output[1:]]
    if None in sizes and site.inputs[0].size > 1:
        if shape[-1] != output[-1]:
            raise Unprunable("some of its sizes are unknown; give the model fixed input sizes")
    elif None not in sizes and math.prod(_known(shape[1:])) != math.prod(_known(output[1:])):
        raise Unprunable("it mixes the batch axis with others")
    block = _reshaped(site, site.inputs[0], shape)
    first, *others = site.layer.newshape
    site.config("newshape", (first, *with_counts(site, others, block)))
    return block


def with_counts(site: Site, sizes: Sequence[Any], block: ChannelIds) -> tuple[Any, ...]:
    """Sizes (without batch axis) in which those of axes with channels follow the channels."""
    return tuple(
        site.count(block.reshape(-1)) if size != -1 and block.shape[axis] > 1 else size
        for axis, size in enumerate(sizes)
    )


def _reshaped(site: Site, block: ChannelIds, shape: Any) -> ChannelIds:
    output = site.output_shapes[0]
    if any(size is None for size in (*shape[1:], *output[1:])):
        if block.size == 1:
            return block.reshape((1,) * (len(output) - 1))
        return _reshaped_with_unknown_sizes(site, block, shape, output)
    full = np.ascontiguousarray(broadcast_block(block, shape))
    return compact_block(site, full.reshape(_known(output[1:])))


def _known(sizes: Shape) -> tuple[int, ...]:
    return tuple(size for size in sizes if size is not None)


def _reshaped_with_unknown_sizes(
    site: Site, block: ChannelIds, shape: Any, output: Any
) -> ChannelIds:
    """Only where the unknown axes stay in front: `(None, None, C)` to `(-1, C)`, say.

    The last axes, which are known and hold all the channels, are then reshaped among themselves, as
    in `(None, 8, C)` to `(-1, 8 * C)`.
    """
    sizes, wanted = shape[1:], output[1:]
    for first in range(len(sizes)):
        tail = sizes[first:]
        known = None not in tail and all(size == 1 for size in block.shape[:first])
        kept = _tail_of(wanted, math.prod(tail)) if known else None
        if kept is not None:
            ids = np.broadcast_to(block.reshape(block.shape[first:]), tail).reshape(kept)
            return compact_block(site, ids[(None,) * (len(wanted) - len(kept))])
    raise Unprunable("some of its sizes are unknown; give the model a fixed `input_shape`")


def _tail_of(sizes: Shape, product: int) -> tuple[int, ...] | None:
    """The last known sizes that have this product, if there are such."""
    for first in range(len(sizes)):
        tail = _known(sizes[first:])
        if len(tail) == len(sizes) - first and math.prod(tail) == product:
            return tail
    return None
