"""How a cut is verified: rounding is told apart from mistakes."""

import keras
import numpy as np
import pytest
from helpers import random_plan, randomise
from keras import layers

import keras_gcp
from keras_gcp.backend.comparison import outputs_in_inference, random_inputs
from keras_gcp.channels.trace import trace
from keras_gcp.errors import VerificationFailed
from keras_gcp.keras_state import Transaction
from keras_gcp.selection.planning import keep_of
from keras_gcp.surgery.narrow import narrow_model
from keras_gcp.surgery.verify import masked_outputs, rounding_effect, verify_narrow


def unstable(factor=9.0, blocks=7):
    """Every block makes differences of its input some times larger, and no value large."""
    x = inputs = keras.Input((16,))
    for block in range(blocks):
        x = keras.ops.sin(factor * layers.Dense(64, name=f"b{block}")(x))
    return randomise(keras.Model(inputs, layers.Dense(3, name="out")(x)))


def cut(model, disturb=0.0):
    """Narrows and verifies, with one kept weight disturbed on the way."""
    channels = trace(model)
    keep = keep_of(random_plan(model), channels)
    inputs = random_inputs(model, 16)
    expected = masked_outputs(channels, keep, inputs)
    with Transaction() as transaction:
        narrow_model(channels, keep, transaction)
        kernel = model.get_layer("b0").kernel
        kernel.assign(keras.ops.convert_to_numpy(kernel) * (1 + disturb))
        return verify_narrow(channels, inputs, expected)


def test_a_network_that_blows_up_roundings_is_not_taken_for_a_wrong_cut():
    model = unstable()
    channels, inputs = trace(model), random_inputs(model, 16)
    outputs = masked_outputs(channels, np.ones(channels.coupled_count, bool), inputs)
    assert rounding_effect(model, channels.graph, inputs, outputs, 2.0**-22) > 1e-4
    # The wide and the narrow network may happen to round alike; then there is nothing to allow.
    difference = cut(model, disturb=2.0**-22)
    assert 1e-4 < difference < 0.05  # more than is allowed in a stable network


@pytest.mark.parametrize("disturb", [1e-2, 0.5])
def test_a_wrong_weight_is_noticed_in_such_a_network_too(disturb):
    with pytest.raises(VerificationFailed, match="one rounding of the inputs"):
        cut(unstable(), disturb)


def test_a_slightly_wrong_weight_is_noticed_in_a_stable_network():
    with pytest.raises(VerificationFailed):
        cut(unstable(1.0, 1), 1e-3)


def test_verification_returns_how_much_the_outputs_differ():
    assert cut(unstable(1.0, 1)) < 1e-5
    assert keras_gcp.apply(unstable(1.0, 1), random_plan(unstable(1.0, 1))) is not None


@pytest.mark.not_on("jax", "it has single precision only, unless told otherwise at its start")
def test_double_precision_is_compared_in_double_precision():
    inputs = keras.Input((4,), dtype="float64")
    x = layers.Dense(6, dtype="float64", name="hidden")(inputs)
    model = keras.Model(inputs, layers.Dense(2, dtype="float64", name="out")(x))
    (output,) = outputs_in_inference(model, np.ones((3, 4)))
    assert output.dtype == np.float64
    keras_gcp.prune(model, {"macs": 0.5}, selection={"align": 1})
