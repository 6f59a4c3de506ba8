"""Keras' `floatx` may be float64; scores are then those of float32, to its precision."""

import keras
import networks
import numpy as np
from helpers import inputs_for, randomise

import keras_gcp


def scores_at(floatx):
    previous = keras.config.floatx()
    keras.config.set_floatx(floatx)
    keras.config.set_dtype_policy(floatx)
    try:
        keras.utils.set_random_seed(0)
        model = randomise(networks.padded_shortcut())
        x = inputs_for(model, 12).astype(floatx)
        return keras_gcp.relevance_scores(model, x, np.arange(12) % 4)
    finally:
        keras.config.set_floatx(previous)
        keras.config.set_dtype_policy(previous)


def test_relevance_in_float64_is_that_of_float32():
    single, double = scores_at("float32"), scores_at("float64")
    assert single.keys() == double.keys()
    for name in single:
        np.testing.assert_allclose(single[name], double[name], rtol=1e-3, atol=1e-5, err_msg=name)
