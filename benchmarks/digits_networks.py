"""Small networks of several kinds, trained on scikit-learn's digits in seconds.

They are kept in build/trained, or in the folder that KERAS_GCP_CACHE names.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import keras
import numpy as np
from keras import layers

from examples.datasets import batches, load

CACHE = Path(__file__).parents[1] / "build" / "trained"
EPOCHS = 12


def data() -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Images of 16x16 pixels and labels, for training and for tests."""
    found = load("digits", scale=2)
    return found.x_train, found.y_train, found.x_test, found.y_test


def _normalised(x: Any, filters: int, size: int = 3, strides: int = 1) -> Any:
    x = layers.Conv2D(filters, size, strides, padding="same", use_bias=False)(x)
    return layers.ReLU()(layers.BatchNormalization()(x))


def _concatenations() -> keras.Model:
    """Two dense blocks, and an Inception block."""
    inputs = keras.Input((16, 16, 1))
    x = _normalised(inputs, 16)
    for _ in range(2):
        for _ in range(3):
            x = layers.Concatenate()([x, _normalised(_normalised(x, 24, 1), 12)])
        x = layers.AveragePooling2D(2)(_normalised(x, 24, 1))
    branches = [_normalised(x, 16, 1), _normalised(_normalised(x, 16, 1), 24)]
    x = layers.Concatenate()([*branches, _normalised(layers.MaxPooling2D(3, 1, "same")(x), 16, 1)])
    return _classifier(inputs, layers.GlobalAveragePooling2D()(x))


def _mobile() -> keras.Model:
    """Inverted residuals with depthwise convolutions."""
    inputs = keras.Input((16, 16, 1))
    x = _normalised(inputs, 16)
    for filters, strides in ((16, 1), (24, 2), (24, 1), (32, 2), (32, 1)):
        shortcut, width = x, 4 * x.shape[-1]
        x = _normalised(x, width, 1)
        x = layers.DepthwiseConv2D(3, strides, padding="same", use_bias=False)(x)
        x = layers.ReLU(6.0)(layers.BatchNormalization()(x))
        x = layers.BatchNormalization()(layers.Conv2D(filters, 1, use_bias=False)(x))
        x = layers.Add()([x, shortcut]) if x.shape == shortcut.shape else x
    return _classifier(inputs, layers.GlobalAveragePooling2D()(_normalised(x, 64, 1)))


def _vgg() -> keras.Model:
    """Plain convolutions, Flatten, dense layers."""
    inputs = keras.Input((16, 16, 1))
    x = _normalised(_normalised(inputs, 16), 16)
    x = _normalised(_normalised(layers.MaxPooling2D(2)(x), 32), 32)
    x = _normalised(layers.MaxPooling2D(2)(x), 64)
    x = layers.Dense(64, activation="relu")(layers.Flatten()(x))
    return _classifier(inputs, x)


def _plain_residual() -> keras.Model:
    """No normalization; additions."""
    inputs = keras.Input((16, 16, 1))
    x = layers.Conv2D(24, 3, padding="same", activation="relu")(inputs)
    for filters in (24, 48):
        shortcut = layers.Conv2D(filters, 1, strides=2)(x)
        x = layers.Conv2D(filters, 3, 2, padding="same", activation="relu")(x)
        x = layers.Conv2D(filters, 3, padding="same")(x)
        x = layers.ReLU()(layers.Add()([x, shortcut]))
    return _classifier(inputs, layers.GlobalAveragePooling2D()(x))


def _classifier(inputs: Any, x: Any) -> keras.Model:
    return keras.Model(inputs, layers.Dense(10, activation="softmax")(x))


NETWORKS: Mapping[str, Callable[[], keras.Model]] = {
    "digits_concat": _concatenations,
    "digits_mobile": _mobile,
    "digits_vgg": _vgg,
    "digits_plain": _plain_residual,
}


def trained(name: str) -> keras.Model:
    """A trained network; trained now if it is not in the cache."""
    path = Path(os.environ.get("KERAS_GCP_CACHE", CACHE)) / f"{name}.keras"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        _train(name).save(path)
    return keras.models.load_model(path, compile=False)


def _train(name: str) -> keras.Model:
    keras.utils.set_random_seed(0)
    found, model = load("digits", scale=2), NETWORKS[name]()
    steps = EPOCHS * -(-len(found.x_train) // 32)
    rate = keras.optimizers.schedules.CosineDecay(3e-3, steps)
    model.compile(keras.optimizers.Adam(rate), "sparse_categorical_crossentropy")
    model.fit(batches(found, 32), epochs=EPOCHS, verbose=0)
    return model
