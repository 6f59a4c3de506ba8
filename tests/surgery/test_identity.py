"""The identity that guards everything: narrow model == model with the removed channels masked."""

import keras
import networks
import numpy as np
import pytest
from helpers import flat_outputs, inputs_for, masked_by_hand, random_plan, randomise

import keras_gcp
from keras_gcp.channels.trace import trace


@pytest.fixture(scope="module", params=sorted(networks.ALL))
def wide(request):
    return randomise(networks.ALL[request.param]())


def state_and_shapes(model):
    shapes = [tuple(layer.output.shape) for layer in model.layers if len(layer._inbound_nodes) == 1]
    return model.get_weights(), shapes


@pytest.fixture(scope="module")
def as_it_was(wide):
    """Weights and shapes before the cut."""
    return state_and_shapes(wide)


@pytest.fixture(scope="module")
def cut(wide, as_it_was):
    """(wide model, plan, narrow copy) of one network, half of its channels gone."""
    plan = random_plan(wide)
    return wide, plan, keras_gcp.apply(wide, plan)


def test_narrow_model_computes_what_the_masked_model_computes(cut):
    model, plan, narrow = cut
    inputs = inputs_for(model)
    for actual, expected in zip(
        flat_outputs(narrow, inputs), masked_by_hand(model, plan, inputs), strict=True
    ):
        np.testing.assert_allclose(actual, expected, rtol=1e-4, atol=1e-5)


def test_the_cut_does_something(cut):
    model, plan, narrow = cut
    assert plan.removed_channels > 0
    assert narrow.count_params() < model.count_params()
    assert keras_gcp.count(narrow).channels <= 0.5 * keras_gcp.count(model).channels


def test_every_producing_layer_has_the_planned_width(cut):
    _model, plan, narrow = cut
    for path, width in trace(narrow).widths().items():
        assert width == plan.widths()[path] == len(plan.kept(path))


def test_the_plan_predicts_the_costs_of_the_narrow_model(cut):
    _model, plan, narrow = cut
    counted = keras_gcp.count(narrow)
    assert (counted.macs, counted.parameters) == (plan.after.macs, plan.after.parameters)
    assert counted.parameters == narrow.count_params()


def test_the_original_stays_as_it_was(cut, as_it_was):
    (weights, shapes), (weights_now, shapes_now) = as_it_was, state_and_shapes(cut[0])
    assert all(np.array_equal(a, b) for a, b in zip(weights, weights_now, strict=True))
    assert shapes == shapes_now


def test_a_model_rebuilt_from_the_configuration_computes_the_same(cut):
    _, _, narrow = cut
    rebuilt = type(narrow).from_config(narrow.get_config())
    rebuilt.set_weights(narrow.get_weights())
    inputs = inputs_for(narrow)
    for actual, expected in zip(
        flat_outputs(rebuilt, inputs), flat_outputs(narrow, inputs), strict=True
    ):
        np.testing.assert_array_equal(actual, expected)


def test_symbolic_shapes_are_those_of_real_outputs(cut):
    _, _, narrow = cut
    inputs = inputs_for(narrow, batch=2)
    for layer in narrow.layers:
        inner = isinstance(layer, keras.layers.InputLayer | keras.Model)
        if len(layer._inbound_nodes) == 1 and not inner:
            submodel = keras.Model(narrow.inputs, layer.output)
            value = submodel(keras.tree.flatten(inputs), training=False)
            assert tuple(value.shape[1:]) == tuple(layer.output.shape[1:]), layer.name


def test_narrowing_twice_in_place_keeps_the_identity(cut):
    _, _, narrow = cut
    again = keras_gcp.apply(narrow, random_plan(narrow, share=1.0, seed=1))
    plan = random_plan(again, share=0.7, seed=2)
    inputs = inputs_for(again)
    expected = masked_by_hand(again, plan, inputs)
    keras_gcp.narrow(again, plan)
    for actual, wanted in zip(flat_outputs(again, inputs), expected, strict=True):
        np.testing.assert_allclose(actual, wanted, rtol=1e-4, atol=1e-5)
