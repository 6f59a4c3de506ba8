"""Latency of TFLite files: statistics that belong together, ratios that see a slower file."""

from __future__ import annotations

from pathlib import Path

import keras
import pytest
from keras import layers

from keras_gcp.errors import InvalidArgument
from keras_gcp.exporting import compare_latency, export, latency, runtime, timing


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[int, Path]:
    """The same network 8 and 96 channels wide: more than 50 times the multiply-adds."""
    folder, paths = tmp_path_factory.mktemp("files"), {}
    for width in (8, 96):
        model = keras.Sequential(
            [
                layers.Input((24, 24, 3)),
                layers.Conv2D(width, 3),
                layers.Conv2D(width, 3),
                layers.Conv2D(width, 3),
                layers.GlobalAveragePooling2D(),
            ],
            name=f"width_{width}",
        )
        paths[width] = export(model, folder, ["tflite"])[0].path
    return paths


def test_latency_reports_median_between_its_percentiles(files):
    measured = latency(files[8], threads=1, runs=50, warmup=5)

    assert 0 < measured.p10 <= measured.milliseconds <= measured.p90
    assert (measured.path, measured.threads, measured.runs) == (files[8], 1, 50)
    assert measured.runtime == runtime.runtime_name()
    assert any(character.isdigit() for character in measured.runtime)


def test_comparison_sees_the_slower_file(files):
    compared = compare_latency([files[96], files[8]], rounds=5, runs=10, warmup=3)

    wide, narrow = compared.latencies
    assert wide.milliseconds > 2 * narrow.milliseconds
    assert compared.speedups[0] == 1.0
    assert compared.speedups[1] > 2
    low, high = compared.spreads[1]
    assert low <= compared.speedups[1] <= high
    assert wide.runs == narrow.runs == 50


def test_tensorflows_own_interpreter_serves_where_litert_is_missing(files, monkeypatch):
    import importlib.util

    found = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name == "ai_edge_litert" else found(name)
    )
    assert timing._latency(files[8], 1, runs=5, warmup=1).runtime.startswith("tf.lite ")
    assert "CONV_2D" in runtime.operators(files[8])


def test_bad_arguments_are_refused(files, tmp_path):
    with pytest.raises(InvalidArgument, match="no file"):
        latency(tmp_path / "missing.tflite")
    with pytest.raises(InvalidArgument, match="`runs` expects.*0"):
        latency(files[8], runs=0)
    (tmp_path / "text.tflite").write_text("no network")
    with pytest.raises(InvalidArgument, match=r"text.tflite' cannot be run.*ValueError"):
        latency(tmp_path / "text.tflite")
    with pytest.raises(InvalidArgument, match="at least two"):
        compare_latency([files[8]])
