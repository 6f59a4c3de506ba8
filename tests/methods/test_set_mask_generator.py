"""STAMP-style: a set of examples gives masks, which are cut exactly, and learned on many tasks."""

from __future__ import annotations

import time

import keras
import networks
import numpy as np
import pytest
from helpers import flat_outputs, inputs_for, masked_by_hand, randomise
from keras import layers, ops

import keras_gcp
from examples import datasets
from keras_gcp import gates
from keras_gcp.channels.trace import trace
from keras_gcp.costs.counting import build_cost_model, prunable_groups
from keras_gcp.errors import InvalidArgument, UnsupportedModel
from keras_gcp.gates.gate import gated_channels
from keras_gcp.gates.removal import all_frozen
from keras_gcp.methods import SetMaskGenerator, class_episodes
from keras_gcp.methods.stamp import generator as generator_module
from keras_gcp.methods.stamp.gated_copy import GatedCopy
from keras_gcp.methods.stamp.observation import Reference, observe
from keras_gcp.methods.stamp.set_encoder import SetEncoder
from keras_gcp.selection.planning import keep_of, plan_of


def array(tensor):
    return ops.convert_to_numpy(tensor)


def tasks(count=120, shape=(6,), classes=4):
    """Noise that is brighter in some places for each class."""
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(count, *shape)).astype("float32"), np.arange(count) % classes
    for one in range(classes):
        x[y == one, one::classes] += 2.0
    return x, y


@pytest.fixture(scope="module")
def model():
    """Two dense layers that are added, and one between: quick to compile."""
    keras.utils.set_random_seed(0)
    inputs = keras.Input((6,))
    x = layers.ReLU()(layers.BatchNormalization()(layers.Dense(12, name="first")(inputs)))
    y = layers.Dense(8, activation="relu", name="between")(x)
    x = layers.Add(name="sum")([x, layers.Dense(12, name="second")(y)])
    return randomise(keras.Model(inputs, layers.Dense(4, activation="softmax", name="classes")(x)))


@pytest.fixture(scope="module")
def learned(model):
    """`(generator, losses)`, after so few episodes that nothing is compiled."""
    generator = SetMaskGenerator(width=8, heads=2, hidden=16, seed=0)
    episodes = class_episodes(*tasks(), ways=3, count=7, shots=5, queries=5, seed=0)
    return generator, generator.fit(model, episodes, learning_rate=0.015)


@pytest.fixture(scope="module")
def open_minded(model):
    """A generator that has hardly learned: none of its chances is as good as 0 or 1."""
    generator = SetMaskGenerator(width=8, heads=2, hidden=16, seed=0)
    generator.fit(
        model,
        class_episodes(*tasks(), ways=3, count=1, shots=5, queries=5, seed=0),
        learning_rate=1e-4,
    )
    return generator


# ---- the set encoder


def encoder(features=5):
    keras.utils.set_random_seed(0)
    made = SetEncoder(16, 4)
    made.build((None, features))
    return made


def test_a_set_has_the_same_vector_in_any_order_and_twice_over():
    made, rng = encoder(), np.random.default_rng(0)
    x = rng.normal(size=(12, 5)).astype("float32")
    expected = array(made(x))
    np.testing.assert_allclose(array(made(x[rng.permutation(12)])), expected, atol=1e-5)
    np.testing.assert_allclose(array(made(np.concatenate([x, x, x]))), expected, atol=1e-5)
    assert np.abs(array(made(x[:6])) - expected).max() > 1e-3, "another set, another vector"


def test_attention_is_that_of_the_formula():
    block = encoder().among
    x = np.random.default_rng(1).normal(size=(6, 5)).astype("float32")

    def dense(layer, value):
        return value @ array(layer.kernel) + array(layer.bias)

    def normalized(value):
        return (value - value.mean(-1, keepdims=True)) / np.sqrt(
            value.var(-1, keepdims=True) + block.norms[0].epsilon
        )

    q, k, v = (dense(layer, x) for layer in (block.query, block.key, block.value))
    parts = []
    for head in range(4):
        own = slice(4 * head, 4 * head + 4)
        scores = np.exp(q[:, own] @ k[:, own].T / np.sqrt(16))
        parts.append(q[:, own] + scores / scores.sum(axis=1, keepdims=True) @ v[:, own])
    y = normalized(np.concatenate(parts, axis=1))
    y = normalized(y + np.maximum(dense(block.mix, y), 0))
    np.testing.assert_allclose(array(block(x, x)), y, atol=1e-5)


# ---- what is seen of a task


def test_what_is_seen_knows_neither_the_order_of_examples_nor_the_names_of_classes():
    rng = np.random.default_rng(0)
    responses, classes = rng.normal(size=(30, 7)), np.arange(30) % 3
    reference = Reference.of([rng.normal(size=(50, 7))])
    one = observe(responses, classes, 2, reference)
    order = rng.permutation(30)
    other = observe(responses[order], np.array([9, 4, 7])[classes[order]], 2, reference)
    np.testing.assert_allclose(other.channels, one.channels, atol=1e-6)
    np.testing.assert_allclose(other.examples, one.examples[order], atol=1e-6)
    others = observe(responses, rng.permutation(classes), 2, reference)
    assert np.abs(others.channels - one.channels).max() > 1e-2, "other classes, another task"


def test_responses_are_means_over_positions_of_what_is_read_and_leave_no_trace():
    model = randomise(networks.residual())
    copy, x = GatedCopy(model, (), 0.1), inputs_for(model)
    found = copy.responses(x)
    first = keras.Model(model.inputs[0], model.get_layer("b1a_act").output)(x)
    at = sum(copy.sizes[: [g.name for g in copy.gates].index("gate_b1a_conv")])
    expected = array(first).mean(axis=(1, 2))
    np.testing.assert_allclose(found[:, at : at + expected.shape[1]], expected, rtol=1e-4)
    assert all(gate.heard is None for gate in copy.gates)
    np.testing.assert_allclose(copy.responses(x[:3]), found[:3], rtol=1e-4, atol=1e-5)


# ---- learning


def test_the_loss_falls_and_multiply_adds_with_it(learned):
    _, losses = learned
    first, last = losses[:2], losses[-2:]
    assert np.mean([one.loss for one in last]) < np.mean([one.loss for one in first])
    assert np.mean([one.macs_share for one in last]) < np.mean([one.macs_share for one in first])
    for one in losses:
        total = one.query + 1e-3 * one.divergence + one.macs_share
        assert one.loss == pytest.approx(total, rel=1e-4)


def test_fit_leaves_the_model_as_it_is_and_the_same_seed_gives_the_same_losses(model):
    before = [np.array(array(variable)) for variable in model.variables]
    episodes = class_episodes(*tasks(), ways=2, count=1, shots=3, queries=3, seed=1)
    found = []
    for _ in range(2):
        generator = SetMaskGenerator(width=8, heads=2, hidden=8, seed=3)
        found.append(generator.fit(model, episodes))
    assert found[0][0] == found[1][0]
    for variable, value in zip(model.variables, before, strict=True):
        np.testing.assert_array_equal(array(variable), value)


@pytest.mark.slow
def test_compiled_episodes_are_those_that_run_call_by_call(model, monkeypatch):
    episodes = class_episodes(*tasks(), ways=3, count=4, shots=5, queries=5, seed=0)
    found = []
    for least in (1, 100):
        monkeypatch.setattr(generator_module, "_COMPILE_FROM", least)
        generator = SetMaskGenerator(width=8, heads=2, hidden=16, seed=0)
        losses = generator.fit(model, episodes, learning_rate=0.05)
        found.append([(one.loss, one.query, one.divergence, one.macs_share) for one in losses])
    np.testing.assert_allclose(found[0], found[1], rtol=1e-3)


# ---- masks


def test_masks_know_neither_the_order_nor_the_names_and_differ_between_tasks(model, open_minded):
    generator, (x, y) = open_minded, tasks(40)
    _, expected = generator._chances(model, x, y)
    order = np.random.default_rng(0).permutation(40)
    _, again = generator._chances(model, x[order], y[order] + 5)
    np.testing.assert_allclose(again, expected, atol=1e-5)
    _, twice = generator._chances(model, np.concatenate([x[:20]] * 2), np.tile(y[:20], 2))
    _, once = generator._chances(model, x[:20], y[:20])
    np.testing.assert_allclose(twice, once, atol=1e-5)
    _, other = generator._chances(model, 3 * x[y < 2], y[y < 2])
    assert np.abs(other - expected).max() > 1e-3
    assert expected.min() > 0.1 and expected.max() < 1 - 1e-3


def gated_by(model, plan):
    """The network with gates that are frozen as planned, by its own map of channels."""
    gated = gates.insert(model, gates.BetaBernoulli(threshold=0.5))
    channels, own = trace(gated), trace(model)
    keep, opened = keep_of(plan, own), np.ones(trace(gated).coupled_count)
    for path, coupled in own.produced.items():
        opened[channels.produced[path]] = keep[coupled]
    for call in channels.graph.calls:
        if isinstance(call.operation, gates.BetaBernoulli):
            # So far from the threshold that the expected chance is 1 or 0 to five digits.
            ids = opened[gated_channels(channels, call)]
            a, b = np.where(ids, 1.0, -5.0), np.where(ids, -2.0, 0.05)
            call.operation.shape_parameters.assign(np.stack([a, b]))
    return gated


def assert_cut_is_the_gated_network(model, plan):
    narrow, x = keras_gcp.apply(model, plan, compensation=None), inputs_for(model)
    gated = gated_by(model, plan)
    with all_frozen(gated):
        expected = flat_outputs(gated, x)
    found = flat_outputs(narrow, x)
    for one, two, three in zip(found, expected, masked_by_hand(model, plan, x), strict=True):
        np.testing.assert_allclose(one, three, rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(one, two, rtol=1e-3, atol=1e-4)
    return narrow


def test_masks_are_a_plan_whose_cut_is_the_network_with_these_gates_frozen(model, learned):
    generator, (x, y) = learned[0], tasks(40)
    plan = generator.masks(model, x, y, {"macs": 0.5})
    assert plan.after.macs <= 0.5 * plan.before.macs
    np.testing.assert_array_equal(plan.layers["first"], plan.layers["second"])  # They are added.
    narrow = assert_cut_is_the_gated_network(model, plan)
    assert keras_gcp.count(narrow).macs == plan.after.macs
    copy, chances = generator._chances(model, x, y)
    kept = copy.by_layer(chances, trace(model))["first"][plan.layers["first"]]
    lost = copy.by_layer(chances, trace(model))["first"][~plan.layers["first"]]
    assert kept.min() >= lost.max(initial=0.0)


def test_without_a_budget_stay_those_with_a_chance_above_one_half_and_one_of_each_group(model):
    generator = SetMaskGenerator(width=8, heads=2, hidden=8, initial=0.3, seed=0)
    episodes = class_episodes(*tasks(), ways=2, count=1, shots=3, queries=3, seed=1)
    generator.fit(model, episodes, inner_steps=0, learning_rate=1e-6)
    plan = generator.masks(model, *tasks(12))
    assert set(plan.widths().values()) == {1, 4}, "one each, and the classes"


@pytest.mark.parametrize("policy", ["float32", "mixed_bfloat16"])
def test_a_network_with_one_gate_and_one_in_mixed_precision_learn_masks_too(policy):
    keras.config.set_dtype_policy(policy)
    inputs = keras.Input((6,))
    x = layers.Dense(12, activation="relu", name="only")(inputs)
    network = keras.Model(inputs, layers.Dense(4, activation="softmax", name="classes")(x))
    generator = SetMaskGenerator(width=8, heads=2, hidden=8, seed=0)
    generator.fit(network, class_episodes(*tasks(), ways=2, count=1, shots=3, queries=3, seed=1))
    plan = generator.masks(network, *tasks(12), {"channels": 0.5})
    assert plan.widths() == {"only": 6, "classes": 4}
    assert {weight.dtype for weight in generator.network.weights} == {"float32"}


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"heads": 5}, "divides `width`. Received: width 64, heads 5"),
        ({"alpha": 0}, "`alpha` of SetMaskGenerator expects a number above 0"),
        ({"initial": 0}, "`initial` expects a probability"),
        ({"shots": 0}, "`shots` expects an integer of at least 1"),
    ],
)
def test_bad_settings_are_refused(settings, told):
    with pytest.raises(InvalidArgument, match=told):
        SetMaskGenerator(**settings)


def test_what_cannot_be_learned_from_is_refused(model, learned):
    x, y = tasks(40)
    pair = (x[:8], y[:8])
    generator = SetMaskGenerator(width=8, heads=2)
    for episodes, told in (
        (iter([]), "`episodes` expects a sequence of pairs"),
        ([], "`episodes` expects at least one"),
        ([pair, pair, pair], "Expected \\(x, y\\) in episode 0"),
        ([(pair, (x[:3], y[:4]))], "as many examples as labels in episode 0. Received: \\[3\\]"),
        ([(pair, (x[:4], y[:4] + 1))], "from 0 to 3. Received: 1 to 4"),
        ([(pair, (x[:4], y[:4] + 0.5))], "Labels of a task must be classes"),
    ):
        with pytest.raises(InvalidArgument, match=told):
            generator.fit(model, episodes)
    with pytest.raises(InvalidArgument, match="`generator.fit\\(model, episodes\\)` before"):
        SetMaskGenerator().masks(model, x, y)
    with pytest.raises(InvalidArgument, match="Expected a model with the same"):
        learned[0].masks(networks.flatten_dense(), x, y)
    with pytest.raises(InvalidArgument, match="`selection` of `masks` needs a `budget`"):
        learned[0].masks(model, x, y, selection={"align": 8})


def test_a_model_that_is_no_classifier_is_refused():
    inputs = keras.Input((6,))
    hidden = layers.Dense(8, activation="relu")(inputs)
    regression = keras.Model(inputs, layers.Dense(1)(hidden))
    regression.compile("sgd", "mse")
    x, y = np.ones((4, 6), "float32"), np.arange(4) % 2
    with pytest.raises(UnsupportedModel, match="SetMaskGenerator needs a classifier"):
        SetMaskGenerator(width=8, heads=2).fit(regression, [((x, y), (x, y))])


def test_episodes_are_of_some_classes_and_their_queries_are_other_examples():
    x, y = np.arange(90)[:, None].astype("float32"), np.repeat(np.arange(6), 15)
    episodes = class_episodes(x, y, ways=3, count=20, shots=4, queries=5, seed=0)
    for support, query in episodes:
        assert len(support.y) == 12 and len(query.y) == 15
        assert set(support.y) == set(query.y) and len(set(query.y)) == 3
        assert not set(support.x.ravel()) & set(query.x.ravel())
        np.testing.assert_array_equal(y[support.x.ravel().astype(int)], support.y)
    assert len({tuple(sorted(set(e.support.y))) for e in episodes}) > 5
    np.testing.assert_array_equal(episodes[3].support.x, episodes[3].support.x)
    with pytest.raises(InvalidArgument, match="needs 10 \\+ 10 examples of each class"):
        class_episodes(x, y, ways=3, count=1)
    with pytest.raises(InvalidArgument, match="`ways` expects at most 6"):
        class_episodes(x, y, ways=7, count=1, shots=2, queries=2)


# ---- scikit-learn's digits (slow)


def network(seed):
    keras.utils.set_random_seed(seed)
    inputs = x = keras.Input((8, 8, 1))
    for number, (width, strides) in enumerate(((16, 1), (32, 2), (64, 2)), start=1):
        x = layers.Conv2D(width, 3, strides, padding="same", use_bias=False, name=f"conv{number}")(
            x
        )
        x = layers.ReLU()(layers.BatchNormalization(momentum=0.9)(x))
    x = layers.GlobalAveragePooling2D()(x)
    model = keras.Model(inputs, layers.Dense(7, activation="softmax")(x))
    model.compile(keras.optimizers.Adam(0.003), "sparse_categorical_crossentropy")
    return model


@pytest.fixture(scope="module")
def digits():
    return datasets.load("digits", scale=1)


def few_classes(data, classes):
    """`(x_train, y_train, x_test, y_test)`, with classes as the digits are."""
    train, test = np.isin(data.y_train, classes), np.isin(data.y_test, classes)
    return data.x_train[train], data.y_train[train], data.x_test[test], data.y_test[test]


def tuned_accuracy(model, data, classes, seed):
    """On a task of its own head, after three epochs."""
    keras.utils.set_random_seed(seed)
    copy = keras.models.clone_model(model)
    copy.set_weights(model.get_weights())
    outputs = layers.Dense(len(classes), activation="softmax", name="task")(copy.layers[-2].output)
    tuned = keras.Model(copy.inputs, outputs)
    tuned.compile(keras.optimizers.Adam(0.003), "sparse_categorical_crossentropy")
    x_train, y_train, x_test, y_test = few_classes(data, classes)
    tuned.fit(x_train, y_train - classes[0], batch_size=32, epochs=3, verbose=0)
    found = tuned.predict(x_test, batch_size=500, verbose=0).argmax(axis=1)
    return float(np.mean(found == y_test - classes[0]))


def random_of_equal_widths(model, plan, seed):
    """Any other channels, as many of each group as a plan keeps."""
    channels, random = trace(model), np.random.default_rng(seed)
    keep = keep_of(plan, channels)
    for group in prunable_groups(channels):
        keep[group.coupled] = random.permutation(keep[group.coupled])
    return plan_of(channels, keep, build_cost_model(channels))


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_masks_for_unseen_digits_lose_three_points_at_most_once_tuned(seed, digits):
    """Learned on tasks of five of the digits 0 to 6, for 7, 8 and 9; 40 % of the MACs."""
    known, unseen = np.arange(7), (7, 8, 9)
    model = network(seed)
    x, y, *_ = few_classes(digits, known)
    model.fit(x, y, batch_size=64, epochs=8, verbose=0)
    generator = SetMaskGenerator(seed=seed)
    episodes = class_episodes(x, y, ways=5, count=120, seed=seed)
    losses = generator.fit(model, episodes, learning_rate=0.01)
    first, last = (np.mean([one.loss for one in part]) for part in (losses[:20], losses[-20:]))
    budget, plans = {"macs": 0.4}, {}
    begin = time.process_time()
    plans["generated"] = generator.masks(model, *few_classes(digits, unseen)[:2], budget)
    took = time.process_time() - begin
    other = generator.masks(model, *few_classes(digits, (0, 1))[:2], budget)
    differ = {
        path: int((keep != other.layers[path]).sum())
        for path, keep in plans["generated"].layers.items()
    }
    plans["random"] = random_of_equal_widths(model, plans["generated"], seed)
    plans["l2_norm"] = keras_gcp.plan(model, budget, "l2_norm", selection={"align": 1, "floor": 1})
    accuracies = {"whole": tuned_accuracy(model, digits, unseen, seed)}
    for name, plan in plans.items():
        narrow = keras_gcp.apply(model, plan, compensation=None)
        accuracies[name] = tuned_accuracy(narrow, digits, unseen, seed)
    print(accuracies, plans["generated"].widths(), f"{first:.2f} to {last:.2f}", differ, took)
    assert last < first
    assert sum(differ.values()) > 0, "another task, another mask"
    assert accuracies["generated"] >= accuracies["whole"] - 0.03


# ---- networks of the literature (slow)


def _mobilenet_v2(shape, classes):
    return keras.applications.MobileNetV2(shape, alpha=0.35, weights=None, classes=classes)


def _densely_connected(shape, classes):
    x = inputs = keras.Input(shape)
    for block, width in enumerate((16, 24)):
        x = layers.Conv2D(width, 3, 2, padding="same", name=f"start{block}")(x)
        for step in range(2):
            own = layers.BatchNormalization(name=f"norm{block}_{step}")(x)
            own = layers.ReLU(name=f"relu{block}_{step}")(own)
            own = layers.Conv2D(8, 3, padding="same", name=f"conv{block}_{step}")(own)
            x = layers.Concatenate(name=f"join{block}_{step}")([x, own])
    x = layers.GlobalAveragePooling2D(name="pool")(x)
    return keras.Model(inputs, layers.Dense(classes, "softmax", name="classes")(x))


NETWORKS = {
    "ResNet-20": lambda shape, classes: keras_gcp.models.build(
        "resnet20", input_shape=shape, classes=classes
    ),
    "VGG-16": lambda shape, classes: keras_gcp.models.build(
        "vgg16", width=8, input_shape=shape, classes=classes
    ),
    "MobileNetV2": _mobilenet_v2,
    "concatenations": _densely_connected,
}


@pytest.mark.slow
@pytest.mark.parametrize("name", NETWORKS)
def test_masks_for_networks_of_the_literature_are_cut_exactly(name):
    shape = (32, 32, 3)
    model = randomise(NETWORKS[name](shape, 4))
    x, y = tasks(48, shape)
    episodes = class_episodes(x, y, ways=3, count=2, shots=4, queries=4, seed=0)
    generator = SetMaskGenerator(width=16, hidden=16, seed=0)
    losses = generator.fit(model, episodes, learning_rate=0.01)
    assert all(np.isfinite(one.loss) for one in losses)
    plan = generator.masks(model, x, y, {"macs": 0.6})
    assert plan.after.macs <= 0.6 * plan.before.macs
    assert_cut_is_the_gated_network(model, plan)


def test_plans_of_masks_are_plans_like_any_others(model, learned):
    plan = learned[0].masks(model, *tasks(40), {"macs": 0.7})
    channels = trace(model)
    again = plan_of(channels, keep_of(plan, channels), build_cost_model(channels))
    assert again.after == plan.after
    assert keras_gcp.Plan.from_json(plan.to_json()).widths() == plan.widths()
