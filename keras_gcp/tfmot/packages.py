"""tf_keras and tensorflow-model-optimization, imported when they are needed, leaving no trace."""

from __future__ import annotations

import contextlib
import importlib.metadata
import importlib.util
import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import keras

from keras_gcp.errors import InvalidArgument, UnsupportedModel
from keras_gcp.extras import require

_NEEDED = ("tensorflow", "tf_keras", "tensorflow_model_optimization")
_LEGACY = "TF_USE_LEGACY_KERAS"


@dataclass(frozen=True)
class Packages:
    """The modules.

    Attributes:
        tf: TensorFlow.
        tf_keras: Keras 2, the only one that tfmot takes models of.
        tfmot: tensorflow-model-optimization.
    """

    tf: Any
    tf_keras: Any
    tfmot: Any


def check_backend() -> None:
    """Refuses backends on which there is no TensorFlow model to hand over.

    Raises:
        UnsupportedModel: Keras does not run on TensorFlow.
    """
    if keras.backend.backend() != "tensorflow":
        raise UnsupportedModel(
            "tensorflow-model-optimization works on TensorFlow, but Keras runs on "
            f"'{keras.backend.backend()}'. Save the model (`model.save('pruned.keras')`), load it "
            "in a process with KERAS_BACKEND=tensorflow, and go on there."
        )


def load() -> Packages:
    """Imports the packages.

    tfmot sets an environment variable when it is imported, after which `tf.keras` is Keras 2 for
    whoever asks for it first. Here `tf.keras` is asked for before, and the variable is put back.

    Raises:
        InvalidArgument: one of them is missing, or tf_keras was made for another TensorFlow.
    """
    _check_installed()
    import tensorflow as tf

    _check_versions(tf.__version__, importlib.metadata.version("tf_keras"))
    _ = tf.keras.layers  # From now on it stays the one that it is.
    with _environment_put_back(_LEGACY):
        import tensorflow_model_optimization as tfmot
        import tf_keras
    return Packages(tf, tf_keras, tfmot)


def _check_installed() -> None:
    advice = (
        ", best into an environment of its own: tf_keras fixes the version of TensorFlow, and asks "
        "for the package `tensorflow`, not `tensorflow-cpu`"
    )
    require(_NEEDED, "keras_gcp.tfmot needs", advice)


def _check_versions(tensorflow: str, tf_keras: str) -> None:
    """tf_keras relies on private parts of the TensorFlow of its own version."""
    if tensorflow.split(".")[:2] != tf_keras.split(".")[:2]:
        wanted = ".".join(tensorflow.split(".")[:2])
        raise InvalidArgument(
            f"tf_keras {tf_keras} was made for another TensorFlow than {tensorflow}, which is "
            f"installed. Install the one of the same version: `pip install 'tf_keras=={wanted}.*'`."
        )


@contextlib.contextmanager
def _environment_put_back(name: str) -> Iterator[None]:
    before = os.environ.get(name)
    try:
        yield
    finally:
        os.environ.pop(name, None)
        if before is not None:
            os.environ[name] = before
