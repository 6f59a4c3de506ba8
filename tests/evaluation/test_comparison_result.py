"""A comparison shows itself: as a table, as a front, as JSON, as a picture."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest

from keras_gcp.errors import InvalidArgument
from keras_gcp.evaluation.comparison_result import COSTS, ComparedModel, Comparison
from keras_gcp.reporting import style

colors = pytest.importorskip("matplotlib.colors", reason="pictures need matplotlib")
image = pytest.importorskip("matplotlib.image")


def row(name, value, macs, speedup=1.0, spread=(0.9, 1.1), **others):
    return ComparedModel(
        name,
        "model",
        None,
        value,
        macs,
        macs // 300,
        macs // 80,
        1.0 / speedup,
        (0.9 / speedup, 1.2 / speedup),
        speedup,
        tuple(speedup * end for end in spread),
        macs // 100,
        **others,
    )


ROWS = (
    row("dense", 0.9876, 40_600_000),
    row("pruned to 50 %", 0.9822, 20_100_000, speedup=2.0),
    row("from scratch", 0.955, 20_100_000, speedup=1.05),
    row("pruned to 25 %", 0.96, 10_100_000, speedup=3.0),
    row("worse and larger", 0.95, 60_000_000),
)


def comparison(*rows, metric="accuracy", higher=True):
    return Comparison(rows or ROWS, metric, higher, 10_000)


def test_the_table_fits_80_columns_and_says_what_its_numbers_are():
    text = str(comparison())
    assert max(map(len, text.splitlines())) <= 80
    lines = text.splitlines()
    (at,) = (i for i, line in enumerate(lines) if line.startswith("pruned to 50 %"))
    expected = "pruned to 50 % 98.22 % 20.1 M 67.0 k 251 kB 0.500 201 kB"
    assert lines[at].split() == expected.split()
    below = lines[at + 1].split()
    assert below == "−0.54 49.5 % 49.5 % 49.5 % 50.0 % 49.5 %".split()
    assert "accuracy on 10,000 examples" in text
    assert "no faster or slower within the noise: from scratch" in text
    page = comparison()._repr_html_()
    assert page.startswith("<table>") and "−0.54" in page and "pruned to 50 %" in page


def test_a_row_is_set_against_the_first_one():
    shares = comparison().relative("pruned to 50 %")
    assert shares["value"] == pytest.approx(-0.0054)
    assert shares["macs"] == pytest.approx(20.1 / 40.6)
    assert shares["latency_ms"] == pytest.approx(0.5)  # As it was measured in turns.
    assert set(shares) == {"value", *COSTS}
    unknown = ComparedModel("unknown", "tflite", value=0.9, bytes=5)
    assert set(comparison(ROWS[0], unknown).relative("unknown")) == {"value", "bytes"}
    with pytest.raises(InvalidArgument, match="no row 'none'"):
        comparison().relative("none")


def test_no_row_of_the_front_is_beaten_and_all_others_are():
    for cost in ("macs", "latency_ms"):
        front = comparison().pareto(cost)
        for one in ROWS:
            beaten = any(
                other.value >= one.value
                and other.cost(cost) <= one.cost(cost)
                and (other.value, other.cost(cost)) != (one.value, one.cost(cost))
                for other in ROWS
            )
            assert beaten == (one not in front)
    assert [one.name for one in comparison().pareto()] == [
        *("pruned to 25 %", "pruned to 50 %", "dense")
    ]


def test_less_may_be_better():
    losses = (row("a", 0.5, 100), row("b", 0.4, 200), row("c", 0.6, 300))
    found = comparison(*losses, metric="loss", higher=False).pareto()
    assert [one.name for one in found] == ["a", "b"]


def test_json_has_all_numbers_and_no_nan():
    diverged = row("diverged", math.nan, 100)
    values = json.loads(comparison(*ROWS, diverged).to_json())
    assert values["metric"] == "accuracy" and values["examples"] == 10_000
    assert [one["name"] for one in values["rows"]][:2] == ["dense", "pruned to 50 %"]
    assert values["rows"][1]["relative"]["macs"] == pytest.approx(20.1 / 40.6)
    assert values["rows"][-1]["value"] is None


def pixels_of(path: Path, color: str) -> int:
    picture = image.imread(path)[..., :3]
    return int((np.abs(picture - colors.to_rgb(color)).max(axis=-1) < 0.02).sum())


@pytest.mark.parametrize("cost", ["macs", "latency_ms"])
def test_the_front_is_drawn_in_blue_and_what_is_beaten_in_grey(cost, tmp_path):
    path = comparison().plot(tmp_path / "new" / "front.png", cost)
    alone = comparison(ROWS[0]).plot(tmp_path / "alone.png", cost)
    assert pixels_of(path, style.BLUE) > pixels_of(alone, style.BLUE) + 500
    assert pixels_of(path, style.DENSE) > pixels_of(alone, style.DENSE) + 300


def test_a_picture_is_svg_where_its_name_says_so(tmp_path):
    path = comparison().plot(tmp_path / "front.svg")
    assert "<svg" in path.read_text("utf-8")[:500]


def test_without_a_metric_or_the_cost_there_is_nothing_to_draw(tmp_path):
    without = Comparison(tuple(row(n, None, 100) for n in "ab"))
    assert "accuracy" not in str(without)
    with pytest.raises(InvalidArgument, match="None of the 2 rows has a metric"):
        without.plot(tmp_path / "none.png")
    with pytest.raises(InvalidArgument, match="`cost` expects one of 'macs'"):
        comparison().plot(tmp_path / "none.png", cost="euro")
    assert not list(tmp_path.iterdir())
