"""The smallest model is never worse than was asked for."""

from __future__ import annotations

import json

import keras
import numpy as np
import pytest

import keras_gcp
from keras_gcp.errors import InvalidArgument, UnsupportedModel
from keras_gcp.evaluation.masked_model import MaskedModel

OPTIONS = {
    "selection": {"align": 1, "floor": 1},
    "tolerance": 0.05,
    "batch_size": 32,
    "verbose": 0,
}


def accuracy_of(model, data):
    x, y = data
    return (keras.ops.convert_to_numpy(model(x)).argmax(-1) == y).mean()


@pytest.mark.parametrize("at_least", [0.55, 0.45])
def test_the_model_itself_is_good_enough_and_nothing_smaller_was_seen_to_be(model, data, at_least):
    before = model.get_weights()
    found = keras_gcp.smallest(model, data, at_least, **OPTIONS)
    assert found.value >= at_least
    assert accuracy_of(found.model, data) == pytest.approx(found.value, abs=1e-6)
    assert found.baseline == 1.0 and found.share < 1
    assert keras_gcp.count(found.model).macs == found.plan.after.macs
    last = found.trials[-1]
    assert last.cut and last.holds and last.share == found.share
    for trial in found.trials:
        assert trial.holds == (trial.value >= at_least)
        assert not trial.holds or trial.share >= found.share
    missed = max((t.share for t in found.trials if not t.holds), default=0.0)
    assert found.share - missed < OPTIONS["tolerance"] + 0.15  # Widths of 8 and 12 are coarse.
    for now, then in zip(model.get_weights(), before, strict=True):
        np.testing.assert_array_equal(now, then)


def test_a_lower_floor_gives_a_smaller_model(model, data):
    shares = [keras_gcp.smallest(model, data, least, **OPTIONS).share for least in (0.55, 0.35)]
    assert shares[1] < shares[0]


def test_where_nothing_can_go_it_is_a_copy(model, data):
    x, _ = data
    y = keras.ops.convert_to_numpy(model(x))

    def closeness(y, p):
        return -np.abs(y - p).max()

    found = keras_gcp.smallest(model, (x, y), 0.0 - 1e-6, metric=closeness, mode="max", **OPTIONS)
    assert found.share == 1.0 and found.plan.removed_channels == 0
    assert found.model is not model
    np.testing.assert_allclose(keras.ops.convert_to_numpy(found.model(x)), y, atol=1e-6)
    assert not any(trial.holds for trial in found.trials)


def test_a_candidate_that_only_seemed_good_enough_is_not_returned(model, data, monkeypatch):
    monkeypatch.setattr(MaskedModel, "value", lambda self, keep: 1.0)
    found = keras_gcp.smallest(model, data, 0.8, **OPTIONS)
    cuts = [trial for trial in found.trials if trial.cut]
    assert cuts and not cuts[0].holds  # The smallest of all was tried first.
    assert found.value >= 0.8
    if found.plan.removed_channels:
        assert accuracy_of(found.model, data) >= 0.8


def test_evaluations_are_bounded_and_plans_are_measured_once(model, data):
    found = keras_gcp.smallest(model, data, 0.5, **{**OPTIONS, "tolerance": 1e-9})
    masked = [trial for trial in found.trials if not trial.cut]
    assert len(masked) <= 20
    assert len({trial.share for trial in masked}) == len(masked)
    few = keras_gcp.smallest(model, data, 0.5, max_evaluations=2, **OPTIONS)
    assert sum(not trial.cut for trial in few.trials) == 2


def test_less_is_better_for_a_loss(model, data):
    before = model.evaluate(*data, verbose=0, return_dict=True)["loss"]
    found = keras_gcp.smallest(model, data, before + 0.5, metric="loss", **OPTIONS)
    assert found.baseline == pytest.approx(before, rel=1e-5)
    assert before < found.value <= before + 0.5 and found.share < 1


def test_resources_exclusions_and_priors_reach_the_plan(model, data):
    prior = keras_gcp.sensitivity(model, data, shares=[0.5], verbose=0)
    options = {
        "resource": "parameters",
        "exclude": ["a_conv"],
        "selection": {**OPTIONS["selection"], "prior": prior},
    }
    found = keras_gcp.smallest(model, data, 0.5, **{**OPTIONS, **options})
    left = found.plan.after.parameters / found.plan.before.parameters
    assert found.share == pytest.approx(left)
    assert len(found.plan.kept("a_conv")) == 8


def test_the_peak_of_memory_may_be_what_is_to_be_small(model, data):
    resource = "peak_activation_bytes"
    found = keras_gcp.smallest(model, data, 0.5, resource=resource, **OPTIONS)
    before, after = (t.further[resource] for t in (found.plan.before, found.plan.after))
    assert found.value >= 0.5 and found.share == after / before < 1
    assert f"{resource}: {before:,.0f} -> {after:,.0f}" in found.explain()


def test_with_a_sample_candidates_are_compensated_and_cut_as_they_were_measured(residual):
    model, data = residual
    plain = keras_gcp.smallest(model, data, 0.8, **OPTIONS)
    options = {"sample": keras_gcp.Sample(data, size=None), "criterion": "l2_norm", **OPTIONS}
    found = keras_gcp.smallest(model, data, 0.8, **options)
    assert found.share < plain.share - 0.1
    cut = found.trials[-1]
    measured = {trial.share: trial.value for trial in found.trials if not trial.cut}
    assert cut.cut and cut.value == pytest.approx(measured[cut.share], abs=0.011)  # one example
    without = keras_gcp.smallest(model, data, 0.8, compensation=None, **options)
    assert without.share == plain.share


def test_it_is_explained(model, data, capsys):
    found = keras_gcp.smallest(model, data, 0.5, **{**OPTIONS, "verbose": 1})
    printed = capsys.readouterr().out
    assert len(printed.splitlines()) == len(found.trials)
    text = found.explain()
    assert "masked" in text and "cut" in text and "at least 0.5000" in text
    assert f"{found.plan.after.macs:,}" in text
    assert json.loads(json.dumps(found.to_dict()))["value"] == found.value
    assert "at least 0.5000" in repr(found)


@pytest.mark.parametrize(
    ("at_least", "options", "message"),
    [
        (1.01, {}, r"has accuracy 1.0000, which does not reach `at_least` \(1.01\)"),
        (float("nan"), {}, "`at_least` expects"),
        ("0.9", {}, "`at_least` expects"),
        (0.9, {"resource": "euro"}, "`resource` expects"),
        (0.9, {"tolerance": 0}, "`tolerance` expects"),
        (0.9, {"max_evaluations": 0}, "`max_evaluations` expects"),
        (0.9, {"selection": {"align": "no"}}, "`align` expects"),
        (0.9, {"mode": "up"}, "`mode` expects"),
        (0.9, {"compensation": "fold"}, "needs examples, and no sample"),
    ],
)
def test_bad_arguments_are_refused(at_least, options, message, model, data):
    with pytest.raises(InvalidArgument, match=message):
        keras_gcp.smallest(model, data, at_least, **{**OPTIONS, **options})


def test_a_model_without_prunable_channels_is_refused():
    single = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)])
    with pytest.raises(UnsupportedModel, match="no channels that may be pruned"):
        keras_gcp.smallest(single, (np.zeros((2, 3)), np.zeros(2)), 0.5)
