"""A network is fresh until the first step of a training."""

import fitting
import keras
import networks
import pytest
from keras import layers

from keras_gcp.pruning.freshness import is_fresh


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
