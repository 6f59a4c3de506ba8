"""Every command does what its help says, on small files."""

from __future__ import annotations

import json
import re
import subprocess
import sys

import keras
import numpy as np
import pytest

import keras_gcp
from keras_gcp.cli.app import COMMANDS
from keras_gcp.cli.options import BudgetOptions, option_of
from keras_gcp.costs.cost_model import RESOURCES

WITHOUT_KERAS = """
import sys
from keras_gcp.cli import main
codes = [main(words.split()) for words in sys.argv[1:]]
print("codes", codes, sorted({"keras", "tensorflow", "jax", "torch"} & sys.modules.keys()))
"""


def test_help_and_version_import_neither_keras_nor_a_framework():
    asked = ["--help", "--version", *(f"{one.__name__} --help" for one in COMMANDS)]
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_KERAS, *asked], capture_output=True, text=True
    )
    assert done.stdout.splitlines()[-1] == f"codes {[0] * len(asked)} []", done.stderr
    assert f"keras-gcp {keras_gcp.__version__}\n" in done.stdout
    for name in ("inspect", "plan", "prune", "export", "compare", "report", "sensitivity"):
        assert f"Usage: keras-gcp {name}" in done.stdout
    assert not done.stderr


def test_help_fits_80_columns_and_names_every_resource(run, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    said = run("prune", "--help")
    assert max(map(len, said.out.splitlines())) <= 80
    assert all(f"{option_of(resource)} AMOUNT" in said.out for resource in RESOURCES)
    assert {*vars(BudgetOptions())} == {*RESOURCES, "threads"}


@pytest.mark.slow
def test_stdout_has_the_json_and_nothing_else_in_a_process_of_its_own(model_file, data_file):
    command = [sys.executable, "-m", "keras_gcp", "sensitivity", model_file, "--data", data_file]
    options = ["--shares", "0.5", "--criterion", "l2_norm", "--json"]
    done = subprocess.run([*command, *options], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["examples"] == 20
    assert done.stderr.splitlines()[0] == f"reading {model_file}"
    assert "oneDNN" not in done.stderr and "Traceback" not in done.stderr


def test_inspect_says_what_can_be_pruned_and_why_not_the_rest(run, model_file):
    said = run("inspect", model_file)
    assert said.code == 0
    for line in (
        "small: 'pixels' 8 x 8 x 1 -> 3",
        "besides: 1 BatchNormalization (64 parameters)",
        "out 3 no: output of the model out",
    ):
        assert line in " ".join(said.out.split())
    assert max(map(len, said.out.splitlines())) <= 80
    found, model = run("inspect", model_file, "--json").json, keras.saving.load_model(model_file)
    assert found["macs"] == keras_gcp.count(model).macs
    assert found["parameters"] == model.count_params()
    assert {one["group"]: one["prunable"] for one in found["groups"]} == {
        "first": True,
        "second": True,
        "out": False,
    }


def test_inspect_takes_exclude_and_a_size_where_the_model_leaves_it_open(run, folder):
    inputs = keras.Input((None, None, 3))
    x = keras.layers.Conv2D(8, 3, name="a")(inputs)
    x = keras.layers.Conv2D(8, 3, name="b")(x)
    keras.Model(inputs, keras.layers.GlobalAveragePooling2D()(x)).save(folder / "open.keras")
    assert "see --input-shape" in run("inspect", folder / "open.keras").out
    said = run("inspect", folder / "open.keras", "--input-shape", "16,16,3", "--exclude", "a")
    assert "? x ? x 3" in said.out and "layer 'a' is in `exclude`" in said.out
    assert "MACs        125 k" in said.out


def test_plan_meets_several_limits_and_prune_follows_its_file(run, model_file, data_file, tmp_path):
    chosen = ("--macs", "60%", "--parameters", "0.7", "--align", "1", "--data", data_file)
    said = run("plan", model_file, *chosen, "--output", tmp_path / "plan.json")
    assert said.code == 0, said.err
    plan = keras_gcp.Plan.from_json((tmp_path / "plan.json").read_text())
    assert said.out == f"{plan.explain()}\nplan: {tmp_path / 'plan.json'}\n"
    assert plan.after.macs <= 0.6 * plan.before.macs
    assert plan.after.parameters <= 0.7 * plan.before.parameters
    assert run("plan", model_file, *chosen, "--json").json == json.loads(plan.to_json())

    narrow = tmp_path / "deeper" / "narrow.keras"
    said = run("prune", model_file, narrow, "--plan", tmp_path / "plan.json", "--data", data_file)
    assert said.code == 0, said.err
    assert "accuracy on 20 examples; not trained after the cut" in said.out
    assert keras_gcp.count(keras.saving.load_model(narrow)).macs == plan.after.macs


def test_prune_takes_limits_rounds_and_compensation(run, model_file, tmp_path):
    chosen = ("--channels", "20", "--align", "1", "--rounds", "2", "--criterion", "l1_norm")
    said = run(
        "prune", model_file, tmp_path / "n.keras", *chosen, "--compensation", "none", "--json"
    )
    assert said.code == 0, said.err
    assert sum(said.json["widths"].values()) - said.json["widths"]["out"] <= 20
    assert said.json["metric"] is None and said.json["bytes"] > 0
    assert (
        keras_gcp.trace(keras.saving.load_model(tmp_path / "n.keras")).widths()
        == (said.json["widths"])
    )


def test_without_data_a_limit_gives_what_prune_gives_and_a_plan_is_carried_out_to_the_letter(
    run, model_file, tmp_path
):
    model = keras.saving.load_model(model_file)
    moving = [v for v in model.get_layer("norm").non_trainable_variables if v.shape == (16,)]
    for variable, value in zip(moving, (0.3, 2.0), strict=True):
        variable.assign(np.full(16, value))
    trained, narrow, plan = (tmp_path / name for name in ("t.keras", "n.keras", "plan.json"))
    model.save(trained)
    limit = ("--macs", "60%", "--align", "1", "--criterion", "l1_norm")

    def kernels():
        return keras.saving.load_model(narrow).get_layer("second").get_weights()

    assert run("prune", trained, narrow, *limit).code == 0
    settings = dict(criterion="l1_norm", selection={"align": 1})
    of_prune = keras_gcp.prune(model, {"macs": 0.6}, **settings)
    np.testing.assert_array_equal(kernels()[0], of_prune.get_layer("second").get_weights()[0])

    chosen = keras_gcp.plan(model, {"macs": 0.6}, **settings)
    plan.write_text(chosen.to_json())
    assert run("prune", trained, narrow, "--plan", plan).code == 0
    of_apply = keras_gcp.apply(model, chosen)
    np.testing.assert_array_equal(kernels()[0], of_apply.get_layer("second").get_weights()[0])
    assert not np.array_equal(kernels()[0], of_prune.get_layer("second").get_weights()[0])


def test_sensitivity_becomes_a_file_that_plan_goes_by(run, model_file, data_file, tmp_path):
    options = ("--shares", "0.5", "--criterion", "l2_norm")
    file = tmp_path / "sensitivity.json"
    said = run("sensitivity", model_file, "--data", data_file, *options, "--output", file)
    assert said.code == 0, said.err
    assert "the whole model" in said.out and f"sensitivity: {file}" in said.out
    assert keras_gcp.Sensitivity.from_dict(json.loads(file.read_text())).examples == 20
    planned = run("plan", model_file, "--macs", "0.5", "--sensitivity", file)
    assert planned.code == 0, planned.err


@pytest.mark.slow
def test_export_writes_files_that_were_compared(run, model_file, data_file, tmp_path):
    formats = ("--formats", "keras", "tflite_int8")
    said = run("export", model_file, tmp_path, *formats, "--data", data_file, "--json")
    assert said.code == 0, said.err
    files = said.json["files"]
    assert [one["format"] for one in files] == ["keras", "tflite_int8"]
    assert [one["compared_on"] for one in files] == ["sample"] * 2
    assert (tmp_path / "model_int8.tflite").stat().st_size == files[1]["bytes"]


def test_compare_puts_files_side_by_side(run, model_file, data_file, tmp_path):
    narrow = tmp_path / "narrow.keras"
    assert run("prune", model_file, narrow, "--macs", "0.5", "--align", "1").code == 0
    said = run("compare", model_file, narrow, "--data", data_file, "--no-latency", "--json")
    assert said.code == 0, said.err
    wide, small = said.json["rows"]
    assert (wide["name"], small["name"]) == ("model.keras", "narrow.keras")
    assert small["macs"] <= 0.5 * wide["macs"] and said.json["examples"] == 20
    refused = run("compare", data_file, "--no-latency", "--data", data_file)
    assert refused.code == 2 and "Expected a .keras or .h5 file among" in " ".join(
        refused.err.split()
    )


@pytest.mark.slow
def test_report_shows_both_models(run, model_file, data_file, tmp_path):
    narrow = tmp_path / "narrow.keras"
    assert run("prune", model_file, narrow, "--macs", "0.5", "--align", "1").code == 0
    said = run("report", model_file, narrow, tmp_path / "report", "--data", data_file)
    assert said.code == 0, said.err
    assert re.search(r"^accuracy: [\d.]+ % -> [\d.]+ %\nMACs: [\d,]+ -> [\d,]+\n", said.out)
    page = (tmp_path / "report" / "report.html").read_text("utf-8")
    for part in ("model, pruned", "MACs", "accuracy on 20 examples", "TFLite float32", "second"):
        assert part in page
    assert 'id="training"' not in page and 'id="events"' not in page
