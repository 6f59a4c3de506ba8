"""Criteria by name, checks of what they return, and scores of coupled channels."""

from __future__ import annotations

import networks
import numpy as np
import pytest
from helpers import inputs_for

from keras_gcp import criteria
from keras_gcp.channels.trace import trace
from keras_gcp.errors import InvalidArgument
from keras_gcp.sample import DrawnSample


@pytest.fixture
def residual():
    model = networks.residual()
    return model, trace(model)


def _ones(model, channels, sample):
    return {path: np.ones(len(coupled)) for path, coupled in channels.produced.items()}


# -------------------------------------------------------------------------------- by name


def test_the_names_of_the_issue_are_there():
    assert set(criteria.names()) >= {
        "feature_relevance",
        "l1_norm",
        "l2_norm",
        "bn_scale",
        "taylor",
        "random",
    }


@pytest.mark.parametrize("unknown", ["magnitude", None, 3, dict])
def test_an_unknown_criterion_is_refused_with_the_names(unknown):
    with pytest.raises(InvalidArgument, match=r"'feature_relevance', 'l1_norm'.*function"):
        criteria.get(unknown)


def test_a_users_function_is_taken_as_it_is(residual):
    assert criteria.get(_ones) is _ones
    assert not criteria.needs_sample(_ones)
    scores = criteria.checked_scores(_ones, *residual, None)
    assert set(scores) == set(residual[1].produced)


def test_a_users_check_and_needs_are_respected(residual):
    def picky(model, channels, sample):
        raise AssertionError("not reached")

    picky.needs_sample = True
    with pytest.raises(InvalidArgument, match="'picky' needs examples"):
        criteria.checked_scores(picky, *residual, None)

    def check(model, channels, sample):
        raise InvalidArgument("not today")

    picky.check = check
    sample = DrawnSample(inputs_for(residual[0], 3), np.arange(3))
    with pytest.raises(InvalidArgument, match="not today"):
        criteria.checked_scores(picky, *residual, sample)


# ------------------------------------------------------------------------ what is returned


def _spoil(change):
    def criterion(model, channels, sample):
        scores = _ones(model, channels, sample)
        return change(scores) or scores

    return criterion


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: [1.0, 2.0], "must return a dict.*Received list"),
        (lambda s: s.pop("b1a_conv") is None, r"Missing: \['b1a_conv'\]"),
        (lambda s: s.update(b1=s["b1a_conv"]), r"Not among the producing layers: \['b1'\]"),
        (lambda s: s.update(b1a_conv=np.ones(7)), r"'b1a_conv', an array of shape \(8,\).*\(7,\)"),
        (lambda s: s.update(b1a_conv=np.ones((8, 1))), r"\(8, 1\)"),
        (lambda s: s.update(b1a_conv=[1.0] * 7 + [np.nan]), "infinite scores for 1 of 8.*b1a_conv"),
        (lambda s: s.update(b1a_conv=["much"] * 8), "no real numbers for layer 'b1a_conv'"),
    ],
)
def test_wrong_scores_are_refused_and_named(residual, change, message):
    with pytest.raises(InvalidArgument, match=f"Criterion 'criterion'.*{message}"):
        criteria.checked_scores(_spoil(change), *residual, None)


def test_layers_without_prunable_channels_may_be_left_out(residual):
    scores = criteria.checked_scores(_spoil(lambda s: s.pop("classifier") is None), *residual, None)
    assert "classifier" not in scores


# ------------------------------------------------------------------------ coupled channels


def test_coupled_channels_are_scored_by_the_mean_of_their_producers_normalised_scores(residual):
    _, channels = residual
    rng = np.random.default_rng(0)
    scores = {path: rng.random(len(c)) for path, c in channels.produced.items()}

    def unit(path):
        return scores[path] / np.linalg.norm(scores[path])

    result = criteria.coupled_scores(scores, channels, "norm")
    assert result.shape == (channels.coupled_count,)
    np.testing.assert_allclose(result[channels.produced["b1a_conv"]], unit("b1a_conv"))
    tied = channels.produced["stem_conv"]
    np.testing.assert_array_equal(tied, channels.produced["b1b_conv"])
    members = unit("stem_conv"), unit("b1b_conv")
    np.testing.assert_allclose(result[tied], np.mean(members, axis=0))
    for reduce, function in (("sum", np.sum), ("max", np.max)):
        reduced = criteria.coupled_scores(scores, channels, "norm", reduce)
        np.testing.assert_allclose(reduced[tied], function(members, axis=0))


@pytest.mark.parametrize("normalize", ["norm", "mean", "rank"])
def test_the_scale_of_a_layers_scores_does_not_matter(residual, normalize):
    _, channels = residual
    rng = np.random.default_rng(0)
    scores = {path: rng.random(len(c)) for path, c in channels.produced.items()}
    scaled = {path: 10.0**k * s for k, (path, s) in enumerate(scores.items())}
    np.testing.assert_allclose(
        criteria.coupled_scores(scaled, channels, normalize),
        criteria.coupled_scores(scores, channels, normalize),
        rtol=1e-12,
    )


def test_coupled_channels_that_no_scored_layer_produces_stay(residual):
    _, channels = residual
    result = criteria.coupled_scores({"b1a_conv": np.ones(8)}, channels, "mean")
    assert np.isfinite(result).sum() == 8
    assert (result[channels.produced["b2a_conv"]] == np.inf).all()
    assert (criteria.coupled_scores({}, channels, "mean", "max") == np.inf).all()


def test_a_class_at_several_places_of_one_layer_counts_all_of_them():
    channels = trace(networks.grouped())
    coupled = channels.produced["groups4"].reshape(4, -1)  # all groups lose the same positions
    np.testing.assert_array_equal(coupled, np.broadcast_to(coupled[:1], coupled.shape))
    scores = np.arange(float(coupled.size))
    expected = (scores / np.linalg.norm(scores)).reshape(coupled.shape).mean(axis=0)
    result = criteria.coupled_scores({"groups4": scores}, channels, "norm")
    np.testing.assert_allclose(result[coupled[0]], expected)


def test_an_unknown_reduction_is_refused(residual):
    with pytest.raises(InvalidArgument, match=r"reduce='median'.*'mean', 'sum', 'max'"):
        criteria.coupled_scores({}, residual[1], "mean", "median")
