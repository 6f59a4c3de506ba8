"""Mistakes are told in a sentence, with exit code 2; failures with 1; stdout stays empty."""

from __future__ import annotations

import importlib.util
import re

import numpy as np
import pytest

from keras_gcp.cli import main
from keras_gcp.cli.commands import plan as plan_command
from keras_gcp.errors import VerificationFailed


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ("plan {model}", "Nothing says what may remain. Expected at least one limit"),
        ("plan {model} --macs 150%", "`--macs` is the share .* Received: '150%'"),
        ("plan {model} --macs half", "`--macs` expects a share .* Received: 'half'"),
        ("plan {model} --tflite-int8-bytes 3x", "`--tflite-int8-bytes` expects .* Received: '3x'"),
        ("plan {model} --latency-ms 0", "`--latency-ms` is the share"),
        ("plan {model} --mac 50%", "--mac. Did you mean --macs"),
        ("plan {model} --macs 50% --rounds two", 'unable to convert "two" into int'),
        ("plan {model} --macs 50% --rounds 0", "`--rounds`.* Received: 0"),
        ("plan {model} --macs 1%", "cannot|Expected"),
        ("plan {model} --macs 50% --align wide", "`--align` expects auto, or a number"),
        ("plan {model} --macs 50% --exclude nowhere", "nowhere"),
        ("plan {model} --macs 50% --criterion taylor", "Pass --data, or take"),
        ("plan {model} --macs 50% --criterion best", "best"),
        ("plan {model} --macs 50% --data none.npz", "there is no such file.*folder.*tfds:NAME"),
        ("plan {model} --macs 50% --data {model}", r"is a \.keras file. Expected an \.npz file"),
        ("plan {model} --macs 50% --data tfds:mnist", r"pip install .keras-gcp\[tfds\]"),
        ("plan {model} --macs 50% --input-shape 8x8", "`--input-shape` expects.*8x8"),
        ("plan {model} --macs 50% --import-module no_such", "`--import-module no_such` failed"),
        ("plan none.keras --macs 50%", '"none.keras" does not exist'),
        ("plan {data} --macs 50%", r"does not end like a model file"),
        ("prune {model} {model} --macs 50%", "is the model itself"),
        ("prune {model} n.h5 --macs 50%", r"written as a \.keras file"),
        ("prune {model} n.keras --plan {data} --macs 50%", "not both"),
        ("prune {model} n.keras --plan {data} --exclude a --align 4", "--align, --exclude would"),
        ("prune {model} n.keras --plan {model}", "cannot be read: it is not text"),
        ("compare {model} {model} --exclude a", "--exclude"),
        ("export {model} out --formats tflite_int8", "calibrated on real inputs.*`--data`"),
        ("export {model} out --formats tflight", "tflight"),
        ("sensitivity {model}", "Expected `--data` with labels"),
        ("draw {model}", 'Unknown command "draw"'),
        ("prune {model} --output n.keras", "Usage: keras-gcp prune MODEL NARROW .OPTIONS."),
        ("compare {model} --others a", r"Usage: keras-gcp compare FIRST .OTHERS\.\.\.. .OPTIONS."),
    ],
)
def test_a_mistake_is_told_in_a_sentence(run, model_file, data_file, arguments, told):
    words = arguments.format(model=model_file, data=data_file).split()
    said = run(*words)
    assert said.code == 2 and not said.out
    assert "Traceback" not in said.err
    text = " ".join(said.err.split())
    assert re.search(told, text), text


def test_traceback_is_shown_when_asked_for(run, model_file):
    said = run("plan", model_file, "--macs", "150%", "--traceback")
    assert said.code == 2 and "Traceback" in said.err and "InvalidArgument" in said.err


@pytest.mark.parametrize(
    ("error", "code", "told"),
    [
        (VerificationFailed("differs"), 1, "keras-gcp plan: differs"),
        (
            PermissionError(13, "Permission denied", "p"),
            1,
            "'p': Permission denied",
        ),
        (MemoryError(), 1, "not enough memory.*--max-examples"),
        (RuntimeError("odd"), 1, "RuntimeError: odd.*--traceback"),
        (KeyboardInterrupt(), 130, "interrupted"),
    ],
)
def test_failures_have_exit_codes_of_their_own(run, model_file, monkeypatch, error, code, told):
    def fail(*arguments):
        raise error

    monkeypatch.setattr(plan_command, "planned", fail)
    said = run("plan", model_file, "--macs", "50%")
    assert said.code == code and not said.out and "Traceback" not in said.err
    assert re.search(told, " ".join(said.err.split()))


def test_without_the_library_the_extra_is_named(monkeypatch, capsys):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert main(["--help"]) == 1
    assert 'pip install "keras-gcp[cli]"' in capsys.readouterr().err


def test_data_without_labels_is_told_where_labels_are_read(run, model_file, tmp_path):
    np.savez(tmp_path / "x.npz", x=np.zeros((4, 8, 8, 1), np.float32))
    said = run("sensitivity", model_file, "--data", tmp_path / "x.npz")
    assert said.code == 2 and "has no labels" in " ".join(said.err.split())
