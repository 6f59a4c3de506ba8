"""What the reference networks have in common: convolution, normalisation, classifier."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np

from keras_gcp.errors import InvalidArgument
from keras_gcp.validation import LARGEST, integer, require_integer

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
    shape = _sizes(input_shape)
    if len(shape) != 3 or shape[2] is None or any(size is not None and size < 1 for size in shape):
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


def _sizes(input_shape: Any) -> tuple[int | None, ...]:
    """The sizes as plain numbers, those that are not positive integers as 0; empty for no shape."""
    if not isinstance(input_shape, Sequence | np.ndarray) or np.ndim(input_shape) != 1:
        return ()
    return tuple(None if size is None else integer(size) or 0 for size in input_shape)


def positive(**arguments: int) -> tuple[int, ...]:
    """The arguments as plain numbers; refuses what is not a positive integer."""
    return tuple(require_integer(name, value, 1, LARGEST) for name, value in arguments.items())


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
