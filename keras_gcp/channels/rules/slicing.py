"""Slices and splits: a tensor's channels are handed out in parts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from keras_gcp.channels.channel_ids import ChannelIds
from keras_gcp.channels.registry import register_rule
from keras_gcp.channels.rules.common import varying_axes
from keras_gcp.channels.site import Site, Unprunable


@register_rule("ops.GetItem")
def get_item(site: Site) -> ChannelIds:
    """`x[..., 4:8]`, `x[:, ::2]`, `x[..., 0]`, `x[:, None]`: bounds follow the channels."""
    block, shape = site.inputs[0], site.input_shapes[0]
    key = site.call.args[1]
    entries = _expanded(key if isinstance(key, list | tuple) else (key,), len(shape))
    renewed: list[Any] = []
    axis = 0  # of the input
    place = 0  # of the result, without its batch axis
    for entry in entries:
        if entry is None:
            if axis == 0:
                raise Unprunable("it puts an axis before the batch axis")
            block = np.expand_dims(block, place)
            renewed.append(None)
            place += 1
            continue
        if axis == 0:
            if entry != slice(None):
                raise Unprunable("it slices the batch axis")
            renewed.append(entry)
        elif isinstance(entry, int | np.integer):
            block, entry = _picked(site, block, place, int(entry), shape[axis])
            renewed.append(entry)
        elif isinstance(entry, slice):
            block, entry = _sliced(site, block, place, entry, shape[axis])
            renewed.append(entry)
            place += 1
        else:
            raise Unprunable(f"it is indexed by {type(entry).__name__}")
        axis += 1
    site.argument(1, tuple(renewed))
    return block


def _expanded(key: Sequence[Any], rank: int) -> list[Any]:
    """A key with an entry for every axis."""
    entries = list(key)
    missing = rank - sum(entry is not None and entry is not Ellipsis for entry in entries)
    dots = [i for i, entry in enumerate(entries) if entry is Ellipsis]
    at = dots[0] if dots else len(entries)
    return [*entries[:at], *[slice(None)] * missing, *entries[at + 1 :]]


def _picked(
    site: Site, block: ChannelIds, place: int, index: int, size: int | None
) -> tuple[ChannelIds, Any]:
    """One position; a picked channel stays, and its index follows those before it."""
    if block.shape[place] == 1:
        return np.take(block, 0, place), index
    assert size is not None  # Channel ids vary along axes of known size only.
    index %= size
    channels = block.reshape(-1)
    site.anchor(channels[[index]], f"'{site.path}' picks it by its index")
    return np.take(block, index, place), site.count(channels[:index])


def _sliced(
    site: Site, block: ChannelIds, place: int, entry: slice, size: int | None
) -> tuple[ChannelIds, Any]:
    """A stretch of positions; with a step, whole strides live or die together."""
    if block.shape[place] == 1 or entry == slice(None):
        return block, entry
    assert size is not None
    channels = block.reshape(-1)
    start, stop, step = entry.indices(size)
    shape = [1] * block.ndim
    shape[place] = -1
    if (start, stop, step) == (size - 1, -1, -1):
        return channels[::-1].reshape(shape), entry
    if step < 1:
        raise Unprunable("it slices the channels backwards in strides")
    first = start // step * step
    for begin in range(first, min(stop + step - 1, size), step):
        stride = channels[begin : begin + step]
        site.tie(stride[:1], stride)
    taken = channels[start:stop:step]
    if taken.size == 0:
        raise Unprunable("it takes no channel at all")
    site.stays_in_part(taken)
    renewed = slice(
        _moved(site, channels, start - start % step, start % step),
        None if stop == size else _end(site, channels, stop, step),
        entry.step,
    )
    return taken.reshape(shape), renewed


def _moved(site: Site, channels: ChannelIds, before: int, offset: int) -> Any:
    if before == 0:
        return offset or None
    if offset:
        raise Unprunable("it starts a strided slice of channels in the middle of a stride")
    return site.count(channels[:before])


def _end(site: Site, channels: ChannelIds, stop: int, step: int) -> Any:
    """Where a slice ends; with a step, at the end of the last stride, which changes nothing."""
    return site.count(channels[: min(-(-stop // step) * step, len(channels))])


@register_rule("ops.Split")
def split(site: Site) -> list[ChannelIds]:
    """Parts of an axis, side by side; where they begin follows the channels."""
    layer, block, shape = site.layer, site.inputs[0], site.input_shapes[0]
    axis = layer.axis % len(shape)
    if axis == 0:
        raise Unprunable("it splits the batch axis")
    if varying_axes(block) != [axis]:
        return [block] * len(site.output_shapes)
    channels = site.channels(0, axis)
    bounds = np.cumsum([piece[axis] for piece in site.output_shapes])[:-1]
    pieces = np.split(channels, bounds)
    for piece in pieces:
        if piece.size == 0:
            raise Unprunable("one of its parts is empty")
        site.stays_in_part(piece)
    renewed = tuple(site.count(channels[:bound]) for bound in bounds)
    site.config("indices_or_sections", renewed)
    return [site.along(piece, axis, len(shape)) for piece in pieces]


@register_rule("ops.Unstack")
def unstack(site: Site) -> list[ChannelIds]:
    """An axis becomes a list of tensors."""
    axis = site.layer.axis % len(site.input_shapes[0])
    block = site.inputs[0]
    if axis == 0:
        raise Unprunable("it takes the batch apart")
    if block.shape[axis - 1] > 1:
        raise Unprunable("it makes a tensor of its own of every channel")
    return [np.squeeze(block, axis - 1)] * len(site.output_shapes)


@register_rule("ops.Take")
def take(site: Site) -> ChannelIds:
    """Positions by index, of an axis without channels."""
    axis = site.layer.axis
    indices = site.call.args[1] if len(site.call.args) > 1 else site.call.kwargs["indices"]
    rank = len(site.input_shapes[0])
    if len(site.inputs) > 1 or axis is None or axis % rank == 0:
        raise Unprunable("it picks positions by numbers that are computed, or picks examples")
    if site.inputs[0].shape[axis % rank - 1] > 1:
        raise Unprunable("it picks channels by their numbers")
    block = np.squeeze(site.inputs[0], axis % rank - 1)
    for _ in range(np.ndim(indices)):
        block = np.expand_dims(block, axis % rank - 1)
    return block
