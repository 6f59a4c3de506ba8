"""Keras' `floatx` may be float64: gates compute in it, and those that train to a budget do so."""

import fitting
import keras
import networks
import numpy as np
import pytest
from helpers import flat_outputs

from keras_gcp import gates
from keras_gcp.methods import ConsensusPruning


@pytest.fixture
def float64():
    previous = keras.config.floatx()
    keras.config.set_floatx("float64")
    keras.config.set_dtype_policy("float64")
    yield
    keras.config.set_floatx(previous)
    keras.config.set_dtype_policy(previous)


@pytest.mark.not_on("jax", "64 bits have to be switched on when JAX starts")
@pytest.mark.not_on("torch", "Keras' Dense and BatchNormalization give single precision there")
@pytest.mark.parametrize(
    ("gate", "callbacks"),
    [
        (gates.ScaleGate, []),
        (gates.BetaBernoulli, []),
        (gates.ChannelDropout, []),
        (gates.ConsensusGate, [ConsensusPruning(0.6, (0, 0), of="macs", freeze=1, verbose=0)]),
    ],
)
def test_gates_train_and_go_in_double_precision(float64, gate, callbacks):
    model = fitting.compiled(gates.insert(networks.plain(), gate()))
    fitting.fit(model, callbacks, epochs=1)
    for one in gates.gates_of(model):
        one.frozen = True
    assert {weight.dtype for weight in model.weights if "float" in weight.dtype} == {"float64"}
    narrow, x = gates.remove(model), fitting.data()[0]
    np.testing.assert_allclose(
        flat_outputs(narrow, x)[0], flat_outputs(model, x)[0], rtol=1e-12, atol=1e-12
    )
