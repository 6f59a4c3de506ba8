"""Predictions, loss and its gradients, beside a model that may be in the middle of a fit."""

from __future__ import annotations

import gc
import weakref

import keras
import networks
import numpy as np
import pytest
from helpers import inputs_for, randomise
from keras import layers

from keras_gcp import backend


def _small(loss="sparse_categorical_crossentropy", **compile_arguments):
    model = randomise(networks.plain())
    model.compile("sgd", loss, **compile_arguments)
    return model


def _sample(model, examples=10):
    return inputs_for(model, examples), np.arange(examples) % 4


def _state(model):
    return [keras.ops.convert_to_numpy(variable) for variable in model.variables]


@pytest.mark.parametrize("batch_size", [3, 2, 64])  # 2: enough batches to be compiled
@pytest.mark.parametrize("name", ["plain", "two_outputs", "siamese"])
def test_predictions_are_the_models_whatever_the_batch_size(name, batch_size):
    model = randomise(networks.ALL[name]())
    x = inputs_for(model, 10)
    expected = model.predict(x, verbose=0)
    keras.tree.map_structure(
        lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5),
        backend.predict(model, x, batch_size),
        expected,
    )


def test_inputs_may_be_a_dict():
    model = randomise(networks.siamese())
    left, right = inputs_for(model, 5)
    from_list = backend.predict(model, [left, right])
    np.testing.assert_allclose(backend.predict(model, {"left": left, "right": right}), from_list)


@pytest.mark.parametrize("batch_size", [2, 4, 64])
def test_sample_loss_is_what_evaluate_says(batch_size):
    model = _small()
    x, y = _sample(model)
    expected = model.evaluate(x, y, verbose=0)
    assert backend.sample_loss(model, x, y, batch_size) == pytest.approx(expected, rel=1e-5)


def test_penalties_on_weights_and_activities_are_no_part_of_the_sample_loss():
    inputs = keras.Input((4,))
    penalised = layers.Dense(3, kernel_regularizer=keras.regularizers.L2(10.0))(inputs)
    penalised = layers.ActivityRegularization(l2=10.0)(penalised)
    model = keras.Model(inputs, penalised)
    model.compile("sgd", "mse")
    x, y = np.ones((6, 4), "float32"), np.zeros((6, 3), "float32")
    expected = np.mean(backend.predict(model, x) ** 2)
    assert backend.sample_loss(model, x, y) == pytest.approx(expected, rel=1e-5)
    assert model.evaluate(x, y, verbose=0) > expected + 1


def test_a_model_without_loss_has_no_sample_loss():
    model = networks.plain()
    x, y = _sample(model)
    assert backend.sample_loss(model, x, y) is None
    model.compile("sgd")
    assert backend.sample_loss(model, x, y) is None


def test_a_models_own_loss_counts():
    class Own(keras.Model):
        def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None):
            return keras.ops.sum(y_pred) * 0.0 + 7.0

    inputs = keras.Input((4,))
    model = Own(inputs, layers.Dense(2)(inputs))
    model.compile("sgd")
    assert backend.sample_loss(model, np.ones((3, 4), "float32"), np.zeros(3)) == 7.0


@pytest.mark.parametrize("batch_size", [2, 4, 64])
def test_gradients_are_those_of_finite_differences(batch_size):
    model = _small()
    x, y = _sample(model)
    model.get_layer("b_conv").trainable = False  # frozen weights have gradients too
    variables = [model.get_layer("b_conv").kernel, model.get_layer("classifier").bias]
    loss, gradients = backend.loss_gradients(model, x, y, variables, batch_size)
    assert loss == pytest.approx(backend.sample_loss(model, x, y), rel=1e-5)
    for variable, gradient in zip(variables, gradients, strict=True):
        value = keras.ops.convert_to_numpy(variable)
        index = np.unravel_index(np.argmax(np.abs(gradient)), value.shape)
        losses = []
        for step in (-1e-2, 1e-2):
            shifted = value.copy()
            shifted[index] += step
            variable.assign(shifted)
            losses.append(backend.sample_loss(model, x, y))
        variable.assign(value)
        assert gradient[index] == pytest.approx((losses[1] - losses[0]) / 2e-2, rel=2e-2)


def test_gradients_of_all_trainable_weights_by_default():
    model = _small()
    _, gradients = backend.loss_gradients(model, *_sample(model))
    assert [g.shape for g in gradients] == [tuple(v.shape) for v in model.trainable_variables]


@pytest.mark.parametrize("batch_size", [2, 64])
def test_nothing_changes_in_the_model_or_its_compiled_functions(batch_size):
    model = _small(metrics=["accuracy"])
    x, y = _sample(model)
    model.fit(x, y, epochs=1, verbose=0)
    model.predict(x, verbose=0)
    before = _state(model)
    functions = model.train_function, model.test_function, model.predict_function
    backend.predict(model, x, batch_size)
    backend.sample_loss(model, x, y, batch_size)
    backend.loss_gradients(model, x, y, None, batch_size)
    assert (model.train_function, model.test_function, model.predict_function) == functions
    assert not model.losses
    for old, new in zip(before, _state(model), strict=True):
        np.testing.assert_array_equal(old, new)


def test_no_model_is_kept_alive():
    model = _small()
    x, y = _sample(model)
    backend.predict(model, x, 2)
    backend.loss_gradients(model, x, y, None, 2)
    gone = weakref.ref(model)
    del model
    keras.utils.clear_session()
    gc.collect()
    assert gone() is None
