"""From measured curves to weights of channels: the arithmetic alone."""

from __future__ import annotations

import numpy as np
import pytest
from helpers import one_line
from hypothesis import given
from hypothesis import strategies as st

from keras_gcp.errors import InvalidArgument
from keras_gcp.evaluation.sensitivity_result import (
    GroupSensitivity,
    Sensitivity,
    SensitivityPoint,
    slopes_of,
)
from keras_gcp.selection.prior import LEAST_WEIGHT


def measured(higher=True, **curves):
    """Groups of 4 channels from the values at 2 kept channels and at 1."""
    groups = tuple(
        GroupSensitivity(
            name,
            (name,),
            4,
            (SensitivityPoint(0.5, 2, at_two), SensitivityPoint(0.25, 1, at_one)),
        )
        for name, (at_two, at_one) in curves.items()
    )
    return Sensitivity("metric", higher, 0.9, 100, groups)


def test_slopes_are_drops_per_channel_and_go_on_below_the_last_measurement():
    # 4 -> 2 channels: 0.1 lost; 2 -> 1: 0.3 more; the last channel as the one before.
    np.testing.assert_allclose(slopes_of([2, 1], [0.1, 0.4], 4), [0.3, 0.3, 0.05, 0.05])


def test_a_gain_is_no_drop_and_a_recovery_takes_nothing_back():
    np.testing.assert_allclose(slopes_of([3, 2, 1], [-0.1, 0.2, 0.1], 4), [0.2, 0.2, 0.2, 0.0])


def test_what_is_no_number_counts_as_the_largest_fall():
    np.testing.assert_allclose(slopes_of([2, 1], [0.2, np.nan], 3), [0.2, 0.2, 0.2])
    assert not slopes_of([1], [np.inf], 2).any()


CURVES = st.integers(1, 30).flatmap(
    lambda width: st.tuples(
        st.just(width),
        st.lists(
            st.tuples(st.integers(1, width), st.floats(-1, 1, allow_nan=False)),
            min_size=1,
            max_size=6,
        ),
    )
)


@given(CURVES)
def test_slopes_never_rise_towards_the_worst_channel_and_explain_every_drop(curve):
    width, points = curve
    slopes = slopes_of([kept for kept, _ in points], [drop for _, drop in points], width)
    assert slopes.shape == (width,)
    assert (slopes >= 0).all() and (np.diff(slopes) <= 0).all()
    for kept, drop in points:
        if kept < width:
            assert slopes[kept:].sum() >= drop - 1e-9


@given(
    st.lists(st.floats(0.01, 100), min_size=4, max_size=4),
    st.floats(0, 1),
    st.floats(0, 1),
)
def test_the_order_within_a_group_stays(scores, at_two, at_one):
    scores = np.array(scores)
    weighted = measured(a=(at_two, at_one)).weighted(scores, {"a": np.arange(4)})
    order = np.argsort(-scores, kind="stable")
    assert (np.diff(weighted[order]) <= 0).all()


def test_scores_are_multiplied_by_slopes_over_their_mean():
    prior = measured(flat=(0.9, 0.9), steep=(0.7, 0.5))
    scores = np.array([1.0, 2, 3, 4, 4, 3, 2, 1, 5])
    weighted = prior.weighted(scores, {"flat": np.arange(4), "steep": np.arange(4, 8)})
    mean = np.mean([0, 0, 0, 0, 0.2, 0.2, 0.1, 0.1])
    steep = np.array([0.2, 0.2, 0.1, 0.1]) / mean + LEAST_WEIGHT
    np.testing.assert_allclose(weighted[:4], LEAST_WEIGHT * scores[:4])
    np.testing.assert_allclose(weighted[4:8], steep * scores[4:8])
    assert weighted[8] == 5  # of no group that may be pruned


def test_where_nothing_shows_the_scores_decide():
    scores = np.arange(4.0)
    prior = measured(a=(0.9, 0.95))
    np.testing.assert_array_equal(prior.weighted(scores, {"a": np.arange(4)}), scores)


def test_with_less_is_better_a_rise_is_a_drop():
    assert measured(higher=False).drop(1.1) == pytest.approx(0.2)
    assert measured(higher=True).drop(0.7) == pytest.approx(0.2)


def test_a_model_cut_since_takes_the_slopes_of_its_best_channels():
    prior = measured(a=(0.8, 0.5))
    whole = prior.weighted(np.ones(4), {"a": np.arange(4)})
    narrow = prior.weighted(np.ones(2), {"a": np.arange(2)})
    assert whole[0] / whole[1] == pytest.approx(narrow[0] / narrow[1])
    with pytest.raises(InvalidArgument, match="had 4 channels, and has 5 here"):
        prior.weighted(np.ones(5), {"a": np.arange(5)})


def test_where_more_channels_have_to_stay_the_table_says_so():
    points = (SensitivityPoint(0.5, 2, 0.8), SensitivityPoint(0.25, 2, 0.8))
    limited = Sensitivity("metric", True, 0.9, 9, (GroupSensitivity("a", ("a",), 4, points),))
    assert limited.groups[0].narrowed
    assert "0.8000 0.8000*" in one_line(limited.explain())
    assert "* the group has to keep more" in limited.explain()
    assert "*" not in measured(a=(0.8, 0.5)).explain()


def test_negative_scores_and_unknown_groups_are_refused():
    prior = measured(a=(0.8, 0.5))
    with pytest.raises(InvalidArgument, match="negative"):
        prior.weighted(np.array([1.0, -1, 1, 1]), {"a": np.arange(4)})
    with pytest.raises(InvalidArgument, match="group 'b' was not measured"):
        prior.weighted(np.ones(4), {"b": np.arange(4)})
