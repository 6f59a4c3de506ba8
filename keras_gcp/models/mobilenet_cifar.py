"""MobileNet for small images: depthwise separable convolutions.

The thirteen blocks of Howard et al., "MobileNets" (2017), with the stem and the first block at
full resolution, as is usual for images of 32 pixels.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras

from keras_gcp.models.parts import (
    classifier,
    convolution,
    image_input,
    normalisation,
    positive,
    relu,
)

# (width in units of the stem's, strides) of each block.
_BLOCKS = ((2, 1), (4, 2), (4, 1), (8, 2), (8, 1), (16, 2), *[(16, 1)] * 5, (32, 2), (32, 1))

# Keras's own He initialiser would count the inputs of all channels; a depthwise one sees its own.
_HE_STDDEV = (2 / (3 * 3)) ** 0.5


def mobilenet(
    input_shape: Sequence[int | None] = (32, 32, 3),
    classes: int = 10,
    *,
    width: int = 32,
    classifier_activation: str | None = "softmax",
    bn_momentum: float = 0.9,
    name: str = "mobilenet",
) -> keras.Model:
    """MobileNet (version 1) for small images.

    Args:
        input_shape: `(height, width, channels)` of an image; height and width may be None.
        classes: number of classes.
        width: channels of the stem, 32 in the paper; the last blocks have 32 times as many.
        classifier_activation: `"softmax"`, or None for logits.
        bn_momentum: of the moving statistics; 0.9 suits short trainings.
        name: of the model.

    Returns:
        An uncompiled functional model, `(batch, height, width, channels)` to `(batch, classes)`.

    Raises:
        InvalidArgument: a shape or width that makes no network.

    Example:

    >>> mobilenet(width=8).output_shape
    (None, 10)
    """
    classes, width = positive(classes=classes, width=width)
    image = image_input(input_shape)
    x = convolution(image, width, 3, 1, "stem_conv")
    x = relu(normalisation(x, bn_momentum, "stem_bn"), "stem_relu")
    for index, (factor, strides) in enumerate(_BLOCKS, start=1):
        x = _separable_block(x, factor * width, strides, bn_momentum, f"block{index}")
    x = keras.layers.GlobalAveragePooling2D(name="pool")(x)
    return keras.Model(image, classifier(x, classes, classifier_activation), name=name)


def _separable_block(x: Any, channels: int, strides: int, bn_momentum: float, prefix: str) -> Any:
    """A depthwise 3x3 and a pointwise 1x1 convolution, each with normalisation and ReLU."""
    x = keras.layers.DepthwiseConv2D(
        3,
        strides=strides,
        padding="same",
        use_bias=False,
        depthwise_initializer=keras.initializers.RandomNormal(stddev=_HE_STDDEV),
        name=f"{prefix}_depthwise",
    )(x)
    x = relu(normalisation(x, bn_momentum, f"{prefix}_bn1"), f"{prefix}_relu1")
    x = convolution(x, channels, 1, 1, f"{prefix}_pointwise")
    return relu(normalisation(x, bn_momentum, f"{prefix}_bn2"), f"{prefix}_relu2")
