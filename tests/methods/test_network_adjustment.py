"""Network Adjustment: what layers make of their multiply-adds, and widths that go by it."""

from __future__ import annotations

import math

import keras
import networks
import numpy as np
import pytest
from helpers import flat_outputs, inputs_for, randomise
from keras import layers

import keras_gcp
from keras_gcp.channels.trace import trace
from keras_gcp.costs.counting import build_cost_model, full_widths, prunable_groups
from keras_gcp.errors import ImpossibleBudget, InvalidArgument, UnsupportedModel
from keras_gcp.methods import network_adjustment, utilization_ratios
from keras_gcp.methods.adjustment.layers import network_of
from keras_gcp.methods.adjustment.result import NetworkAdjustment
from keras_gcp.methods.adjustment.utilization_result import UtilizationRatios, rates_of_equal_cost
from keras_gcp.methods.adjustment.warm_start import warm_start


def compiled(model):
    model.compile("sgd", "sparse_categorical_crossentropy", run_eagerly=True)
    return model


# ---- ratios

COPIES = 3


def hand_made():
    """Four layers side by side, read by one.

    The second has its channels three times, each read with a third of the weight: together with the
    first layer's they say the same. Nothing reads the third one. The fourth has the same weights as
    the first, and is excluded.
    """
    rng = np.random.default_rng(0)
    inputs = keras.Input((6, 6, 3))
    names = {"once": 4, "thrice": 4 * COPIES, "idle": 4}
    branches = [
        layers.Conv2D(width, 3, activation="relu", name=n)(inputs) for n, width in names.items()
    ]
    x = layers.Concatenate()(branches)
    x = layers.Conv2D(6, 1, activation="relu", name="reader")(x)
    x = layers.GlobalAveragePooling2D()(x)
    model = keras.Model(inputs, layers.Dense(4, activation="softmax", name="classifier")(x))
    kernel, read = rng.normal(size=(3, 3, 3, 4)), rng.normal(size=(1, 1, 4, 6))
    for name, copies in (("once", 1), ("thrice", COPIES), ("idle", 1)):
        model.get_layer(name).kernel.assign(np.tile(kernel, copies))
    thrice = np.tile(read / COPIES, (1, 1, COPIES, 1))
    reader = np.concatenate([read, thrice, np.zeros_like(read)], axis=2)
    model.get_layer("reader").kernel.assign(reader)
    model.get_layer("classifier").kernel.assign(rng.normal(size=(6, 4)))
    return compiled(model)


@pytest.fixture(scope="module")
def measured():
    """`(model, its data, its ratios)`; the labels are what the model says itself."""
    model = hand_made()
    x = np.random.default_rng(1).normal(size=(96, 6, 6, 3)).astype("float32")
    y = flat_outputs(model, x)[0].argmax(axis=1)
    before = [np.array(one) for one in model.get_weights()]
    ratios = utilization_ratios(model, (x, y), base_rate=0.2, repeats=4, verbose=0)
    for now, then in zip(model.get_weights(), before, strict=True):
        np.testing.assert_array_equal(now, then)
    return model, (x, y), ratios


def test_a_layer_that_nothing_reads_makes_nothing_of_its_multiply_adds(measured):
    ratios = measured[2].ratios
    assert list(ratios) == ["once", "thrice", "idle", "reader"]
    assert ratios["idle"] == pytest.approx(0, abs=1e-5)
    assert min(ratios["once"], ratios["reader"]) > 0.1


def test_a_layer_of_copies_makes_less_of_its_multiply_adds_than_the_layer_without(measured):
    ratios = measured[2].ratios
    assert 0 < ratios["thrice"] < ratios["once"] / 2


def test_ratios_are_the_loss_per_share_of_multiply_adds_that_the_dropout_takes_away(measured):
    model, (x, y), found = measured
    assert found.baseline == pytest.approx(model.evaluate(x, y, verbose=0), rel=1e-5)
    assert found.macs == keras_gcp.count(model).macs and found.examples == 96
    for group in found.groups:
        lost = group.rate * group.width * group.macs_per_channel / found.macs
        assert group.ratio == pytest.approx((group.value - found.baseline) / lost)


def expected_macs(channels, place, rate):
    """Multiply-adds of a network of whose group each channel is gone with some probability."""
    cost_model, full = build_cost_model(channels), full_widths(channels)
    total, width = 0.0, int(full[place])
    for left in range(width + 1):
        kept = full.copy()
        kept[place] = left
        chance = math.comb(width, left) * (1 - rate) ** left * rate ** (width - left)
        total += chance * cost_model.cost("macs", kept)
    return total


def test_all_layers_are_expected_to_lose_the_same_multiply_adds(measured):
    model, _, found = measured
    channels = trace(model)
    losses = [
        found.macs - expected_macs(channels, place, group.rate)
        for place, group in enumerate(found.groups)
    ]
    costs = [group.width * group.macs_per_channel for group in found.groups]
    np.testing.assert_allclose(losses, 0.2 * np.mean(costs), rtol=1e-6)


def test_no_rate_is_above_one_half_and_ratios_are_by_what_is_really_dropped():
    rates = rates_of_equal_cost([10, 10, 10], [1000, 500, 1], 0.1)
    np.testing.assert_allclose(rates, [0.1 * 1501 / 3000, 0.1 * 1501 / 1500, 0.5])


def test_the_same_seed_measures_the_same_and_another_one_something_else(measured):
    model, data, _ = measured
    x, y = data[0][:32], data[1][:32]
    first, again, other = (
        utilization_ratios(model, (x, y), repeats=1, seed=seed, verbose=0) for seed in (1, 1, 2)
    )
    assert first == again and first.ratios != other.ratios


def test_excluded_layers_are_not_measured_and_accuracy_falls_where_it_is_asked_for(measured):
    model, data, _ = measured
    found = utilization_ratios(
        model, data, "accuracy", base_rate=0.4, repeats=2, exclude=["reader"], verbose=0
    )
    assert list(found.ratios) == ["once", "thrice", "idle"] and found.baseline == 1
    assert found.ratios["once"] > 0 and found.ratios["idle"] == 0


def test_ratios_survive_json_and_print(measured):
    found = measured[2]
    assert UtilizationRatios.from_dict(found.to_dict()) == found
    assert all(name in str(found) and name in found._repr_html_() for name in found.ratios)
    with pytest.raises(InvalidArgument, match="format 99"):
        UtilizationRatios.from_dict({**found.to_dict(), "format": 99})


def test_as_a_prior_they_take_channels_from_layers_that_make_little_of_them(measured):
    model, _, ratios = measured

    def widths(prior):
        selection = {"align": 1, "floor": 1, "prior": prior}
        return keras_gcp.plan(model, {"macs": 0.6}, "l2_norm", selection=selection).widths()

    without, found = widths(None), widths(ratios)
    assert found["idle"] == 1 < without["idle"]
    assert found["once"] == 4 >= without["once"]
    rest = ("once", "thrice", "reader")
    assert sum(found[name] for name in rest) > sum(without[name] for name in rest)


def test_a_prior_weighs_scores_by_the_loss_per_channel(measured):
    ratios = measured[2]
    groups = {group.name: group.coupled for group in prunable_groups(trace(measured[0]))}
    count = 1 + max(int(coupled.max()) for coupled in groups.values())
    scores = np.random.default_rng(0).random(count)
    found = ratios.weighted(scores, groups)
    drops = {g.name: max(g.ratio, 0) * g.macs_per_channel for g in ratios.groups}
    mean = np.mean([drops[name] for name, coupled in groups.items() for _ in coupled])
    for name, coupled in groups.items():
        np.testing.assert_allclose(found[coupled], scores[coupled] * (drops[name] / mean + 0.01))
    with pytest.raises(InvalidArgument, match="group 'other' was not measured"):
        ratios.weighted(scores, {"other": groups["once"]})
    with pytest.raises(InvalidArgument, match="group 'once' has negative ones"):
        ratios.weighted(-scores, groups)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"base_rate": 0}, "`base_rate` expects a probability"),
        ({"base_rate": 0.6}, "`base_rate` expects a probability"),
        ({"repeats": 0}, "`repeats` expects"),
        ({"metric": "nonsense"}, "There is no metric 'nonsense'"),
    ],
)
def test_arguments_out_of_range_are_refused(measured, options, told):
    with pytest.raises(InvalidArgument, match=told):
        utilization_ratios(measured[0], measured[1], **options)


def test_a_model_whose_loss_is_no_number_is_refused(measured):
    model = compiled(keras.models.clone_model(measured[0]))
    model.get_layer("classifier").bias.assign(np.full(4, np.nan))
    with pytest.raises(InvalidArgument, match="is nan on `data`"):
        utilization_ratios(model, measured[1], verbose=0)


def test_channels_that_cannot_be_dropped_are_named():
    inputs = keras.Input((8,))
    x = layers.Dense(8, activation="relu", name="mixed")(inputs)
    x = layers.Dense(8, activation="relu", name="free")(layers.LayerNormalization(name="norm")(x))
    model = compiled(keras.Model(inputs, layers.Dense(4, activation="softmax")(x)))
    data = np.zeros((8, 8), "float32"), np.arange(8) % 4
    with pytest.raises(UnsupportedModel, match=r"'mixed' cannot be dropped.*'norm'.*exclude"):
        utilization_ratios(model, data, verbose=0)
    found = utilization_ratios(model, data, exclude=["mixed"], repeats=1, verbose=0)
    assert list(found.ratios) == ["free"]


def mobilenet_v2():
    return keras.applications.MobileNetV2((32, 32, 3), alpha=0.35, weights=None, classes=4)


@pytest.mark.slow
@pytest.mark.parametrize(
    "builder",
    [
        networks.concatenation,
        networks.padded_shortcut,
        networks.depthwise,
        networks.squeeze_excite,
        networks.grouped,
        lambda: keras_gcp.models.resnet20(input_shape=(16, 16, 3), classes=4),
        lambda: keras_gcp.models.resnet20(input_shape=(16, 16, 3), classes=4, shortcut="pad"),
        lambda: keras_gcp.models.vgg16(input_shape=(32, 32, 3), classes=4, width=8, hidden=32),
        mobilenet_v2,
    ],
    ids=["concatenation", "padded", "depthwise", "squeeze_excite", "grouped"]
    + ["resnet20", "resnet20_pad", "vgg16", "mobilenet_v2"],
)
def test_networks_in_use_are_measured_group_by_group_and_do_not_change(builder):
    model = compiled(randomise(builder()))
    x, y = inputs_for(model, 8), np.arange(8) % 4
    before = [np.array(one) for one in model.get_weights()]
    found = utilization_ratios(model, (x, y), repeats=1, base_rate=0.2, verbose=0)
    channels = trace(model)
    groups = [group for group in prunable_groups(channels) if len(group.coupled) > 1]
    assert list(found.ratios) == [group.name for group in groups]
    assert np.isfinite(list(found.ratios.values())).all() and any(found.ratios.values())
    costs = np.array([group.rate * group.width * group.macs_per_channel for group in found.groups])
    free = np.array([group.rate < 0.5 for group in found.groups])
    np.testing.assert_allclose(costs[free], costs[free][0])
    assert (costs[~free] < costs[free][0]).all()
    for now, then in zip(model.get_weights(), before, strict=True):
        np.testing.assert_array_equal(now, then)
    plan = keras_gcp.plan(model, {"macs": 0.7}, "l2_norm", selection={"prior": found})
    assert plan.after.macs <= 0.7 * plan.before.macs


# ---- the search

WIDTHS = {"first": 12, "second": 8, "third": 8}


def build(widths):
    """Three layers; the second is tied to a layer that is not named."""
    inputs = keras.Input((6, 6, 2))
    x = layers.Conv2D(widths["first"], 3, padding="same", activation="relu", name="first")(inputs)
    x = layers.Conv2D(widths["second"], 3, padding="same", name="second")(x)
    x = layers.ReLU()(layers.BatchNormalization()(x))
    y = layers.Conv2D(widths["second"], 3, padding="same", name="tied")(x)
    x = layers.Add(name="sum")([x, y])
    x = layers.Conv2D(widths["third"], 3, activation="relu", name="third")(x)
    x = layers.GlobalAveragePooling2D()(x)
    return keras.Model(inputs, layers.Dense(3, activation="softmax", name="classifier")(x))


class Training:
    """A stand-in for training: random weights; fails when told."""

    def __init__(self, fails_at=None):
        self.widths, self.sizes, self._fails_at = [], [], fails_at

    def __call__(self, model, data):
        if len(self.widths) == self._fails_at:
            raise RuntimeError("the machine went away")
        rng = np.random.default_rng(len(self.widths))
        for variable in randomise(model, seed=len(self.widths)).weights:
            if variable.path.endswith("kernel"):
                variable.assign(rng.normal(size=variable.shape) / np.sqrt(variable.shape[-2]))
        compiled(model)
        self.widths.append({name: model.get_layer(name).filters for name in WIDTHS})
        self.sizes.append(len(data[0]))


def never(model, data):
    raise AssertionError("It was trained.")


@pytest.fixture(scope="module")
def data():
    rng = np.random.default_rng(0)
    return rng.normal(size=(60, 6, 6, 2)).astype("float32"), np.arange(60) % 3


OPTIONS = {"iterations": 2, "repeats": 1, "base_rate": 0.2, "step": 0.3, "least": 2, "verbose": 0}


@pytest.fixture(scope="module")
def search(data, tmp_path_factory):
    """`(result, trainings, results on the way, folder)` of a search with two iterations."""
    keras.utils.set_random_seed(0)
    training, seen = Training(), []
    folder = tmp_path_factory.mktemp("search")
    found = network_adjustment(
        build, WIDTHS, training, data, directory=folder, on_round=seen.append, **OPTIONS
    )
    return found, training, seen, folder


def test_every_network_has_the_multiply_adds_of_the_start_within_a_percent(search):
    found, training, _, _ = search
    assert len(found.rounds) == 3 == len(training.widths)
    start = keras_gcp.count(build(WIDTHS)).macs
    for one in found.rounds:
        assert one.macs == keras_gcp.count(build(dict(one.widths))).macs
        assert abs(one.macs - start) <= 0.01 * start
    assert [dict(one.widths) for one in found.rounds] == training.widths
    assert training.widths[0] == WIDTHS != training.widths[1]


def test_the_layer_with_the_greatest_ratio_gets_wider_against_the_one_with_the_least(search):
    for before, after in zip(search[0].rounds, search[0].rounds[1:], strict=False):
        order = sorted(before.ratios, key=before.ratios.get)
        gained = {name: after.widths[name] / before.widths[name] for name in WIDTHS}
        assert gained[order[-1]] > gained[order[0]]


def test_a_tenth_is_held_out_and_what_is_found_is_told_round_by_round(search):
    found, training, seen, _ = search
    assert training.sizes == [54] * 3 and found.rounds[0].measured.examples == 6
    assert [len(one.rounds) for one in seen] == [1, 2, 3] and seen[-1] == found
    assert found.best.value == min(one.value for one in found.rounds)
    assert found.widths == dict(found.best.widths)
    for shown in (str(found), found._repr_html_()):
        assert all(name in shown for name in (*WIDTHS, "MACs", "loss"))
    assert f"{len(found.rounds)} rounds" in repr(found)


def test_the_folder_has_every_round_and_model(search):
    found, _, _, folder = search
    assert NetworkAdjustment.load(folder) == found
    for one in found.rounds:
        model = keras.models.load_model(folder / one.file)
        assert {name: model.get_layer(name).filters for name in WIDTHS} == dict(one.widths)
        assert model.count_params() == one.parameters


def test_a_search_whose_training_failed_goes_on_where_it_was(search, data, tmp_path):
    found = search[0]
    with pytest.raises(RuntimeError, match="went away") as failure:
        network_adjustment(build, WIDTHS, Training(1), data, directory=tmp_path, **OPTIONS)
    assert "had found until then" in failure.value.__notes__[0]
    assert "first" in failure.value.__notes__[0]
    training = Training()
    training.widths.append(WIDTHS)  # So that its weights are those of the second training.
    again = network_adjustment(build, WIDTHS, training, data, directory=tmp_path, **OPTIONS)
    assert len(training.sizes) == 2
    assert [one.widths for one in again.rounds] == [one.widths for one in found.rounds]
    known = network_adjustment(build, WIDTHS, never, data, directory=tmp_path, **OPTIONS)
    assert known == again


@pytest.mark.parametrize(
    ("options", "told"),
    [({"step": 0.2}, "step: '0.3' there, '0.2' here"), ({"seed": 5}, "held out: .* seed: '0'")],
)
def test_the_folder_of_another_search_is_refused(search, data, options, told):
    settings = {**OPTIONS, **options}
    with pytest.raises(InvalidArgument, match=told):
        network_adjustment(build, WIDTHS, never, data, directory=search[3], **settings)


@pytest.mark.slow
def test_other_layers_that_follow_the_widths_are_counted_as_they_are_built(data):
    """A layer of half the first one's channels, which is not named."""

    def following(widths):
        inputs = keras.Input((6, 6, 2))
        x = layers.Conv2D(widths["first"], 3, padding="same", name="first")(inputs)
        x = layers.Conv2D(widths["first"] // 2, 3, padding="same", name="follows")(x)
        x = layers.Conv2D(widths["second"], 3, padding="same", name="second")(x)
        x = layers.Flatten()(x)
        return keras.Model(inputs, layers.Dense(3, activation="softmax")(x))

    start = {"first": 40, "second": 30}
    settings = {**OPTIONS, "iterations": 1, "step": 0.4}

    def training(model, _):
        compiled(randomise(model))

    found = network_adjustment(following, start, training, data, **settings)
    macs = [keras_gcp.count(following(dict(one.widths))).macs for one in found.rounds]
    assert found.rounds[1].widths != start and macs == [one.macs for one in found.rounds]
    assert abs(macs[1] - macs[0]) <= 0.01 * macs[0]


@pytest.mark.slow
def test_widths_are_aligned_where_it_is_asked_for(data):
    start = {"first": 48, "second": 32, "third": 64}
    settings = {**OPTIONS, "iterations": 1, "align": {"*": 4, "third": 2}}
    keras.utils.set_random_seed(0)

    def training(model, _):
        compiled(randomise(model))

    widths = network_adjustment(build, start, training, data, **settings).rounds[1].widths
    assert widths != start
    assert [width % 4 for width in (widths["first"], widths["second"])] == [0, 0]
    assert widths["third"] % 2 == 0


@pytest.mark.slow
def test_training_with_dropout_sees_gates_and_what_is_kept_has_none(data, tmp_path):
    rates = []

    def training(model, _):
        rates.extend(gate.rate for gate in keras_gcp.gates.gates_of(model))
        compiled(model)

    settings = {**OPTIONS, "iterations": 1, "train_rate": 0.1}
    found = network_adjustment(build, WIDTHS, training, data, directory=tmp_path, **settings)
    assert rates == pytest.approx([0.1] * 6)
    model = keras.models.load_model(tmp_path / found.rounds[1].file)
    assert not keras_gcp.gates.gates_of(model)
    assert model.count_params() == found.rounds[1].parameters


# ---- warm start


def networks_of_other_widths(builder, before, after):
    x = np.zeros((4, *builder(before).input_shape[1:]), "float32")
    data = x, np.arange(4) % 3
    old = network_of(randomise(builder(before), 1), before, data, 0)
    new = network_of(randomise(builder(after), 2), after, data, 0)
    return old, new


def test_a_wider_network_begins_with_what_the_trained_one_computes():
    old, new = networks_of_other_widths(build, WIDTHS, {"first": 15, "second": 9, "third": 8})
    fresh = np.array(new.model.get_layer("first").kernel)
    warm_start(new.channels, new.groups, old.channels, old.groups)
    x = inputs_for(old.model, 5)
    np.testing.assert_allclose(
        flat_outputs(new.model, x)[0], flat_outputs(old.model, x)[0], rtol=1e-4, atol=1e-6
    )
    # Further channels have the weights that they were built with, and can be trained.
    now = np.array(new.model.get_layer("first").kernel)
    np.testing.assert_array_equal(now[..., 12:], fresh[..., 12:])


def knotted(widths):
    """Additions, concatenations, a depthwise layer and a flattened map."""
    inputs = keras.Input((8, 8, 2))
    x = layers.Conv2D(widths["stem"], 3, padding="same", activation="relu", name="stem")(inputs)
    y = layers.DepthwiseConv2D(3, padding="same")(x)
    y = layers.BatchNormalization()(y)
    y = layers.Conv2D(widths["stem"], 1, activation="relu")(y)
    x = layers.Add()([x, y])
    a = layers.Conv2D(widths["left"], 3, strides=2, activation="relu", name="left")(x)
    b = layers.Conv2D(widths["right"], 3, strides=2, activation="relu", name="right")(x)
    x = layers.Concatenate()([a, b, a])
    x = layers.Flatten()(layers.BatchNormalization()(x))
    x = layers.Dense(widths["hidden"], activation="relu", name="hidden")(x)
    return keras.Model(inputs, layers.Dense(3, activation="softmax", name="classifier")(x))


@pytest.mark.slow
@pytest.mark.parametrize("more", [(4, 3, 2, 5), (0, 1, 0, 3), (2, 0, 0, 0)])
def test_a_wider_network_with_additions_and_concatenations_begins_with_the_same(more):
    before = {"stem": 17, "left": 5, "right": 6, "hidden": 7}
    after = {name: width + n for (name, width), n in zip(before.items(), more, strict=True)}
    old, new = networks_of_other_widths(knotted, before, after)
    warm_start(new.channels, new.groups, old.channels, old.groups)
    x = inputs_for(old.model, 5)
    np.testing.assert_allclose(
        flat_outputs(new.model, x)[0], flat_outputs(old.model, x)[0], rtol=1e-3, atol=1e-5
    )


def test_where_layers_get_narrower_it_computes_what_the_cut_network_does():
    after = {"first": 10, "second": 11, "third": 5}
    old, new = networks_of_other_widths(build, WIDTHS, after)
    warm_start(new.channels, new.groups, old.channels, old.groups)
    cut = old.model
    for name, kept, reader in (("first", 10, "second"), ("third", 5, "classifier")):
        kernel = np.array(cut.get_layer(name).kernel).reshape(-1, WIDTHS[name])
        gone = np.argsort(np.linalg.norm(kernel, axis=0))[: WIDTHS[name] - kept]
        rows = np.array(cut.get_layer(reader).kernel)
        rows[..., gone, :] = 0
        cut.get_layer(reader).kernel.assign(rows)
    x = inputs_for(old.model, 5)
    np.testing.assert_allclose(
        flat_outputs(new.model, x)[0], flat_outputs(cut, x)[0], rtol=1e-4, atol=1e-6
    )


@pytest.mark.slow
def test_a_search_may_begin_each_network_with_the_one_before_also_when_it_goes_on(data, tmp_path):
    kernels = []

    def training(model, _):
        kernels.append(np.array(model.get_layer("classifier").kernel))
        compiled(randomise(model))

    settings = {**OPTIONS, "iterations": 1, "warm_start": True, "directory": tmp_path}
    found = network_adjustment(build, WIDTHS, training, data, **settings)
    trained = keras.models.load_model(tmp_path / found.rounds[0].file)
    width = min(one.widths["third"] for one in found.rounds)
    if found.rounds[1].widths["third"] >= found.rounds[0].widths["third"]:
        kept = np.array(trained.get_layer("classifier").kernel)[:width]
        np.testing.assert_array_equal(kernels[1][:width], kept)
    more = network_adjustment(build, WIDTHS, training, data, **{**settings, "iterations": 2})
    assert len(more.rounds) == 3 == len(kernels) and more.rounds[:2] == found.rounds


def test_layers_of_other_widths_that_are_not_named_are_refused_in_a_warm_start():
    def other(widths):
        inputs = keras.Input((6, 6, 2))
        x = layers.Conv2D(widths["first"], 3, name="first")(inputs)
        x = layers.Conv2D(widths["first"] // 2, 3, name="follows")(x)
        x = layers.GlobalAveragePooling2D()(x)
        return keras.Model(inputs, layers.Dense(3, activation="softmax")(x))

    old, new = networks_of_other_widths(other, {"first": 8}, {"first": 10})
    with pytest.raises(UnsupportedModel, match=r"follows/kernel.*Expected `build` to make only"):
        warm_start(new.channels, new.groups, old.channels, old.groups)


# ---- what is refused


@pytest.mark.parametrize(
    ("widths", "told"),
    [
        ({"first": 12}, "two layers or more"),
        ([12, 8], "two layers or more"),
        ({"first": 12, "second": 1}, "'second': 1"),
        ({"first": 12, "secnd": 8}, "no layer of this name.*Did you mean 'second'"),
        ({"first": 12, "classifier": 3}, "'classifier', whose channels all stay"),
        ({"first": 12, "second": 8, "tied": 8}, "'second' and 'tied' are tied together"),
        ({"first": 12, "third": 9}, "'third' with 8 channels. Expected the 9"),
    ],
)
def test_widths_that_stand_for_no_channels_are_refused_before_anything_is_trained(
    data, widths, told
):
    def own(given):
        return build({**WIDTHS, **{k: v for k, v in given.items() if k == "first"}})

    with pytest.raises(InvalidArgument, match=told):
        network_adjustment(own, widths, never, data, verbose=0)


def test_layers_that_cannot_be_measured_are_refused_before_anything_is_trained():
    def own(widths):
        inputs = keras.Input((8,))
        x = layers.Dense(widths["mixed"], activation="relu", name="mixed")(inputs)
        x = layers.Dense(widths["free"], name="free")(layers.LayerNormalization()(x))
        return keras.Model(inputs, layers.Dense(4, activation="softmax")(x))

    data = np.zeros((20, 8), "float32"), np.arange(20) % 4
    with pytest.raises(UnsupportedModel, match="'mixed' cannot be dropped.*leave it out of"):
        network_adjustment(own, {"mixed": 8, "free": 8}, never, data, verbose=0)


def test_layers_whose_channels_are_tied_in_part_are_refused():
    model = networks.padded_shortcut()
    data = inputs_for(model, 20), np.arange(20) % 4
    widths = {"a_conv": 12, "stem_conv": 8}
    with pytest.raises(InvalidArgument, match="fall into 2 groups"):
        network_adjustment(lambda _: model, widths, never, data, verbose=0)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"iterations": 0}, "`iterations` expects"),
        ({"step": 1.0}, "`step` expects a share"),
        ({"train_rate": -1}, "`train_rate` expects a share"),
        ({"tolerance": 0}, "`tolerance` expects a share"),
        ({"layers": 0}, "`layers` expects"),
        ({"least": 0}, "`least` expects"),
        ({"warm_start": 1}, "`warm_start` expects True or False"),
        ({"align": {"nowhere": 4}}, "`align` names layer 'nowhere'"),
        ({"on_round": 3}, "`on_round` expects a function"),
    ],
)
def test_settings_out_of_range_are_refused_before_anything_is_trained(data, options, told):
    with pytest.raises(InvalidArgument, match=told):
        network_adjustment(build, WIDTHS, never, data, **options)


def test_data_of_which_nothing_can_be_held_out_are_refused(data):
    with pytest.raises(InvalidArgument, match=r"Pass `validation_data=\(x_val, y_val\)`"):
        network_adjustment(build, WIDTHS, never, iter([]), verbose=0)


def test_a_model_that_training_did_not_compile_is_refused(data):
    with pytest.raises(InvalidArgument, match="not compiled with a loss"):
        network_adjustment(build, WIDTHS, lambda model, data: None, data, **OPTIONS)


def test_least_widths_that_cost_more_than_the_start_are_refused(data):
    def training(model, _):
        compiled(randomise(model))

    with pytest.raises(ImpossibleBudget, match="cost"):
        network_adjustment(build, WIDTHS, training, data, **{**OPTIONS, "align": 16})
