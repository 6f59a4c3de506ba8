"""Pictures show what they are given: colours that stand for data are there, and only then."""

from __future__ import annotations

import importlib
import re
from pathlib import Path
from xml.etree import ElementTree

import matplotlib.colors
import matplotlib.image
import numpy as np
import pytest

from keras_gcp.errors import InvalidArgument, MissingPackage
from keras_gcp.reporting import style
from keras_gcp.reporting.axes_scales import all_positive, limits_of_end, ticks_between
from keras_gcp.reporting.plots import (
    files_chart,
    training_curves,
    width_bars,
)
from keras_gcp.reporting.training_chart import accuracy_name, size_steps
from keras_gcp.reporting.width_chart import LAYERS_PER_ROW, rows_of


def pixels_of(path: Path, color: str) -> int:
    picture = matplotlib.image.imread(path)[..., :3]
    return int((np.abs(picture - matplotlib.colors.to_rgb(color)).max(axis=-1) < 0.02).sum())


def test_bars_are_as_high_as_the_layers_are_wide(tmp_path):
    def blue(width: int) -> int:
        path = width_bars({"conv": 100, "other": 100}, {"conv": width, "other": 1}, tmp_path / "p")
        return pixels_of(path, style.BLUE)

    legend = blue(1)
    assert (blue(80) - legend) / (blue(40) - legend) == pytest.approx(79 / 39, rel=0.02)


@pytest.mark.parametrize("layers", [1, 10, 40, 41, 120])
def test_every_layer_has_its_place_in_rows_of_readable_length(layers):
    names = [f"layer_{i}" for i in range(layers)]
    rows = rows_of(names)

    assert [name for row in rows for name in row] == names
    assert max(map(len, rows)) <= LAYERS_PER_ROW
    assert len(rows) == -(-layers // LAYERS_PER_ROW)


def test_deep_networks_can_be_drawn(tmp_path):
    before = {f"stage_{i // 40}/block_{i}/convolution_with_a_long_name": 64 for i in range(120)}
    path = width_bars(before, {name: 32 for name in before}, tmp_path / "deep" / "widths.png")

    height, width = matplotlib.image.imread(path).shape[:2]
    assert path.read_bytes().startswith(b"\x89PNG")
    assert width > 1500
    assert height > 1000


def written_in(path: Path) -> list[str]:
    """All texts of an SVG picture."""
    found = ElementTree.parse(path).iter("{http://www.w3.org/2000/svg}text")
    return ["".join(one.itertext()) for one in found]


@pytest.mark.parametrize("narrow", [False, True])
def test_names_of_layers_are_whole_or_lose_whole_words(tmp_path, narrow):
    long = [f"backbone/stage_{i}/block_{i}/first_shortcut_convolution" for i in range(3)]
    before = {"stage2_block1_shortcut_conv": 8, **dict.fromkeys(long, 8)}
    texts = written_in(width_bars(before, before, tmp_path / "w.svg", narrow=narrow))

    assert "stage2_block1_shortcut_conv" in texts
    shown = [text for text in texts if "…" in text]
    assert len(set(shown)) == 3
    for text, name in zip(shown, long, strict=True):
        words = set(re.findall("[a-z]+|[0-9]+", name))
        assert set(re.findall("[a-z]+|[0-9]+", text)) <= words


def test_the_title_counts_prunable_channels_as_a_plan_does(tmp_path):
    path = width_bars({"a": 8, "b": 4}, {"a": 4, "b": 4}, tmp_path / "w.svg", prunable=(8, 4))
    assert "4 of 8 prunable channels kept (50.0 %)" in written_in(path)


def test_widths_of_different_layers_are_refused(tmp_path):
    with pytest.raises(InvalidArgument, match=r"Named once only: \['a', 'b'\]"):
        width_bars({"a": 1}, {"b": 1}, tmp_path / "widths.png")
    with pytest.raises(InvalidArgument, match="at least one"):
        width_bars({}, {}, tmp_path / "widths.png")


def test_curves_mark_events_and_show_the_dense_run_if_given(tmp_path, history, events):
    dense = {name: [0.5 * value for value in values] for name, values in history.items()}
    bare = training_curves(history, [], tmp_path / "bare.png")
    marked = training_curves(history, events, tmp_path / "marked.png")
    both = training_curves(history, events, tmp_path / "both.png", reference_history=dense)

    assert pixels_of(bare, style.BLUE) > 1000
    assert pixels_of(bare, style.VERMILION) == pixels_of(bare, style.GREEN) == 0
    assert pixels_of(marked, style.VERMILION) > 500
    assert pixels_of(marked, style.GREEN) > 1000
    # Letters smoothed against white have a few pixels of any grey.
    assert pixels_of(both, style.DENSE) > pixels_of(marked, style.DENSE) + 3000


def test_sizes_go_down_at_the_events_and_stay(events):
    places, macs = size_steps(events, 4, "macs")
    _, parameters = size_steps(events, 4, "parameters")

    assert places == [0, 1, 3, 4]
    assert macs == [1.0, 0.75, 0.5, 0.5]
    assert parameters == [1.0, 0.9, 0.45, 0.45]


@pytest.mark.parametrize(
    ("lines", "positive"),
    [([[2.0, float("nan")]], True), ([[2.0, 0.0]], False), ([[9.0, -0.1]], False), ([], False)],
)
def test_losses_get_a_logarithmic_axis_if_they_can(lines, positive):
    assert all_positive(lines) is positive


def test_the_axis_of_accuracies_shows_the_end_and_not_the_first_epochs():
    low, high = limits_of_end([[10.0, 50.0, 80.0, 82.0, 83.0, 84.0]])
    assert 78 < low < 80 and 84 < high < 86
    assert limits_of_end([[float("nan")]]) is None


def places_of_curves(tmp_path, accuracies):
    """The share of the axis' height between the last accuracies of two runs."""
    one, other = (
        {"loss": [1.0] * 6, "accuracy": [0.1, 0.6, 0.9, 0.95, 0.97, a]} for a in accuracies
    )
    path = training_curves(one, [], tmp_path / "t.svg", reference_history=other)
    text = path.read_text("utf-8")
    (height,) = re.findall(r'viewBox="0 0 [\d.]+ ([\d.]+)"', text)
    ends = {}
    for color in (style.BLUE, style.DENSE):
        lines = re.findall(rf'<path d="(M[^"]*)"[^>]*stroke: {color.lower()}', text)
        ends[color] = float(lines[0].split()[-1])
    return abs(ends[style.BLUE] - ends[style.DENSE]) / (float(height) / 2)


def test_a_difference_that_matters_can_be_seen(tmp_path):
    assert places_of_curves(tmp_path, (0.992, 0.998)) > 0.1
    assert places_of_curves(tmp_path, (0.92, 0.91)) > 0.01


def test_ticks_close_to_a_hundred_are_as_far_apart_as_others():
    ticks = ticks_between(60.0, 100.0)
    assert ticks[-1] == 100 and 99.5 in ticks and 80 in ticks
    assert ticks_between(99.0, 100.0)[0] == 99


def test_the_accuracy_is_found_under_its_full_name(history):
    assert accuracy_name(history) == "sparse_categorical_accuracy"
    assert accuracy_name({"loss": [1.0], "val_accuracy": [0.1]}) is None


def test_a_history_without_loss_is_refused(tmp_path):
    with pytest.raises(InvalidArgument, match="Expected `loss`"):
        training_curves({"accuracy": [0.1]}, [], tmp_path / "training.png")
    assert not list(tmp_path.iterdir())


def test_file_bars_are_drawn_with_and_without_latencies(tmp_path):
    sizes = {"keras": (4e6, 1e6), "tflite": (1e6, 5e5)}
    one = files_chart(sizes, {}, tmp_path / "one.png")
    two = files_chart(sizes, {"tflite": (0.9, 1.1)}, tmp_path / "two.png")

    spreads = {"tflite": ((0.8, 1.0), (0.9, 1.2))}
    three = files_chart(sizes, {"tflite": (0.9, 1.1)}, tmp_path / "three.png", spreads)

    assert pixels_of(one, style.BLUE) > 1000
    assert three.read_bytes() != two.read_bytes()
    assert matplotlib.image.imread(two).shape[1] > matplotlib.image.imread(one).shape[1]
    with pytest.raises(InvalidArgument, match="no sizes"):
        files_chart({}, {}, tmp_path / "none.png")


def test_missing_matplotlib_is_an_error_that_names_the_extra(tmp_path, monkeypatch):
    imported = importlib.import_module

    def without_matplotlib(name: str) -> object:
        if name.startswith("matplotlib"):
            raise ImportError(name)
        return imported(name)

    monkeypatch.setattr(importlib, "import_module", without_matplotlib)
    with pytest.raises(MissingPackage, match=r"need matplotlib.*keras-gcp\[plot\]"):
        width_bars({"a": 2}, {"a": 1}, tmp_path / "widths.png")
