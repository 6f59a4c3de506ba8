"""How channels are selected, through `plan`, `prune` and `fit`: ranking, single layers."""

from __future__ import annotations

import itertools
import json

import keras
import networks
import numpy as np
import pytest
from fitting import compiled, fit, pruning
from helpers import one_line, randomise
from keras import layers

import keras_gcp
from keras_gcp.channels.trace import trace
from keras_gcp.criteria import coupled_scores
from keras_gcp.errors import InvalidArgument
from keras_gcp.selection.plan import Plan

# ---- brute force on a tiny network

WIDTHS = {"a": 6, "b": 5, "c": 4}


@pytest.fixture(scope="module")
def tiny():
    inputs = keras.Input((6, 6, 2))
    x = layers.Conv2D(6, 3, padding="same", activation="relu", name="a")(inputs)
    x = layers.Conv2D(5, 3, padding="same", activation="relu", name="b")(x)
    x = layers.GlobalAveragePooling2D(name="pool")(x)
    x = layers.Dense(4, activation="relu", name="c")(x)
    return keras.Model(inputs, layers.Dense(3, name="head")(x))


def costs_by_hand(a, b, c):
    return {
        "macs": 36 * 9 * (2 * a + a * b) + b * c + 3 * c,
        "parameters": (9 * 2 + 1) * a + (9 * a + 1) * b + (b + 1) * c + 3 * c + 3,
        "channels": a + b + c,
    }


def drawn_scores(model, channels, sample):
    rng = np.random.default_rng(7)
    return {path: rng.random(len(coupled)) for path, coupled in channels.produced.items()}


def ranked_scores(model):
    """What selection compares: the scores of each layer, falling."""
    channels = trace(model)
    scores = coupled_scores(drawn_scores(model, channels, None), channels, "mean")
    return {name: np.sort(scores[channels.produced[name]])[::-1] for name in WIDTHS}


BUDGETS = [
    *(
        {resource: share}
        for resource in ("macs", "parameters", "channels")
        for share in (0.25, 0.5, 0.75)
    ),
    {"macs": 0.5, "parameters": 0.55},
    {"macs": 0.4, "channels": 0.7},
]


@pytest.mark.parametrize("budget", BUDGETS, ids=str)
def test_plans_of_a_tiny_network_are_the_best_of_all(tiny, budget):
    full = costs_by_hand(**WIDTHS)
    counted = keras_gcp.count(tiny)
    assert full == {resource: getattr(counted, resource) for resource in full}
    ranked = ranked_scores(tiny)
    fitting = [
        widths
        for widths in itertools.product(*(range(1, width + 1) for width in WIDTHS.values()))
        if all(
            costs_by_hand(*widths)[resource] <= share * full[resource]
            for resource, share in budget.items()
        )
    ]

    def kept_score(widths):
        return sum(ranked[name][:n].sum() for name, n in zip(ranked, widths, strict=True))

    best_first = sorted(
        (
            (-ranked[name][i], index, i)
            for index, name in enumerate(ranked)
            for i in range(WIDTHS[name])
        )
    )

    def in_order_of_rank(widths):
        return [i < widths[index] for _, index, i in best_first]

    def planned(ranking):
        plan = keras_gcp.plan(
            tiny, budget, drawn_scores, selection={"align": 1, "floor": 1, "ranking": ranking}
        )
        return tuple(plan.widths()[name] for name in WIDTHS)

    assert planned("score") == max(fitting, key=in_order_of_rank)
    assert kept_score(planned("score_per_cost")) >= 0.99 * max(map(kept_score, fitting))


# ---- by layer


def test_floors_caps_and_alignment_of_single_layers_hold():
    model = randomise(networks.residual())
    plan = keras_gcp.plan(
        model,
        {"macs": 0.4},
        selection={
            "align": {"b2a_conv": 3, "*": 1},
            "floor": {"b1a_conv": 7},
            "cap": {"b1b_conv": 0.5},
        },
    )
    widths = plan.widths()
    assert widths["b1a_conv"] >= 7
    assert widths["b2a_conv"] % 3 == 0 and widths["b2a_conv"] < 12
    assert widths["b1b_conv"] == widths["stem_conv"] <= 4  # tied


def test_every_layer_keeps_the_same_share_where_none_ranks_above_another():
    plan = keras_gcp.plan(
        randomise(networks.plain()), {"channels": 0.5}, selection={"align": 1, "ranking": "uniform"}
    )
    assert plan.widths() == {"a_conv": 4, "b_conv": 6, "classifier": 4}


@pytest.mark.parametrize(
    "options",
    [
        {"ranking": "score_per_cost"},
        {"ranking": "uniform"},
        {"cap": {"a_conv": 4}},
        {"floor": {"b_conv": 11}},
    ],
    ids=str,
)
def test_prune_follows_the_plan_with_the_same_arguments(options):
    model, plain = randomise(networks.plain()), {"align": 1, "normalize": "norm"}
    narrow = keras_gcp.prune(model, {"macs": 0.5}, selection={**plain, **options})
    chosen = keras_gcp.plan(model, {"macs": 0.5}, selection={**plain, **options})
    other = keras_gcp.plan(model, {"macs": 0.5}, selection=plain)
    assert {name: narrow.get_layer(name).filters for name in ("a_conv", "b_conv")} == {
        name: chosen.widths()[name] for name in ("a_conv", "b_conv")
    }
    assert chosen.widths() != other.widths()


# ---- slack


def test_explain_says_which_resource_bound_and_what_is_left_of_the_others(tiny):
    plan = keras_gcp.plan(tiny, {"macs": 0.3, "parameters": 0.9}, selection={"align": 1})
    macs, parameters = plan.slack
    assert macs.is_binding and not parameters.is_binding
    assert (macs.reached, parameters.reached) == (plan.after.macs, plan.after.parameters)
    assert parameters.stopped == 0
    text = one_line(plan.explain())
    assert "yes: no removed block fits" in text
    assert (
        f"{1 - parameters.reached / parameters.limit:.2%} no: any removed block would fit" in text
    )


def test_what_was_spent_survives_json_and_older_plans_have_none(tiny):
    plan = keras_gcp.plan(tiny, {"macs": 0.3, "parameters": 0.5}, selection={"align": 1})
    again = Plan.from_json(plan.to_json())
    assert again.slack == plan.slack and len(plan.slack) == 2
    older = json.loads(plan.to_json())
    del older["slack"]
    read = Plan.from_json(json.dumps(older))
    assert read.slack == ()
    assert "removed block" not in read.explain()
    np.testing.assert_array_equal(read.layers["a"], plan.layers["a"])


# ---- while training


def test_events_keep_floors_of_single_layers_and_caps_from_the_first_on():
    model = compiled(networks.plain())
    callback = pruning(
        {"channels": 0.5},
        keras_gcp.schedules.linear(1, 2),
        floor={"a_conv": 6},
        cap={"b_conv": 9},
        ranking="score_per_cost",
    )
    fit(model, [callback], epochs=3)
    first, last = (event.widths for event in callback.events)
    assert first["b_conv"] <= 9
    assert last == {"a_conv": 6, "b_conv": 4, "classifier": 4}
    assert callback.plan.slack[0].reached == keras_gcp.count(model).channels == 10


def test_a_cap_takes_the_least_channels_although_the_budget_holds_already():
    model = compiled(networks.plain())
    model.optimizer.learning_rate.assign(0.0)
    kernel = keras.ops.convert_to_numpy(model.get_layer("b_conv").kernel)
    norms = np.sqrt((kernel**2).sum(axis=(0, 1, 2)))
    wider = keras.Sequential([keras.Input((8, 8, 3))])
    for name, width in (("a_conv", 16), ("b_conv", 24)):
        wider.add(layers.Conv2D(width, 3, name=name))
    wider.add(layers.Conv2D(4, 3, name="classifier"))
    callback = pruning(
        keras_gcp.Budget({"channels": 0.25}, reference=wider), AtOnce(0.2), cap={"b_conv": 11}
    )
    fit(model, [callback], epochs=2)
    assert callback.plan.widths() == {"a_conv": 8, "b_conv": 11, "classifier": 4}
    assert np.argmin(norms) != 11
    assert (
        callback.plan.kept("b_conv").tolist() == np.delete(np.arange(12), norms.argmin()).tolist()
    )


class AtOnce:
    """One event, which goes a part of the way."""

    def __init__(self, progress):
        self._progress = progress

    def events(self):
        return {1: self._progress}


# ---- refusals


BAD = [
    ({"ranking": "macs"}, "`ranking` expects one of 'auto', 'score', 'score_per_cost', 'uniform'"),
    ({"scope": "local"}, "Selection expects a dict with some of 'align', .*'scope'"),
    ({"cap": 0}, "`cap` expects None"),
    ({"floor": {"a_conv": -1}}, r"`floor\['a_conv'\]` expects"),
    ({"align": {"a_conv": 2.5}}, r"`align\['a_conv'\]` expects"),
]


@pytest.mark.parametrize("options, message", BAD, ids=str)
def test_senseless_selections_are_refused_at_once(options, message):
    with pytest.raises(InvalidArgument, match=message):
        keras_gcp.plan(None, {"macs": 0.5}, selection=options)
    with pytest.raises(InvalidArgument, match=message):
        keras_gcp.GradualChannelPruning(None, {"macs": 0.5}, selection=options)


UNFIT = [
    ({"floor": {"a_cnv": 4}}, "`floor` names layer 'a_cnv'.*Did you mean 'a_conv'"),
    ({"cap": {"a_bn": 4}}, "`cap` names layer 'a_bn', which is not a layer .* produces channels"),
    ({"cap": {"classifier": 2}}, r"'classifier', whose channels all stay \(output of the model\)"),
    (
        {"align": {"classifier": 2}},
        r"'classifier', whose channels all stay \(output of the model\)",
    ),
    ({"cap": {"b_conv": 2}, "floor": 0.5}, "'b_conv' keep at most 2 of its 12.*at least 6"),
]


@pytest.mark.parametrize("options, message", UNFIT, ids=str)
def test_selections_that_do_not_fit_the_model_are_refused_before_training(options, message):
    model = compiled(networks.plain())
    with pytest.raises(InvalidArgument, match=message):
        keras_gcp.plan(model, {"macs": 0.5}, selection=options)
    with pytest.raises(InvalidArgument, match=message):
        fit(model, [pruning(**options)], epochs=2)
    assert model.get_layer("b_conv").filters == 12
