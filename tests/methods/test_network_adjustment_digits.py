"""Network Adjustment on scikit-learn's digits: from a bad start, three seeds."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from keras import layers

from examples import datasets
from keras_gcp.methods import network_adjustment

pytestmark = pytest.mark.slow

START = {"conv1": 64, "conv2": 8, "conv3": 8}


def build(widths):
    inputs = x = keras.Input((8, 8, 1))
    for (name, width), strides in zip(widths.items(), (1, 2, 2), strict=True):
        x = layers.Conv2D(width, 3, strides, padding="same", use_bias=False, name=name)(x)
        x = layers.ReLU()(layers.BatchNormalization(momentum=0.9)(x))
    x = layers.GlobalAveragePooling2D()(x)
    return keras.Model(inputs, layers.Dense(10, activation="softmax")(x))


def searched(seed, data):
    """The result of three iterations, and the accuracy of every network on the test images."""
    keras.utils.set_random_seed(seed)
    accuracies = []

    def train(model, examples):
        model.compile(keras.optimizers.Adam(0.003), "sparse_categorical_crossentropy")
        model.fit(*examples, batch_size=64, epochs=12, verbose=0)
        found = model.predict(data.x_test, batch_size=500, verbose=0).argmax(axis=1)
        accuracies.append(float(np.mean(found == data.y_test)))

    training = data.x_train, data.y_train
    result = network_adjustment(build, START, train, training, iterations=3, seed=seed, verbose=0)
    return result, accuracies


def test_from_a_bad_start_accuracy_rises_at_equal_multiply_adds():
    data = datasets.load("digits", scale=1)
    first, last, losses = [], [], []
    for seed in (0, 1, 2):
        result, accuracies = searched(seed, data)
        print(result, accuracies)
        start, end = result.rounds[0], result.rounds[-1]
        assert end.widths["conv1"] < 64 and end.widths["conv3"] > 8
        assert all(abs(one.macs - start.macs) <= 0.01 * start.macs for one in result.rounds)
        first.append(accuracies[0])
        last.append(accuracies[-1])
        losses.append((start.value, end.value))
    assert np.mean(last) >= np.mean(first)
    assert all(end < start for start, end in losses)
