"""Layers that do nothing at inference are listed once, and the list is right and complete."""

import re

import keras
import numpy as np
import pytest
from keras import layers

from keras_gcp.channels.inert import INERT
from keras_gcp.channels.registry import registered_layers
from keras_gcp.criteria.relevance.rules import RuleKind, registered_relevance_rules

INPUTS = {"1D": (2, 5, 3), "2D": (2, 4, 4, 3), "3D": (2, 3, 3, 3, 3)}


def made(kind):
    dropping = re.search("Dropout|Noise", kind.__name__)
    return kind(0.5) if dropping else kind()


@pytest.mark.parametrize("kind", INERT, ids=lambda kind: kind.__name__)
def test_each_hands_its_input_through(kind):
    shape = INPUTS.get(kind.__name__[-2:], (2, 6))
    x = np.random.default_rng(0).normal(size=shape).astype("float32")
    np.testing.assert_array_equal(keras.ops.convert_to_numpy(made(kind)(x, training=False)), x)


def test_all_layers_of_keras_that_drop_or_add_noise_are_there():
    wanted = {getattr(layers, name) for name in dir(layers) if re.search("Dropout|Noise", name)}
    assert wanted <= set(INERT)


def test_channels_and_relevance_pass_through_all_of_them():
    rules, relevance = registered_layers(), registered_relevance_rules()
    assert len({rules[kind] for kind in INERT}) == 1
    assert {relevance[kind].kind for kind in INERT} == {RuleKind.UNCHANGED}
