"""Residual networks for small images: ResNet-8, -20, -56, -110 and -164.

ResNet-20, -56 and -110 follow He et al., "Deep residual learning for image recognition" (2015),
section 4.2: a 3x3 stem, three stages of basic blocks with 1, 2 and 4 times the stem's width, the
last two stages at half and a quarter of the resolution. ResNet-8 has one block per stage, the
layout of the image classifier in MLPerf Tiny. ResNet-164 has pre-activation bottleneck blocks, as
in He et al., "Identity mappings in deep residual networks" (2016).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypedDict, Unpack

import keras

from keras_gcp.models.parts import (
    classifier,
    convolution,
    image_input,
    normalisation,
    positive,
    relu,
)
from keras_gcp.validation import require_one_of

STAGES = 3
BOTTLENECK_EXPANSION = 4
SHORTCUTS = ("projection", "pad")


@dataclass(frozen=True)
class _Style:
    """What every block of one network does in the same way."""

    shortcut: str
    bn_momentum: float


class ResNetOptions(TypedDict, total=False):
    """Keyword arguments of every network in this file.

    Attributes:
        shortcut: what joins the stages: `"projection"` (default), a 1x1 convolution with batch
            normalisation, or `"pad"`, subsampling and zeros for the new channels; options B and
            A of the paper.
        width: channels of the stem and of the first stage, 16 by default and in the paper; the
            other stages have 2 and 4 times as many.
        classifier_activation: `"softmax"` (default), or None for logits.
        bn_momentum: of the moving statistics; 0.9 (default) suits short trainings, where with
            the 0.99 of Keras they follow too slowly.
        name: of the model.
    """

    shortcut: str
    width: int
    classifier_activation: str | None
    bn_momentum: float
    name: str | None


_Block = Callable[[Any, int, int, _Style, str], Any]


def resnet8(
    input_shape: Sequence[int | None] = (32, 32, 3),
    classes: int = 10,
    **options: Unpack[ResNetOptions],
) -> keras.Model:
    """ResNet-8: one basic block per stage. Arguments as for `resnet20`."""
    return _basic_resnet(8, input_shape, classes, **options)


def resnet20(
    input_shape: Sequence[int | None] = (32, 32, 3),
    classes: int = 10,
    **options: Unpack[ResNetOptions],
) -> keras.Model:
    """ResNet-20 for small images: three basic blocks per stage.

    Args:
        input_shape: `(height, width, channels)` of an image; height and width may be None.
        classes: number of classes.
        **options: see `ResNetOptions`.

    Returns:
        An uncompiled functional model, `(batch, height, width, channels)` to `(batch, classes)`.

    Raises:
        InvalidArgument: a shape, width or shortcut that makes no network.

    Example:

    >>> model = resnet20(input_shape=(16, 16, 1), width=8, shortcut="pad")
    >>> model.output_shape
    (None, 10)
    """
    return _basic_resnet(20, input_shape, classes, **options)


def resnet56(
    input_shape: Sequence[int | None] = (32, 32, 3),
    classes: int = 10,
    **options: Unpack[ResNetOptions],
) -> keras.Model:
    """ResNet-56: nine basic blocks per stage. Arguments as for `resnet20`."""
    return _basic_resnet(56, input_shape, classes, **options)


def resnet110(
    input_shape: Sequence[int | None] = (32, 32, 3),
    classes: int = 10,
    **options: Unpack[ResNetOptions],
) -> keras.Model:
    """ResNet-110: eighteen basic blocks per stage. Arguments as for `resnet20`."""
    return _basic_resnet(110, input_shape, classes, **options)


def resnet164(
    input_shape: Sequence[int | None] = (32, 32, 3),
    classes: int = 10,
    **options: Unpack[ResNetOptions],
) -> keras.Model:
    """ResNet-164: eighteen pre-activation bottleneck blocks per stage, four times as wide outside.

    Arguments as for `resnet20`. A projection here has no batch normalisation of its own: it starts
    from normalised activations.
    """
    return _resnet(164, 18, _bottleneck_block, input_shape, classes, **options)


def _basic_resnet(
    depth: int, input_shape: Sequence[int | None], classes: int, **options: Unpack[ResNetOptions]
) -> keras.Model:
    # Two convolutions per block, three stages; the stem and the classifier are the other two.
    return _resnet(
        depth, (depth - 2) // (2 * STAGES), _basic_block, input_shape, classes, **options
    )


def _resnet(
    depth: int,
    blocks: int,
    block: _Block,
    input_shape: Sequence[int | None],
    classes: int,
    *,
    shortcut: str = "projection",
    width: int = 16,
    classifier_activation: str | None = "softmax",
    bn_momentum: float = 0.9,
    name: str | None = None,
) -> keras.Model:
    require_one_of("shortcut", shortcut, SHORTCUTS)
    classes, width = positive(classes=classes, width=width)
    style = _Style(shortcut, bn_momentum)
    preactivation = block is _bottleneck_block

    image = image_input(input_shape)
    x = convolution(image, width, 3, 1, "stem_conv")
    if not preactivation:
        x = relu(normalisation(x, bn_momentum, "stem_bn"), "stem_relu")
    for stage in range(STAGES):
        for index in range(blocks):
            strides = 2 if stage > 0 and index == 0 else 1
            prefix = f"stage{stage + 1}_block{index + 1}"
            x = block(x, width * 2**stage, strides, style, prefix)
    if preactivation:
        x = relu(normalisation(x, bn_momentum, "last_bn"), "last_relu")
    x = keras.layers.GlobalAveragePooling2D(name="pool")(x)
    return keras.Model(
        image, classifier(x, classes, classifier_activation), name=name or f"resnet{depth}"
    )


def _basic_block(x: Any, width: int, strides: int, style: _Style, prefix: str) -> Any:
    """Two 3x3 convolutions beside a shortcut, ReLU after the addition."""
    y = convolution(x, width, 3, strides, f"{prefix}_conv1")
    y = normalisation(y, style.bn_momentum, f"{prefix}_bn1")
    y = relu(y, f"{prefix}_relu1")
    y = convolution(y, width, 3, 1, f"{prefix}_conv2")
    y = normalisation(y, style.bn_momentum, f"{prefix}_bn2")
    skip = x
    if strides > 1 or x.shape[-1] != width:
        skip = _shortcut(x, width, strides, style, prefix)
        if style.shortcut == "projection":
            skip = normalisation(skip, style.bn_momentum, f"{prefix}_shortcut_bn")
    return relu(keras.layers.Add(name=f"{prefix}_add")([y, skip]), f"{prefix}_relu2")


def _bottleneck_block(x: Any, width: int, strides: int, style: _Style, prefix: str) -> Any:
    """1x1, 3x3 and 1x1 convolutions, each after normalisation and ReLU, beside a shortcut."""
    outer = BOTTLENECK_EXPANSION * width
    first = relu(normalisation(x, style.bn_momentum, f"{prefix}_bn1"), f"{prefix}_relu1")
    y = convolution(first, width, 1, 1, f"{prefix}_conv1")
    y = relu(normalisation(y, style.bn_momentum, f"{prefix}_bn2"), f"{prefix}_relu2")
    y = convolution(y, width, 3, strides, f"{prefix}_conv2")
    y = relu(normalisation(y, style.bn_momentum, f"{prefix}_bn3"), f"{prefix}_relu3")
    y = convolution(y, outer, 1, 1, f"{prefix}_conv3")
    skip = x
    if strides > 1 or x.shape[-1] != outer:
        skip = _shortcut(first, outer, strides, style, prefix)
    return keras.layers.Add(name=f"{prefix}_add")([y, skip])


def _shortcut(x: Any, channels: int, strides: int, style: _Style, prefix: str) -> Any:
    """Brings the input of a stage to the resolution and the channels of its output."""
    if style.shortcut == "projection":
        return convolution(x, channels, 1, strides, f"{prefix}_shortcut_conv")
    if strides > 1:  # a window of one pixel: plain subsampling
        x = keras.layers.MaxPooling2D(1, strides=strides, name=f"{prefix}_shortcut_pool")(x)
    new = channels - x.shape[-1]
    return keras.ops.pad(x, [(0, 0), (0, 0), (0, 0), (new // 2, new - new // 2)])
