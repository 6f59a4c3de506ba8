"""VGG-16 for small images, with batch normalisation and one hidden dense layer.

The layout that the pruning literature calls VGG-16 on CIFAR: the thirteen convolutions of
Simonyan and Zisserman (2014), each normalised, then a hidden dense layer and the classifier.
"""

from __future__ import annotations

from collections.abc import Sequence

import keras

from keras_gcp.models.parts import (
    classifier,
    convolution,
    image_input,
    normalisation,
    positive,
    relu,
)

# Convolutions per stage and the width of each stage in units of the first; a pool ends a stage.
_STAGES = ((2, 1), (2, 2), (3, 4), (3, 8), (3, 8))
_SMALLEST_IMAGE = 2 ** len(_STAGES)


def vgg16(
    input_shape: Sequence[int | None] = (32, 32, 3),
    classes: int = 10,
    *,
    width: int = 64,
    hidden: int = 512,
    dropout: float = 0.0,
    classifier_activation: str | None = "softmax",
    bn_momentum: float = 0.9,
    name: str = "vgg16",
) -> keras.Model:
    """VGG-16 for small images.

    Args:
        input_shape: `(height, width, channels)` of an image, 32 pixels a side at least.
        classes: number of classes.
        width: channels of the first stage, 64 in the paper; the others have 2, 4, 8 and 8 times
            as many.
        hidden: units of the hidden dense layer.
        dropout: share of hidden units dropped in training; 0 leaves the layer out.
        classifier_activation: `"softmax"`, or None for logits.
        bn_momentum: of the moving statistics; 0.9 suits short trainings.
        name: of the model.

    Returns:
        An uncompiled functional model, `(batch, height, width, channels)` to `(batch, classes)`.

    Raises:
        InvalidArgument: a shape or width that makes no network.

    Example:

    >>> vgg16().count_params()
    14995146
    """
    classes, width, hidden = positive(classes=classes, width=width, hidden=hidden)
    image = x = image_input(input_shape, smallest=_SMALLEST_IMAGE)
    for stage, (convolutions, factor) in enumerate(_STAGES, start=1):
        for index in range(1, convolutions + 1):
            x = convolution(x, factor * width, 3, 1, f"stage{stage}_conv{index}")
            x = normalisation(x, bn_momentum, f"stage{stage}_bn{index}")
            x = relu(x, f"stage{stage}_relu{index}")
        x = keras.layers.MaxPooling2D(2, name=f"stage{stage}_pool")(x)
    x = keras.layers.Flatten(name="flatten")(x)
    x = keras.layers.Dense(hidden, kernel_initializer="he_normal", name="hidden")(x)
    x = relu(x, "hidden_relu")
    if dropout > 0:
        x = keras.layers.Dropout(dropout, name="hidden_dropout")(x)
    return keras.Model(image, classifier(x, classes, classifier_activation), name=name)
