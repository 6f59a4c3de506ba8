"""Accuracy is that of Keras' own metrics, for every kind of classifier."""

import keras
import numpy as np
import pytest

from keras_gcp.channels.trace import trace
from keras_gcp.classification.accuracy import right_share
from keras_gcp.classification.asker import Asker
from keras_gcp.classification.head import find_head

ASKER = Asker("Accuracy", "Ask for something else.")
RNG = np.random.default_rng(0)
X = RNG.normal(size=(70, 6, 5)).astype("float32")
"""More examples than a batch."""


def accuracy(model, y):
    head = find_head(model, trace(model).graph, ASKER)
    return right_share(head, y, keras.ops.convert_to_numpy(model(X)), ASKER)


def classifier(units, activation, places=False, loss=None):
    inputs = keras.Input((6, 5))
    x = keras.layers.Dense(8, activation="relu")(inputs)
    x = x if places else keras.layers.Flatten()(x)
    model = keras.Model(inputs, keras.layers.Dense(units, activation=activation)(x))
    model.compile(loss=loss)
    return model


CLASSES = RNG.integers(0, 3, 70)
OF_PLACES = RNG.integers(0, 3, (70, 6))
LABELS = RNG.integers(0, 2, (70, 3))
BINARY = RNG.integers(0, 2, 70)
ONE_HOT = np.eye(3)[CLASSES]

CASES = {
    "softmax": (classifier(3, "softmax"), CLASSES, keras.metrics.SparseCategoricalAccuracy()),
    "column of labels": (
        classifier(3, "softmax"),
        CLASSES[:, None],
        keras.metrics.SparseCategoricalAccuracy(),
    ),
    "logits": (classifier(3, None), CLASSES, keras.metrics.SparseCategoricalAccuracy()),
    "one-hot": (classifier(3, "softmax"), ONE_HOT, keras.metrics.CategoricalAccuracy()),
    "binary": (classifier(1, "sigmoid"), BINARY, keras.metrics.BinaryAccuracy()),
    "binary logits": (
        classifier(1, None, loss=keras.losses.BinaryCrossentropy(from_logits=True)),
        BINARY,
        keras.metrics.BinaryAccuracy(threshold=0.0),
    ),
    "multi-label": (classifier(3, "sigmoid"), LABELS, keras.metrics.BinaryAccuracy()),
    "places": (
        classifier(3, "softmax", places=True),
        OF_PLACES,
        keras.metrics.SparseCategoricalAccuracy(),
    ),
    "places in two classes": (
        classifier(1, "sigmoid", places=True),
        OF_PLACES % 2,
        keras.metrics.BinaryAccuracy(),
    ),
    "several labels at places": (
        classifier(3, "sigmoid", places=True),
        RNG.integers(0, 2, (70, 6, 3)),
        keras.metrics.BinaryAccuracy(),
    ),
}


@pytest.mark.parametrize("name", sorted(CASES))
def test_accuracy_is_that_of_keras(name):
    model, y, metric = CASES[name]
    labels = y[..., None] if model.output_shape[-1] == 1 else y
    metric.reset_state()
    metric.update_state(labels, model(X))
    own = accuracy(model, y)
    assert own == pytest.approx(float(metric.result()), abs=1e-6)
    assert 0.1 < own < 0.9


def test_places_without_a_class_do_not_count():
    loss = keras.losses.SparseCategoricalCrossentropy(ignore_class=255)
    model = classifier(3, "softmax", places=True, loss=loss)
    y = OF_PLACES.copy()
    y[:, 0] = 255
    y[0] = 255
    right = keras.ops.convert_to_numpy(model(X)).argmax(axis=-1) == OF_PLACES
    own = accuracy(model, y)
    assert own == pytest.approx(right[1:, 1:].mean())
