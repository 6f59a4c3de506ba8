"""Scatter between and within classes, and the sets of channels whose ratio is greatest."""

import itertools

import keras
import networks
import numpy as np
import pytest
from helpers import inputs_for, randomise

import keras_gcp
from keras_gcp import criteria
from keras_gcp.channels.trace import trace
from keras_gcp.criteria.class_moments import ClassMoments
from keras_gcp.errors import InvalidArgument
from keras_gcp.methods import trace_ratio_set
from keras_gcp.sample import DrawnSample
from keras_gcp.selection import Candidates


def ratio(between, within, chosen):
    return between[list(chosen)].sum() / within[list(chosen)].sum()


def drawn(seed, channels=12):
    rng = np.random.default_rng(seed)
    return rng.lognormal(0, 1, channels), rng.lognormal(0, 1, channels)


# ---- the set


@pytest.mark.parametrize("seed", range(6))
def test_the_set_is_the_best_of_all_sets_of_every_size(seed):
    between, within = drawn(seed)
    for size in range(1, 13):
        found, value = trace_ratio_set(between, within, size)
        every = itertools.combinations(range(12), size)
        best = max(ratio(between, within, one) for one in every)
        assert len(set(found.tolist())) == size
        np.testing.assert_allclose(value, ratio(between, within, found), rtol=1e-12)
        np.testing.assert_allclose(value, best, rtol=1e-12)


def test_it_is_not_the_set_of_the_best_ratios_and_sets_are_not_nested():
    other, unnested = 0, 0
    for seed in range(40):
        between, within = drawn(seed)
        sets = [set(trace_ratio_set(between, within, n)[0].tolist()) for n in range(1, 13)]
        by_ratio = np.argsort(-between / within)
        other += any(found != set(by_ratio[: len(found)].tolist()) for found in sets)
        unnested += any(not a <= b for a, b in itertools.pairwise(sets))
    assert other > 10 and unnested > 0


def test_the_ratio_never_falls_from_round_to_round(monkeypatch):
    from keras_gcp.criteria import trace_ratio_set as module

    seen = []
    own = module._ratio
    monkeypatch.setattr(module, "_ratio", lambda b, w, s: seen.append(own(b, w, s)) or seen[-1])
    for seed in range(20):
        seen.clear()
        module.trace_ratio_set(*drawn(seed, 30), 11)
        assert len(seen) >= 2
        assert all(b >= a * (1 - 1e-12) for a, b in itertools.pairwise(seen))


def test_channels_that_do_not_vary():
    found, value = trace_ratio_set([0.0, 2.0, 0.0], [0.0, 1.0, 3.0], 2)
    assert found.tolist() == [0, 1] and value == 2
    assert trace_ratio_set([1.0, 0.0], [0.0, 1.0], 1) == (pytest.approx([0]), np.inf)
    assert trace_ratio_set([0.0, 0.0], [0.0, 0.0], 1)[1] == 0


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (([1.0, 2.0], [1.0], 1), r"shapes \(2,\) and \(1,\)"),
        (([1.0, -2.0], [1.0, 1.0], 1), r"`between`.*-2.0 for channel 1"),
        (([1.0, 2.0], [1.0, np.nan], 1), r"`within`.*nan"),
        (([1.0, 2.0], [1.0, 1.0], 3), "`size`"),
    ],
)
def test_what_is_no_scatter_is_refused(arguments, words):
    with pytest.raises(InvalidArgument, match=words):
        trace_ratio_set(*arguments)


# ---- scatter


def test_scatter_in_batches_is_that_of_the_definition():
    rng = np.random.default_rng(0)
    x, labels = rng.normal(3.0, 1.0, (50, 7)), np.sort(rng.integers(0, 4, 50))
    moments = ClassMoments()
    for start in range(0, 50, 13):
        moments.add(x[start : start + 13], labels[start : start + 13])
    between, within = moments.scatter()
    classes = [x[labels == k] for k in range(4)]
    expected = sum(len(one) * (one.mean(0) - x.mean(0)) ** 2 for one in classes)
    np.testing.assert_allclose(between, expected, rtol=1e-9)
    np.testing.assert_allclose(within, sum(((one - one.mean(0)) ** 2).sum(0) for one in classes))
    with pytest.raises(ValueError, match="came again"):
        moments.add(x[:1], labels[:1])


def case(name="flatten_dense", examples=40, classes=4):
    keras.utils.set_random_seed(0)
    model = randomise(networks.ALL[name]())
    return model, trace(model), inputs_for(model, examples), np.arange(examples) % classes


def test_the_scatter_of_a_channel_is_summed_over_its_positions_whatever_the_batches():
    model, channels, x, y = case()
    evidence = criteria.trace_ratio.TraceRatio(batch_size=9).evidence(
        model, channels, DrawnSample(x, y)
    )
    read = keras.ops.convert_to_numpy(
        keras.Model(model.input, model.get_layer("flatten").output)(x)
    ).reshape(40, 4, 8)  # positions of the pooled map, and 'a_conv''s channels
    means = np.stack([read[y == k].mean(0) for k in range(4)])
    between = 10 * np.square(means - read.mean(0)).sum((0, 1))
    within = np.square(read - means[y]).sum((0, 1))
    found = evidence[channels.produced["a_conv"]] * 40
    np.testing.assert_allclose(found, np.stack([between, within], 1), rtol=1e-4)


def test_a_score_is_what_the_ratio_of_the_layer_would_lose():
    model, channels, x, y = case()
    criterion = criteria.get("trace_ratio")
    evidence = criterion.evidence(model, channels, DrawnSample(x, y))
    scores = criterion(model, channels, DrawnSample(x, y))["hidden"]
    between, within = evidence[channels.produced["hidden"]].T
    j = between.sum() / within.sum()
    np.testing.assert_allclose(scores, (between - j * within) / within.sum(), rtol=1e-9)
    np.testing.assert_allclose(scores.sum(), 0, atol=1e-9)


def test_tied_layers_have_the_scatter_of_all_that_is_read_of_them():
    model, channels, x, y = case("residual")
    evidence = criteria.get("trace_ratio").evidence(model, channels, DrawnSample(x, y))
    read = keras.Model(
        model.input, [model.get_layer("stem_act").output, model.get_layer("b1_out").output]
    )(x)
    within = 0
    for one in map(keras.ops.convert_to_numpy, read):
        means = np.stack([one[y == k].mean(0) for k in range(4)])
        within = within + np.square(one - means[y]).sum((0, 1, 2))
    found = evidence[channels.produced["stem_conv"], 1] * 40
    np.testing.assert_allclose(found, within, rtol=1e-4)


# ---- choosing


def test_a_plan_keeps_the_best_set_of_as_many_channels_as_stay():
    model, channels, x, y = case("plain")
    plan = keras_gcp.plan(model, {"macs": 0.5}, "trace_ratio", (x, y), selection={"align": 1})
    evidence = criteria.get("trace_ratio").evidence(model, channels, DrawnSample(x, y))
    for path in ("a_conv", "b_conv"):
        between, within = evidence[channels.produced[path]].T
        kept = plan.kept(path)
        best, _ = trace_ratio_set(between, within, len(kept))
        assert kept.tolist() == best.tolist()


def test_other_classes_have_other_sets_each_the_best_for_its_own():
    model, channels, x, y = case("plain", examples=80)
    x = x + 0.5 * y[:, None, None, None] * np.random.default_rng(5).normal(size=x.shape[1:])
    x = x.astype("float32")
    found = {}
    for classes in ((0, 1), (2, 3)):
        chosen = np.isin(y, classes)
        sample = DrawnSample(x[chosen], y[chosen])
        evidence = criteria.get("trace_ratio").evidence(model, channels, sample)
        between, within = evidence[channels.produced["b_conv"]].T
        found[classes] = (between, within, trace_ratio_set(between, within, 6)[0])
    (b1, w1, first), (b2, w2, second) = found.values()
    assert first.tolist() != second.tolist()
    assert ratio(b1, w1, first) >= ratio(b1, w1, second)
    assert ratio(b2, w2, second) >= ratio(b2, w2, first)


def test_rounds_choose_sets_in_the_network_that_is_left():
    model, _, x, y = case("plain")
    options = {"sample": (x, y), "selection": {"align": 1}, "seed": 0}
    plan = keras_gcp.plan(model, {"macs": 0.4}, "trace_ratio", rounds=2, **options)
    assert plan.after.macs <= 0.4 * plan.before.macs


@pytest.mark.parametrize("y", [None, np.linspace(0, 1, 12), np.zeros(12, int), np.arange(12)])
def test_without_classes_to_compare_it_says_what_it_needs(y):
    model, channels, x, _ = case("plain", examples=12)
    with pytest.raises(InvalidArgument, match=r"'trace_ratio'.*Expected"):
        criteria.get("trace_ratio").check(model, channels, DrawnSample(x, y))


@pytest.mark.parametrize("chosen", [[0, 0], [0], [0, 1, 2]])
def test_a_set_of_another_size_than_asked_for_is_refused(chosen):
    group = Candidates("g", np.ones(4), (4, 2), 4, sets=lambda count: np.array(chosen))
    with pytest.raises(InvalidArgument, match=r"asked for 2 of the 4 channels of group 'g'"):
        group.best(2)


def test_evidence_that_is_no_table_is_refused():
    model, _, x, y = case("plain")

    class Odd(criteria.trace_ratio.TraceRatio):
        def evidence(self, model, channels, sample):
            return np.zeros(3)

    with pytest.raises(InvalidArgument, match=r"`evidence`.*a row for each set"):
        keras_gcp.plan(model, {"macs": 0.5}, Odd(), (x, y))
