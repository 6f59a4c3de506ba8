"""The two measures of difference, on numbers small enough to check by hand."""

from __future__ import annotations

import numpy as np
import pytest

from keras_gcp.backend.comparison import relative_maximum
from keras_gcp.exporting.comparison import largest_difference, relative_rms

EXPECTED = np.array([[3.0, -4.0]])


def test_relative_maximum_divides_by_the_largest_expected_value():
    assert relative_maximum(EXPECTED + [[0.0, 1.0]], EXPECTED) == pytest.approx(0.25)


def test_relative_rms_divides_by_the_rms_of_what_is_expected():
    assert relative_rms(EXPECTED + [[0.0, 1.0]], EXPECTED) == pytest.approx(1 / 5)


def test_all_zero_outputs_are_compared_absolutely():
    assert relative_maximum(np.array([0.5]), np.array([0.0])) == 0.5


def test_the_worst_output_counts():
    got = [EXPECTED, EXPECTED * 2]
    assert largest_difference(got, [EXPECTED, EXPECTED], "relative maximum") == 1.0


@pytest.mark.parametrize(
    "got", [[], [EXPECTED.T], [np.array([[np.nan, 1.0]])], [EXPECTED, EXPECTED]]
)
def test_missing_misshapen_and_nan_outputs_differ_infinitely(got):
    assert largest_difference(got, [EXPECTED], "relative maximum") == np.inf


def test_small_outputs_are_compared_with_the_least_scale_that_matters():
    tiny = np.array([1e-9])
    assert relative_maximum(2 * tiny, tiny) == 1
    assert relative_maximum(2 * tiny, tiny, least=1e-6) == pytest.approx(1e-3)
