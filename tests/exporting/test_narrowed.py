"""Models that were narrowed in place export like any other."""

from __future__ import annotations

import warnings

import keras
import networks
import numpy as np
import pytest
from fitting import compiled
from helpers import inputs_for, random_plan, randomise

from keras_gcp.exporting import export
from keras_gcp.pruning.one_shot import narrow


@pytest.mark.parametrize(
    "network",
    [
        "residual",
        *(pytest.param(name, marks=pytest.mark.slow) for name in ("depthwise", "nested")),
    ],
)
def test_a_network_narrowed_between_two_fits_is_exported_narrow(network, tmp_path):
    model = randomise(networks.ALL[network]())
    x = inputs_for(model, batch=16)
    y = np.zeros(16, "int32")
    compiled(model, "adam").fit(x, y, verbose=0)
    (wide,) = export(model, tmp_path, ["tflite"], sample=x, name="wide")
    narrow(model, random_plan(model), optimizer=model.optimizer)
    compiled(model, "adam").fit(x, y, verbose=0)

    keras_file, _, tflite = export(
        model, tmp_path, sample=(x, y), name="narrow", include_optimizer=True
    )

    assert tflite.bytes < 0.8 * wide.bytes
    loaded = keras.models.load_model(keras_file.path)
    assert loaded.count_params() == model.count_params()
    loaded.fit(x, y, verbose=0)


def mostly_dense() -> keras.Model:
    inputs = keras.Input((8, 8, 3))
    x = keras.layers.Conv2D(8, 3, strides=2, activation="relu")(inputs)
    x = keras.layers.Flatten()(x)
    for units in (256, 256):  # Beside these, what the file takes besides is little.
        x = keras.layers.Dense(units, activation="relu")(x)
    return keras.Model(inputs, keras.layers.Dense(4, activation="softmax")(x), name="dense")


@pytest.mark.needs_tensorflow("ONNX files are written there")
def test_a_pruned_network_is_the_same_in_onnx(tmp_path):
    model = randomise(networks.ALL["residual"]())
    narrow(model, random_plan(model))
    (file,) = export(model, tmp_path, ["onnx"], sample=inputs_for(model, batch=16))
    assert (file.examples, file.max_difference < 1e-5) == (16, True)


def test_a_pruned_network_is_quantized_by_keras_and_saved_small(tmp_path):
    """`Model.quantize` stores dense kernels in 8 bits; convolutions stay as they are."""
    model = randomise(mostly_dense())
    (wide,) = export(model, tmp_path, ["keras"], name="wide")
    narrow(model, random_plan(model))
    (pruned,) = export(model, tmp_path, ["keras"], name="pruned")
    x = inputs_for(model, batch=16)
    before = model.predict(x, verbose=0)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*does not have a `quantize` method.*")
        model.quantize("int8")

    (quantized,) = export(model, tmp_path, ["keras"], sample=x, name="quantized")

    loaded = keras.models.load_model(quantized.path)
    after = loaded.predict(x, verbose=0)
    np.testing.assert_array_equal(after, model.predict(x, verbose=0))
    assert 0 < np.abs(after - before).max() < 0.05 * np.abs(before).max()
    assert quantized.bytes < 0.6 * pruned.bytes < 0.6 * wide.bytes
