"""Code compiled before a cut must not go on training what is no longer part of the model."""

from __future__ import annotations

import warnings

import keras
import numpy as np
import pytest
from fitting import compiled, data
from helpers import random_plan
from keras import layers

import keras_gcp

LOSS = keras.losses.SparseCategoricalCrossentropy(from_logits=True)


def network():
    inputs = keras.Input((8, 8, 3))
    x = layers.BatchNormalization()(layers.Conv2D(8, 3, activation="relu", name="a")(inputs))
    x = layers.Conv2D(6, 3, name="b")(x)
    return keras.Model(inputs, layers.Dense(4, name="c")(layers.GlobalAveragePooling2D()(x)))


def recurrent():
    inputs = keras.Input((8, 3))
    x = layers.GRU(5)(layers.Conv1D(6, 3)(layers.Conv1D(8, 3, name="a")(inputs)))
    return keras.Model(inputs, layers.Dense(4)(x))


def embedding():
    inputs = keras.Input((8,), dtype="int32")
    x = layers.GlobalAveragePooling1D()(layers.Embedding(10, 8)(inputs))
    return keras.Model(inputs, layers.Dense(4, name="c")(x))


def examples(model):
    rng = np.random.default_rng(0)
    shape = (16, *model.input_shape[1:])
    integers = "int" in model.inputs[0].dtype
    x = rng.integers(0, 10, shape) if integers else rng.normal(size=shape).astype("float32")
    return x, np.arange(16) % 4


def tensorflow_step(model, optimizer, **settings):
    import tensorflow as tf

    @tf.function(**settings)
    def step(x, y):
        with tf.GradientTape() as tape:
            loss = LOSS(y, model(x, training=True))
        gradients = tape.gradient(loss, model.trainable_variables)
        optimizer.apply_gradients(zip(gradients, model.trainable_variables, strict=True))
        return loss

    return step


@pytest.mark.needs_tensorflow("`tf.function` is TensorFlow's")
@pytest.mark.parametrize(
    ("make", "jit_compile"),
    [(network, False), (network, True), (recurrent, False), (embedding, False)],
)
def test_a_tf_function_from_before_a_cut_fails_and_a_new_one_trains_every_weight(make, jit_compile):
    import tensorflow as tf

    model = make()
    x, y = examples(model)
    optimizer = keras.optimizers.Adam(1e-2)
    optimizer.build(model.trainable_variables)
    step = tensorflow_step(model, optimizer, jit_compile=jit_compile)
    float(step(x, y))
    keras_gcp.narrow(model, random_plan(model), optimizer=optimizer)
    before = [keras.ops.convert_to_numpy(variable) for variable in model.trainable_variables]
    with pytest.raises(tf.errors.OpError):
        step(x, y)
    for then, now in zip(before, model.trainable_variables, strict=True):
        np.testing.assert_array_equal(then, keras.ops.convert_to_numpy(now))
    float(tensorflow_step(model, optimizer)(x, y))
    for then, now in zip(before, model.trainable_variables, strict=True):
        assert not np.array_equal(then, keras.ops.convert_to_numpy(now))


@pytest.mark.needs_tensorflow("`tf.function` is TensorFlow's")
def test_a_tf_function_that_a_callback_made_before_an_event_fails_too():
    import tensorflow as tf

    x, y = data()
    model = compiled(network())
    seen = []

    class Score(keras.callbacks.Callback):
        def on_train_begin(self, logs=None):
            self.score = tf.function(lambda x: model(x, training=False))

        def on_epoch_end(self, epoch, logs=None):
            try:
                seen.append(self.score(x).shape)
            except tf.errors.OpError as error:
                seen.append(type(error))

    pruning = keras_gcp.GradualChannelPruning(
        None,
        {"macs": 0.6},
        keras_gcp.schedules.one_shot(1),
        "l2_norm",
        selection={"align": 1},
        verbose=0,
    )
    model.fit(x, y, epochs=2, verbose=0, callbacks=[pruning, Score()])
    assert seen[0] == (48, 4)
    assert issubclass(seen[1], tf.errors.OpError)


@pytest.mark.needs_tensorflow("variables of TensorFlow")
def test_a_cut_that_is_taken_back_leaves_old_code_alone(monkeypatch):
    model = network()
    x, y = examples(model)
    optimizer = keras.optimizers.SGD(1e-2)
    step = tensorflow_step(model, optimizer)
    float(step(x, y))

    def fail(*_):
        raise ZeroDivisionError

    monkeypatch.setattr("keras_gcp.surgery.cut.verify_narrow", fail)
    with pytest.raises(ZeroDivisionError):
        keras_gcp.narrow(model, random_plan(model))
    assert np.isfinite(float(step(x, y)))


@pytest.mark.needs_tensorflow("compiled by TensorFlow")
def test_code_compiled_for_the_original_runs_on_after_a_copy_was_cut():
    model = network()
    x, y = examples(model)
    step = tensorflow_step(model, keras.optimizers.SGD(1e-2))
    float(step(x, y))
    keras_gcp.apply(model, random_plan(model), sample=x)
    assert np.isfinite(float(step(x, y)))


@pytest.mark.skipif(keras.config.backend() != "jax", reason="`jax.jit` is JAX's")
def test_a_jitted_step_refuses_state_from_before_a_cut_and_takes_that_of_the_narrow_model():
    import jax

    model = network()
    x, y = examples(model)
    optimizer = keras.optimizers.Adam(1e-2)
    optimizer.build(model.trainable_variables)

    def loss_of(trainable, fixed, x, y):
        outputs, fixed = model.stateless_call(trainable, fixed, x, training=True)
        return LOSS(y, outputs), fixed

    @jax.jit
    def step(state, x, y):
        trainable, fixed, slots = state
        (loss, fixed), gradients = jax.value_and_grad(loss_of, has_aux=True)(trainable, fixed, x, y)
        trainable, slots = optimizer.stateless_apply(slots, gradients, trainable)
        return loss, (trainable, fixed, slots)

    def state_of():
        variables = model.trainable_variables, model.non_trainable_variables, optimizer.variables
        return tuple([variable.value for variable in some] for some in variables)

    old = state_of()
    predict = jax.jit(lambda x: model(x, training=False))
    step(old, x, y), predict(x)
    keras_gcp.narrow(model, random_plan(model), optimizer=optimizer)
    np.testing.assert_allclose(predict(x), model(x, training=False), atol=1e-5)
    with pytest.raises(ValueError, match="shape"):
        step(old, x, y)
    _, (trainable, *_) = step(state_of(), x, y)
    for then, now in zip(model.trainable_variables, trainable, strict=True):
        assert not np.array_equal(keras.ops.convert_to_numpy(then), keras.ops.convert_to_numpy(now))


@pytest.mark.skipif(keras.config.backend() != "torch", reason="an optimizer of PyTorch")
def test_an_optimizer_of_pytorch_with_old_parameters_is_named():
    import torch

    model = network()
    optimizer = torch.optim.SGD(model.parameters(), 1e-2)
    other = torch.optim.AdamW(network().parameters())
    with pytest.warns(UserWarning, match=r"torch\.optim\.SGD holds \d+ parameters that the model"):
        keras_gcp.narrow(model, random_plan(model))
    del optimizer
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.simplefilter("ignore", DeprecationWarning)  # of arrays of PyTorch
        optimizer = torch.optim.SGD(model.parameters(), 1e-2)
        fresh = network()
        keras_gcp.narrow(fresh, random_plan(fresh))
    assert len(optimizer.param_groups) == len(other.param_groups) == 1
