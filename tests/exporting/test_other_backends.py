"""From JAX and PyTorch to devices: by way of a `.keras` file, in a process with TensorFlow."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import keras
import numpy as np
import pytest

from keras_gcp.exporting import export

ROOT = Path(__file__).resolve().parents[2]

PRUNE = """
import sys
import keras, numpy as np
import keras_gcp

inputs = keras.Input((8, 8, 3))
x = keras.layers.Conv2D(16, 3, activation="relu")(inputs)
x = keras.layers.BatchNormalization()(keras.layers.Conv2D(16, 3, activation="relu")(x))
x = keras.layers.GlobalAveragePooling2D()(x)
model = keras.Model(inputs, keras.layers.Dense(4, activation="softmax")(x), name="net")
model.compile("adam", "sparse_categorical_crossentropy")
x = np.random.default_rng(0).normal(size=(32, 8, 8, 3)).astype("float32")
model.fit(x, np.arange(32) % 4, epochs=1, verbose=0)
small = keras_gcp.prune(model, {"macs": 0.5}, "l2_norm", selection={"align": 1})
(file,) = keras_gcp.export(small, sys.argv[1], ["keras"], sample=x)
np.savez(sys.argv[1] + "/outputs.npz", x=x, y=small.predict(x, verbose=0))
try:
    keras_gcp.export(small, sys.argv[1], ["onnx"], sample=x)
except keras_gcp.UnsupportedModel as error:
    print(error)
"""


@pytest.mark.slow
@pytest.mark.needs_tensorflow("it writes the files for devices")
@pytest.mark.parametrize("backend", ["jax", "torch"])
def test_a_model_pruned_elsewhere_goes_to_a_device_through_its_keras_file(backend, tmp_path):
    python = ROOT / f".venv-{backend}" / "bin" / "python"
    if not python.exists():
        pytest.skip(f"`make test-{backend}` makes the environment with {backend}")
    environment = {**os.environ, "KERAS_BACKEND": backend, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [python, "-c", PRUNE, str(tmp_path)], env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert "KERAS_BACKEND=tensorflow" in done.stdout

    model, made = keras.models.load_model(tmp_path / "net.keras"), np.load(tmp_path / "outputs.npz")
    np.testing.assert_allclose(model.predict(made["x"], verbose=0), made["y"], atol=1e-5)
    files = export(model, tmp_path, ["saved_model", "tflite", "onnx"], sample=made["x"])
    assert [file.max_difference < 1e-4 for file in files] == [True] * 3
