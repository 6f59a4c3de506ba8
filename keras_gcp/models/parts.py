"""What the reference networks have in common: convolution, normalisation, classifier."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras

from keras_gcp.errors import InvalidArgument

BN_EPSILON = 1e-5


def image_input(input_shape: Sequence[int | None], smallest: int = 1) -> Any:
    """The symbolic input of a network for images, channels last.

    Args:
        input_shape: `(height, width, channels)`; height and width may be None where the network
            ends in global pooling.
        smallest: the least height and width that the network's downsampling allows.

    Raises:
        InvalidArgument: the shape is not of that form or too small, or Keras is set to
            channels-first images.
    """
    if keras.config.image_data_format() != "channels_last":
        raise InvalidArgument(
            "The reference networks take images with channels last, but Keras is set to "
            f"{keras.config.image_data_format()!r}. "
            "Call keras.config.set_image_data_format('channels_last') first."
        )
    shape = tuple(input_shape)
    if len(shape) != 3 or not isinstance(shape[2], int) or shape[2] < 1:
        raise InvalidArgument(
            f"input_shape={input_shape} does not describe an image. "
            "Expected (height, width, channels), for example (32, 32, 3)."
        )
    if any(size is not None and size < smallest for size in shape[:2]):
        raise InvalidArgument(
            f"input_shape={input_shape} is too small: the network halves images until nothing "
            f"is left. Expected height and width of {smallest} at least; upscale the images."
        )
    return keras.Input(shape, name="image")


def positive(**arguments: int) -> None:
    """Refuses arguments that are not positive integers."""
    for name, value in arguments.items():
        if not isinstance(value, int) or value < 1:
            raise InvalidArgument(f"{name}={value!r} was given. Expected an integer of 1 or more.")


def convolution(x: Any, channels: int, size: int, strides: int, name: str) -> Any:
    """A convolution without bias: the normalisation that follows has its own shift."""
    return keras.layers.Conv2D(
        channels,
        size,
        strides=strides,
        padding="same",
        use_bias=False,
        kernel_initializer="he_normal",
        name=name,
    )(x)


def normalisation(x: Any, momentum: float, name: str) -> Any:
    """Batch normalisation as in the CIFAR networks of the papers."""
    return keras.layers.BatchNormalization(momentum=momentum, epsilon=BN_EPSILON, name=name)(x)


def relu(x: Any, name: str) -> Any:
    """A ReLU layer of its own, so that it has an output to look at."""
    return keras.layers.ReLU(name=name)(x)


def classifier(x: Any, classes: int, activation: str | None) -> Any:
    """The last dense layer: probabilities with "softmax", logits with None."""
    return keras.layers.Dense(
        classes, activation=activation, kernel_initializer="he_normal", name="classifier"
    )(x)
