"""Reference networks of the pruning literature, as plain functional Keras models.

They are made of Keras layers only, so a file saved from one loads where keras_gcp is not
installed.

Example:

>>> from keras_gcp import models
>>> models.resnet20(input_shape=(16, 16, 1), classes=10).count_params()
273754
>>> "vgg16" in models.names()
True
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

import keras

from keras_gcp.errors import InvalidArgument
from keras_gcp.models.mobilenet_cifar import mobilenet
from keras_gcp.models.resnet_cifar import (
    ResNetOptions,
    resnet8,
    resnet20,
    resnet56,
    resnet110,
    resnet164,
)
from keras_gcp.models.vgg_cifar import vgg16

__all__ = [
    "ResNetOptions",
    "build",
    "mobilenet",
    "names",
    "resnet110",
    "resnet164",
    "resnet20",
    "resnet56",
    "resnet8",
    "vgg16",
]

_BUILDERS: Mapping[str, Callable[..., keras.Model]] = MappingProxyType(
    {
        "resnet8": resnet8,
        "resnet20": resnet20,
        "resnet56": resnet56,
        "resnet110": resnet110,
        "resnet164": resnet164,
        "vgg16": vgg16,
        "mobilenet": mobilenet,
    }
)


def names() -> tuple[str, ...]:
    """Names that `build` knows."""
    return tuple(_BUILDERS)


def build(name: str, /, **kwargs: Any) -> keras.Model:
    """Builds a reference network by name, for command lines and tables.

    Args:
        name: one of `names()`.
        **kwargs: arguments of the builder of that name.

    Returns:
        A built, uncompiled functional model with random weights.

    Raises:
        InvalidArgument: there is no such network, or the builder refuses an argument.
    """
    if not isinstance(name, str) or name not in _BUILDERS:
        raise InvalidArgument(
            f"There is no reference network called {name!r}. Expected one of: {', '.join(names())}."
        )
    return _BUILDERS[name](**kwargs)
