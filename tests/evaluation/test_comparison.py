"""Models and files side by side: each number is the file's own, each fault names its file."""

from __future__ import annotations

from pathlib import Path

import keras
import networks
import numpy as np
import pytest
from fitting import compiled

import keras_gcp
from keras_gcp.errors import InvalidArgument, UnsupportedModel, WriteFailed
from keras_gcp.evaluation import comparison
from keras_gcp.evaluation import opened as opening
from keras_gcp.exporting import export

pytestmark = pytest.mark.needs_tensorflow("it writes and runs TFLite and ONNX files")


@pytest.fixture(scope="module")
def small(model):
    return keras_gcp.prune(model, {"macs": 0.5}, "l2_norm", selection={"align": 1})


@pytest.fixture(scope="module")
def files(small, tmp_path_factory):
    folder = tmp_path_factory.mktemp("files")
    written = export(small, folder, ["keras", "tflite", "onnx"], name="small")
    return {file.format: file.path for file in written}


def compare(things, data=None, **options):
    options = {"measure_latency": False, "verbose": 0, **options}
    return keras_gcp.compare(things, data, **options)


@pytest.fixture(scope="module")
def measured(model, small, files, data):
    return compare(
        {"dense": model, "pruned": small, **files}, data, measure_latency=True, threads=2
    )


def test_every_row_has_the_accuracy_of_its_outputs(measured, small, data):
    x, y = data
    accuracy = (small.predict(x, verbose=0).argmax(-1) == y).mean()
    assert 0 < accuracy < 1
    assert measured["dense"].value == 1.0
    for name in ("pruned", "keras", "tflite", "onnx"):
        assert measured[name].value == pytest.approx(accuracy), name
    assert (measured.metric, measured.examples) == ("accuracy", len(x))


def test_every_row_has_its_costs(measured, model, small, files):
    for name, counted in [("dense", keras_gcp.count(model)), ("pruned", keras_gcp.count(small))]:
        assert (measured[name].macs, measured[name].parameters) == (
            *(counted.macs, counted.parameters),
        )
    for name, path in files.items():
        assert measured[name].macs == measured["pruned"].macs
        assert measured[name].peak_bytes >= measured["pruned"].peak_bytes
        assert (measured[name].bytes, measured[name].path) == (path.stat().st_size, str(path))
    assert measured["pruned"].bytes == files["tflite"].stat().st_size
    assert measured.relative("pruned")["macs"] < 0.5


def test_every_row_is_timed_in_turns_with_the_first(measured):
    assert measured.threads == 2
    for row in measured:
        assert 0 < row.latency_spread[0] <= row.latency_ms <= row.latency_spread[1]
        assert row.speedup_spread[0] <= row.speedup <= row.speedup_spread[1]
    assert measured["dense"].speedup == 1
    assert not any(row.notes for row in measured)


def test_it_prints_itself(measured, files):
    text = str(measured)
    assert max(map(len, text.splitlines())) <= 80
    assert all(name in text for name in ("dense", "pruned", *files))
    assert "2 threads" in text


def test_a_list_is_named_by_models_and_files(model):
    named = comparison.named([model, "folder/small.keras", model])
    assert list(named) == ["plain", "small.keras", "plain (2)"]
    assert list(comparison.named({"a": model, "b": model})) == ["a", "b"]


def test_without_data_there_are_costs(files):
    found = compare([files["keras"], files["tflite"]])
    assert [row.kind for row in found] == ["keras", "tflite"]
    assert (found.metric, found.examples, found["small.keras"].value) == (None, None, None)
    assert found["small.keras"].macs == found["small.tflite"].macs
    assert "ms:" not in str(found)


def test_files_alone_are_measured_by_what_leaves_them(files, measured, data):
    found = compare([files["tflite"], files["onnx"]], data)
    assert [row.value for row in found] == [measured["tflite"].value] * 2
    found = compare([files["tflite"]], data, metric=keras.metrics.SparseCategoricalCrossentropy())
    assert found.metric == "sparse_categorical_crossentropy" and not found.higher_is_better


def test_the_metric_of_all_rows_is_that_of_the_first_model(small, files, data):
    model = keras.models.load_model(files["keras"])
    compiled(model, metrics=[keras.metrics.SparseTopKCategoricalAccuracy(2, name="top2")])
    found = compare([files["tflite"], model, files["keras"]], data)
    ranks = np.argsort(-small.predict(data[0], verbose=0), axis=-1)[:, :2]
    assert found.metric == "top2"
    expected = (ranks == data[1][:, None]).any(axis=-1).mean()
    assert [row.value for row in found] == pytest.approx([expected] * 3)


@pytest.fixture(scope="module")
def forked(tmp_path_factory):
    """Inputs and outputs named against the alphabet, two of equal shapes, and a file of it."""
    left, right = (keras.Input((4,), name=name) for name in ("y_left", "x_right"))
    both = keras.layers.Concatenate()([left, keras.layers.Rescaling(-2.0)(right)])
    first = keras.layers.Dense(3, name="q_first")(both)
    second = keras.layers.Dense(3, name="p_second")(both)
    model = keras.Model([left, right], [first, second], name="forked")
    folder = tmp_path_factory.mktemp("forked")
    written = export(model, folder, ["tflite", "onnx"])
    x = [np.random.default_rng(i).normal(size=(9, 4)).astype("float32") for i in range(2)]
    y = [np.asarray(part) for part in model(x)]
    return model, [file.path for file in written], x, y


def worst(y_true, y_pred):
    return max(float(np.abs(a - b).max()) for a, b in zip(y_true, y_pred, strict=True))


def test_several_inputs_and_outputs_are_told_by_their_names(forked):
    model, paths, x, y = forked
    found = compare([model, *paths], (x, y), metric=worst, mode="min")
    assert [row.value < 1e-5 for row in found] == [True] * 3
    by_name = {"y_left": x[0], "x_right": x[1]}
    alone = compare([paths[1]], (by_name, y), metric=worst, mode="min")
    assert alone.rows[0].value < 1e-5
    with pytest.raises(InvalidArgument, match=r"several inputs.*dict by their names"):
        compare([paths[0]], (x, y), metric=worst, mode="min")


def test_a_file_with_other_inputs_than_the_model_is_refused(forked):
    inputs = [keras.Input((4,), name=name) for name in ("a", "b")]
    renamed = keras.Model(inputs, forked[0](inputs))
    with pytest.raises(InvalidArgument, match=r"has the inputs \['x_right', 'y_left'\].*'a', 'b'"):
        compare([renamed, forked[1][0]])


# ---- faults


def damaged(path, to):
    to.write_bytes(path.read_bytes()[: path.stat().st_size // 3])
    return to


@pytest.mark.parametrize("kind", ["keras", "tflite", "onnx", "h5", "saved_model"])
def test_a_damaged_file_is_named(kind, files, data, tmp_path):
    if kind in files:
        path = damaged(files[kind], tmp_path / f"damaged{files[kind].suffix}")
    elif kind == "h5":
        path = damaged(files["keras"], tmp_path / "damaged.h5")
    else:
        path = tmp_path / "damaged"
        path.mkdir()
        (path / "saved_model.pb").write_bytes(b"no model")
    with pytest.raises(InvalidArgument, match=f"'damaged.*{path}' cannot be (read|loaded)"):
        compare([files["tflite"], path], data)


@pytest.mark.parametrize("suffix", [".keras", ".h5", ".tflite", ".onnx"])
@pytest.mark.parametrize("content", [b"", b"<html>404</html>"], ids=["empty", "a page"])
def test_a_file_of_something_else_is_named(suffix, content, small, tmp_path):
    path = tmp_path / f"other{suffix}"
    path.write_bytes(content)
    with pytest.raises(InvalidArgument, match=f"'other.*{path}' cannot be (read|loaded)"):
        compare([small, path])


def test_a_full_disk_costs_a_row_only_if_failures_are_skipped(small, files, monkeypatch):
    def full(model, path, **options):
        raise OSError(28, "No space left on device", str(path))

    monkeypatch.setattr(opening, "write_file", full)
    with pytest.raises(WriteFailed, match="A file made of 'small' cannot be .*No space left"):
        compare({"small": small, "file": files["tflite"]})
    with pytest.warns(UserWarning, match="No space left.*left out of the comparison"):
        rows = compare({"small": small, "file": files["tflite"]}, on_failure="skip")
    assert rows["file"].macs > 0 and "No space left" in rows["small"].error


@pytest.mark.parametrize(
    ("thing", "message"),
    [
        ("none.keras", "there is no file 'none.keras'"),
        ("weights.txt", r"ends in '.txt'. Expected .keras"),
        ("empty", "has no saved_model.pb"),
        (5, "is of type int. Expected a `keras.Model` or the path"),
    ],
)
def test_what_is_no_file_is_refused_before_anything_is_opened(
    thing, message, model, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "weights.txt").touch()
    (tmp_path / "empty").mkdir()
    monkeypatch.setattr(opening, "count_map", lambda *_: pytest.fail("measured"))
    with pytest.raises(InvalidArgument, match=message):
        compare({"good": model, "bad": thing})


@pytest.mark.parametrize("empty", [[], {}, "net.keras", None, {1: "net.keras"}])
def test_something_is_compared(empty):
    with pytest.raises(InvalidArgument, match="`models_or_files` expects"):
        compare(empty)


def test_data_that_fit_no_model_are_refused_with_its_name(model, files, data):
    x, y = data
    narrow = keras.Sequential([keras.Input((4, 4, 3)), keras.layers.Flatten()], name="narrow")
    with pytest.raises(InvalidArgument, match=r"do not fit 'other'.*\(examples, 4, 4, 3\)"):
        compare({"first": files["tflite"], "other": narrow}, data)
    with pytest.raises(InvalidArgument, match=r"do not fit 'small.tflite'.*NaN"):
        compare([files["tflite"]], (np.full_like(x, np.nan), y))
    with pytest.raises(InvalidArgument, match=r"do not fit 'plain'.*no labels"):
        compare([model], x)


def test_a_failure_that_is_skipped_costs_its_own_row_only(model, files, data, tmp_path):
    path = damaged(files["tflite"], tmp_path / "damaged.tflite")
    with pytest.warns(UserWarning, match="damaged.tflite.*It is left out of the comparison"):
        found = compare([files["onnx"], path, files["tflite"]], data, on_failure="skip")
    assert [row.error is None for row in found] == [True, False, True]
    assert found["small.tflite"].value is not None
    assert found["damaged.tflite"].error in str(found)
    with pytest.raises(InvalidArgument, match="`on_failure` expects one of"):
        compare([model], on_failure="ignore")


def test_a_file_that_the_runtime_cannot_run_is_named(files, data, monkeypatch):
    from keras_gcp.evaluation import foreign

    def fails(*arguments):
        raise RuntimeError("no such operator")

    monkeypatch.setitem(foreign._RUN, "onnx", fails)
    monkeypatch.setattr(foreign, "in_worker", lambda function, *rest: function(*rest))
    with pytest.raises(UnsupportedModel, match=r"'small.onnx'.*cannot be run.*no such operator"):
        compare([files["onnx"]], data)


def test_a_model_that_tflite_does_not_take_has_no_latency_and_says_why(data):
    inputs = keras.Input((8, 8, 3))
    x = keras.ops.erfinv(keras.ops.tanh(keras.layers.Conv2D(4, 3)(inputs)))
    model = keras.Model(inputs, keras.layers.GlobalAveragePooling2D()(x), name="odd")
    found = compare([model], data, measure_latency=True)
    assert found["odd"].latency_ms is None and found["odd"].value is not None
    assert "odd: no TFLite file of it: the model 'odd' cannot be converted" in str(found)


def test_open_sizes_are_those_of_the_data(data):
    inputs = keras.Input((None, None, 3))
    x = keras.layers.GlobalAveragePooling2D()(keras.layers.Conv2D(4, 3)(inputs))
    model = keras.Model(inputs, x, name="open")
    assert compare([model], data)["open"].macs == 6 * 6 * 27 * 4
    unknown = compare([model])["open"]
    assert (unknown.macs, unknown.peak_bytes, unknown.bytes) == (None, None, None)


@pytest.mark.slow
def test_saved_models_int8_files_and_old_files_are_compared_too(model, small, data, tmp_path):
    written = export(small, tmp_path, ["saved_model", "tflite_int8"], sample=data)
    model.save(tmp_path / "dense.h5")
    found = compare(
        [tmp_path / "dense.h5", small, *(file.path for file in written)],
        data,
        measure_latency=True,
    )
    old, pruned, saved, integers = found
    assert (old.value, old.kind) == (1.0, "h5")
    assert saved.value == pytest.approx(pruned.value)
    assert (saved.macs, saved.parameters) == (pruned.macs, pruned.parameters)
    assert integers.macs == pruned.macs and integers.peak_bytes < pruned.peak_bytes
    assert abs(integers.value - pruned.value) < 0.1
    assert all(row.latency_ms for row in found)


@pytest.mark.slow
def test_all_networks_are_compared_with_their_files(tmp_path):
    for name in ("two_outputs", "siamese", "sequential"):
        model = networks.ALL[name]()
        written = export(model, tmp_path / name, ["tflite", "onnx"])
        found = compare([model, *(file.path for file in written)])
        assert len({row.macs for row in found}) == 1


def test_files_of_keras_2_are_compared_like_others():
    file = Path(__file__).resolve().parents[1] / "reading" / "keras2" / "image.h5"
    (row,) = keras_gcp.compare([file], measure_latency=False, verbose=0)
    assert row.kind == "h5" and row.macs and row.bytes == file.stat().st_size
