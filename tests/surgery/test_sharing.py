"""Other models that use weights of a model that is cut follow it, and so do their optimizers."""

from __future__ import annotations

import gc
import weakref

import keras
import networks
import numpy as np
import pytest
from fitting import compiled, data, fit, slots_of
from helpers import flat_outputs, random_plan

import keras_gcp
from keras_gcp import keras_state
from keras_gcp.channels.trace import trace
from keras_gcp.keras_state import Transaction
from keras_gcp.selection.planning import keep_of
from keras_gcp.surgery.narrow import narrow_model


def part_of(model, layer):
    """The model up to a layer, as a model that predicts."""
    return keras.Model(model.inputs[0], model.get_layer(layer).output)


def test_models_that_share_weights_are_found_and_others_are_not():
    model, other = networks.nested(), networks.plain()
    part = part_of(model, "pool")
    middle = model.get_layer("middle")
    nested = [middle, middle.get_layer("innermost"), model.get_layer("sequential")]
    found = {id(one) for one in keras_state.models_sharing(model)}
    assert found >= {id(one) for one in (part, *nested)}
    assert not found & {id(model), id(other)}


def test_what_submodels_and_nested_models_predict_is_never_that_of_old_weights():
    x, _ = data()
    model = networks.nested()
    middle = model.get_layer("middle")
    part = part_of(model, "pool")
    inner_x = np.random.default_rng(0).normal(size=(5, 8, 8, 8)).astype("float32")
    # Both compile for the wide weights.
    assert part.predict(x, verbose=0).shape[-1] == 9
    assert middle.predict(inner_x, verbose=0).shape[-1] == 7

    keras_gcp.narrow(model, random_plan(model))
    inner_x = inner_x[..., : middle.input_shape[-1]]
    for one, inputs, width in ((part, x, 9), (middle, inner_x, 7)):
        predicted = one.predict(inputs, verbose=0)
        assert predicted.shape[-1] < width
        np.testing.assert_allclose(predicted, *flat_outputs(one, inputs), atol=1e-6)


def test_a_submodel_compiled_with_an_optimizer_of_its_own_trains_on():
    x, _ = data()
    model = compiled(networks.plain(), run_eagerly=True)
    half = keras.Model(
        model.inputs[0], keras.layers.GlobalAveragePooling2D()(model.get_layer("b_act").output)
    )
    half.compile(keras.optimizers.Adam(1e-2), "mse")
    targets = np.zeros((len(x), 12), "float32")
    half.fit(x, targets, verbose=0)
    before = slots_of(half)

    plan = random_plan(model)
    keras_gcp.narrow(model, plan)
    kept = plan.kept("b_conv")
    assert len(kept) < 12
    narrow = slots_of(half)
    assert [v.ndim for v in before] == [v.ndim for v in narrow]
    assert sum(v.size for v in narrow) < sum(v.size for v in before)
    weights = [np.array(w) for w in half.get_weights()]
    half.fit(x, targets[:, kept], verbose=0)
    for then, now in zip(weights, half.get_weights(), strict=True):
        assert not np.array_equal(then, now)


def test_a_cut_that_is_taken_back_leaves_submodels_with_what_they_had_compiled():
    x, _ = data()
    model = networks.plain()
    part = part_of(model, "b_act")
    before = part.predict(x, verbose=0)
    function = part.predict_function
    channels = trace(model)
    keep = keep_of(random_plan(model), channels)
    with pytest.raises(ZeroDivisionError), Transaction() as transaction:
        narrow_model(channels, keep, transaction)
        assert part.predict_function is not function
        raise ZeroDivisionError
    assert part.predict_function is function
    np.testing.assert_array_equal(part.predict(x, verbose=0), before)


def test_submodels_are_not_kept_alive():
    model = compiled(networks.sequential(), run_eagerly=True)
    part = keras.Model(model.inputs[0], model.get_layer("a").output)
    alive = weakref.ref(part)
    keras_gcp.narrow(model, random_plan(model))
    fit(model, [], epochs=1)
    del part
    gc.collect()
    assert alive() is None
