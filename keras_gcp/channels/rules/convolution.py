"""Convolutions: plain, grouped, depthwise, separable, transposed."""

from __future__ import annotations

import numpy as np
from keras import layers

from keras_gcp import keras_state
from keras_gcp.channels.channel_ids import ChannelIds
from keras_gcp.channels.registry import register_rule
from keras_gcp.channels.rules.common import apply_activation, places_of, require_plain_kernel
from keras_gcp.channels.site import Site

STRIDED_POINTWISE = "strided 1x1 convolutions of fewer channels crash TensorFlow's CPU kernels"


@register_rule(layers.Conv1D, layers.Conv2D, layers.Conv3D)
def convolution(site: Site) -> ChannelIds:
    """Kernel `(*kernel_size, channels_in / groups, filters)`."""
    site.macs(site.layer.kernel, places_of(site, site.output_shapes[0]))
    require_plain_kernel(site)
    layer, incoming = site.layer, site.channels(0)
    if max(layer.kernel_size) == 1 and max(layer.strides) > 1:
        least = keras_state.least_width_of_strided_pointwise()
        site.at_least(incoming, least, STRIDED_POINTWISE)
    if layer.groups == 1:
        outgoing = site.fresh(layer.filters)
        site.weight(layer.kernel, consumes={-2: incoming}, produces={-1: outgoing})
        site.begins(outgoing)
    elif layer.groups == len(incoming):
        outgoing = _as_depthwise(site, incoming)
    else:
        outgoing = _grouped(site, incoming)
    site.weight(layer.bias, carries={0: outgoing})
    site.config("filters", site.count(outgoing))
    apply_activation(site, outgoing)
    return site.output_block(outgoing)


def _as_depthwise(site: Site, incoming: ChannelIds) -> ChannelIds:
    """One filter group per channel: channels pass through, and `groups` shrinks with them."""
    layer = site.layer
    site.at_least(incoming, 2, "with one channel it would be a plain convolution")
    outgoing = np.repeat(incoming, layer.filters // layer.groups)
    site.weight(layer.kernel, carries={-1: outgoing})
    site.config("groups", site.count(incoming))
    return outgoing


def _grouped(site: Site, incoming: ChannelIds) -> ChannelIds:
    """Every filter group loses the same positions, so that the groups stay equally wide."""
    layer = site.layer
    by_group = incoming.reshape(layer.groups, -1)
    site.tie(by_group[:1], by_group)
    site.at_least(incoming, 2 * layer.groups, "with one channel per group it would be depthwise")
    outgoing = site.fresh(layer.filters)
    out_by_group = outgoing.reshape(layer.groups, -1)
    site.tie(out_by_group[:1], out_by_group)
    site.weight(layer.kernel, consumes={-2: by_group[0]}, produces={-1: outgoing})
    site.begins(outgoing)
    return outgoing


@register_rule(layers.Conv1DTranspose, layers.Conv2DTranspose, layers.Conv3DTranspose)
def transposed_convolution(site: Site) -> ChannelIds:
    """Kernel `(*kernel_size, filters, channels_in)`; it works at every *input* position."""
    site.macs(site.layer.kernel, places_of(site, site.input_shapes[0]))
    require_plain_kernel(site)
    layer, incoming = site.layer, site.channels(0)
    outgoing = site.fresh(layer.filters)
    site.weight(layer.kernel, consumes={-1: incoming}, produces={-2: outgoing})
    site.weight(layer.bias, carries={0: outgoing})
    site.begins(outgoing)
    site.config("filters", site.count(outgoing))
    apply_activation(site, outgoing)
    return site.output_block(outgoing)


@register_rule(layers.DepthwiseConv1D, layers.DepthwiseConv2D)
def depthwise_convolution(site: Site) -> ChannelIds:
    """Kernel `(*kernel_size, channels, depth_multiplier)`: each channel is filtered by itself."""
    site.macs(site.layer.kernel, places_of(site, site.output_shapes[0]))
    require_plain_kernel(site)
    layer, incoming = site.layer, site.channels(0)
    outgoing = np.repeat(incoming, layer.depth_multiplier)
    site.weight(layer.kernel, carries={-2: incoming})
    site.weight(layer.bias, carries={0: outgoing})
    apply_activation(site, outgoing)
    return site.output_block(outgoing)


@register_rule(layers.SeparableConv1D, layers.SeparableConv2D)
def separable_convolution(site: Site) -> ChannelIds:
    """A depthwise convolution, then a pointwise one, both at every output position."""
    positions = places_of(site, site.output_shapes[0])
    site.macs(site.layer.depthwise_kernel, positions)
    site.macs(site.layer.pointwise_kernel, positions)
    layer, incoming = site.layer, site.channels(0)
    between = np.repeat(incoming, layer.depth_multiplier)
    outgoing = site.fresh(layer.filters)
    site.weight(layer.depthwise_kernel, carries={-2: incoming})
    site.weight(layer.pointwise_kernel, consumes={-2: between}, produces={-1: outgoing})
    site.weight(layer.bias, carries={0: outgoing})
    site.begins(outgoing)
    site.config("filters", site.count(outgoing))
    apply_activation(site, outgoing)
    return site.output_block(outgoing)
