"""Widths that go up and down, and meet the same cost."""

from __future__ import annotations

import numpy as np
import pytest

from keras_gcp.errors import ImpossibleBudget
from keras_gcp.selection.adjusting import Aims, WidthGrid, moved, rescaled

FREE = WidthGrid(least=4, step=1)


def test_the_best_get_wider_by_shares_of_their_first_widths_and_the_worst_narrower():
    found = moved([10, 20, 30, 40, 50], [100] * 5, [5.0, 1.0, 3.0, 4.0, 2.0], 2, 0.15, 0.05)
    assert found.tolist() == [25, 5, 30, 50, 40]


@pytest.mark.parametrize("count", [0, 1, 2, 6])
def test_no_layer_goes_up_and_down_and_with_none_nothing_moves(count):
    ratios = [0.3, 0.1, 0.2]
    found = moved([10] * 3, [10] * 3, ratios, count, 0.5, 0.0)
    assert found.tolist() == ([10] * 3 if count == 0 else [15, 5, 10])


def test_the_share_by_which_layers_move_never_changes_its_sign():
    found = moved([10] * 8, [10] * 8, range(8), 4, 0.1, 0.06)
    assert found.round(6).tolist() == [9, 9.6, 10, 10, 10, 10, 10.4, 11]


def chain(widths):
    """Multiply-adds of convolutions one after the other."""
    ends = np.concatenate([[3], widths, [10]])
    return float((ends[1:] * ends[:-1] * 900).sum())


@pytest.mark.parametrize("step", [1, 2, 8])
@pytest.mark.parametrize("seed", range(5))
def test_rescaled_widths_cost_the_same_within_a_percent_and_are_aligned(step, seed):
    rng = np.random.default_rng(seed)
    first = 8 * rng.integers(2, 12, size=6)
    wanted = moved(first, first, rng.random(6), 3, 0.3, 0.02)
    grids = [WidthGrid(4, step)] * 6
    found = rescaled(wanted, grids, chain, chain(first), 0.01)
    assert abs(chain(found) - chain(first)) <= 0.01 * chain(first)
    assert (found % step == 0).all() and (found >= 4).all()


def test_without_rounding_to_speak_of_all_widths_have_one_factor():
    wanted = np.array([1000.0, 2000.0, 3000.0])
    found = rescaled(wanted, [FREE] * 3, chain, chain(wanted) / 4, 0.01)
    np.testing.assert_allclose(found / wanted, found[0] / wanted[0], rtol=0.002)


def test_layers_of_one_width_that_are_rounded_all_at_once_are_moved_one_by_one():
    """Fifteen layers of 16 channels: one channel more in all of them is 13 % more."""
    wanted = np.full(15, 16.0)
    target = (chain(np.full(15, 16)) + chain(np.full(15, 17))) / 2
    found = rescaled(wanted, [FREE] * 15, chain, target, 0.01)
    assert abs(chain(found) - target) <= 0.01 * target
    assert set(found.tolist()) == {16, 17}


def test_a_target_below_the_least_widths_is_refused_with_what_they_cost():
    with pytest.raises(ImpossibleBudget, match=r"\[4, 4\], cost"):
        rescaled(np.array([8.0, 8.0]), [FREE] * 2, chain, 10.0, 0.01)


def test_steps_too_wide_for_the_tolerance_are_refused():
    grids = [WidthGrid(4, 64)] * 2
    with pytest.raises(ImpossibleBudget, match="Lower `align`, or raise `tolerance`"):
        rescaled(np.array([100.0, 100.0]), grids, chain, chain(np.array([100, 100])), 0.01)


def test_the_least_width_is_a_multiple_of_the_step():
    assert WidthGrid(5, 4).lowest == 8 and WidthGrid(0, 4).lowest == 4
    assert [WidthGrid(5, 4).nearest(width) for width in (1, 9.9, 10.1)] == [8, 8, 12]


@pytest.mark.parametrize("power", [0.5, 1.0, 2.0])
def test_where_costs_are_powers_of_the_predicted_ones_the_third_aim_is_right(power):
    aims, tried = Aims(1000.0), []
    for _ in range(3):
        tried.append(0.7 * 1000 * (aims.next / 1000) ** power)
        aims.missed(tried[-1])
    assert tried[-1] == pytest.approx(1000)


def test_a_cost_that_does_not_follow_the_aim_is_still_corrected_in_its_direction():
    aims = Aims(1000.0)
    aims.missed(900.0)
    first = aims.next
    aims.missed(900.0)
    assert aims.next > first > 1000
