"""Costs as functions of sizes: arithmetic, and that no cost ever falls."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from keras_gcp.costs.cost_model import CostModel, IncrementalCost, Products, Slopes
from keras_gcp.resources.cost_functions import Curve, Latency, LayerTime, Peak, Side, Sum
from keras_gcp.resources.layer_times import widths_to_measure

times = st.lists(st.floats(0.01, 100.0), min_size=2, max_size=8)


def sizes(*values):
    """Axis sizes, 1 appended as the cost_model does."""
    return np.array([*values, 1.0])


def test_a_sum_is_its_constant_and_its_products():
    cost = Sum(100, Products.of([(4, (0, 1)), (4, (1,))]))
    assert cost.total(sizes(3, 5)) == 100 + 4 * 15 + 4 * 5


def test_a_peak_is_the_step_with_the_largest_sum():
    # Tensors of 2 a, 3 b and 1 bytes; the first step needs the first two, the second the rest.
    tensors = Products.of([(2, (0,)), (3, (1,)), (1, ())])
    peak = Peak(tensors, np.array([0, 0, 1, 1]), np.array([0, 1, 1, 2]), 2)
    np.testing.assert_array_equal(peak.by_step(sizes(5, 4)), [10 + 12, 12 + 1])
    assert peak.total(sizes(5, 4)) == 22
    assert peak.total(sizes(0, 4)) == 13


def test_a_peak_without_steps_is_0():
    none = np.zeros(0, np.int64)
    assert Peak(Products.of([]), none, none, 0).total(sizes()) == 0


@given(times)
def test_a_curve_never_falls_and_lies_on_or_above_every_measured_time(measured):
    points = [8.0 * (i + 1) for i in range(len(measured))]
    curve = Curve.through(points, measured)
    full = max(measured)
    shares = [curve.share(size) for size in np.linspace(0, points[-1] + 5, 60)]
    assert (np.diff(shares) >= 0).all()
    for point, time in zip(points, measured, strict=True):
        assert curve.share(point) >= time / full - 1e-12
    assert curve.share(points[-1]) == 1


def test_a_curve_is_linear_between_measured_sizes():
    curve = Curve.through([8, 16], [1.0, 2.0])
    assert curve.share(12) == pytest.approx(0.75)
    assert curve.share(4) == pytest.approx(0.5)  # constant below the narrowest


def conv(milliseconds, entering, leaving):
    """A layer that takes time in proportion to what enters and to what leaves."""
    line = [Side(axes, Curve.through(range(1, 17), range(1, 17))) for axes in (entering, leaving)]
    return LayerTime(milliseconds, tuple(line))


def test_a_network_takes_its_overhead_and_the_scaled_sum_of_its_layers():
    network = Latency(0.1, 2.0, [conv(3.0, (0,), (1,)), LayerTime(5.0, ())])
    assert network.total(sizes(16, 16)) == pytest.approx(0.1 + 2 * (3 + 5))
    assert network.total(sizes(8, 4)) == pytest.approx(0.1 + 2 * (3 * 0.5 * 0.25 + 5))


def test_several_axes_that_enter_add_up():
    network = Latency(0.0, 1.0, [conv(1.0, (0, 1), (2,))])
    assert network.total(sizes(5, 7, 16)) == pytest.approx(12 / 16)


@given(times, times, st.data())
def test_latency_never_falls_when_an_axis_grows(first, second, data):
    sides = tuple(
        Side((axis,), Curve.through(range(1, len(measured) + 1), measured))
        for axis, measured in enumerate((first, second))
    )
    network = Latency(0.2, 1.5, [LayerTime(2.0, sides)])
    a, b = (data.draw(st.integers(0, 8)) for _ in range(2))
    assert network.total(sizes(a, b)) <= network.total(sizes(a + 1, b))
    assert network.total(sizes(a, b)) <= network.total(sizes(a, b + 1))


@given(st.integers(1, 3000), st.integers(1, 40))
def test_measured_widths_are_few_and_hold_the_extremes(width, least):
    widths = widths_to_measure(width, least)
    assert widths == sorted(set(widths)) and len(widths) <= 7
    assert widths[-1] == width and widths[0] == min(least, width)
    step = 8 if width > 16 else 4
    assert all(n % step == 0 for n in widths[1:-1])


def test_narrow_layers_are_measured_at_every_multiple():
    assert widths_to_measure(16) == [1, 4, 8, 12, 16]
    assert widths_to_measure(32, 2) == [2, 8, 16, 24, 32]


@given(st.lists(st.tuples(st.integers(0, 2), st.integers(1, 3)), max_size=12), st.floats(0.2, 1))
def test_a_meter_goes_by_further_resources_as_the_cost_model_does(steps, share):
    """Three groups, each an axis of its own; the peak is that of two steps."""
    slopes = Slopes(np.arange(3), np.arange(3), np.ones(3))
    tensors = Products.of([(4, (0,)), (2, (1,)), (7, (2,))])
    peak = Peak(tensors, np.array([0, 0, 1, 1]), np.array([0, 1, 1, 2]), 2)
    products = {"macs": Products.of([(9, (0, 1)), (1, (1, 2))])}
    cost_model = CostModel(
        np.zeros(3), slopes, products, {"macs": 0}, np.ones(3, int), {"peak": peak}
    )
    kept, full = np.ones(3, np.int64), np.full(3, 12)
    limits = {
        resource: share * cost_model.cost(resource, full)
        for resource in ("peak", "macs", "channels")
    }
    incremental = IncrementalCost(cost_model, kept, limits)
    for group, more in steps:
        trial = kept + more * (np.arange(3) == group)
        fits = all(cost_model.cost(resource, trial) <= limit for resource, limit in limits.items())
        assert incremental.grow(group, more) == fits
        kept = trial if fits else kept
