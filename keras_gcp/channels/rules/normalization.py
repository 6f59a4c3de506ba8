"""Normalization with one scale, shift, mean and variance per channel."""

from __future__ import annotations

from keras import layers

from keras_gcp.channels.labels import Labels
from keras_gcp.channels.registry import register_rule
from keras_gcp.channels.rules.common import varying_axes
from keras_gcp.channels.site import Site


@register_rule(layers.BatchNormalization)
def batch_normalization(site: Site) -> Labels:
    """Each channel is normalised by its own statistics, so channels pass through."""
    layer = site.layer
    axis = layer.axis % len(site.input_shapes[0])
    # On an axis without channels (labels vary along another one) the weights keep their size.
    if varying_axes(site.inputs[0]) in ([], [axis]):
        channels = site.channels(0, axis)
        for name in ("gamma", "beta", "moving_mean", "moving_variance"):
            site.weight(getattr(layer, name, None), carries={0: channels})
    return site.inputs[0]
