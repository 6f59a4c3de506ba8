"""Reductions: means, maxima and sums over axes."""

from __future__ import annotations

import numpy as np

from keras_gcp.channels.labels import Labels
from keras_gcp.channels.registry import register_rule
from keras_gcp.channels.rules.common import varying_axes
from keras_gcp.channels.rules.mixing import reduced_over_kept
from keras_gcp.channels.site import Site, Unprunable

REDUCTIONS = "All Amax Amin Any Logsumexp Max Mean Median Min Prod Std Sum Var".split()


@register_rule(*(f"ops.{name}" for name in REDUCTIONS))
def reduction(site: Site) -> Labels:
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
