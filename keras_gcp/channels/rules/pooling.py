"""Pooling, local and global, and reductions: means, maxima and sums over axes."""

from __future__ import annotations

import numpy as np
from keras import layers

from keras_gcp.channels.channel_ids import ChannelIds
from keras_gcp.channels.registry import register_rule
from keras_gcp.channels.rules.common import varying_axes
from keras_gcp.channels.rules.mixing import reduced_over_kept
from keras_gcp.channels.site import Site, Unprunable

# Newer Keras only.
ADAPTIVE = [getattr(layers, name) for name in dir(layers) if name.startswith("Adaptive")]


REDUCTIONS = "All Amax Amin Any Logsumexp Max Mean Median Min Prod Std Sum Var".split()


def _require_channel_axis_only(site: Site) -> None:
    if set(varying_axes(site.inputs[0])) - {site.channel_axis}:
        raise Unprunable("it pools over an axis along which channels lie")


@register_rule(
    layers.MaxPooling1D,
    layers.MaxPooling2D,
    layers.MaxPooling3D,
    layers.AveragePooling1D,
    layers.AveragePooling2D,
    layers.AveragePooling3D,
    *ADAPTIVE,
    "ops.AveragePool",
    "ops.MaxPool",
)
def pooling(site: Site) -> ChannelIds:
    """Every channel is pooled by itself."""
    _require_channel_axis_only(site)
    return site.inputs[0]


@register_rule(
    layers.GlobalMaxPooling1D,
    layers.GlobalMaxPooling2D,
    layers.GlobalMaxPooling3D,
    layers.GlobalAveragePooling1D,
    layers.GlobalAveragePooling2D,
    layers.GlobalAveragePooling3D,
)
def global_pooling(site: Site) -> ChannelIds:
    """The spatial axes go (or become 1); channels stay."""
    _require_channel_axis_only(site)
    block = site.inputs[0]
    if site.layer.keepdims:
        return block
    spatial = tuple(a - 1 for a in range(1, block.ndim + 1) if a != site.channel_axis)
    return np.squeeze(block, axis=spatial)


@register_rule(*(f"ops.{name}" for name in REDUCTIONS))
def reduction(site: Site) -> ChannelIds:
    """Over space channels pass through. Over channels (spatial attention) the kept ones remain.

    A mean over channels becomes the mean of the kept channels, a maximum their maximum.
    """
    axis = site.layer.axis
    rank = len(site.input_shapes[0])
    axes = [a % rank for a in (axis if isinstance(axis, list | tuple) else [axis or 0])]
    if axis is None or 0 in axes:
        raise Unprunable("it reduces over the batch axis")
    block = site.inputs[0]
    over_channels = [a for a in varying_axes(block) if a in axes]
    if over_channels:
        (channel_axis,) = over_channels
        channels = site.channels(0, channel_axis)
        site.mixes(channels, reduced_over_kept(site.layer, channel_axis))
        block = site.fresh(1).reshape((1,) * block.ndim)
    if site.layer.keepdims:
        return block
    return np.squeeze(block, axis=tuple(a - 1 for a in axes))
