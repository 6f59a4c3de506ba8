"""A plan of several events: what it says of the budget holds for all that its table shows."""

from __future__ import annotations

import dataclasses
import json

import fitting
import keras
import networks
import numpy as np
import pytest
from helpers import one_line, plan_with_more, randomise
from keras import layers

import keras_gcp
from keras_gcp import criteria
from keras_gcp.channels.trace import trace
from keras_gcp.compensation.settings import NO_COMPENSATION
from keras_gcp.costs.budget import Budget
from keras_gcp.costs.counting import build_cost_model, count_map, prunable_groups
from keras_gcp.pruning.original import Original
from keras_gcp.selection import Selection
from keras_gcp.selection.planning import keep_of
from keras_gcp.training.event_records import EventRequest
from keras_gcp.training.pruning_run import PruningRun
from keras_gcp.training.settings import Settings


def after_events(model, budget, progress, **selection):
    """The pruning run of a model after events with other random scores each time."""
    original = Original.of(model, (), Budget.parse(budget))
    selected = Selection(**{"align": 1, "floor": 1, **selection})
    scorer = criteria.get("random", seed=0)
    settings = Settings(scorer, selected, (), False, NO_COMPENSATION)
    first = count_map(trace(model), original.resources)
    run = PruningRun(settings, original, None, first)
    for number, share in enumerate(progress):
        scorer = criteria.get("random", seed=number)
        run.settings = dataclasses.replace(run.settings, scorer=scorer)
        limits = Budget.parse(budget).limits_at(original.costs, share)
        run.event(model, EventRequest(number, None, share, limits), in_fit=False)
    return run


def put_back(plan, model, align=1):
    """What the model costs with one block back, for each group that has lost channels.

    The narrow model is really made and counted.
    """
    for group in plan.groups:
        keep = plan.layers[group.members[0].path][list(group.positions)]
        whole = len(prunable_coupled(model, group.name))
        kept = whole * int(keep.sum()) // len(keep)
        if group.anchored is None and kept < whole:
            block = min(whole, (kept // align + 1) * align) - kept
            yield keras_gcp.count(keras_gcp.apply(model, plan_with_more(plan, model, group, block)))


def prunable_coupled(model, name):
    return next(group.coupled for group in trace(model).groups if group.name == name)


NETWORKS = ["plain", "residual", "concatenation", "depthwise", "grouped"]


@pytest.mark.parametrize("name", NETWORKS)
def test_what_is_said_of_removed_blocks_holds_for_those_of_all_events(name):
    """Every number under the table is found again by making and counting the models."""
    budget = {"macs": 0.5, "parameters": 0.6}
    run = after_events(randomise(networks.ALL[name]()), budget, (0.4, 0.7, 1.0))
    wide = randomise(networks.ALL[name]())
    assert len(run.events) == 3 and run.plan.removed_channels
    wider = list(put_back(run.plan, wide))
    for one in run.plan.slack:
        assert one.whole and not one.predicted and not one.capped
        assert one.removed == len(wider)
        assert one.stopped == sum(getattr(count, one.resource) > one.limit for count in wider)
        assert one.reached == getattr(run.plan.after, one.resource)


def test_a_block_of_an_earlier_event_that_would_fit_again_is_not_called_binding():
    """A small early cut and a coarse later one leave room: the resource is binding in part."""
    found = set()
    for seed in range(2):
        keras.utils.set_random_seed(seed)
        inputs = keras.Input((8, 8, 3))
        x = layers.Conv2D(16, 3, padding="same", name="first")(inputs)
        x = layers.Conv2D(32, 3, padding="same", name="second")(x)
        model = keras.Model(inputs, layers.Dense(2)(layers.GlobalAveragePooling2D()(x)))
        wide = keras.models.clone_model(model)
        run = after_events(model, {"macs": 0.5}, (0.3, 0.6, 1.0), align=8)
        (one,) = run.plan.slack
        wider = list(put_back(run.plan, wide, align=8))
        assert (one.removed, one.stopped) == (
            len(wider),
            sum(count.macs > one.limit for count in wider),
        )
        found.add(one.row()[-1])
    assert not any("nothing was removed" in text for text in found)


def test_an_event_that_removes_nothing_says_nothing_of_the_kind_of_the_others():
    run = after_events(networks.plain(), {"channels": 0.5}, (1.0, 1.0))
    assert [event.removed_channels for event in run.events] == [10, 0]
    assert "nothing was removed" not in run.plan.explain()
    assert run.plan.slack[0].is_binding


def test_what_only_a_cap_took_is_not_called_nothing():
    model = networks.plain()
    plan = keras_gcp.plan(model, {"channels": 0.9}, selection={"align": 1, "cap": {"*": 0.5}})
    (one,) = plan.slack
    assert (one.removed, one.capped) == (0, 2)
    assert "no: `cap` forbids more" in one_line(plan.explain())
    partly = keras_gcp.plan(
        model, {"channels": 0.5}, selection={"align": 1, "floor": 1, "cap": {"a_conv": 4}}
    )
    assert partly.slack[0].capped <= 1
    if partly.widths()["a_conv"] == 4:
        assert "yes: no removed block that `cap` allows fits" in one_line(partly.explain())


def test_a_cap_is_known_after_several_events_too():
    run = after_events(networks.plain(), {"channels": 0.6}, (0.5, 1.0), cap={"a_conv": 5})
    (one,) = run.plan.slack
    widths = run.plan.widths()
    assert widths["a_conv"] <= 5
    assert one.capped == (widths["a_conv"] == 5)
    assert one.removed == (widths["a_conv"] < 5) + (widths["b_conv"] < 12)


def test_groups_of_one_layer_are_told_apart_after_their_first_channels_have_left():
    """They are numbered again in the narrow model; a block put back has the right size."""
    inputs = keras.Input((6, 6, 2))
    x = layers.Conv2D(12, 3, padding="same", name="stem")(inputs)
    a, b = x[..., :4], x[..., 4:]
    y = layers.Concatenate()([layers.Conv2D(6, 3, name="of_a")(a), layers.Conv2D(6, 3)(b)])
    model = keras.Model(inputs, layers.Dense(2)(layers.GlobalAveragePooling2D()(y)))
    wide = keras.models.clone_model(model)
    assert {g.name for g in prunable_groups(trace(wide))} >= {"stem#1", "stem#2"}
    run = after_events(model, {"macs": 0.3}, (0.3, 0.6, 1.0))
    (one,) = run.plan.slack
    wider = list(put_back(run.plan, wide))
    assert one.removed == len(wider) and one.stopped == sum(c.macs > one.limit for c in wider)


def test_costs_beyond_the_present_widths_are_those_of_the_wider_network():
    """A narrow model's cost_model, asked for widths that were there before, counts exactly."""
    model, wide = randomise(networks.residual()), randomise(networks.residual())
    run = after_events(model, {"macs": 0.4}, (1.0,))
    narrow, whole = trace(model), trace(wide)
    cost_model, original = build_cost_model(narrow), build_cost_model(whole)
    full = np.array([len(g.coupled) for g in prunable_groups(whole)])
    assert [g.name for g in prunable_groups(narrow)] == [g.name for g in prunable_groups(whole)]
    for resource in ("macs", "parameters", "channels"):
        assert cost_model.cost(resource, full) == original.cost(resource, full)
    assert keep_of(run.plan, whole).any()


# ---- plans from elsewhere


def test_plans_joined_by_hand_speak_of_the_later_one_alone():
    model = networks.plain()
    first = keras_gcp.plan(model, {"channels": 0.7}, selection={"align": 1})
    second = keras_gcp.plan(
        keras_gcp.apply(model, first), {"channels": 0.7}, selection={"align": 1}
    )
    joined = first.then(second)
    assert "last cut alone: yes: no removed block" in one_line(joined.explain())
    assert "last cut" not in first.explain() + second.explain()
    again = keras_gcp.Plan.from_json(joined.to_json())
    assert again.explain() == joined.explain()


def test_plans_of_older_versions_claim_no_more_than_they_know():
    run = after_events(networks.plain(), {"channels": 0.5}, (0.5, 1.0))
    data = json.loads(run.plan.to_json())
    for one in data["slack"]:
        for key in ("whole", "capped", "predicted"):
            del one[key]
    assert "last cut alone: " in one_line(keras_gcp.Plan.from_json(json.dumps(data)).explain())


def test_what_a_prediction_says_is_called_that():
    run = after_events(networks.plain(), {"peak_activation_bytes": 0.6}, (1.0, 1.0))
    (one,) = run.plan.slack
    assert one.predicted and one.row()[-1].endswith(", as predicted")
    plan = keras_gcp.plan(networks.plain(), {"peak_activation_bytes": 0.6}, selection={"align": 1})
    assert not plan.slack[0].predicted


# ---- in fit


def test_after_a_training_with_a_guard_the_plan_speaks_of_all_its_cuts():
    model, wide = fitting.compiled(networks.plain()), networks.plain()
    callback = fitting.pruning(
        {"channels": 0.5},
        keras_gcp.schedules.linear(0, 2, min_step=0.0),
        guard=keras_gcp.AccuracyGuard(fitting.data(), 0.99),
    )
    fitting.fit(model, [callback], epochs=3)
    (one,) = callback.plan.slack
    wider = list(put_back(callback.plan, wide))
    assert one.whole and one.removed == len(wider)
    assert one.stopped == sum(count.channels > one.limit for count in wider)
