"""Bytes of the TFLite file: predicted closely, met on the real file, tight."""

from __future__ import annotations

import json
from types import SimpleNamespace

import networks
import numpy as np
import pytest
from fitting import compiled
from helpers import one_line, randomise

import keras_gcp
from keras_gcp import resources
from keras_gcp.channels.trace import trace
from keras_gcp.costs.budget import Budget
from keras_gcp.costs.counting import build_cost_model, full_widths, prunable_groups
from keras_gcp.errors import ImpossibleBudget, UnsupportedModel
from keras_gcp.resources.tflite_files import converted_bytes
from keras_gcp.selection.plan import Plan
from keras_gcp.selection.planning import plan_of

pytestmark = pytest.mark.needs_tensorflow("it writes TFLite files")


def file_bytes(model):
    return converted_bytes(model, "tflite")


def with_one_more(plan, model):
    """For every group that lost channels: the model with one of them put back."""
    channels = trace(model)
    cost_model = build_cost_model(channels)
    for group in prunable_groups(channels):
        keep = np.ones(channels.coupled_count, bool)
        for path, coupled in channels.produced.items():
            keep[coupled[~plan.layers[path]]] = False
        removed = group.coupled[~keep[group.coupled]]
        if len(removed):
            keep[removed[0]] = True
            yield keras_gcp.apply(model, plan_of(channels, keep, cost_model))


@pytest.mark.parametrize(
    "name, budget",
    [
        ("plain", {"tflite_bytes": 0.7}),
        pytest.param("residual", {"tflite_bytes": 0.6}, marks=pytest.mark.slow),
        pytest.param("depthwise", {"tflite_bytes": 0.8}, marks=pytest.mark.slow),
        pytest.param(
            "flatten_dense", {"tflite_bytes": keras_gcp.absolute(4900)}, marks=pytest.mark.slow
        ),
    ],
)
def test_the_real_file_meets_the_budget_and_one_more_channel_would_not(name, budget):
    model = randomise(networks.ALL[name]())
    plan = keras_gcp.plan(model, budget, selection={"align": 1, "floor": 1})
    whole = file_bytes(model)
    limit = Budget.parse(budget).limits_at({"tflite_bytes": whole})["tflite_bytes"]
    real = file_bytes(keras_gcp.apply(model, plan))
    assert real == plan.after.further["tflite_bytes"] == plan.checks[0].measured <= limit
    assert plan.before.further["tflite_bytes"] == whole
    for larger in with_one_more(plan, model):
        assert file_bytes(larger) > limit


@pytest.mark.slow
def test_a_file_is_predicted_within_two_percent():
    model = randomise(networks.residual())
    channels = trace(model)
    further = resources.of_budget(Budget.parse({"tflite_bytes": 0.5}), channels)
    cost_model = build_cost_model(channels, further)
    assert cost_model.cost("tflite_bytes", full_widths(channels)) == file_bytes(model)
    plan = keras_gcp.plan(model, {"channels": 0.5}, selection={"align": 1})
    groups = prunable_groups(channels)
    kept = np.array([plan.layers[group.members[0].path].sum() for group in groups])
    real = file_bytes(keras_gcp.apply(model, plan))
    assert abs(cost_model.cost("tflite_bytes", kept) / real - 1) < 0.02


@pytest.mark.slow
def test_a_new_network_counts_as_if_trained():
    """Its biases are all zero, and a file holds equal constants once."""
    new, trained = networks.residual(), randomise(networks.residual())
    for model in (new, trained):
        channels = trace(model)
        further = resources.of_budget(Budget.parse({"tflite_bytes": 0.5}), channels)
        cost = build_cost_model(channels, further).cost("tflite_bytes", full_widths(channels))
        assert cost == file_bytes(trained)


@pytest.mark.slow
def test_an_int8_file_meets_its_budget():
    model = randomise(networks.residual())
    plan = keras_gcp.plan(model, {"tflite_bytes_int8": 0.8}, selection={"align": 1, "floor": 1})
    real = converted_bytes(keras_gcp.apply(model, plan), "tflite_int8")
    assert real == plan.after.further["tflite_bytes_int8"]
    assert real <= 0.8 * converted_bytes(model, "tflite_int8")


@pytest.fixture
def weighed(monkeypatch):
    """Stands for a conversion: bytes from the number of parameters, and who asked."""
    from keras_gcp.resources import file_size

    asked = []

    def weigh(model, kind, shapes=None):
        asked.append(model.count_params())
        larger = 0 if len(asked) == 1 else 300  # than predicted from the original
        return 4000 + 4 * model.count_params() + larger

    monkeypatch.setattr(file_size, "converted_bytes", weigh)
    return asked


def test_the_limit_is_corrected_until_the_real_file_fits(weighed):
    model = networks.plain()
    plan = keras_gcp.plan(model, {"tflite_bytes": 0.8}, selection={"align": 1, "floor": 1})
    whole, narrow = (4000 + 4 * t.parameters for t in (plan.before, plan.after))
    assert narrow + 300 == plan.after.further["tflite_bytes"] <= 0.8 * whole
    assert weighed[0] == plan.before.parameters and weighed[-1] == plan.after.parameters
    assert len(weighed) >= 3  # the first candidate was 300 bytes too large


def test_files_that_never_fit_are_an_error_with_what_was_measured(monkeypatch):
    from keras_gcp.resources import file_size

    model = networks.plain()
    monkeypatch.setattr(file_size, "converted_bytes", lambda model, kind, shapes: 10_000)
    with pytest.raises(ImpossibleBudget, match="tflite_bytes"):
        keras_gcp.plan(model, {"tflite_bytes": 0.9}, selection={"align": 1, "floor": 1})


def test_explain_and_json_show_the_bytes_and_how_far_off_the_prediction_was(weighed):
    plan = keras_gcp.plan(
        networks.plain(), {"tflite_bytes": 0.8}, selection={"align": 1, "floor": 1}
    )
    text = plan.explain()
    before, after = (int(t.further["tflite_bytes"]) for t in (plan.before, plan.after))
    assert f"tflite_bytes: {before:,} -> {after:,}" in text
    assert f"tflite_bytes of the real file: {after:,}, at most" in one_line(text)
    again = Plan.from_json(json.dumps(json.loads(plan.to_json())))
    assert (again.after, again.checks) == (plan.after, plan.checks)
    assert again.explain() == text


def test_another_backend_is_refused_at_once(monkeypatch):
    from keras_gcp.resources import tflite_files

    config = SimpleNamespace(config=SimpleNamespace(backend=lambda: "jax"))
    monkeypatch.setattr(tflite_files, "keras", config)
    for resource in ("tflite_bytes", "latency_ms"):
        with pytest.raises(UnsupportedModel, match=f"'{resource}'.*'jax'.*KERAS_BACKEND"):
            keras_gcp.plan(networks.plain(), {resource: 0.5})
        with pytest.raises(UnsupportedModel, match="KERAS_BACKEND"):
            keras_gcp.GradualChannelPruning(None, {resource: 0.5}, criterion="l2_norm")


def trained(budget):
    """A small network cut at two events."""
    model = compiled(networks.plain())
    x = np.random.default_rng(0).normal(size=(16, 8, 8, 3)).astype("float32")
    y = np.arange(16) % 4
    schedule = keras_gcp.schedules.linear(1, 2)
    pruning = keras_gcp.GradualChannelPruning(
        (x, y),
        budget,
        schedule,
        criterion="l2_norm",
        selection={"align": 1, "floor": 1},
        verbose=1,
    )
    history = model.fit(x, y, epochs=4, verbose=0, callbacks=[pruning]).history
    return model, pruning, history


def test_in_training_only_the_original_and_the_end_are_converted(weighed, capsys):
    budget = {"tflite_bytes": 0.75, "peak_activation_bytes": 0.9}
    model, pruning, history = trained(budget)
    wide, narrow = pruning.plan.before.parameters, model.count_params()
    assert weighed[0] == wide and weighed[-1] == narrow
    assert pruning.events[0].parameters_after not in weighed  # predicted
    printed = capsys.readouterr().out
    for resource, share in budget.items():
        whole, after = pruning.plan.before[resource], pruning.events[-1].further[resource]
        left = history[f"{resource}_left"]
        assert (left[0], left[-1]) == pytest.approx((1, after / whole))
        assert after <= share * whole
        assert f"{resource} " in printed
    (check,) = pruning.plan.checks
    assert check.measured == pruning.plan.after.further["tflite_bytes"]


@pytest.mark.slow
def test_training_ends_with_a_file_within_the_budget():
    model, pruning, _ = trained({"tflite_bytes": 0.75})
    assert file_bytes(model) <= 0.75 * pruning.plan.before.further["tflite_bytes"]
