"""Pooling, local and global."""

from __future__ import annotations

import numpy as np
from keras import layers

from keras_gcp.channels.labels import Labels
from keras_gcp.channels.registry import register_rule
from keras_gcp.channels.rules.common import varying_axes
from keras_gcp.channels.site import Site, Unprunable

# Newer Keras only.
ADAPTIVE = [getattr(layers, name) for name in dir(layers) if name.startswith("Adaptive")]


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
def pooling(site: Site) -> Labels:
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
def global_pooling(site: Site) -> Labels:
    """The spatial axes go (or become 1); channels stay."""
    _require_channel_axis_only(site)
    block = site.inputs[0]
    if site.layer.keepdims:
        return block
    spatial = tuple(a - 1 for a in range(1, block.ndim + 1) if a != site.channel_axis)
    return np.squeeze(block, axis=spatial)
