"""Half of the inputs of three layers of a trained classifier removed, no training after it."""

import keras
import numpy as np
import pytest
from keras import layers

import keras_gcp
from examples import datasets

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def trained():
    """A network for scikit-learn's digits, and the data."""
    keras.utils.set_random_seed(0)
    data = datasets.load("digits", scale=1)
    inputs = x = keras.Input((8, 8, 1))
    for width, strides in ((16, 1), (32, 2), (64, 2)):
        x = layers.Conv2D(width, 3, strides, padding="same", use_bias=False)(x)
        x = layers.ReLU()(layers.BatchNormalization(momentum=0.9)(x))
    x = layers.GlobalAveragePooling2D()(x)
    model = keras.Model(inputs, layers.Dense(10, activation="softmax")(x))
    model.compile(keras.optimizers.Adam(0.003), "sparse_categorical_crossentropy")
    model.fit(data.x_train, data.y_train, batch_size=64, epochs=12, verbose=0)
    assert accuracy(model, data) > 0.96
    return model, data


def accuracy(model, data):
    return float(np.mean(model.predict(data.x_test, verbose=0).argmax(axis=1) == data.y_test))


@pytest.mark.parametrize("criterion", ["l2_norm", "compensation_aware"])
def test_compensation_brings_a_halved_classifier_back_above_ninety_percent(trained, criterion):
    model, data = trained
    sample = (data.x_train, data.y_train)
    plan = keras_gcp.plan(
        model,
        {"channels": 0.5},
        criterion,
        keras_gcp.Sample(sample, size=260),
        selection={"align": 1, "ranking": "uniform"},
        seed=0,
    )
    assert [len(plan.kept(path)) for path in list(plan.widths())[:3]] == [8, 16, 32]
    plain = accuracy(keras_gcp.apply(model, plan), data)
    refitted = accuracy(
        keras_gcp.apply(model, plan, keras_gcp.Sample(sample, size=260), seed=0), data
    )
    print(f"{criterion}: {plain:.1%} without compensation, {refitted:.1%} with it")
    assert plain < 0.7
    assert refitted >= 0.9
