"""Small networks that the export tests share; each is built once per test file."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from keras import layers

IMAGE = (8, 8, 3)


def randomise(model: keras.Model, seed: int = 0) -> keras.Model:
    """Weights and batch-normalization statistics as after training, away from 0 and 1."""
    generator = np.random.default_rng(seed)
    for variable in model.weights:
        if "float" not in str(variable.dtype):
            continue
        values = generator.normal(scale=0.3, size=variable.shape)
        if "variance" in variable.path or "gamma" in variable.path:
            values = np.abs(values) + 0.5
        variable.assign(values)
    return model


@pytest.fixture(scope="module")
def plain() -> keras.Model:
    """Convolution, batch normalization, pooling, Flatten, Dense."""
    return randomise(
        keras.Sequential(
            [
                layers.Input(IMAGE),
                layers.Conv2D(6, 3, use_bias=False),
                layers.BatchNormalization(),
                layers.ReLU(),
                layers.MaxPooling2D(),
                layers.Flatten(),
                layers.Dense(4),
            ],
            name="plain",
        )
    )


@pytest.fixture(scope="module")
def forked() -> keras.Model:
    """Two inputs and two outputs of equal shapes, named against the alphabet."""
    left, right = layers.Input(IMAGE, name="y_left"), layers.Input(IMAGE, name="x_right")
    a = layers.Conv2D(4, 3, activation="relu")(left)
    b = layers.DepthwiseConv2D(3)(right)
    joined = layers.Concatenate()([a, b])
    pooled = layers.GlobalAveragePooling2D()(joined)
    first = layers.Dense(3, name="q_first")(pooled)
    second = layers.Dense(3, name="p_second")(layers.Flatten()(joined))
    return randomise(keras.Model([left, right], [first, second], name="forked"))


@pytest.fixture(scope="module")
def images() -> np.ndarray:
    return np.random.default_rng(1).normal(size=(48, *IMAGE)).astype("float32")


@pytest.fixture(scope="module")
def pair(images: np.ndarray) -> dict[str, np.ndarray]:
    return {"x_right": images[::-1].copy(), "y_left": images}
