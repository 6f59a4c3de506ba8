"""Channels before the places: cut as if they were behind, also where only XLA can compute them.

On a CPU, TensorFlow trains such networks with `compile(jit_compile=True)` only.
"""

from __future__ import annotations

import keras
import numpy as np
import patterns
import pytest
from helpers import random_plan, randomise
from keras import layers

import keras_gcp

COMPILED = keras.config.backend() == "tensorflow"
"""Other backends compute such convolutions without; on PyTorch, compiling takes minutes."""


@pytest.fixture(scope="module")
def twins():
    """The same network in both formats, with the same weights."""
    last = randomise(patterns.either_format("channels_last"))
    first = patterns.either_format("channels_first")
    for one, other in zip(last.weights, first.weights, strict=True):
        other.assign(np.reshape(one, other.shape))  # slopes are (1, 1, c) or (c, 1, 1)
    return last, first


def data(count=24):
    rng = np.random.default_rng(0)
    images = rng.normal(size=(count, 40, 40, 3)).astype("float32")
    return images, images.transpose(0, 3, 1, 2), rng.integers(0, 4, count)


def test_the_cut_is_that_of_the_same_network_with_channels_last(twins):
    last, first = twins
    plan = random_plan(last)
    narrow_last = keras_gcp.apply(last, plan)
    narrow_first = keras_gcp.apply(first, random_plan(first))
    for one, other in zip(narrow_last.weights, narrow_first.weights, strict=True):
        np.testing.assert_array_equal(np.ravel(one), np.ravel(other))
    narrow_first.compile(jit_compile=COMPILED)
    images, turned, _ = data()
    expected = narrow_last.predict(images, verbose=0)
    actual = narrow_first.predict(turned, verbose=0)
    np.testing.assert_allclose(actual, expected, rtol=1e-4, atol=1e-6)
    assert (
        keras_gcp.count(narrow_first).macs == keras_gcp.count(narrow_last).macs == plan.after.macs
    )


def test_relevance_is_that_of_the_same_network_with_channels_last(twins):
    images, turned, y = data()
    expected = keras_gcp.relevance_scores(twins[0], images, y)
    actual = keras_gcp.relevance_scores(twins[1], turned, y)
    for path in ("stem", "separable", "excite", "more"):
        np.testing.assert_allclose(actual[path], expected[path], rtol=1e-3, atol=1e-6)


def small():
    """What XLA compiles within seconds."""
    inputs = keras.Input((3, 40, 40))
    option = {"data_format": "channels_first"}
    x = layers.Conv2D(8, 3, strides=2, activation="relu", name="stem", **option)(inputs)
    x = layers.GlobalAveragePooling2D(name="pool", **option)(x)
    x = layers.Dense(6, activation="relu", name="hidden")(x)
    return keras.Model(inputs, layers.Dense(4, activation="softmax", name="classifier")(x))


def whole():
    return patterns.either_format("channels_first")


@pytest.mark.parametrize(
    ("build", "criterion"),
    [
        (small, "taylor"),
        *(
            pytest.param(whole, name, marks=pytest.mark.slow)
            for name in ("taylor", "feature_relevance", "l2_norm")
        ),
    ],
)
def test_it_is_pruned_amid_a_training(build, criterion):
    model = build()
    model.compile("sgd", "sparse_categorical_crossentropy", jit_compile=COMPILED)
    _, x, y = data()
    pruning = keras_gcp.GradualChannelPruning(
        (x, y),
        {"channels": 0.6},
        keras_gcp.schedules.one_shot(1),
        criterion,
        selection={"align": 1},
        verbose=0,
    )
    model.fit(x, y, epochs=2, verbose=0, callbacks=[pruning])
    assert pruning.events[0].removed_channels > 0
