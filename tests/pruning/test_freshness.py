"""Whether a network has learned something: nothing, part of it, or all."""

from __future__ import annotations

import keras
import networks
import numpy as np
import pytest
from helpers import randomise

from keras_gcp.pruning.freshness import has_learned, is_fresh


def with_zeros(model, *paths):
    """The model with some weights as they are before training."""
    for variable in model.variables:
        if variable.path.endswith(paths):
            variable.assign(np.zeros(variable.shape))
    return model


@pytest.mark.parametrize("name", ["plain", "residual", "depthwise", "nested"])
def test_fresh_networks_are_told_from_trained_ones(name):
    fresh, trained = networks.ALL[name](), randomise(networks.ALL[name]())
    assert (is_fresh(fresh), has_learned(fresh)) == (True, False)
    assert (is_fresh(trained), has_learned(trained)) == (False, True)


def test_a_new_head_on_a_trained_network_has_still_to_learn():
    model = with_zeros(randomise(networks.plain()), "classifier/bias")
    assert not is_fresh(model) and not has_learned(model)


def test_a_bias_in_front_of_a_normalization_says_nothing():
    """Weights that were carried over from other frameworks have none there."""
    model = with_zeros(randomise(networks.residual()), "b1b_conv/bias")
    assert not is_fresh(model) and has_learned(model)


def test_one_step_of_training_is_enough_to_have_begun():
    model = networks.plain()
    model.compile("sgd", "sparse_categorical_crossentropy")
    model.fit(np.ones((4, 8, 8, 3)), np.arange(4), verbose=0)
    assert not is_fresh(model)


def test_where_nothing_begins_as_zeros_nothing_is_told():
    inputs = keras.Input((4,))
    model = keras.Model(inputs, keras.layers.Dense(2, use_bias=False)(inputs))
    assert not is_fresh(model) and not has_learned(model)
