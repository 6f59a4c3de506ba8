"""Private Keras state: changed in step, and restored in step."""

import keras
import networks
import numpy as np
import pytest
from helpers import random_plan

import keras_gcp
from keras_gcp import keras_state
from keras_gcp.channels.trace import trace
from keras_gcp.errors import UnsupportedModel
from keras_gcp.graph import Tensor, leaves, map_structure
from keras_gcp.keras_state import Transaction
from keras_gcp.training.fit_checks import check_model


def one_step(model):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(8, 8, 8, 3)).astype("float32")
    model.fit(x, np.arange(8) % 4, verbose=0)


def compiled(model, optimizer, eager=False):
    model.compile(optimizer, "sparse_categorical_crossentropy", run_eagerly=eager)
    return model


def test_calls_are_listed_in_an_order_in_which_they_can_be_executed():
    for build in networks.ALL.values():
        graph = keras_state.read_graph(build())
        known = {x.index for x in graph.inputs}
        for call in graph.calls:
            assert {x.index for x in call.inputs} <= known
            known |= {x.index for x in call.outputs}
        assert {x.index for x in graph.outputs} <= known


def test_layers_of_nested_models_are_addressed_by_path():
    paths = [call.path for call in keras_state.read_graph(networks.nested()).calls]
    assert "middle/innermost/inner_conv" in paths
    assert "sequential/leave" in paths


def test_a_shared_tower_has_calls_and_tensors_of_its_own_for_every_use():
    graph = keras_state.read_graph(networks.siamese())
    calls = [call for call in graph.calls if call.path == "tower/tower_conv"]
    assert len(calls) == 2
    assert calls[0].outputs[0].index != calls[1].outputs[0].index


def test_a_nested_model_called_on_another_size_has_the_shapes_of_that_call():
    inner_inputs = keras.Input((None, None, 3))
    inner = keras.Model(
        inner_inputs, keras.layers.Conv2D(4, 3, name="conv")(inner_inputs), name="n"
    )
    inputs = keras.Input((10, 12, 3))
    model = keras.Model(inputs, inner(inputs))
    call = next(c for c in keras_state.read_graph(model).calls if c.path == "n/conv")
    assert call.outputs[0].shape == (None, 8, 10, 4)
    assert keras_gcp.count(model).macs == 8 * 10 * 3 * 3 * 3 * 4


def test_rollback_restores_values_shapes_and_configuration():
    model = compiled(networks.residual(), keras.optimizers.Adam(0.01))
    one_step(model)
    weights = [np.array(w) for w in model.get_weights()]
    slots = [keras.ops.convert_to_numpy(v) for v in model.optimizer.variables]
    config = model.get_config()
    built = {layer.name: layer.get_build_config() for layer in model.layers}
    train_function = model.train_function
    channels = trace(model)
    keep = np.random.default_rng(0).random(channels.coupled_count) < 0.5
    keep |= ~channels.prunable
    from keras_gcp.surgery.narrow import narrow_model

    with pytest.raises(RuntimeError), Transaction() as transaction:
        narrow_model(channels, keep, transaction, [model.optimizer])
        assert model.count_params() < sum(w.size for w in weights)
        raise RuntimeError("made by the test")
    for now, then in zip(model.get_weights(), weights, strict=True):
        np.testing.assert_array_equal(now, then)
    for now, then in zip(model.optimizer.variables, slots, strict=True):
        np.testing.assert_array_equal(keras.ops.convert_to_numpy(now), then)
    assert model.get_config() == config
    assert {layer.name: layer.get_build_config() for layer in model.layers} == built
    assert model.train_function is train_function
    one_step(model)


def test_variables_excluded_from_weight_decay_stay_excluded_after_a_cut():
    model = networks.plain()
    optimizer = keras.optimizers.SGD(1.0, weight_decay=0.5)
    optimizer.exclude_from_weight_decay(var_list=[model.get_layer("b_bn").gamma])
    compiled(model, optimizer)
    one_step(model)
    keras_gcp.narrow(model, random_plan(model))
    gamma, kernel = model.get_layer("b_bn").gamma, model.get_layer("b_conv").kernel
    before = np.array(gamma), np.array(kernel)
    optimizer.apply([keras.ops.zeros(v.shape) for v in model.trainable_variables])
    np.testing.assert_array_equal(np.array(gamma), before[0])
    np.testing.assert_allclose(np.array(kernel), 0.5 * before[1], rtol=1e-6)


def test_slots_of_wrapped_optimizers_are_found():
    inner = keras.optimizers.SGD(0.01, momentum=0.9)
    model = compiled(networks.plain(), keras.optimizers.LossScaleOptimizer(inner))
    one_step(model)
    assert keras_state.unsliceable_slots(model.optimizer) == []
    keras_gcp.narrow(model, random_plan(model))
    for slot, variable in zip(inner.momentums, model.trainable_variables, strict=True):
        assert tuple(slot.shape) == tuple(variable.shape)
    one_step(model)


@pytest.mark.parametrize(
    "optimizer",
    [
        keras.optimizers.SGD(0.01),
        pytest.param(
            keras.optimizers.AdamW(0.01, use_ema=True, gradient_accumulation_steps=2),
            marks=pytest.mark.not_on("jax", "Keras cannot fit twice with `use_ema`, cut or uncut"),
        ),
        keras.optimizers.Lion(0.01),
        keras.optimizers.Ftrl(0.01),
        keras.optimizers.Nadam(0.01),
    ],
    ids=lambda optimizer: optimizer.name,
)
def test_optimizers_with_one_slot_per_weight_can_be_cut(optimizer):
    eager = keras.config.backend() == "tensorflow"  # surgery/test_optimizers.py compiles steps too
    model = compiled(networks.plain(), optimizer, eager)
    one_step(model)
    keras_gcp.narrow(model, random_plan(model))
    one_step(model)


@pytest.mark.needs_tensorflow("strategies are TensorFlow's")
def test_a_model_in_another_strategy_than_the_fit_is_refused():
    import tensorflow as tf

    model = networks.plain()
    strategy = tf.distribute.MirroredStrategy(["CPU:0"])
    with strategy.scope(), pytest.raises(UnsupportedModel, match="MirroredStrategy"):
        check_model(model, ())


@pytest.mark.needs_tensorflow("strategies are TensorFlow's")
def test_replaced_variables_live_in_the_strategy_of_the_old_ones():
    import tensorflow as tf

    strategy = tf.distribute.MirroredStrategy(["CPU:0"])
    with strategy.scope():
        model = compiled(networks.plain(), keras.optimizers.SGD(0.01, momentum=0.9))
    check_model(model, ())
    keras_gcp.narrow(model, random_plan(model))
    check_model(model, ())


def test_structures_are_mapped_leaf_by_leaf():
    x = Tensor(0, (None, 2), "float32")
    structure = {"a": [1, (x, 2)], "b": x}
    assert leaves(structure) == [1, x, 2, x]
    assert map_structure(lambda leaf: leaf, structure) == structure
