"""One small member of every family of keras.applications; benchmarks/zoo.py runs all of them."""

from __future__ import annotations

import inspect

import keras
import numpy as np
import pytest
from helpers import flat_outputs, masked_by_hand, randomise_constants

import keras_gcp

# Member, smallest image.
FAMILIES = {
    "convnext": ("ConvNeXtTiny", 32),
    "densenet": ("DenseNet121", 32),
    "efficientnet": ("EfficientNetB0", 32),
    "efficientnet_v2": ("EfficientNetV2B0", 32),
    "inception_resnet_v2": ("InceptionResNetV2", 75),
    "inception_v3": ("InceptionV3", 75),
    "mobilenet": ("MobileNet", 32),
    "mobilenet_v2": ("MobileNetV2", 32),
    "mobilenet_v3": ("MobileNetV3Small", 32),
    "nasnet": ("NASNetMobile", 32),
    "resnet": ("ResNet50", 32),
    "resnet_v2": ("ResNet50V2", 32),
    "vgg16": ("VGG16", 32),
    "vgg19": ("VGG19", 32),
    "xception": ("Xception", 71),
}
FAST = ("mobilenet_v3", "resnet")
"""Gates, depthwise convolutions and shortcuts of both kinds; they take seconds."""


def build(family):
    name, size = FAMILIES[family]
    model = getattr(keras.applications, name)(
        weights=None, input_shape=(size, size, 3), classes=10, classifier_activation=None
    )
    return randomise_constants(model)


def test_every_family_of_the_installed_keras_is_here():
    modules = {
        function.__module__.rpartition(".")[2]
        for function in vars(keras.applications).values()
        if inspect.isfunction(function) and "weights" in inspect.signature(function).parameters
    }
    assert modules == set(FAMILIES)


@pytest.mark.parametrize(
    "family",
    [pytest.param(name, marks=[] if name in FAST else pytest.mark.slow) for name in FAMILIES],
)
def test_half_of_the_multiply_adds_go_and_the_rest_computes_the_same(family):
    model = build(family)
    plan = keras_gcp.plan(model, {"macs": 0.5})
    narrow = keras_gcp.apply(model, plan)
    counted = keras_gcp.count(narrow)
    assert (counted.macs, counted.parameters) == (plan.after.macs, plan.after.parameters)
    assert counted.macs <= 0.5 * plan.before.macs
    assert {group.anchored for group in plan.groups} == {None, "output of the model"}
    size = model.input_shape[1]
    image = np.random.default_rng(0).uniform(0, 255, (1, size, size, 3)).astype("float32")
    (dense,), (masked,) = flat_outputs(model, image), masked_by_hand(model, plan, image)
    (actual,) = flat_outputs(narrow, image)
    scale = np.abs(masked).max()
    assert np.abs(masked - dense).max() > 0.01 * scale, "the removed channels matter"
    np.testing.assert_allclose(actual, masked, rtol=0, atol=1e-4 * scale)
