"""Layers that treat every element, or every channel, by itself."""

from __future__ import annotations

import numpy as np
from keras import layers

from keras_gcp.channels.channel_ids import ChannelIds
from keras_gcp.channels.inert import INERT
from keras_gcp.channels.registry import register_rule
from keras_gcp.channels.rules.common import (
    anchor_under_array,
    apply_activation,
    is_array,
    varying_axes,
)
from keras_gcp.channels.rules.names import FUNCTIONS
from keras_gcp.channels.site import Site, Unprunable


@register_rule(*(f"ops.{name}" for name in FUNCTIONS))
def function(site: Site) -> ChannelIds:
    """A function of one number: channels pass through."""
    if len(site.inputs) > 1:
        raise Unprunable("one of its settings is a tensor")
    for value in vars(site.layer).values():  # Bounds of `clip`, for example.
        anchor_under_array(site, site.inputs[0], np.shape(value) if is_array(value) else ())
    return site.inputs[0]


@register_rule(
    layers.ReLU,
    layers.LeakyReLU,
    layers.ELU,
    layers.Masking,
    "keras.src.applications.convnext.StochasticDepth",
)
def elementwise(site: Site) -> ChannelIds:
    """Channels pass through."""
    return site.inputs[0]


@register_rule(layers.Rescaling)
def rescaling(site: Site) -> ChannelIds:
    """Scale and offset are numbers, or hold one number per channel; then the channels stay."""
    for value in (site.layer.scale, site.layer.offset):
        anchor_under_array(site, site.inputs[0], np.shape(value))
    return site.inputs[0]


@register_rule(layers.Normalization)
def normalization(site: Site) -> ChannelIds:
    """Mean and variance of the training data, as constants; channels with their own stay."""
    shape = np.shape(site.layer.mean) if site.layer.mean is not None else ()
    anchor_under_array(site, site.inputs[0], shape)
    return site.inputs[0]


@register_rule("ops.Glu")
def gated_linear_unit(site: Site) -> ChannelIds:
    """The first half of an axis, times the sigmoid of the second half."""
    axis = site.layer.axis % len(site.input_shapes[0])
    if varying_axes(site.inputs[0]) not in ([], [axis]):
        return site.inputs[0]
    first, second = np.split(site.channels(0, axis), 2)
    site.tie(first, second)
    return site.along(first, axis, len(site.input_shapes[0]))


@register_rule(layers.Activation)
def activation(site: Site) -> ChannelIds:
    """Channels pass through, unless the function mixes them (softmax)."""
    apply_activation(site, site.inputs[0])
    return site.inputs[0]


@register_rule(layers.Softmax, "ops.Softmax", "ops.LogSoftmax", "ops.Sparsemax")
def softmax(site: Site) -> ChannelIds:
    """Over the channels every output depends on every input; over other axes it does not."""
    axes = site.layer.axis if isinstance(site.layer.axis, list | tuple) else [site.layer.axis or 0]
    rank = len(site.input_shapes[0])
    if site.layer.axis is None or set(varying_axes(site.inputs[0])) & {a % rank for a in axes}:
        site.anchor(site.inputs[0], f"softmax '{site.path}' mixes channels")
    return site.inputs[0]


@register_rule(*INERT)
def inert(site: Site) -> ChannelIds:
    """Channels pass through, unless dropout draws a mask of fixed size."""
    shape = getattr(site.layer, "noise_shape", None)
    if shape is not None and any(size not in (None, 1) for size in shape[1:]):
        raise Unprunable("its `noise_shape` fixes the number of channels")
    return site.inputs[0]


@register_rule(layers.PReLU)
def prelu(site: Site) -> ChannelIds:
    """One slope per element, except along shared axes."""
    block = site.inputs[0]
    if site.layer.alpha is not None:
        shared = set(site.layer.shared_axes or ())
        carried = {
            axis - 1: site.channels(0, axis) for axis in varying_axes(block) if axis not in shared
        }
        site.weight(site.layer.alpha, carries=carried)
    return block
