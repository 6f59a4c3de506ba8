"""A small network as it comes from training, its data, and the bridge to tf_keras."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from helpers import randomise
from keras import layers

SIZE, CLASSES = 12, 4


def small_network():
    """Convolutions with batch normalization, a residual block, a dense layer."""
    inputs = keras.Input((SIZE, SIZE, 3), name="image")
    x = layers.Conv2D(8, 3, padding="same", use_bias=False, name="stem")(inputs)
    x = layers.ReLU(name="stem_relu")(layers.BatchNormalization(name="stem_bn")(x))
    y = layers.Conv2D(12, 3, padding="same", use_bias=False, name="inner")(x)
    y = layers.ReLU(name="inner_relu")(layers.BatchNormalization(name="inner_bn")(y))
    y = layers.DepthwiseConv2D(3, padding="same", name="depthwise")(y)
    y = layers.Conv2D(8, 1, name="outer")(y)
    x = layers.ReLU(name="sum_relu")(layers.Add(name="sum")([x, y]))
    x = layers.GlobalAveragePooling2D(name="pool")(x)
    outputs = layers.Dense(CLASSES, activation="softmax", name="classifier")(x)
    return keras.Model(inputs, outputs, name="small")


@pytest.fixture
def trained():
    """Compiled, with weights that are not those of a new network."""
    model = randomise(small_network())
    model.compile(
        keras.optimizers.SGD(1e-3, momentum=0.9),
        "sparse_categorical_crossentropy",
        metrics=["accuracy"],
    )
    return model


@pytest.fixture(scope="session")
def data():
    rng = np.random.default_rng(0)
    return rng.random((48, SIZE, SIZE, 3)).astype("float32"), np.arange(48) % CLASSES


@pytest.fixture
def carried():
    """From a Keras 3 model to its bridge and its twin in tf_keras."""
    from keras_gcp.tfmot import bridge, packages, refusals

    def carry(model):
        graph = refusals.read(model, "bridge", lambda graph: iter(()))
        over = bridge.bridge(model, graph, packages.load())
        return over, bridge.build(over)

    return carry
