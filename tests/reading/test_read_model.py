"""Model files are read, those of Keras 2 too, or refused with the reason.

`keras2/` holds files that tf_keras 2.21 wrote, and what it computed with them.
"""

from __future__ import annotations

import json
import warnings
from pathlib import Path

import h5py
import keras
import numpy as np
import pytest

from keras_gcp.errors import InvalidArgument, UnsupportedModel
from keras_gcp.reading import read_model
from keras_gcp.reading.keras2 import translated

OLD = Path(__file__).with_name("keras2")
COMPUTED = np.load(OLD / "computed.npz")


@pytest.mark.parametrize("name", sorted(key[:-2] for key in COMPUTED if key.endswith("_x")))
def test_files_of_keras_2_compute_what_keras_2_computed_with_layers_of_keras_only(name):
    model, x = read_model(OLD / f"{name}.h5"), COMPUTED[f"{name}_x"]
    outputs = model([x] * len(model.inputs), training=False)
    outputs = keras.ops.convert_to_numpy(outputs)
    np.testing.assert_allclose(outputs, COMPUTED[f"{name}_y"], atol=1e-6)
    assert {type(layer).__module__.split(".")[0] for layer in model.layers} == {"keras"}


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("tensorflow_function", r"no layer for 'tf\.nn\.relu6' \(class TFOpLambda\).*build the"),
        ("lambda", "cannot read.*Lambda"),
    ],
)
def test_what_keras_3_cannot_have_is_refused_with_the_reason(name, why):
    with pytest.raises(UnsupportedModel, match=why):
        read_model(OLD / f"{name}.h5")


def test_an_entry_with_a_meaning_is_not_dropped():
    layer = {"class_name": "DepthwiseConv2D", "config": {"name": "d", "groups": 2}}
    with pytest.raises(UnsupportedModel, match=r"Layer 'd' \(class DepthwiseConv2D\).*groups=2"):
        translated(layer)
    layer["config"]["groups"] = 1
    assert translated(layer)["config"] == {"name": "d"}


@pytest.fixture(scope="module")
def small():
    inputs = keras.Input((4,))
    return keras.Model(inputs, keras.layers.Dense(2, name="out")(inputs))


@pytest.mark.filterwarnings("ignore:You are saving your model as an HDF5 file")
@pytest.mark.parametrize("suffix", [".keras", ".h5"])
def test_files_of_keras_3_are_read(small, tmp_path, suffix):
    small.save(tmp_path / f"model{suffix}")
    read = read_model(tmp_path / f"model{suffix}")
    for a, b in zip(read.get_weights(), small.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


def test_a_loss_of_ones_own_is_left_out_with_a_warning(tmp_path):
    def own_loss(y, p):
        return keras.ops.mean((y - p) ** 2)

    inputs = keras.Input((4,))
    model = keras.Model(inputs, keras.layers.Dense(2)(inputs))
    model.compile("sgd", own_loss)
    model.save(tmp_path / "own.keras")
    with pytest.warns(UserWarning, match="without its loss.*own_loss"):
        assert not read_model(tmp_path / "own.keras").compiled
    model.compile("sgd", "mse")
    model.save(tmp_path / "known.keras")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert read_model(tmp_path / "known.keras").compiled


def test_files_that_hold_no_model_are_refused_with_what_is_expected(small, tmp_path):
    small.save_weights(tmp_path / "only.weights.h5")
    (tmp_path / "folder").mkdir()
    (tmp_path / "model.tflite").write_bytes(b"TFL3")
    (tmp_path / "broken.keras").write_bytes(b"PK nothing")
    (tmp_path / "broken.h5").write_bytes(b"nothing")
    for name, why in {
        "only.weights.h5": "holds weights, and no model",
        "folder": "is a folder",
        "missing.keras": "There is no file",
        "model.tflite": r"Expected \.keras, \.h5",
    }.items():
        with pytest.raises(InvalidArgument, match=why):
            read_model(tmp_path / name)
    for name in ("broken.keras", "broken.h5"):
        with pytest.raises(UnsupportedModel, match=f"cannot read '.*{name}'"):
            read_model(tmp_path / name)


def test_the_file_itself_stays_as_it_is():
    before = (OLD / "image.h5").read_bytes()
    with h5py.File(OLD / "image.h5") as content:
        assert "groups" in json.dumps(json.loads(content.attrs["model_config"]))
    read_model(OLD / "nested_twice.h5")
    assert (OLD / "image.h5").read_bytes() == before
