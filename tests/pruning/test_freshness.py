"""A network is fresh until the first step of a training, and has learned once all of it moved."""

import fitting
import keras
import networks
import numpy as np
import pytest
from helpers import randomise
from keras import layers

from keras_gcp.pruning.freshness import has_learned, is_fresh


def with_zeros(model, path):
    """The model with a weight as it is before training."""
    (variable,) = (one for one in model.variables if one.path.endswith(path))
    variable.assign(np.zeros(variable.shape))
    return model


@pytest.mark.parametrize("network", [networks.plain, networks.nested, networks.sequence])
def test_a_network_is_fresh_until_it_takes_a_step(network):
    assert is_fresh(network())


def test_one_step_is_enough_whatever_is_frozen():
    model = networks.plain()
    model.get_layer("a_conv").trainable = False
    fitting.fit(fitting.compiled(model), [], epochs=1)
    assert not is_fresh(model)
    head = layers.Dense(3, name="new_head")(model.get_layer("pool").output)
    assert not is_fresh(keras.Model(model.inputs, head))


def test_what_begins_otherwise_is_taken_for_trained():
    inputs = keras.Input((4,))
    assert not is_fresh(keras.Model(inputs, layers.Dense(3, use_bias=False)(inputs)))
    assert not is_fresh(keras.Model(inputs, layers.Dense(3, bias_initializer="ones")(inputs)))


@pytest.mark.parametrize("name", ["plain", "residual", "depthwise", "nested"])
def test_fresh_networks_have_not_learned_and_trained_ones_have(name):
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


def test_where_nothing_begins_as_zeros_nothing_has_learned_for_sure():
    inputs = keras.Input((4,))
    assert not has_learned(keras.Model(inputs, layers.Dense(2, use_bias=False)(inputs)))
