"""Every criterion chooses on the networks of the literature, and the cut is the masked network."""

from __future__ import annotations

from functools import cache

import helpers
import keras
import numpy as np
import pytest

import keras_gcp
from keras_gcp import criteria, gates, models

pytestmark = pytest.mark.slow

SHAPE, CLASSES = (32, 32, 3), 4


def _mobilenet_v2() -> keras.Model:
    return keras.applications.MobileNetV2(SHAPE, alpha=0.35, weights=None, classes=CLASSES)


def _densely_connected() -> keras.Model:
    """Two blocks of concatenations, with a narrower convolution between them."""
    x = inputs = keras.Input(SHAPE)
    for block, width in enumerate((16, 24)):
        x = keras.layers.Conv2D(width, 3, 2, padding="same", name=f"start{block}")(x)
        for step in range(3):
            own = keras.layers.BatchNormalization(name=f"norm{block}_{step}")(x)
            own = keras.layers.ReLU(name=f"relu{block}_{step}")(own)
            own = keras.layers.Conv2D(8, 3, padding="same", name=f"conv{block}_{step}")(own)
            x = keras.layers.Concatenate(name=f"join{block}_{step}")([x, own])
    x = keras.layers.GlobalAveragePooling2D(name="pool")(x)
    return keras.Model(inputs, keras.layers.Dense(CLASSES, "softmax", name="classes")(x))


NETWORKS = {
    "ResNet-20": lambda: models.build("resnet20", input_shape=SHAPE, classes=CLASSES),
    "VGG-16": lambda: models.build("vgg16", width=8, input_shape=SHAPE, classes=CLASSES),
    "MobileNetV2": _mobilenet_v2,
    "concatenations": _densely_connected,
}


@cache
def _built(name: str, gated: bool = False) -> keras.Model:
    model = NETWORKS[name]()
    if gated:
        model = gates.insert(model, gates.ScaleGate())
    helpers.randomise(model)
    model.compile("sgd", "sparse_categorical_crossentropy")
    return model


def _sample() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    x = rng.standard_normal((32, *SHAPE)).astype("float32")
    return x, np.arange(32) % CLASSES


# Not all of their channels pass a normalization.
UNNORMALIZED = ("concatenations", "VGG-16")
PAIRS = [
    (criterion, name)
    for name in NETWORKS
    for criterion in sorted({*criteria.names()} - {"auto"})
    if criterion != "bn_scale" or name not in UNNORMALIZED
]


@pytest.mark.parametrize(("criterion", "name"), PAIRS)
def test_the_budget_is_met_and_the_cut_is_the_masked_network(criterion, name):
    model = _built(name, gated=criterion == "gate_value")
    plan = keras_gcp.plan(model, {"macs": 0.6}, criterion, _sample(), seed=0)
    narrow = keras_gcp.apply(model, plan, compensation=None)
    assert keras_gcp.count(narrow).macs <= 0.6 * keras_gcp.count(model).macs
    x = helpers.inputs_for(model)
    for expected, found in zip(
        helpers.masked_by_hand(model, plan, x), helpers.flat_outputs(narrow, x), strict=True
    ):
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)
