"""Exported files compute what the model computes, or they are not there."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from keras import layers

from keras_gcp import formatting
from keras_gcp.errors import ExportMismatch, InvalidArgument, UnsupportedModel
from keras_gcp.exporting import FORMATS, export, worker
from keras_gcp.exporting.formats import Format
from keras_gcp.exporting.runtime import builtin_names, load_interpreter, run_signature

TFLITE = ("tflite", "tflite_float16", "tflite_dynamic", "tflite_int8")


def writing(format_name: str, changed: Callable[[keras.Model], keras.Model]) -> Format:
    """A format whose files hold another model than the one that is exported."""
    right = FORMATS[format_name]
    return dataclasses.replace(
        right, write=lambda model, *arguments: right.write(changed(model), *arguments)
    )


def contents(directory: Path) -> set[str]:
    return {path.name for path in directory.iterdir()} if directory.exists() else set()


def test_default_formats_are_keras_saved_model_and_tflite(plain, images, tmp_path):
    files = export(plain, tmp_path / "new" / "folder", sample=images)

    assert [file.format for file in files] == ["keras", "saved_model", "tflite"]
    assert contents(tmp_path / "new" / "folder") == {
        "plain.keras",
        "plain_saved_model",
        "plain.tflite",
    }
    for file in files:
        assert file.compared_on == "sample"
        assert file.examples == 32
        assert file.max_difference <= file.tolerance
        on_disk = [p for p in file.path.rglob("*") if p.is_file()] or [file.path]
        assert file.bytes == sum(p.stat().st_size for p in on_disk) > 1000
        assert file.seconds > 0


def test_a_format_is_one_entry_of_the_table(plain, images, tmp_path, monkeypatch):
    def write(model, path, materials):
        np.savez(path, *model.get_weights())

    def run(model, path, inputs):
        weights = np.load(path)
        twin = keras.models.clone_model(model)
        twin.set_weights([weights[name] for name in weights.files])
        return [np.asarray(twin(inputs[0], training=False))]

    monkeypatch.setitem(FORMATS, "npz", Format(".npz", write, run, tolerance=1e-6))
    (file,) = export(plain, tmp_path, ["npz"], sample=images)
    assert file.path.name == "plain.npz"
    assert (file.max_difference <= file.tolerance, file.operators) == (True, ())


@pytest.mark.parametrize("format_name", TFLITE)
def test_tflite_equals_keras_with_several_inputs_and_outputs(forked, pair, tmp_path, format_name):
    (file,) = export(forked, tmp_path, [format_name], sample=pair)

    assert set(file.operators) <= builtin_names()
    assert "CONV_2D" in file.operators
    got = run_signature(load_interpreter(file.path), {k: v[:5] for k, v in pair.items()})
    expected = forked.predict([pair["y_left"][:5], pair["x_right"][:5]], verbose=0)
    loosest = {"tflite": 1e-5, "tflite_float16": 5e-3}.get(format_name, 0.15)
    for name, values in zip(("q_first", "p_second"), expected, strict=True):
        assert np.abs(got[name] - values).max() <= loosest * np.abs(values).max()


def test_quantised_files_are_smaller_than_32_bit_ones(images, tmp_path):
    wide = keras.Sequential(
        [layers.Input((8, 8, 3)), layers.Conv2D(64, 3), layers.Flatten(), layers.Dense(8)]
    )
    files = export(wide, tmp_path, TFLITE, sample=images)

    full, half, dynamic, integer = (file.bytes for file in files)
    assert half < 0.6 * full
    assert dynamic < 0.35 * full
    assert integer < 0.35 * full


def test_int8_files_take_and_give_int8(plain, images, tmp_path):
    (file,) = export(plain, tmp_path, ["tflite_int8"], sample=images)

    interpreter = load_interpreter(file.path)
    for details in interpreter.get_input_details() + interpreter.get_output_details():
        assert details["dtype"] is np.int8


def test_tflite_files_have_batch_size_one_and_no_shape_arithmetic(plain, tmp_path):
    (file,) = export(plain, tmp_path, ["tflite"])

    (details,) = load_interpreter(file.path).get_input_details()
    assert list(details["shape"]) == [1, 8, 8, 3]
    assert list(load_interpreter(file.path).get_signature_runner().get_input_details()) == ["input"]
    assert set(file.operators) == {"CONV_2D", "MAX_POOL_2D", "RESHAPE", "FULLY_CONNECTED"}


def test_without_sample_the_record_says_random(plain, tmp_path):
    files = export(plain, tmp_path, ["keras", "tflite"])

    assert [file.compared_on for file in files] == ["random", "random"]


def test_dictionary_inputs_and_outputs_are_matched_by_name(tmp_path, images):
    a, b = layers.Input((8, 8, 3), name="a"), layers.Input((8, 8, 3), name="b")
    pooled = layers.GlobalAveragePooling2D()(layers.Subtract()([a, b]))
    outputs = {"u": layers.Dense(3)(pooled), "t": layers.Dense(3)(pooled)}
    model = keras.Model({"b": b, "a": a}, outputs)

    files = export(model, tmp_path, sample={"b": images, "a": images[::-1]})

    assert all(file.max_difference < 1e-5 for file in files)


def test_integer_inputs_are_exported_with_a_real_sample(tmp_path):
    tokens = layers.Input((6,), dtype="int32")
    x = layers.GlobalAveragePooling1D()(layers.Conv1D(8, 3)(layers.Embedding(20, 8)(tokens)))
    model = keras.Model(tokens, layers.Dense(3)(x))
    sample = np.random.default_rng(0).integers(0, 20, size=(40, 6))

    files = export(model, tmp_path, ["tflite", "tflite_int8"], sample=sample)

    assert len(files) == 2
    with pytest.raises(UnsupportedModel, match="Pass real examples"):
        export(model, tmp_path, ["tflite"])


def test_mixed_precision_models_become_32_bit_tflite_files(tmp_path, images):
    keras.config.set_dtype_policy("mixed_float16")
    core = keras.Sequential([layers.Input((8, 8, 3)), layers.Conv2D(8, 3), layers.ReLU()])
    inputs = layers.Input((8, 8, 3))
    model = keras.Model(inputs, layers.Dense(3)(layers.Flatten()(core(inputs))))

    (file,) = export(model, tmp_path, ["tflite"], sample=images)

    assert file.tolerance == 0.02
    assert 0 < file.max_difference < 0.01


def test_files_load_where_keras_gcp_is_not_installed(plain, images, tmp_path, without_keras_gcp):
    keras_file, saved_model, tflite = export(plain, tmp_path, sample=images)
    np.save(tmp_path / "images.npy", images[:4])
    code = """
import keras, numpy as np, tensorflow as tf
from ai_edge_litert.interpreter import Interpreter
try:
    import keras_gcp
except ModuleNotFoundError:
    pass
else:
    raise SystemExit("keras_gcp was importable")
x = np.load("images.npy")
loaded = tf.saved_model.load(sys.argv[2])
runner = Interpreter(model_path=sys.argv[3]).get_signature_runner()
(name_in,), (name_out,) = runner.get_input_details(), runner.get_output_details()
np.savez(
    "outputs.npz",
    keras=keras.models.load_model(sys.argv[1]).predict(x, verbose=0),
    saved_model=loaded.serve(x).numpy(),
    tflite=np.concatenate([runner(**{name_in: x[i : i + 1]})[name_out] for i in range(4)]),
)
"""
    without_keras_gcp(code, keras_file.path, saved_model.path, tflite.path)

    outputs = np.load(tmp_path / "outputs.npz")
    expected = plain.predict(images[:4], verbose=0)
    for name in ("keras", "saved_model", "tflite"):
        np.testing.assert_allclose(outputs[name], expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("format_name", ["keras", "saved_model", "tflite", "tflite_int8"])
def test_a_wrong_file_is_refused_and_the_old_one_stays(
    plain, images, tmp_path, monkeypatch, format_name
):
    (good,) = export(plain, tmp_path, [format_name], sample=images, name="net")
    before = {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()}

    def negated(model: keras.Model) -> keras.Model:
        other = keras.models.clone_model(model)
        other.set_weights([-w if w.ndim > 1 else w for w in model.get_weights()])
        return other

    monkeypatch.setitem(FORMATS, format_name, writing(format_name, negated))
    with pytest.raises(ExportMismatch, match=rf"{format_name} file of 'plain' does not compute"):
        export(plain, tmp_path, [format_name], sample=images, name="net")
    with pytest.raises(ExportMismatch):
        export(plain, tmp_path / "empty", [format_name], sample=images, name="net")

    assert {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()} == before
    assert contents(tmp_path) == {good.path.name, "empty"}
    assert contents(tmp_path / "empty") == set()


def test_a_slightly_wrong_weight_is_seen(plain, images, tmp_path, monkeypatch):
    def nearly(model: keras.Model) -> keras.Model:
        other, weights = keras.models.clone_model(model), model.get_weights()
        weights[-1][0] += 0.01
        other.set_weights(weights)
        return other

    for format_name in ("keras", "saved_model", "tflite"):
        monkeypatch.setitem(FORMATS, format_name, writing(format_name, nearly))
        with pytest.raises(ExportMismatch):
            export(plain, tmp_path, [format_name], sample=images)
    assert contents(tmp_path) == set()


def test_exchanged_outputs_of_equal_shape_are_seen(forked, pair, tmp_path, monkeypatch):
    from keras_gcp.exporting import tflite

    monkeypatch.setattr(
        tflite, "signature_names", lambda model: (["y_left", "x_right"], ["p_second", "q_first"])
    )
    original = tflite._write_static_saved_model

    def write_with_the_right_names(*arguments: Any) -> None:
        with monkeypatch.context() as patch:
            patch.setattr(
                tflite,
                "signature_names",
                lambda model: (["y_left", "x_right"], ["q_first", "p_second"]),
            )
            original(*arguments)

    monkeypatch.setattr(tflite, "_write_static_saved_model", write_with_the_right_names)
    with pytest.raises(ExportMismatch):
        export(forked, tmp_path, ["tflite"], sample=pair)


def test_names_in_a_signature_are_no_words_of_python():
    """TensorFlow makes arguments of a function of them."""
    from keras_gcp.exporting.tflite import signature_names

    inputs = [layers.Input((2,), name=name) for name in ("in", "x_in", "lambda")]
    model = keras.Model(inputs, layers.Dense(1, name="is")(layers.Add()(inputs)))
    assert signature_names(model) == (["x_in", "x_in_1", "x_lambda"], ["x_is"])


def test_operators_that_tflite_lacks_are_refused_by_name(tmp_path):
    inputs = layers.Input((8, 8, 3))
    x = keras.ops.erfinv(keras.ops.tanh(layers.Conv2D(4, 3)(inputs)))
    model = keras.Model(inputs, layers.Flatten()(x), name="odd")

    with pytest.raises(UnsupportedModel, match=r"'odd' cannot be converted.*Erfinv"):
        export(model, tmp_path, ["keras", "tflite"])

    assert contents(tmp_path) == {"odd.keras"}


@pytest.mark.parametrize("error", [RuntimeError("Max and min"), worker.RemoteError("Odd", "why")])
def test_whatever_the_converter_raises_is_refused_with_what_it_says(tmp_path, monkeypatch, error):
    def fail(*arguments: Any) -> None:
        raise error

    monkeypatch.setattr("keras_gcp.exporting.tflite.in_worker", fail)
    model = keras.Sequential([layers.Input((2,)), layers.Dense(2)], name="net")
    with pytest.raises(UnsupportedModel, match=r"'net' cannot be conv.*says: (Runt|Odd).*: (M|w)"):
        export(model, tmp_path, ["tflite"])


def test_saved_models_compute_on_whatever_device_there_is(plain, tmp_path):
    from tensorflow.core.protobuf.saved_model_pb2 import SavedModel

    (file,) = export(plain, tmp_path, ["saved_model"])
    saved = SavedModel.FromString((file.path / "saved_model.pb").read_bytes())
    functions = saved.meta_graphs[0].graph_def.library.function
    layers_run = [node for f in functions for node in f.node_def if node.op in ("Conv2D", "MatMul")]

    assert len(layers_run) >= 2
    assert {node.device for node in layers_run} == {""}


def test_older_files_are_replaced(plain, tmp_path):
    formats = ["keras", "saved_model"]
    export(plain, tmp_path, formats, name="net")
    narrow = keras.Sequential([layers.Input((8, 8, 3)), layers.Flatten(), layers.Dense(2)])

    second = export(narrow, tmp_path, formats, name="net")

    assert contents(tmp_path) == {"net.keras", "net_saved_model"}
    assert keras.models.load_model(second[0].path).output_shape == (None, 2)


def test_tolerance_by_number_and_by_format(plain, images, tmp_path):
    with pytest.raises(ExportMismatch, match="allowed 1e-12"):
        export(plain, tmp_path, ["tflite"], sample=images, tolerance=1e-12)
    files = export(
        plain, tmp_path, ["keras", "tflite_float16"], sample=images, tolerance={"keras": 0.5}
    )
    assert [file.tolerance for file in files] == [0.5, FORMATS["tflite_float16"].tolerance]


def one_nan_of(count):
    """Examples of which one is spoilt that no file is compared on; int8 is calibrated on it."""
    x = np.zeros((count, 8, 8, 3), np.float32)
    x[7, 0, 0, 0] = np.nan
    return x


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"formats": ["tflight"]}, "Unknown format 'tflight'"),
        ({"formats": "keras"}, "must be a list"),
        ({"formats": ["keras", "keras"]}, "different formats"),
        ({"formats": ["tflite_int8"]}, "calibrated on real inputs"),
        ({"formats": ["keras"], "tolerance": 0}, "greater than 0"),
        ({"formats": ["keras"], "tolerance": {"onnx": 1e-3}}, "`formats` does not"),
        ({"formats": ["keras"], "name": "a/b"}, "not a name for a file"),
        ({"sample": np.zeros((4, 9, 9, 3))}, r"expects shape \(examples, 8, 8, 3\).*9, 9, 3\)"),
        ({"sample": np.zeros((0, 8, 8, 3))}, "no examples. Expected one at least"),
        ({"sample": np.full((4, 8, 8, 3), np.nan)}, "NaN"),
        ({"sample": one_nan_of(300)}, "NaN or infinite values in 1 of 300 examples of input"),
        ({"sample": np.zeros((4, 8, 8))}, r"expects shape \(examples, 8, 8, 3\)"),
        ({"sample": np.full((4, 8, 8, 3), "x")}, "takes numbers"),
        ({"sample": {"wrong": np.zeros((4, 8, 8, 3))}}, "keys"),
    ],
)
def test_bad_arguments_are_refused_before_any_file(plain, tmp_path, arguments, message):
    with pytest.raises(InvalidArgument, match=message):
        export(plain, tmp_path / "none", **arguments)
    assert contents(tmp_path / "none") == set()


def test_several_inputs_need_as_many_arrays(forked, images, tmp_path):
    with pytest.raises(InvalidArgument, match="has 2 inputs.*Received 1 array. Expected a list"):
        export(forked, tmp_path, ["keras"], sample=images)
    with pytest.raises(InvalidArgument, match=r"x\[0\]: 48, x\[1\]: 5"):
        export(forked, tmp_path, ["keras"], sample=[images, images[:5]])


def test_models_without_a_graph_are_refused(tmp_path):
    class Subclassed(keras.Model):
        def call(self, x: Any) -> Any:
            return x

    with pytest.raises(UnsupportedModel, match="Subclassed"):
        export(Subclassed(), tmp_path)
    with pytest.raises(UnsupportedModel, match="not built"):
        export(keras.Sequential([layers.Dense(2)]), tmp_path)
    with pytest.raises(InvalidArgument, match="received str"):
        export("model.keras", tmp_path)


@pytest.mark.needs_tensorflow("it writes TFLite files")
def test_unknown_height_and_width_are_those_of_the_sample_in_a_tflite_file(tmp_path, images):
    inputs = layers.Input((None, None, 3), name="picture")
    pooled = layers.GlobalAveragePooling2D()(layers.Conv2D(4, 3)(inputs))
    model = keras.Model(inputs, layers.Dense(2)(pooled))

    files = export(model, tmp_path, ["keras", "saved_model", "tflite"], sample=images)
    (details,) = load_interpreter(files[-1].path).get_input_details()
    assert tuple(details["shape"]) == (1, *images.shape[1:])
    with pytest.raises(UnsupportedModel, match=r"'picture'.*sample"):
        export(model, tmp_path, ["keras"])


def test_models_that_give_nan_are_refused(plain, tmp_path):
    broken = keras.models.clone_model(plain)
    broken.set_weights([np.full_like(w, np.nan) for w in plain.get_weights()])

    with pytest.raises(UnsupportedModel, match="itself is NaN"):
        export(broken, tmp_path)


def test_other_backends_are_told_the_way_round(plain, tmp_path, monkeypatch):
    monkeypatch.setattr(keras.backend, "backend", lambda: "jax")

    with pytest.raises(UnsupportedModel, match="KERAS_BACKEND=tensorflow"):
        export(plain, tmp_path, ["tflite"])


def test_missing_converter_packages_are_named(plain, tmp_path, monkeypatch):
    import importlib.util

    found = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name == "tf2onnx" else found(name)
    )
    with pytest.raises(InvalidArgument, match=r"needs tf2onnx.*pip install \"keras-gcp\[onnx\]\""):
        export(plain, tmp_path, ["onnx"])


def test_onnx_equals_keras(forked, pair, tmp_path):
    (file,) = export(forked, tmp_path, ["onnx"], sample=pair)

    assert file.path.name == "forked.onnx"
    assert file.max_difference < 1e-5


def test_onnx_inputs_are_matched_in_dictionaries(tmp_path, images):
    a, b = layers.Input((8, 8, 3), name="a"), layers.Input((8, 8, 3), name="b")
    pooled = layers.GlobalAveragePooling2D()(layers.Subtract()([a, b]))
    model = keras.Model({"b": b, "a": a}, {"u": layers.Dense(3)(pooled), "t": pooled})

    (file,) = export(model, tmp_path, ["onnx"], sample={"b": images, "a": images[::-1]})

    assert file.max_difference < 1e-5


def trained(images) -> keras.Model:
    inputs = layers.Input(images.shape[1:])
    outputs = layers.Dense(2)(layers.Dense(64, activation="relu")(layers.Flatten()(inputs)))
    model = keras.Model(inputs, outputs, name="net")
    model.compile("adam", "mse", metrics=["mae"], run_eagerly=True)
    model.fit(images, np.zeros((len(images), 2)), verbose=0)
    return model


def test_keras_files_leave_out_the_optimizer_unless_it_is_asked_for(tmp_path, images):
    model = trained(images)
    weights = model.get_weights()
    (without,) = export(model, tmp_path, ["keras"], name="without")
    (with_it,) = export(model, tmp_path, ["keras"], name="with", include_optimizer=True)

    assert without.bytes < 0.45 * with_it.bytes  # Adam has two slots for every weight.
    assert model.compiled and len(model.optimizer.variables) > 8
    assert not keras.models.load_model(without.path).compiled
    goes_on = keras.models.load_model(with_it.path)
    for now, then in zip(goes_on.optimizer.variables, model.optimizer.variables, strict=True):
        np.testing.assert_array_equal(now, then)
    for file in (without, with_it):
        for now, then in zip(
            keras.models.load_model(file.path).get_weights(), weights, strict=True
        ):
            np.testing.assert_array_equal(now, then)


def test_the_result_prints_as_a_table_of_80_columns(plain, images, tmp_path):
    files = export(plain, tmp_path, ["keras", "tflite"], sample=images)

    text, page = str(files), files._repr_html_()
    assert max(map(len, text.splitlines())) <= 80 + len(str(tmp_path))
    for file in files:
        size = formatting.file_size(file.bytes)
        for shown in (file.format, file.path.name, size, f"{file.tolerance:g}"):
            assert shown in text and shown in page
    assert f"in the folder {tmp_path}" in text and "32 examples of the sample" in text
    assert isinstance(files, tuple) and len(repr(files)) < 80


def test_export_prints_nothing(plain, tmp_path, capfd):
    export(plain, tmp_path)

    assert capfd.readouterr() == ("", "")
