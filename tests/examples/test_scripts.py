"""Every example script runs with tiny settings, and leaves what it promises."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest

import keras_gcp
from examples.datasets import load
from keras_gcp.selection.plan import Plan

ROOT = Path(__file__).resolve().parents[2]


def run_example(script, *flags):
    """Runs a script as a user does, in a process of its own; returns what it printed."""
    done = subprocess.run(
        [sys.executable, str(ROOT / "examples" / script), *flags],
        cwd=ROOT,
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        env={**os.environ, "PYTHONPATH": ""},
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    return done.stdout


@pytest.mark.parametrize(
    "scratch",
    [False, pytest.param(True, marks=pytest.mark.slow)],  # a third training, as the first one
    ids=["as it is", "and from scratch"],
)
def test_the_demo_prunes_exports_and_reports(tmp_path, scratch):
    printed = run_example(
        "demo.py",
        "--network=resnet8",
        "--epochs=2",
        "--begin=1",
        "--until=1",
        "--budget=macs=60%",
        "--train_size=128",
        "--test_size=40",
        "--sample_size=64",
        f"--scratch={scratch}",
        "--verbose=1",
        f"--output_dir={tmp_path}",
    )
    assert "criterion: loss_aware\n" in printed
    assert "event 1 of 1, before epoch 1: " in printed and "channels removed" in printed
    page = (tmp_path / "report" / "report.html").read_text("utf-8")
    assert "40 test images, seed\N{NO-BREAK SPACE}0" in page
    assert ("same widths from scratch: " in page) == scratch
    won = printed[printed.rindex("dense") :]
    # On a busy machine latencies spread far, the table gets wide, and names of rows are wrapped.
    heading = printed.splitlines()[printed[: printed.rindex("dense")].count("\n")]
    rows = won.partition("\nAccuracy: ")[0].splitlines()[2:]
    names = " ".join(row[: heading.index("dense")] for row in rows).split()
    assert " ".join(names) == (
        "test accuracy accuracy, int8 file MACs parameters "
        "TFLite float32, bytes TFLite int8, bytes latency float32, ms latency int8, ms"
    )
    begun = re.findall(
        r"^(test|accuracy,|MACs|parameters|TFLite|latency) .*[%s)]$", won, re.MULTILINE
    )
    assert begun == ["test", "accuracy,", "MACs", "parameters", *["TFLite"] * 2, *["latency"] * 2]
    assert "on 40 test images" in won
    plan = Plan.from_json((tmp_path / "plan.json").read_text())
    assert plan.after.macs <= 0.6 * plan.before.macs
    model = keras.models.load_model(tmp_path / "pruned" / "resnet8.keras")
    assert keras_gcp.count(model).macs == plan.after.macs
    assert (tmp_path / "pruned" / "resnet8.tflite").stat().st_size < (
        tmp_path / "unpruned" / "resnet8.tflite"
    ).stat().st_size
    for name in ("report.html", "report.json", "widths.svg", "training.svg"):
        assert (tmp_path / "report" / name).stat().st_size > 1000
    results = json.loads((tmp_path / "results.json").read_text())
    assert set(results["accuracy"]) == {"pruned", "dense", *(["scratch"] if scratch else [])}


@pytest.mark.slow
def test_prune_while_training_takes_every_flag_of_its_docstring(tmp_path):
    printed = run_example(
        "prune_while_training.py",
        "--dataset=digits",
        "--network=resnet8",
        "--shortcut=pad",
        "--budget=macs=70%,parameters=80%,tflite_bytes=1000000",
        "--max_drop=0.9",
        "--held_out=16",
        "--distill_weight=0.5",
        "--ranking=score_per_cost",
        "--normalize=rank",
        "--evenness=0.7",
        "--exclude=stage1_block1_conv1",
        "--criterion=l1_norm",
        "--schedule=linear",
        "--epochs=2",
        "--begin=1",
        "--until=1",
        "--every=1",
        "--align=4",
        "--floor=0.2",
        "--compensation=fold",
        "--decay=steps",
        "--learning_rate=0.05",
        "--batch_size=32",
        "--seed=3",
        "--train_size=96",
        "--test_size=40",
        "--formats=keras",
        f"--output_dir={tmp_path}",
    )
    assert "on 40 test images" in printed
    assert Plan.from_json((tmp_path / "plan.json").read_text()).removed_channels > 0


@pytest.mark.slow
@pytest.mark.parametrize("suffix", [".keras", ".h5"])
def test_prune_trained_takes_a_model_file(tmp_path, suffix):
    data = load("digits")
    model = keras_gcp.models.resnet8(data.input_shape, data.classes)
    model.save(tmp_path / f"trained{suffix}")
    printed = run_example(
        "prune_trained.py",
        f"--model={tmp_path / f'trained{suffix}'}",
        "--dataset=digits",
        "--budget=macs=60%",
        "--sample_size=64",
        "--epochs=1",
        "--train_size=96",
        "--test_size=40",
        "--verbose=0",
        f"--output_dir={tmp_path / 'out'}",
    )
    assert "right after the cut" in printed
    narrow = keras.models.load_model(tmp_path / "out" / "pruned.keras")
    assert keras_gcp.count(narrow).macs <= 0.6 * keras_gcp.count(model).macs
    assert np.isfinite(narrow(data.x_test[:2], training=False)).all()
