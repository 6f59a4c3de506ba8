"""Padding, cropping and upsampling of spatial axes."""

from __future__ import annotations

from typing import Any

import numpy as np
from keras import layers

from keras_gcp.channels.channel_ids import ChannelIds
from keras_gcp.channels.registry import register_rule
from keras_gcp.channels.rules.common import varying_axes
from keras_gcp.channels.site import Site, Unprunable


@register_rule(
    layers.ZeroPadding1D,
    layers.ZeroPadding2D,
    layers.ZeroPadding3D,
    layers.Cropping1D,
    layers.Cropping2D,
    layers.Cropping3D,
    layers.UpSampling1D,
    layers.UpSampling2D,
    layers.UpSampling3D,
    layers.Resizing,
    layers.CenterCrop,
    layers.RandomFlip,
    layers.RandomRotation,
    layers.RandomTranslation,
    layers.RandomZoom,
    "ops.CropImages",
    "ops.PadImages",
    "ops.Resize",
)
def spatial(site: Site) -> ChannelIds:
    """The channel axis is left alone."""
    if set(varying_axes(site.inputs[0])) - {site.channel_axis}:
        raise Unprunable("it changes the size of an axis along which channels lie")
    return site.inputs[0]


# Colours are mixed, or their number is fixed.
COLOURS = [
    getattr(layers, name)
    for name in (
        "AugMix AutoContrast CutMix Equalization MixUp RandAugment RandomBrightness "
        "RandomColorDegeneration RandomColorJitter RandomContrast RandomCrop RandomErasing "
        "RandomGaussianBlur RandomGrayscale RandomHue RandomInvert RandomPerspective "
        "RandomPosterization RandomSaturation RandomSharpness RandomShear Solarization"
    ).split()
    if hasattr(layers, name)
]


@register_rule(*COLOURS)
def augmentation(site: Site) -> ChannelIds:
    """Made for images: their channels are the colours, and stay."""
    for block in site.inputs:
        site.anchor(block, f"'{site.path}' (class {type(site.layer).__name__}) works on images")
    return site.inputs[0]


@register_rule("ops.Pad")
def pad(site: Site) -> ChannelIds:
    """Zeros added along the channel axis are channels of their own; their number is rewritten.

    This is the shortcut without weights of CIFAR ResNets (He et al. 2016, option A): the padded
    channels are added to the channels of a convolution, and live or die with those.
    """
    shape, block = site.input_shapes[0], site.inputs[0]
    widths = _pad_widths(site.layer.pad_width, len(shape))
    varying = varying_axes(block)
    padded = [axis for axis, amounts in enumerate(widths) if any(amounts)]
    if 0 in padded:
        raise Unprunable("it pads the batch axis")
    along_channels = [axis for axis in padded if axis in varying]
    if not along_channels:
        return block
    if site.layer.mode != "constant":
        raise Unprunable(f"it pads channels in mode '{site.layer.mode}'; expected 'constant'")
    axis = along_channels[0]
    channels = site.channels(0, axis)
    before, after = site.fresh(widths[axis][0]), site.fresh(widths[axis][1])
    renewed: list[Any] = [tuple(amounts) for amounts in widths]
    renewed[axis] = (site.count(before), site.count(after))
    site.config("pad_width", tuple(renewed))
    return site.along(np.concatenate([before, channels, after]), axis, len(shape))


def _pad_widths(pad_width: Any, rank: int) -> list[tuple[int, int]]:
    widths = [tuple(amounts) for amounts in pad_width]
    return widths * rank if len(widths) == 1 else widths
