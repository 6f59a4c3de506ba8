"""Numbers as people read them, rounding at the borders of a unit included."""

from __future__ import annotations

import doctest

import pytest

from keras_gcp.reporting import text, units


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0"),
        (512, "512"),
        (999.9, "1000"),
        (1000, "1.00 k"),
        (94_800, "94.8 k"),
        (999_600, "1.00 M"),
        (1_234_567, "1.23 M"),
        (125_485_696, "125 M"),
        (2_100_000_000, "2.10 G"),
        (-1_500, "-1.50 k"),
    ],
)
def test_counts(value, text):
    assert units.count(value) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.04, "0.04 s"), (2.31, "2.3 s"), (41.3, "41 s"), (185, "3 min 05 s"), (7800, "2 h 10 min")],
)
def test_seconds(value, text):
    assert units.seconds(value) == text


def test_sizes_shares_latencies_and_factors():
    assert units.file_size(948) == "948 B"
    assert units.file_size(1_101_120) == "1.10 MB"
    assert units.percent(0.4928) == "49.3 %"
    assert units.milliseconds(0.16796) == "0.168 ms"
    assert units.factor(40.8, 20.0) == "2.04x"
    assert units.factor(1, 0) == "–"


@pytest.mark.parametrize("module", [units, text])
def test_docstring_examples_are_true(module):
    attempted = doctest.testmod(module)

    assert attempted.attempted > 0
    assert attempted.failed == 0
