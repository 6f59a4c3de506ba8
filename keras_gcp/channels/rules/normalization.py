"""Normalization, over examples or over channels, and scales per channel."""

from __future__ import annotations

from typing import Any

import numpy as np
from keras import layers, ops

from keras_gcp.channels.channel_ids import ChannelIds
from keras_gcp.channels.registry import register_rule
from keras_gcp.channels.rules.common import varying_axes
from keras_gcp.channels.rules.mixing import over_kept, taken
from keras_gcp.channels.site import Site, Unprunable


@register_rule(layers.BatchNormalization)
def batch_normalization(site: Site) -> ChannelIds:
    """Each channel is normalised by its own statistics, so channels pass through."""
    layer = site.layer
    axis = layer.axis % len(site.input_shapes[0])
    # On an axis without channels (ids vary along another one) the weights keep their size.
    along = varying_axes(site.inputs[0]) in ([], [axis])
    carried = {0: site.channels(0, axis)} if along else {}
    for name in ("gamma", "beta", "moving_mean", "moving_variance"):
        site.weight(getattr(layer, name, None), carries=carried)
    return site.inputs[0]


@register_rule(layers.LayerNormalization)
def layer_normalization(site: Site) -> ChannelIds:
    """Every output depends on all channels of its position; a cut normalises over the kept ones."""
    layer = site.layer

    def normalise(x: Any, keep: np.ndarray, place: int) -> Any:
        gamma, beta = (_cut(w, keep, place) for w in (layer.gamma, layer.beta))
        return ops.layer_normalization(
            x, gamma, beta, layer.axis, layer.epsilon, rms_scaling=layer.rms_scaling
        )

    return _normalised(site, [layer.gamma, layer.beta], normalise)


@register_rule(layers.RMSNormalization)
def rms_normalization(site: Site) -> ChannelIds:
    """As layer normalization, without mean and shift."""
    layer = site.layer

    def normalise(x: Any, keep: np.ndarray, place: int) -> Any:
        return ops.rms_normalization(x, _cut(layer.scale, keep, place), layer.axis, layer.epsilon)

    return _normalised(site, [layer.scale], normalise)


@register_rule(layers.UnitNormalization)
def unit_normalization(site: Site) -> ChannelIds:
    """Vectors of length 1; without weights."""
    layer = site.layer

    def normalise(x: Any, keep: np.ndarray, place: int) -> Any:
        return ops.normalize(x, axis=layer.axis, order=2, epsilon=1e-12)

    return _normalised(site, [], normalise)


def _normalised(site: Site, weights: list[Any], normalise: Any) -> ChannelIds:
    """Channel ids pass; weights carry them where the normalised axes include the channels."""
    rank = len(site.input_shapes[0])
    axis = site.layer.axis
    axes = [a % rank for a in (axis if isinstance(axis, list | tuple) else [axis])]
    over_channels = [a for a in varying_axes(site.inputs[0]) if a in axes]
    if not over_channels:
        for weight in weights:
            site.weight(weight)
        return site.inputs[0]
    (channel_axis,) = over_channels
    channels, place = site.channels(0, channel_axis), axes.index(channel_axis)
    for weight in weights:
        site.weight(weight, carries={place: channels})
    site.mixes(channels, over_kept(lambda x, keep: normalise(x, keep, place), channel_axis))
    return site.inputs[0]


def _cut(weight: Any, keep: np.ndarray, axis: int) -> Any:
    return None if weight is None else taken(ops.convert_to_tensor(weight), keep, axis)


@register_rule(layers.GroupNormalization)
def group_normalization(site: Site) -> ChannelIds:
    """Every group loses the same positions, so that the groups stay equally wide.

    With one group per channel (instance normalization) each channel is normalised by itself.
    """
    layer = site.layer
    axis = layer.axis % len(site.input_shapes[0])
    if varying_axes(site.inputs[0]) not in ([], [axis]):
        raise Unprunable("its groups lie along another axis than the channels")
    channels = site.channels(0, axis)
    for weight in (layer.gamma, layer.beta):
        site.weight(weight, carries={0: channels})
    if layer.groups == len(channels):
        site.config("groups", site.count(channels))
        return site.inputs[0]
    by_group = channels.reshape(layer.groups, -1)
    site.tie(by_group[:1], by_group)
    site.mixes(channels, over_kept(lambda x, keep: _by_groups(layer, x, keep, axis), axis))
    return site.inputs[0]


def _by_groups(layer: Any, x: Any, keep: np.ndarray, axis: int) -> Any:
    """Group normalization of the kept channels, written out."""
    groups, width = layer.groups, int(keep.sum())
    stats = ops.split(ops.cast(x, "float32"), groups, axis=axis)
    axes = list(range(1, len(x.shape)))
    normalised = []
    for part in stats:
        mean, variance = ops.moments(part, axes, keepdims=True)
        normalised.append((part - mean) * ops.rsqrt(variance + layer.epsilon))
    y = ops.concatenate(normalised, axis=axis)
    shape = [width if a == axis else 1 for a in range(len(x.shape))]
    if layer.gamma is not None:
        y = y * ops.reshape(_cut(layer.gamma, keep, 0), shape)
    if layer.beta is not None:
        y = y + ops.reshape(_cut(layer.beta, keep, 0), shape)
    return ops.cast(y, x.dtype)


@register_rule("keras.src.applications.convnext.LayerScale")
def layer_scale(site: Site) -> ChannelIds:
    """One learned factor per channel."""
    channels = site.channels(0, -1)
    site.weight(site.layer.gamma, carries={0: channels})
    site.config("projection_dim", site.count(channels))
    return site.inputs[0]
