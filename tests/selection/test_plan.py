"""Plans as data: to text and back, look-ups, composition, refusals."""

from __future__ import annotations

import dataclasses
import json

import keras
import networks
import numpy as np
import pytest
from helpers import flat_outputs, inputs_for, one_line, random_plan, randomise
from keras import layers, ops

import keras_gcp
from keras_gcp.errors import InvalidArgument
from keras_gcp.selection.plan import Plan


@pytest.fixture(scope="module")
def model():
    return randomise(networks.residual())


@pytest.fixture(scope="module")
def plan(model):
    return random_plan(model)


def state_of(model):
    """Everything about a model that a refused plan must leave alone."""
    return model.to_json(), [np.array(w) for w in model.get_weights()]


def assert_same_state(before, after):
    assert before[0] == after[0]
    for a, b in zip(before[1], after[1], strict=True):
        np.testing.assert_array_equal(a, b)


def test_two_plans_are_the_same_cut_even_for_different_budgets(plan):
    other = dataclasses.replace(plan, budget="another one", slack=())
    assert plan.keeps_what_is_kept_by(other)
    assert plan.digest() == other.digest()
    layers_ = dict(plan.layers)
    name = next(name for name, keep in layers_.items() if not keep.all())
    layers_[name] = np.ones_like(layers_[name])
    wider = dataclasses.replace(plan, layers=layers_)
    assert not plan.keeps_what_is_kept_by(wider)
    assert plan.digest() != wider.digest()
    del layers_[name]
    fewer = dataclasses.replace(plan, layers=layers_)
    assert not plan.keeps_what_is_kept_by(fewer)
    assert not fewer.keeps_what_is_kept_by(plan)


# ---- JSON


def test_a_plan_survives_json(plan, model):
    again = Plan.from_json(plan.to_json())
    assert list(again.layers) == list(plan.layers)
    for path, keep in plan.layers.items():
        assert again.layers[path].dtype == bool
        np.testing.assert_array_equal(again.layers[path], keep)
    assert (again.groups, again.before, again.after) == (plan.groups, plan.before, plan.after)
    assert (again.budget, again.notes) == (plan.budget, plan.notes)
    assert again.explain() == plan.explain()


def test_a_plan_from_json_cuts_to_the_same_bits(plan, model):
    first = keras_gcp.apply(model, plan)
    second = keras_gcp.apply(model, Plan.from_json(plan.to_json()))
    for a, b in zip(first.get_weights(), second.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)
    inputs = inputs_for(model)
    for a, b in zip(flat_outputs(first, inputs), flat_outputs(second, inputs), strict=True):
        np.testing.assert_array_equal(a, b)


def edited(plan, change):
    data = json.loads(plan.to_json())
    change(data)
    return json.dumps(data)


@pytest.mark.parametrize(
    "change",
    [
        lambda data: data.pop("layers"),
        lambda data: data.pop("format"),
        lambda data: data.pop("after"),
        lambda data: data["before"].pop("macs"),
        lambda data: data["groups"][0].pop("members"),
        lambda data: data["groups"][0]["members"][0].update(surplus=1),
        lambda data: data.update(layers=[1, 2]),
        lambda data: data["layers"]["stem_conv"].update(kept=[99]),
        lambda data: data["layers"]["stem_conv"].update(kept=[-1]),
        lambda data: data["layers"]["stem_conv"].update(width="eight"),
        lambda data: data["layers"]["stem_conv"].update(width=-8),
        lambda data: data["layers"]["stem_conv"].update(kept=[0.5]),
    ],
)
def test_altered_json_is_refused(plan, change):
    with pytest.raises(InvalidArgument, match="Not a plan written by"):
        Plan.from_json(edited(plan, change))


@pytest.mark.parametrize("text", ["", "no json", "[]", "3", "null", "{}", '"format"'])
def test_what_is_no_plan_is_refused(text):
    with pytest.raises(InvalidArgument, match="Not a plan written by"):
        Plan.from_json(text)


def test_other_formats_are_refused_with_the_known_one(plan):
    with pytest.raises(InvalidArgument, match="format 99; expected 1"):
        Plan.from_json(edited(plan, lambda data: data.update(format=99)))


# ---- look-ups


def test_kept_takes_a_layer_or_its_name(plan, model):
    expected = np.flatnonzero(plan.layers["b1a_conv"])
    np.testing.assert_array_equal(plan.kept("b1a_conv"), expected)
    np.testing.assert_array_equal(plan.kept(model.get_layer("b1a_conv")), expected)


def test_kept_indices_are_those_of_the_weights_that_stay(plan, model):
    narrow = keras_gcp.apply(model, plan)
    wide_bias = ops.convert_to_numpy(model.get_layer("b1b_conv").bias)
    np.testing.assert_array_equal(
        narrow.get_layer("b1b_conv").bias, wide_bias[plan.kept("b1b_conv")]
    )
    wide_mean = ops.convert_to_numpy(model.get_layer("b1b_bn").moving_mean)
    np.testing.assert_array_equal(
        narrow.get_layer("b1b_bn").moving_mean, wide_mean[plan.kept("b1b_bn")]
    )


def test_kept_finds_layers_of_nested_models_by_path_and_by_name():
    model = networks.nested()
    plan = random_plan(model)
    path = "middle/innermost/inner_conv"
    np.testing.assert_array_equal(plan.kept(path), plan.kept("inner_conv"))
    inner = model.get_layer("middle").get_layer("innermost").get_layer("inner_conv")
    np.testing.assert_array_equal(plan.kept(inner), plan.kept(path))
    assert len(plan.kept(path)) == plan.widths()[path]


def test_kept_refuses_unknown_layers_and_lists_known_ones(plan):
    with pytest.raises(InvalidArgument, match="no layer 'stem'.*'stem_conv'"):
        plan.kept("stem")


# ---- one after the other


@pytest.mark.parametrize("name", ["residual", "nested", "flatten_dense", "squeeze_excite"])
def test_two_cuts_are_one_combined_cut(name):
    model = randomise(networks.ALL[name]())
    first = random_plan(model, share=0.7, seed=1)
    between = keras_gcp.apply(model, first)
    second = random_plan(between, share=0.7, seed=2)
    successive = keras_gcp.apply(between, second)
    combined = first.then(second)
    at_once = keras_gcp.apply(model, combined)
    assert combined.original_widths() == first.original_widths()
    assert combined.widths() == second.widths()
    assert (combined.before, combined.after) == (first.before, second.after)
    for a, b in zip(successive.get_weights(), at_once.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)
    inputs = inputs_for(model)
    for a, b in zip(flat_outputs(successive, inputs), flat_outputs(at_once, inputs), strict=True):
        np.testing.assert_array_equal(a, b)


def test_then_refuses_a_plan_that_does_not_continue(plan):
    with pytest.raises(InvalidArgument, match="does not continue this one: layer '"):
        plan.then(plan)
    with pytest.raises(InvalidArgument, match="does not continue this one: layer '"):
        plan.then(random_plan(networks.plain()))


# ---- in words


@pytest.mark.parametrize("name", ["residual", "nested", "depthwise", "two_outputs"])
def test_explain_lists_every_group_and_why_it_is_anchored(name):
    plan = random_plan(networks.ALL[name]())
    text = one_line(plan.explain())
    for group in plan.groups:
        assert group.name in text
        keep = plan.layers[group.members[0].path][list(group.positions)]
        assert f"{keep.sum()} of {len(keep)}" in text
    assert f"{plan.before.macs:,} -> {plan.after.macs:,}" in text
    assert f"{plan.before.parameters:,} -> {plan.after.parameters:,}" in text
    assert any(group.anchored for group in plan.groups)
    assert "output of the model" in text


def test_explain_names_layers_that_could_not_be_followed():
    inputs = keras.Input((6, 4))
    x = keras.ops.cumsum(layers.Dense(6, name="first")(inputs), axis=-1)
    x = layers.Dense(5, name="second")(x)
    plan = random_plan(keras.Model(inputs, layers.Dense(2, name="last")(x)))
    assert "not followed: layer 'cumsum' (class Cumsum) has no rule" in one_line(plan.explain())


# ---- plans for other models


def without_first_channel(plan):
    """A plan text in which one member of a tied group loses another channel."""
    data = json.loads(plan.to_json())
    data["layers"]["stem_conv"]["kept"] = [0]
    return Plan.from_json(json.dumps(data))


@pytest.mark.parametrize("use", ["apply", "narrow"])
@pytest.mark.parametrize(
    "foreign",
    [
        lambda plan: random_plan(networks.plain()),
        lambda plan: without_first_channel(plan),
    ],
    ids=["another network", "untied channels"],
)
def test_a_plan_for_another_model_is_refused_and_changes_nothing(model, plan, foreign, use):
    wrong = foreign(plan)
    before = state_of(model)
    with pytest.raises(InvalidArgument, match="made for another model"):
        if use == "apply":
            keras_gcp.apply(model, wrong)
        else:
            keras_gcp.narrow(model, wrong)
    assert_same_state(before, state_of(model))


def test_a_plan_that_removes_anchored_channels_is_refused(model, plan):
    data = json.loads(plan.to_json())
    data["layers"]["classifier"]["kept"] = [0, 1]
    with pytest.raises(InvalidArgument, match=r"anchored here \(output of the model\)"):
        keras_gcp.apply(model, Plan.from_json(json.dumps(data)))


def test_a_plan_fits_every_model_of_the_same_architecture(plan):
    other = randomise(networks.residual(), seed=5)
    narrow = keras_gcp.apply(other, plan)
    assert keras_gcp.count(narrow).parameters == plan.after.parameters


def test_plans_of_the_first_format_are_read(plan):
    """It said `coin` and `spent` where `resource` and `slack` stand now."""

    def older(data):
        for name in ("slack", "checks"):
            data[name] = [
                {"coin" if key == "resource" else key: value for key, value in one.items()}
                for one in data[name]
            ]
        data.update(format=1, spent=data.pop("slack"))

    assert Plan.from_json(edited(plan, older)).slack == plan.slack
    assert plan.slack
