"""Scores in units of the loss: what is predicted is what a cut with a refit really costs."""

from __future__ import annotations

import json

import keras
import networks
import numpy as np
import patterns
import pytest
from helpers import inputs_for, randomise
from hypothesis import given
from hypothesis import strategies as st
from keras import layers

import keras_gcp
from keras_gcp import criteria
from keras_gcp.channels.trace import trace
from keras_gcp.criteria.curvature import Gate, likelihoods_of, second_moments
from keras_gcp.criteria.falling import falling
from keras_gcp.criteria.loss_aware import LossAware
from keras_gcp.errors import InvalidArgument
from keras_gcp.sample import DrawnSample
from keras_gcp.selection.plan import Plan


def array(x):
    return keras.ops.convert_to_numpy(x)


def dense_model(outputs=5, activation=None, hidden=8, entering=6, inner="relu"):
    keras.utils.set_random_seed(0)
    inputs = keras.Input((entering,))
    x = layers.Dense(hidden, activation=inner, name="hidden")(inputs)
    return keras.Model(inputs, layers.Dense(outputs, activation=activation, name="out")(x))


def drawn(model, count=200, seed=0):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(count, *model.input_shape[1:])).astype("float32")


def moment_at(model, x, layer, draws, labels=None):
    channels = trace(model)
    calls = [call for call in channels.graph.calls if call.path == layer]
    found = second_moments(channels, calls, [], DrawnSample(x, labels), draws, 1000)
    return found.outputs[id(calls[0])]


# ---- curvature


@pytest.mark.parametrize("form", ["softmax", "logits", "log_softmax"])
def test_drawn_labels_have_the_curvature_of_the_cross_entropy(form):
    """Mean over examples of diag(p) - p p^T, the Hessian by the logits."""
    if form == "log_softmax":
        inputs = keras.Input((6,))
        logits = layers.Dense(4, name="out")(layers.Dense(8, activation="relu")(inputs))
        model = keras.Model(inputs, layers.Activation("log_softmax")(logits))
    else:
        model = dense_model(4, "softmax" if form == "softmax" else None)
        model.compile(loss=keras.losses.SparseCategoricalCrossentropy(from_logits=form == "logits"))
    x = drawn(model)
    found = moment_at(model, x, "out", draws=20)
    outputs = array(model(x)).astype("float64")
    p = outputs if form == "softmax" else np.exp(outputs)
    p /= p.sum(axis=1, keepdims=True)
    exact = np.diag(p.mean(axis=0)) - p.T @ p / len(p)
    np.testing.assert_allclose(found, exact, atol=0.015)


def test_layers_that_see_places_as_rows_have_the_same_curvature():
    """There are more rows than the graph tells of, which knows of none that they are examples."""

    def model(rows):
        keras.utils.set_random_seed(0)
        inputs = keras.Input((3, 6))
        x = keras.ops.reshape(inputs, (-1, 6)) if rows else inputs
        x = layers.Dense(4, activation="relu", name="hidden")(x)
        outputs = keras.ops.sum(keras.ops.reshape(x, (-1, 3, 4)), axis=1)
        return keras.Model(inputs, layers.Softmax()(outputs))

    x = np.random.default_rng(0).normal(size=(50, 3, 6)).astype("float32")
    found = [moment_at(model(rows), x, "hidden", draws=1) for rows in (True, False)]
    assert np.abs(found[1]).max() > 0.01
    np.testing.assert_allclose(*found, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("activation", ["sigmoid", None])
def test_drawn_answers_have_the_curvature_of_the_binary_cross_entropy(activation):
    model = dense_model(3, activation)
    model.compile(loss=keras.losses.BinaryCrossentropy(from_logits=activation is None))
    x = drawn(model)
    found = moment_at(model, x, "out", draws=20)
    p = array(model(x)).astype("float64")
    p = p if activation else 1 / (1 + np.exp(-p))
    np.testing.assert_allclose(found, np.diag((p * (1 - p)).mean(axis=0)) / 3, atol=0.01)


def test_drawn_numbers_have_the_curvature_of_the_mean_of_squares():
    model = dense_model(4)
    model.compile(loss="mse")
    found = moment_at(model, drawn(model), "out", draws=20)
    np.testing.assert_allclose(found, np.eye(4) * 2 / 4, atol=0.05)


def test_places_of_one_example_share_its_loss():
    """A mean over n places bends 1/n as much as their sum: so all places together bend like one."""
    inputs = keras.Input((4, 4, 2))
    x = layers.Conv2D(5, 1, activation="relu")(inputs)
    model = keras.Model(inputs, layers.Conv2D(3, 1, activation="softmax", name="out")(x))
    model.compile(loss="sparse_categorical_crossentropy")
    images = drawn(model, 100)
    p = array(model(images)).astype("float64").reshape(-1, 3)
    exact = np.diag(p.mean(axis=0)) - p.T @ p / len(p)
    np.testing.assert_allclose(moment_at(model, images, "out", draws=5), exact, atol=0.01)


def two_outputs(weights):
    keras.utils.set_random_seed(0)
    inputs = keras.Input((6,))
    x = layers.Dense(8, activation="relu", name="hidden")(inputs)
    a = layers.Dense(3, activation="softmax", name="a")(x)
    model = keras.Model(inputs, [a, layers.Dense(2, name="b")(x)])
    losses = {"a": "sparse_categorical_crossentropy", "b": "mse"}
    model.compile(loss=losses, loss_weights=weights)
    return model


def test_outputs_count_by_their_weights_in_the_loss():
    parts = [
        moment_at(two_outputs({"a": a, "b": b}), drawn(two_outputs(None), 60), "hidden", 1)
        for a, b in ((1.0, 0.0), (0.0, 1.0), (1.0, 1.0))
    ]
    doubled = moment_at(
        two_outputs({"a": 2.0, "b": 0.0}), drawn(two_outputs(None), 60), "hidden", 1
    )
    np.testing.assert_allclose(doubled, 2 * parts[0], rtol=1e-4)
    assert np.trace(parts[1]) > 0
    assert np.trace(parts[2]) > max(np.trace(parts[0]), np.trace(parts[1])) / 2


def own_loss(y, p):
    return keras.ops.mean(keras.ops.abs(y - p) ** 1.5, axis=-1)


@pytest.mark.parametrize(
    ("activation", "loss", "kind"),
    [
        ("softmax", "categorical_crossentropy", "categorical"),
        ("softmax", None, "categorical"),
        (None, None, "categorical"),
        (None, "mse", "gaussian"),
        ("sigmoid", "mae", "gaussian"),
        ("sigmoid", "binary_crossentropy", "bernoulli"),
        ("tanh", None, "gaussian"),
        ("softmax", own_loss, "given"),
    ],
)
def test_output_and_loss_tell_what_is_predicted(activation, loss, kind):
    model = dense_model(4, activation)
    if loss is not None:
        model.compile(loss=loss)
    assert [one.kind for one in likelihoods_of(model, trace(model).graph)] == [kind]


def test_a_loss_of_ones_own_is_differentiated_with_the_labels():
    model = dense_model(4)
    model.compile(loss=own_loss)
    x, channels = drawn(model, 40), trace(model)
    with pytest.raises(InvalidArgument, match="needs labels"):
        criteria.check(LossAware(), model, channels, DrawnSample(x, None))
    labels = np.zeros((40, 4), "float32")
    outputs = array(model(x)).astype("float64")
    slopes = 1.5 * np.abs(outputs) ** 0.5 * np.sign(outputs) / 4
    found = moment_at(model, x, "out", 1, labels)
    np.testing.assert_allclose(found, slopes.T @ slopes / 40, rtol=1e-4, atol=1e-7)


# ---- predictions


def rise(model, plan, x):
    """The rise of the mean of squares against the model's own outputs."""
    narrow = keras_gcp.apply(model, plan, x, seed=0)
    return float(np.square(array(model(x)) - array(narrow(x))).mean())


def test_the_least_channel_costs_what_is_predicted():
    """Behind the channel all is linear, so that the estimate is exact but for ridge and draws."""
    model = dense_model(5, hidden=12)
    model.compile(loss="mse")
    x, criterion = drawn(model), LossAware(draws=10, batch_size=1000)
    budget, selection = {"channels": 11 / 12}, {"align": 1}
    plan = keras_gcp.plan(model, budget, criterion, x, selection=selection)
    scores = criterion(model, trace(model), DrawnSample(x, None))["hidden"]
    (gone,) = set(range(12)) - set(plan.kept("hidden").tolist())
    assert scores[gone] == pytest.approx(scores.min(), rel=1e-3)
    assert rise(model, plan, x) == pytest.approx(plan.predicted_loss, rel=0.3)


def test_channels_that_others_stand_in_for_cost_nothing():
    model, rng = dense_model(5, "softmax"), np.random.default_rng(5)
    for variable in model.weights:  # The same on every backend: how little is left depends on them.
        variable.assign(rng.normal(0.0, 0.5, variable.shape))
    hidden = model.get_layer("hidden")
    kernel, bias = array(hidden.kernel).copy(), array(hidden.bias).copy()
    kernel[:, 2], bias[2] = kernel[:, 5], bias[5]
    kernel[:, 7], bias[7] = 0.0, -1.0  # dead
    hidden.kernel.assign(kernel)
    hidden.bias.assign(bias)
    scores = LossAware()(model, trace(model), DrawnSample(drawn(model), None))["hidden"]
    typical = np.median(scores)
    assert scores[7] < 1e-6 * typical
    assert min(scores[2], scores[5]) < 0.1 * typical


def test_what_reads_by_no_product_is_scored_by_what_its_weights_are_worth():
    """A small change by a share e of what reads a unit costs e^2 times its score, in nats."""
    keras.utils.set_random_seed(0)
    inputs = keras.Input((6, 3))
    x = layers.Dense(5, activation="tanh", name="hidden")(inputs)
    x = layers.LSTM(4, name="lstm")(x)
    model = keras.Model(inputs, layers.Dense(3, activation="softmax")(x))
    model.compile(loss="sparse_categorical_crossentropy")
    series = drawn(model, 100)
    scores = LossAware(draws=4, batch_size=4)(model, trace(model), DrawnSample(series, None))
    kernel = model.get_layer("lstm").cell.kernel
    whole, before = array(kernel).copy(), array(model(series)).astype("float64")
    for unit in range(5):
        changed = whole.copy()
        changed[unit] *= 1.1
        kernel.assign(changed)
        after = array(model(series)).astype("float64")
        kernel.assign(whole)
        divergence = (before * np.log(before / after)).sum(axis=1).mean()
        assert scores["hidden"][unit] * 0.1**2 == pytest.approx(divergence, rel=0.5)


@pytest.mark.parametrize(
    "build", [patterns.transformer, networks.grouped, networks.sequence, networks.depthwise]
)
def test_no_channel_is_free_for_want_of_a_rule(build):
    model = randomise(build())
    channels = trace(model)
    scores = LossAware(examples=24)(model, channels, DrawnSample(inputs_for(model, 24), None))
    for path, own in scores.items():
        assert own[channels.prunable[channels.produced[path]]].max() > 0, path


def test_gates_at_the_same_weight_and_axis_are_one():
    model = dense_model()
    kernel = model.get_layer("out").kernel
    assert Gate(kernel, 0).key == Gate(kernel, 0).key != Gate(kernel, 1).key


# ---- plans


@pytest.fixture(scope="module")
def planned():
    model = randomise(networks.padded_shortcut())
    model.compile("sgd", "sparse_categorical_crossentropy")
    plan = keras_gcp.plan(
        model, {"macs": 0.6}, "loss_aware", inputs_for(model, 32), selection={"align": 1}
    )
    return model, plan


def test_a_plan_says_what_is_predicted_in_all_and_by_group(planned):
    _, plan = planned
    assert plan.predicted_loss == pytest.approx(sum(plan.predicted_losses.values()))
    assert plan.predicted_loss > 0
    whole = {g.name for g in plan.groups if g.anchored is None}
    assert set(plan.predicted_losses) == whole
    assert f"predicted loss: {plan.predicted_loss:+.3g}" in plan.explain()


def test_a_prediction_survives_json(planned):
    _, plan = planned
    assert Plan.from_json(plan.to_json()).predicted_losses == plan.predicted_losses
    older = json.loads(plan.to_json())
    del older["predicted_losses"]
    assert Plan.from_json(json.dumps(older)).predicted_loss is None


@pytest.mark.parametrize("selection", [{"normalize": "rank"}, {"normalize": "mean"}])
def test_scores_that_were_changed_predict_nothing(planned, selection):
    model, _ = planned
    plan = keras_gcp.plan(
        model, {"macs": 0.6}, "loss_aware", inputs_for(model, 32), selection=selection
    )
    assert plan.predicted_loss is None and "predicted loss" not in plan.explain()


def test_rounds_add_up_what_they_predict(planned):
    model, once = planned
    x = inputs_for(model, 32)
    plan = keras_gcp.plan(model, {"macs": 0.6}, "loss_aware", x, selection={"align": 1}, rounds=2)
    assert plan.predicted_loss > 0
    assert set(plan.predicted_losses) == set(once.predicted_losses)


# ---- falling


@given(st.lists(st.floats(0, 100), min_size=1, max_size=12))
def test_falling_never_rises_and_keeps_the_sum(values):
    found = falling(np.array(values))
    assert (np.diff(found) <= 1e-9).all()
    np.testing.assert_allclose(found.sum(), sum(values), atol=1e-6)
    ordered = np.sort(values)[::-1]
    np.testing.assert_allclose(falling(ordered), ordered)
