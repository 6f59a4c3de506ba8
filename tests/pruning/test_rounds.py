"""Plans in several rounds: scores anew each time, kernels refitted to the original's outputs."""

from __future__ import annotations

import itertools
from dataclasses import replace

import keras
import networks
import numpy as np
import pytest
from helpers import flat_outputs, inputs_for, masked_by_hand, plan_with_more, randomise
from pruning.test_planner import FourBytesEach

import keras_gcp
from keras_gcp.channels.trace import trace
from keras_gcp.costs.costs import Costs
from keras_gcp.costs.counting import build_cost_model, count_map
from keras_gcp.errors import ImpossibleBudget, InvalidArgument
from keras_gcp.pruning import one_shot
from keras_gcp.pruning.original import Original
from keras_gcp.pruning.rounds import Rounds, limits_on_the_way
from keras_gcp.selection import Selection

FINE = {"align": 1, "floor": 1}


class Recording:
    """Kernel norms, with what was asked: the widths, and the model's own weights."""

    def __init__(self):
        self.widths, self.weights, self.samples = [], [], []

    def __call__(self, model, channels, sample):
        self.widths.append(channels.widths())
        self.weights.append(model.get_weights())
        self.samples.append(sample)
        assert channels.model is model
        return keras_gcp.criteria.get("l2_norm")(model, channels, sample)


@pytest.fixture
def applied(monkeypatch):
    """The calls of `apply`: model, plan and compensation."""
    calls, own = [], one_shot.apply

    def recorded(model, plan, *rest, compensation, **options):
        calls.append((model, plan, compensation))
        return own(model, plan, *rest, compensation=compensation, **options)

    monkeypatch.setattr(one_shot, "apply", recorded)
    return calls


# ---- what comes out is a plan for the original


@pytest.mark.parametrize("name", ["plain", "depthwise"])
def test_if_scores_stay_rounds_end_where_one_cut_would_have_led(name):
    """What an earlier round takes does not come back: it only takes what the last one would."""
    model, selection = randomise(networks.ALL[name]()), {"align": 3, "floor": 1}
    one, four = (
        keras_gcp.plan(model, {"macs": 0.5}, "bn_scale", selection=selection, rounds=rounds)
        for rounds in (1, 4)
    )
    assert one.layers.keys() == four.layers.keys()
    assert all((one.layers[path] == four.layers[path]).all() for path in one.layers)


@pytest.mark.parametrize("name", ["residual", "nested", "two_outputs", "grouped"])
def test_the_plan_is_one_for_the_original_and_meets_the_budget(name):
    model = randomise(networks.ALL[name]())
    before, x = keras_gcp.count(model), inputs_for(model)
    budget = {"macs": 0.5, "parameters": 0.6}
    plan = keras_gcp.plan(model, budget, "l2_norm", rounds=3, selection=FINE)
    assert plan.original_widths() == trace(model).widths()
    narrow = keras_gcp.apply(model, plan)
    for one, other in zip(flat_outputs(narrow, x), masked_by_hand(model, plan, x), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-5)
    after = keras_gcp.count(narrow)
    assert (plan.before.macs, plan.after.macs) == (before.macs, after.macs)
    assert after.macs <= 0.5 * before.macs and after.parameters <= 0.6 * before.parameters
    assert keras_gcp.count(model).macs == before.macs


@pytest.mark.parametrize("ranking", ["score", "score_per_cost", "uniform"])
def test_what_is_said_of_the_budget_holds_for_all_that_is_gone(ranking):
    """The wider models are really made and counted."""
    model = randomise(networks.plain())
    selection = {**FINE, "ranking": ranking}
    plan = keras_gcp.plan(model, {"macs": 0.4}, "l2_norm", rounds=2, selection=selection)
    (slack,) = plan.slack
    wider = [
        keras_gcp.count(keras_gcp.apply(model, plan_with_more(plan, model, group, 1))).macs
        for group in plan.groups
        if group.anchored is None
        and not plan.layers[group.members[0].path][list(group.positions)].all()
    ]
    assert slack.whole and slack.removed == len(wider) > 0
    assert slack.stopped == sum(macs > slack.limit for macs in wider)
    assert slack.reached == plan.after.macs <= slack.limit
    assert "last cut alone" not in plan.explain()


def test_one_round_is_what_it_was_and_several_are_named():
    model = randomise(networks.residual())
    plan = keras_gcp.plan(model, {"macs": 0.5}, "l2_norm")
    once = keras_gcp.plan(model, {"macs": 0.5}, "l2_norm", rounds=1)
    assert once.to_json() == plan.to_json()
    several = keras_gcp.plan(model, {"macs": 0.5}, "l2_norm", rounds=np.int64(2))
    assert (plan.criterion, several.criterion) == ("l2_norm", "l2_norm; in 2 rounds")


def test_scores_that_do_not_change_choose_the_same_in_any_number_of_rounds():
    """Without compensation, norms of rows stay; by ranks, the order of a layer does."""

    def fixed(model, channels, sample):
        return {
            path: 100.0 + keras.ops.convert_to_numpy(model.get_layer(path).bias)
            for path in channels.produced
        }

    fixed.normalize = "none"
    inputs = keras.Input((6, 6, 2))
    x = keras.layers.Conv2D(9, 3, name="a")(inputs)
    x = keras.layers.Conv2D(7, 3, name="b")(x)
    model = randomise(keras.Model(inputs, keras.layers.Dense(2, name="c")(x)))
    once, thrice = (
        keras_gcp.plan(model, {"channels": 0.5}, fixed, rounds=n, selection=FINE) for n in (1, 3)
    )
    assert thrice.keeps_what_is_kept_by(once) and once.removed_channels == 8


# ---- scores are asked anew


def test_scores_are_asked_of_narrower_and_narrower_copies():
    model, criterion = randomise(networks.residual()), Recording()
    plan = keras_gcp.plan(model, {"channels": 0.4}, criterion, rounds=3, selection=FINE)
    totals = [sum(widths.values()) for widths in criterion.widths]
    assert len(totals) == 3 and totals[0] > totals[1] > totals[2] > sum(plan.widths().values())
    assert criterion.widths[0] == plan.original_widths()


def test_rounds_whose_limits_hold_already_are_left_out():
    model, criterion = randomise(networks.plain()), Recording()
    plan = keras_gcp.plan(model, {"channels": 0.8}, criterion, rounds=50, selection=FINE)
    assert 2 <= len(criterion.widths) <= plan.removed_channels + 1 == 5


def test_a_criterion_that_needs_the_loss_has_it_in_copies():
    model = randomise(networks.two_outputs())
    names = model.output_names
    model.compile("sgd", loss=dict.fromkeys(names, "mse"), loss_weights=dict.fromkeys(names, 0.5))
    x = inputs_for(model, 6)
    y = {name: np.ones((6, *y.shape[1:])) for name, y in zip(names, model.outputs, strict=True)}
    seen = []

    def loss(model, channels, sample):
        seen.append(model.compute_loss(y=y, y_pred=dict(zip(names, model(x), strict=True))))
        return keras_gcp.criteria.get("taylor")(model, channels, sample)

    plan = keras_gcp.plan(model, {"channels": 0.6}, loss, (x, y), rounds=2, selection=FINE)
    assert plan.removed_channels and len(seen) == 2
    expected = float(model.compute_loss(y=y, y_pred=dict(zip(names, model(x), strict=True))))
    np.testing.assert_allclose(float(seen[0]), expected, rtol=1e-5)


def test_the_sample_is_drawn_once():
    model, criterion = randomise(networks.plain()), Recording()
    batches = iter([(inputs_for(model, 8), np.zeros(8))])  # It yields them a single time.
    keras_gcp.prune(model, {"channels": 0.5}, criterion, batches, rounds=2, selection=FINE)
    first, second = criterion.samples
    assert first is second and len(first) == 8


# ---- copies are made of the original


@pytest.mark.parametrize("compensation", ["auto", None])
def test_copies_are_cut_from_the_original_with_the_compensation_of_the_result(
    compensation, applied
):
    model, criterion = randomise(networks.plain()), Recording()
    sample = inputs_for(model, 16)
    narrow = keras_gcp.prune(
        model,
        {"channels": 0.4},
        criterion,
        sample,
        rounds=3,
        selection=FINE,
        compensation=compensation,
    )
    assert [(one is model, how) for one, _, how in applied] == [(True, compensation)] * 3
    plans = [plan for _, plan, _ in applied]
    for earlier, later in itertools.pairwise(plans):
        assert all((later.layers[path] <= keep).all() for path, keep in earlier.layers.items())
    found = [*criterion.weights[1:], narrow.get_weights()]
    for plan, weights in zip(plans[1:], found[1:], strict=True):
        again = keras_gcp.apply(model, plan, sample, compensation=compensation)
        for one, other in zip(weights, again.get_weights(), strict=True):
            np.testing.assert_array_equal(one, other)


def test_a_plan_in_rounds_carried_out_is_what_prune_returns():
    model = randomise(networks.plain())
    arguments = ({"macs": 0.5}, "l2_norm", inputs_for(model, 12))
    pruned = keras_gcp.prune(model, *arguments, rounds=2)
    plan = keras_gcp.plan(model, *arguments, rounds=2)
    applied = keras_gcp.apply(model, plan, arguments[2])
    for one, other in zip(pruned.get_weights(), applied.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)


# ---- what was asked for refers to the original


def test_floors_caps_and_alignment_are_those_of_the_original_widths():
    inputs = keras.Input((8, 8, 3))
    x = keras.layers.Conv2D(32, 3, name="a")(inputs)
    x = keras.layers.Conv2D(40, 3, name="b")(x)
    x = keras.layers.Conv2D(24, 3, name="c")(x)
    model = randomise(keras.Model(inputs, keras.layers.Dense(2, name="d")(x)))
    selection = {"floor": {"a": 0.5, "*": 8}, "cap": {"b": 0.6}, "align": 8}
    for rounds in (1, 4):
        plan = keras_gcp.plan(model, {"macs": 0.22}, "l2_norm", rounds=rounds, selection=selection)
        widths = plan.widths()
        assert widths["a"] == 16 and widths["b"] <= 24
        assert all(widths[name] % 8 == 0 for name in "abc")
    with pytest.raises(ImpossibleBudget):
        keras_gcp.plan(model, {"macs": 0.05}, "l2_norm", rounds=4, selection=selection)


def test_excluded_layers_stay_in_every_round():
    model, criterion = randomise(networks.residual()), Recording()
    plan = keras_gcp.plan(
        model, {"channels": 0.5}, criterion, rounds=3, exclude=["b2a_conv"], selection=FINE
    )
    assert {widths["b2a_conv"] for widths in criterion.widths} == {plan.widths()["b2a_conv"]}
    assert plan.layers["b2a_conv"].all()


def test_what_other_living_models_tie_stays_tied_in_every_round():
    """Copies do not know of them."""
    inputs = keras.Input((8, 8, 3))
    first = keras.layers.Conv2D(8, 3, name="a")(inputs)
    second = keras.layers.Conv2D(8, 3, name="b")(first)
    model = randomise(keras.Model(inputs, keras.layers.Conv2D(2, 3, name="end")(second)))
    own = keras.layers.Conv2D(8, 3)(inputs)
    other = keras.Model(inputs, keras.layers.Conv2D(2, 3)(keras.layers.Add()([first, own])))
    assert keras_gcp.trace(model).prunable[keras_gcp.trace(model).produced["a"]].all()
    plan = keras_gcp.plan(model, {"channels": 0.5}, "l2_norm", rounds=2, selection=FINE)
    keras_gcp.narrow(model, plan)
    assert {name: model.get_layer(name).filters for name in "ab"} == {"a": 8, "b": 4}
    assert other(np.zeros((1, 8, 8, 3))).shape == (1, 4, 4, 2)


def test_a_prior_weighs_the_scores_of_every_round():
    model, asked = randomise(networks.residual()), []

    class Prior:
        def weighted(self, scores, groups):
            asked.append({name: len(coupled) for name, coupled in groups.items()})
            assert all(np.isfinite(scores[coupled]).all() for coupled in groups.values())
            spared = groups["b2a_conv"]
            return np.where(np.isin(np.arange(len(scores)), spared), 1e3, scores)

    selection = {**FINE, "prior": Prior()}
    plan = keras_gcp.plan(model, {"channels": 0.6}, "l2_norm", rounds=2, selection=selection)
    assert plan.layers["b2a_conv"].all()
    first, second = asked
    assert first.keys() == second.keys() and sum(first.values()) > sum(second.values())


# ---- limits on the way


def test_every_round_leaves_the_same_share_of_what_there_is():
    now = Costs(macs=1600, parameters=100, channels=50)
    limits = {"macs": 100.0, "parameters": 100.0, "channels": 60.0}
    way = [limits_on_the_way(now, limits, number / 4) for number in (1, 2, 3, 4)]
    assert [aim["macs"] for aim in way] == pytest.approx([800, 400, 200, 100])
    assert all((aim["parameters"], aim["channels"]) == (100, 60) for aim in way)


def test_real_files_are_made_in_the_last_round_only_and_hold():
    model = randomise(networks.residual())
    channels, resource = trace(model), FourBytesEach()
    whole = 4.0 * model.count_params()
    original = Original(count_map(channels, (resource,)), channels.widths(), (resource,))
    made = []

    def cut_copy(plan):
        made.append(len(resource.measured))
        return trace(keras_gcp.apply(model, plan))

    way = Rounds(
        channels,
        keras_gcp.criteria.get("l2_norm"),
        None,
        Selection(**FINE),
        original,
        build_cost_model(channels, (resource,)),
        cut_copy,
    )
    limits = {"tflite_bytes": 0.6 * whole}
    plan = way.plan(limits, original.costs, "60 %", 3)
    assert made == [0, 0] and len(resource.measured) > 1  # The prediction is off at first.
    assert plan.after.further["tflite_bytes"] in resource.measured
    assert 4 * keras_gcp.apply(model, plan).count_params() <= 0.6 * whole
    assert plan.checks == (replace(plan.checks[0], limit=0.6 * whole),)


# ---- refusals


@pytest.mark.parametrize("rounds", [0, -1, 1.5, True, "two", None])
def test_senseless_rounds_are_refused_before_anything_is_looked_at(rounds):
    for function in (keras_gcp.plan, keras_gcp.prune):
        with pytest.raises(InvalidArgument, match="`rounds` expects an integer of at least 1"):
            function(None, {"macs": 0.5}, rounds=rounds)


def test_more_rounds_than_anybody_needs_are_refused():
    with pytest.raises(InvalidArgument, match="`rounds` expects at most 100"):
        keras_gcp.plan(networks.plain(), {"macs": 0.5}, rounds=10**30)
