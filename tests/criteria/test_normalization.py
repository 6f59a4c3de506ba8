"""What makes scores of different layers comparable: by formula, by invariance, and by choice."""

from __future__ import annotations

import networks
import numpy as np
import pytest
from fitting import ONE_STEP, compiled, data, fit, pruning
from helpers import randomise
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

import keras_gcp
from keras_gcp import criteria
from keras_gcp.channels.trace import trace
from keras_gcp.criteria.normalization import NORMALIZATIONS, normalized
from keras_gcp.errors import InvalidArgument
from keras_gcp.evaluation.sensitivity_result import (
    GroupSensitivity,
    Sensitivity,
    SensitivityPoint,
)

LAYERS = arrays(
    np.float64,
    st.integers(1, 20),
    elements=st.one_of(st.just(0.0), st.floats(1e-3, 1e3), st.floats(-1e3, -1e-3)),
)
SCALES = st.floats(1e-200, 1e200)

# ---- formulas


SCORES = np.array([3.0, -1.0, 0.0, 3.0, 1.0])


@pytest.mark.parametrize(
    ("normalize", "expected"),
    [
        ("norm", SCORES / np.sqrt(20)),
        ("mean", SCORES / 1.6),
        ("rank", np.array([4.5, 1, 2, 4.5, 3]) / 5),
        ("none", SCORES),
    ],
)
def test_scores_are_divided_by_norm_or_mean_ranked_or_left(normalize, expected):
    np.testing.assert_allclose(normalized(SCORES, normalize), expected, rtol=1e-15)


@pytest.mark.parametrize("normalize", NORMALIZATIONS)
def test_a_layer_of_zeros_and_one_of_a_single_channel_have_finite_scores(normalize):
    zeros = normalized(np.zeros(4), normalize)
    np.testing.assert_array_equal(zeros, np.full(4, 0.625 if normalize == "rank" else 0.0))
    (single,) = normalized(np.array([-7.0]), normalize)
    assert single == {"norm": -1, "mean": -1, "rank": 1, "none": -7}[normalize]


def test_an_unknown_way_is_refused_with_the_known_ones():
    with pytest.raises(InvalidArgument, match="normalize='max'.*'norm', 'mean', 'rank', 'none'"):
        normalized(SCORES, "max")


# ---- invariances


@given(scores=LAYERS, scale=SCALES)
@pytest.mark.parametrize("normalize", ["norm", "mean", "rank"])
def test_the_unit_of_a_layers_scores_does_not_matter(normalize, scores, scale):
    np.testing.assert_allclose(
        normalized(scale * scores, normalize), normalized(scores, normalize), rtol=1e-9
    )


@given(scores=LAYERS)
def test_ranks_stay_where_a_rising_function_is_applied(scores):
    np.testing.assert_array_equal(
        normalized(np.arctan(scores / 1e3), "rank"), normalized(scores, "rank")
    )


@given(scores=LAYERS)
@pytest.mark.parametrize("normalize", NORMALIZATIONS)
def test_the_order_within_a_layer_stays(normalize, scores):
    found = normalized(scores, normalize)
    order = np.argsort(scores, kind="stable")
    assert (np.diff(found[order]) >= 0).all()
    if normalize == "rank":
        assert (found > 0).all() and (found <= 1).all()


@given(scores=LAYERS)
def test_a_layer_twice_as_wide_has_the_same_scores_by_the_mean_and_less_by_the_norm(scores):
    """Why wide layers lose most of their channels by the norm: 1 / sqrt(width)."""
    twice = np.tile(scores, 2)
    np.testing.assert_allclose(normalized(twice, "mean")[: len(scores)], normalized(scores, "mean"))
    np.testing.assert_allclose(
        normalized(twice, "norm")[: len(scores)], normalized(scores, "norm") / np.sqrt(2)
    )


# ---- who chooses


class Rising:
    """The last channels matter most; in the second layer a hundred times as much."""

    def __init__(self, normalize):
        self.normalize = normalize

    def __call__(self, model, channels, sample):
        factors = {"b_conv": 100.0}
        return {
            path: factors.get(path, 1.0) * np.arange(1.0, len(coupled) + 1)
            for path, coupled in channels.produced.items()
        }


def rising(model, channels, sample):
    return Rising("mean")(model, channels, sample)


def kept_widths(criterion, normalize="auto", **selection):
    selection = {"align": 1, "floor": 1, "normalize": normalize, **selection}
    plan = keras_gcp.plan(
        networks.plain(), {"channels": 0.5}, criterion=criterion, selection=selection
    )
    return plan.widths()["a_conv"], plan.widths()["b_conv"]


BY_HAND = {
    # a_conv has 8 channels, b_conv 12; 10 stay.
    "norm": (5, 5),  # The wider layer has the lower scores.
    "mean": (4, 6),
    "rank": (4, 6),
    "none": (1, 9),  # The second layer's are the larger ones; one channel has to stay.
}


@pytest.mark.parametrize("normalize", NORMALIZATIONS)
def test_a_criterion_says_how_layers_are_compared_and_a_selection_otherwise(normalize):
    assert kept_widths(Rising(normalize)) == BY_HAND[normalize]
    assert kept_widths(Rising("rank"), normalize) == BY_HAND[normalize]
    assert kept_widths(rising, normalize) == BY_HAND[normalize]


def test_a_function_that_does_not_say_is_compared_by_the_mean():
    assert criteria.normalization_of(rising) == "mean"
    assert kept_widths(rising) == BY_HAND["mean"]


@pytest.mark.parametrize("wrong", ["auto", "median", None, 2, ["mean"], Rising.__call__])
def test_a_criterion_that_says_something_else_is_refused_before_it_scores(wrong):
    criterion = Rising(wrong)
    with pytest.raises(InvalidArgument, match="'Rising' has the attribute `normalize`.*'norm', "):
        criteria.check(criterion, None, None, None)
    with pytest.raises(InvalidArgument, match="'Rising' has the attribute `normalize`"):
        keras_gcp.plan(networks.plain(), {"channels": 0.5}, criterion=criterion)


@pytest.mark.parametrize("wrong", ["max", None, 1, True, ("mean",)])
def test_a_selection_by_something_else_is_refused_with_the_choices(wrong):
    with pytest.raises(InvalidArgument, match="`normalize` expects one of 'auto', 'norm', 'mean'"):
        keras_gcp.Selection(normalize=wrong)


def test_a_plan_says_how_layers_were_compared_if_the_criterion_does_not():
    model = networks.plain()

    def said(normalize, criterion="l2_norm"):
        selection = {"normalize": normalize}
        return keras_gcp.plan(model, {"channels": 0.5}, criterion, selection=selection).criterion

    own = criteria.get("l2_norm").normalize
    assert said("auto") == said(own) == "l2_norm"
    assert said("none") == "l2_norm; normalize='none'"
    assert said("mean", "auto") == "l2_norm; the others need a sample; normalize='mean'"


# ---- with the other choices


@pytest.mark.parametrize("normalize", NORMALIZATIONS)
@pytest.mark.parametrize("unit", [1e-12, 1e12])
def test_score_per_cost_does_not_depend_on_the_unit_of_all_scores(normalize, unit):
    def scaled(model, channels, sample):
        scores = Rising("none")(model, channels, sample)
        return {path: unit * own for path, own in scores.items()}

    widths = kept_widths(scaled, normalize, ranking="score_per_cost")
    assert widths == kept_widths(rising, normalize, ranking="score_per_cost")


def steep(name):
    """A prior by which a metric falls with one group only."""
    curves = [
        GroupSensitivity(
            group,
            (group,),
            width,
            (SensitivityPoint(0.5, width // 2, 0.0 if group == name else 1),),
        )
        for group, width in (("a_conv", 8), ("b_conv", 12))
    ]
    return Sensitivity("accuracy", True, 1.0, 10, tuple(curves))


@pytest.mark.parametrize("normalize", NORMALIZATIONS)
def test_a_prior_weighs_what_is_compared(normalize):
    a, b = BY_HAND[normalize]
    assert kept_widths(rising, normalize, prior=steep("a_conv"))[0] > a
    assert kept_widths(rising, normalize, prior=steep("b_conv"))[1] == 9 >= b


def negative(model, channels, sample):
    return {path: own - 1e3 for path, own in rising(model, channels, sample).items()}


def test_ranks_of_negative_scores_go_with_a_prior():
    prior = steep("a_conv")
    assert kept_widths(negative, "rank", prior=prior) == kept_widths(rising, "rank", prior=prior)
    with pytest.raises(InvalidArgument, match="has negative ones"):
        kept_widths(negative, "mean", prior=prior)


# ---- while training


def pruned(criterion, **selection):
    model = compiled(networks.plain())
    callback = pruning({"channels": 0.5}, None, criterion, sample=None, floor=1, **selection)
    fit(model, [callback], epochs=2, examples=ONE_STEP)
    return callback


@pytest.mark.parametrize(
    ("own", "chosen", "words"),
    [("none", "auto", "Rising"), ("rank", "none", "Rising; normalize='none'")],
)
def test_events_compare_layers_as_the_criterion_says_or_as_the_selection_does(own, chosen, words):
    plan = pruned(Rising(own), normalize=chosen).plan
    assert (plan.widths()["a_conv"], plan.widths()["b_conv"]) == BY_HAND["none"]
    assert plan.criterion == words


def test_before_training_a_prior_is_tried_with_what_is_compared():
    prior = steep("a_conv")
    assert pruned(negative, normalize="rank", prior=prior).plan.removed_channels
    with pytest.raises(InvalidArgument, match="has negative ones"):
        pruned(negative, normalize="none", prior=prior)


def test_the_smallest_model_is_searched_with_layers_compared_as_asked_for():
    model = compiled(randomise(networks.plain()))
    found = keras_gcp.smallest(
        model,
        data(),
        at_least=0.0,
        criterion=rising,
        resource="channels",
        selection={"align": 1, "floor": 1, "normalize": "none"},
        max_evaluations=1,
        verbose=0,
    )
    assert found.plan.widths()["a_conv"] == 1
    assert found.plan.criterion == "rising; normalize='none'"


def test_channels_of_several_layers_are_scored_by_what_is_compared():
    channels = trace(networks.residual())
    rng = np.random.default_rng(0)
    scores = {path: rng.random(len(c)) for path, c in channels.produced.items()}
    tied = channels.produced["stem_conv"]
    for normalize in NORMALIZATIONS:
        own = [normalized(scores[path], normalize) for path in ("stem_conv", "b1b_conv")]
        found = criteria.coupled_scores(scores, channels, normalize)[tied]
        np.testing.assert_allclose(found, np.mean(own, axis=0))
