"""Sensitivities are measured as said, once, and survive being killed."""

from __future__ import annotations

import json

import keras
import networks
import numpy as np
import pytest
from helpers import one_line, randomise

import keras_gcp
from keras_gcp.channels.trace import trace
from keras_gcp.costs.counting import build_cost_model, prunable_groups
from keras_gcp.criteria import coupled_scores, get
from keras_gcp.errors import InvalidArgument, UnsupportedModel
from keras_gcp.evaluation.sensitivity_result import GroupSensitivity, SensitivityPoint
from keras_gcp.selection.planning import plan_of

SHARES = (1.0, 0.5, 0.25)


class CountedAccuracy:
    """Accuracy, and how often it was asked for."""

    def __init__(self):
        self.calls = 0

    def __call__(self, y, p):
        self.calls += 1
        return (p.argmax(-1) == y).mean()


@pytest.fixture(scope="module")
def result(model, data):
    return keras_gcp.sensitivity(model, data, shares=SHARES, batch_size=32, verbose=0)


def test_all_channels_kept_is_the_unmasked_metric_exactly(result, model, data):
    assert result.baseline == model.evaluate(*data, verbose=0, return_dict=True)["accuracy"] == 1.0
    for group in result.groups:
        assert group.points[0].kept == group.width
        assert group.points[0].value == result.baseline


def test_every_point_is_the_metric_of_the_model_cut_in_that_group_alone(residual):
    model, data = residual
    result = keras_gcp.sensitivity(model, data, shares=SHARES, batch_size=32, verbose=0)
    channels = trace(model)
    cost_model = build_cost_model(channels)
    scores = coupled_scores(get("l2_norm")(model, channels, None), channels, "rank")
    groups = {group.name: group for group in prunable_groups(channels)}
    assert [group.name for group in result.groups] == list(groups)
    for measured in result.groups:
        coupled = groups[measured.name].coupled
        point = measured.points[1]
        assert point.kept == max(round(0.5 * len(coupled)), groups[measured.name].least)
        keep = np.ones(channels.coupled_count, bool)
        keep[coupled[np.argsort(-scores[coupled], kind="stable")[point.kept :]]] = False
        cut = keras_gcp.apply(model, plan_of(channels, keep, cost_model))
        accuracy = (keras.ops.convert_to_numpy(cut(data[0])).argmax(-1) == data[1]).mean()
        assert point.value == pytest.approx(accuracy, abs=1e-6)
    assert min(point.value for group in result.groups for point in group.points) < 0.9


def test_the_model_and_its_training_are_left_alone(model, data, result):
    assert model.evaluate(*data, verbose=0, return_dict=True)["accuracy"] == result.baseline


def test_a_half_written_cache_is_completed_with_the_missing_measurements_only(
    model, data, tmp_path
):
    path, first, second = tmp_path / "folder" / "cache.jsonl", CountedAccuracy(), CountedAccuracy()
    options = {"shares": SHARES, "cache": path, "batch_size": 32, "verbose": 0}
    whole = keras_gcp.sensitivity(model, data, metric=first, **options)
    lines = path.read_bytes().splitlines(keepends=True)
    assert first.calls == len(lines) - 1  # One line is the header.
    path.write_bytes(b"".join(lines[:4]) + lines[4][:9])  # killed while writing the fourth value
    resumed = keras_gcp.sensitivity(model, data, metric=second, **options)
    assert second.calls == first.calls - 3
    assert resumed == whole
    assert path.read_bytes().splitlines(keepends=True) == lines
    third = CountedAccuracy()
    assert keras_gcp.sensitivity(model, data, metric=third, **options) == whole
    assert third.calls == 0


def test_other_shares_add_to_a_cache(model, data, tmp_path):
    first, second = CountedAccuracy(), CountedAccuracy()
    options = {"cache": tmp_path / "cache.jsonl", "batch_size": 32, "verbose": 0}
    one = keras_gcp.sensitivity(model, data, metric=first, shares=[0.5], **options)
    both = keras_gcp.sensitivity(model, data, metric=second, shares=[0.75, 0.5], **options)
    assert second.calls == len(both.groups)
    assert [group.points[1] for group in both.groups] == [group.points[0] for group in one.groups]


@pytest.fixture(scope="module")
def cached(model, data, tmp_path_factory):
    path = tmp_path_factory.mktemp("cache") / "cache.jsonl"
    keras_gcp.sensitivity(model, data, shares=[0.5], cache=path, verbose=0)
    return path


@pytest.mark.parametrize(
    ("change", "difference"),
    [
        ("weights", "weights: "),
        ("data", "data: "),
        ("metric", "metric: 'compiled metric accuracy' there, 'compiled loss' here"),
        ("criterion", "criterion: 'l2_norm' there, 'l1_norm' here"),
        ("exclude", "exclude: 'none' there, 'a_conv' here"),
        ("sample", "sample: 'none' there"),
        ("seed", "seed: '0' there, '1' here"),
    ],
)
def test_a_cache_of_something_else_is_refused_and_the_difference_named(
    change, difference, model, data, cached
):
    before, (x, y) = cached.read_bytes(), data
    options = {"shares": [0.5], "cache": cached, "verbose": 0}
    bias = model.get_layer("classifier").bias
    value = np.array(keras.ops.convert_to_numpy(bias))
    if change == "weights":
        bias.assign(value + 1)
    elif change == "data":
        data = (x[::-1].copy(), y)
    else:
        other = {"metric": "loss", "criterion": "l1_norm", "exclude": "a_conv", "seed": 1}
        options[change] = other.get(change, data)
        options.setdefault("criterion", "l2_norm")  # which "auto" is without a sample
    try:
        with pytest.raises(InvalidArgument) as error:
            keras_gcp.sensitivity(model, data, **options)
    finally:
        bias.assign(value)
    assert f"another measurement ({difference}" in str(error.value)
    assert cached.read_bytes() == before


@pytest.mark.parametrize(
    "content",
    [b"my notes", b"my notes\nmore", b'{"format": 1}\n', b"\xff\xfe\n", b"[1]\n", b"null\n"],
)
def test_a_file_that_is_no_cache_is_refused_and_left_as_it_is(content, model, data, tmp_path):
    path = tmp_path / "notes.txt"
    path.write_bytes(content)
    with pytest.raises(InvalidArgument, match="is not a cache"):
        keras_gcp.sensitivity(model, data, cache=path, verbose=0)
    assert path.read_bytes() == content


def test_a_damaged_line_in_the_middle_is_refused(model, data, cached, tmp_path):
    lines = cached.read_text().splitlines(keepends=True)
    path = tmp_path / "damaged.jsonl"
    path.write_text("".join([*lines[:2], "{broken\n", *lines[3:]]))
    with pytest.raises(InvalidArgument, match="is not a cache"):
        keras_gcp.sensitivity(model, data, shares=[0.5], cache=path, verbose=0)


def test_the_result_survives_json_and_is_explained(result):
    again = keras_gcp.Sensitivity.from_dict(json.loads(json.dumps(result.to_dict())))
    assert again == result
    text = result.explain()
    for group in result.groups:
        assert group.name in text and f"{group.points[-1].value:.4f}" in text
    assert "1.0000, on 96 examples" in one_line(text) and "25%" in text


@pytest.mark.parametrize("values", [{}, {"format": 9}, {"format": 1, "metric": "x"}, None])
def test_what_is_no_sensitivity_is_refused(values):
    with pytest.raises(InvalidArgument):
        keras_gcp.Sensitivity.from_dict(values)


def test_progress_is_shown_unless_silent(model, data, capsys):
    keras_gcp.sensitivity(model, data, shares=[0.5], verbose=1)
    total = 1 + len(prunable_groups(trace(model)))
    assert f"{total}/{total}" in capsys.readouterr().out
    keras_gcp.sensitivity(model, (data[0][:8], data[1][:8]), shares=[0.5], verbose=0)
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("shares", [(), (0,), (1.1,), "half", None, (float("nan"),)])
def test_shares_out_of_range_are_refused(shares, model, data):
    with pytest.raises(InvalidArgument, match="`shares` expects"):
        keras_gcp.sensitivity(model, data, shares=shares)


def test_data_that_do_not_fit_and_models_without_prunable_channels_are_refused(model, data):
    with pytest.raises(InvalidArgument, match="does not fit model"):
        keras_gcp.sensitivity(model, (data[0][:, :4], data[1]))
    with pytest.raises(InvalidArgument, match="needs examples"):
        keras_gcp.sensitivity(model, data, criterion="taylor", verbose=0)
    single = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)])
    with pytest.raises(UnsupportedModel, match="no channels that may be pruned"):
        keras_gcp.sensitivity(single, (np.zeros((2, 3)), np.zeros(2)))


def with_idle_branch():
    """Two equal branches, of which the classifier hardly listens to one."""
    inputs = keras.Input((8, 8, 3))
    idle = keras.layers.Conv2D(16, 3, activation="relu", name="idle")(inputs)
    busy = keras.layers.Conv2D(16, 3, activation="relu", name="busy")(inputs)
    x = keras.layers.Concatenate()([idle, busy])
    x = keras.layers.GlobalAveragePooling2D()(x)
    model = randomise(keras.Model(inputs, keras.layers.Dense(4, name="classifier")(x)))
    kernel = model.get_layer("classifier").kernel
    listening = np.where(np.arange(32) < 16, 1e-6, 1.0)[:, None]
    kernel.assign(keras.ops.convert_to_numpy(kernel) * listening)
    return model


def test_a_group_that_is_insensitive_is_pruned_more():
    model = with_idle_branch()
    x = np.random.default_rng(0).normal(size=(128, 8, 8, 3)).astype("float32")
    y = keras.ops.convert_to_numpy(model(x)).argmax(-1)
    prior = keras_gcp.sensitivity(model, (x, y), shares=(0.75, 0.5, 0.25), verbose=0)
    flat, steep = prior.groups
    assert {p.value for p in flat.points} == {1.0} and steep.points[-1].value < 0.9
    budget, options = {"channels": 0.6}, {"align": 1, "floor": 1}
    without = keras_gcp.plan(model, budget, selection=options).widths()
    prior_widths = keras_gcp.plan(model, budget, selection={"prior": prior, **options}).widths()
    assert without["idle"] > 4 and without["busy"] < 16  # By their norms, the two are alike.
    harmless = min([p.kept for p in steep.points if p.value == 1.0], default=16)
    assert prior_widths["busy"] >= harmless and prior_widths["busy"] > without["busy"]
    assert sum(prior_widths.values()) == sum(without.values())
    assert prior_widths["idle"] < without["idle"]
    cut = keras_gcp.prune(model, budget, selection={"prior": prior, **options})
    assert (keras.ops.convert_to_numpy(cut(x)).argmax(-1) == y).mean() == 1.0


def test_a_prior_of_another_model_or_none_at_all_is_refused(result, model):
    with pytest.raises(InvalidArgument, match="group 'stem_conv' was not measured"):
        keras_gcp.plan(networks.residual(), {"macs": 0.5}, selection={"prior": result})
    with pytest.raises(InvalidArgument, match="`prior` expects"):
        keras_gcp.plan(model, {"macs": 0.5}, selection={"prior": {"a_conv": 1.0}})


def pruned_with(prior, budget, criterion="l2_norm"):
    """The callback after two events, of a training in which no weight moves."""
    model = with_idle_branch()
    model.compile(keras.optimizers.SGD(0.0), "sparse_categorical_crossentropy")
    x, y = np.ones((8, 8, 8, 3), "float32"), np.arange(8) % 4
    schedule = keras_gcp.schedules.linear(0, 1, 1)
    pruning = keras_gcp.GradualChannelPruning(
        (x, y),
        budget,
        schedule,
        criterion,
        selection={"align": 1, "floor": 1, "prior": prior},
        verbose=0,
    )
    model.fit(x, y, batch_size=8, epochs=2, callbacks=[pruning], verbose=0)
    return pruning


def test_in_a_fit_a_prior_leads_to_the_same_widths_as_in_one_plan():
    budget = {"channels": 0.6}
    groups = [measured("idle", 16, (1.0, 1.0)), measured("busy", 16, (0.9, 0.5))]
    prior = keras_gcp.Sensitivity("accuracy", True, 1.0, 128, tuple(groups))
    expected = keras_gcp.plan(
        with_idle_branch(), budget, selection={"align": 1, "floor": 1, "prior": prior}
    ).widths()
    found = pruned_with(prior, budget).plan.widths()
    assert found == expected and found["idle"] < 4 < 12 < found["busy"]


def measured(name, width, values):
    pairs = zip((12, 4), values, strict=True)
    points = tuple(SensitivityPoint(kept / width, kept, value) for kept, value in pairs)
    return GroupSensitivity(name, (name,), width, points)


def negative(model, channels, sample):
    return {"idle": -np.ones(16), "busy": np.ones(16)}


@pytest.mark.parametrize(
    ("names", "criterion", "message"),
    [
        (("idle", "other"), "l2_norm", "another model: group 'busy' was not measured"),
        (("idle", "busy"), negative, "group 'idle' has negative ones"),
    ],
)
def test_a_prior_that_does_not_fit_is_refused_before_training(names, criterion, message):
    groups = tuple(measured(name, 16, (0.9, 0.5)) for name in names)
    prior = keras_gcp.Sensitivity("accuracy", True, 1.0, 128, groups)
    with pytest.raises(InvalidArgument, match=message):
        pruned_with(prior, {"channels": 0.6}, criterion)


def test_what_is_no_sensitivity_is_refused_at_construction():
    with pytest.raises(InvalidArgument, match="`prior` expects"):
        keras_gcp.GradualChannelPruning(
            None, {"macs": 0.5}, criterion="l2_norm", selection={"prior": [0.1]}
        )
