"""Layers of keras-hub's convolutional backbones that stay whole when a model is flattened.

By name, since keras-hub need not be installed.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from keras import ops

from keras_gcp.channels.channel_ids import ChannelIds
from keras_gcp.channels.registry import register_rule
from keras_gcp.channels.rules.mixing import over_kept, taken
from keras_gcp.channels.site import Site

_MOBILENET_V5 = "keras_hub.src.models.mobilenetv5.mobilenetv5_layers"
_HGNET_V2 = "keras_hub.src.models.hgnetv2.hgnetv2_layers"


@register_rule(f"{_MOBILENET_V5}.RmsNorm2d")
def rms_norm_2d(site: Site) -> ChannelIds:
    """Root mean square over the channels of a position, then one factor per channel."""
    layer = site.layer
    axis = 1 if layer.data_format == "channels_first" else len(site.input_shapes[0]) - 1
    channels = site.channels(0, axis)
    site.weight(layer.gamma, carries={0: channels})
    site.config("dim", site.count(channels))

    def normalise(x: Any, keep: np.ndarray) -> Any:
        wide = ops.cast(x, "float32")
        squares = ops.mean(ops.square(wide), axis=axis, keepdims=True)
        normal = ops.cast(wide * ops.rsqrt(squares + layer.eps), x.dtype)
        gamma = taken(ops.convert_to_tensor(layer.gamma), keep, 0)
        shape = [-1 if a == axis else 1 for a in range(len(x.shape))]
        return normal * ops.cast(ops.reshape(gamma, shape), x.dtype)

    site.mixes(channels, over_kept(normalise, axis))
    return site.inputs[0]


@register_rule(f"{_MOBILENET_V5}.LayerScale2d")
def layer_scale_2d(site: Site) -> ChannelIds:
    """One learned factor per channel."""
    channels = site.channels(0, 1 if site.layer.data_format == "channels_first" else -1)
    site.weight(site.layer.gamma, carries={0: channels})
    site.config("dim", site.count(channels))
    return site.inputs[0]


@register_rule(f"{_MOBILENET_V5}.DropPath", f"{_HGNET_V2}.HGNetV2LearnableAffineBlock")
def blind_to_channels(site: Site) -> ChannelIds:
    """Drops whole examples; or has one factor and one shift for the whole tensor."""
    return site.inputs[0]
