"""Keras' `floatx` may be float64; scores are then those of float32, to its precision."""

import keras
import networks
import numpy as np
import pytest
from helpers import inputs_for, randomise

import keras_gcp


def scores_at(floatx, weights=None):
    previous = keras.config.floatx()
    keras.config.set_floatx(floatx)
    keras.config.set_dtype_policy(floatx)
    try:
        model = randomise(networks.padded_shortcut())
        if weights is not None:
            model.set_weights(weights)
        x = inputs_for(model, 12).astype(floatx)
        return keras_gcp.relevance_scores(model, x, np.arange(12) % 4), model.get_weights()
    finally:
        keras.config.set_floatx(previous)
        keras.config.set_dtype_policy(previous)


@pytest.mark.not_on("jax", "64 bits have to be switched on when JAX starts")
def test_relevance_in_float64_is_that_of_float32():
    single, weights = scores_at("float32")
    double, wide = scores_at("float64", weights)
    assert {w.dtype for w in wide} == {np.dtype("float64")}
    # Keras numbers operations without a name, so names may differ; the order does not.
    for (name, a), b in zip(single.items(), double.values(), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-5, err_msg=name)
