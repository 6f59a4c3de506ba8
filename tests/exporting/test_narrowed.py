"""Models that were narrowed in place export like any other."""

from __future__ import annotations

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

    keras_file, _, tflite = export(model, tmp_path, sample=x, name="narrow")

    assert tflite.bytes < 0.8 * wide.bytes
    loaded = keras.models.load_model(keras_file.path)
    assert loaded.count_params() == model.count_params()
    loaded.fit(x, y, verbose=0)
