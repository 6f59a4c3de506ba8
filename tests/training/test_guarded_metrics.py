"""The guard with the metric one cares about: any metric, any direction, any kind of network."""

from __future__ import annotations

import warnings

import keras
import networks
import numpy as np
import pytest
from criteria import test_auto as ordinary
from fitting import data, fit, pruning
from helpers import one_line

import keras_gcp
from keras_gcp import AccuracyGuard, schedules
from keras_gcp.errors import InvalidArgument

EIGHT = np.eye(8, dtype="float32")
"""Examples; each needs a channel of its own."""


def sums(loss="mse", metrics=("mae",), both=False):
    """Predicts 1 for every example, and 0 for those whose channel has gone; and the class."""
    inputs = keras.Input((8,))
    x = keras.layers.Dense(8, activation="relu", name="hidden")(inputs)
    outputs = keras.layers.Dense(1, name="size")(x)
    values = [np.eye(8), np.zeros(8), np.ones((8, 1)), np.zeros(1)]
    if both:
        kind = keras.layers.Dense(8, activation="softmax", name="kind")(x)
        outputs, values = [kind, outputs], [*values[:2], 5 * np.eye(8), np.zeros(8), *values[2:]]
    model = keras.Model(inputs, outputs)
    model.set_weights(values)
    model.compile(keras.optimizers.SGD(0.0), loss, metrics=metrics, run_eagerly=True)
    return model


def last_ones_first(model, channels, sample):
    return {"hidden": np.arange(len(channels.produced["hidden"]), 0, -1)}


def trained(model, y, max_drop, verbose=0, **guard):
    callback = keras_gcp.GradualChannelPruning(
        (EIGHT, y),
        {"channels": 0.25},
        schedules.one_shot(1),
        criterion=last_ones_first,
        selection={"align": 1},
        compensation=None,
        guard=AccuracyGuard((EIGHT, y), max_drop, **guard),
        verbose=verbose,
    )
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        fit(model, [callback], epochs=2, examples=(EIGHT, y))
    unmet = [str(w.message) for w in caught if "budget is not met" in str(w.message)]
    return callback, unmet


def shares_of_ones(y_true, y_pred):
    return (y_pred[:, 0] > 0.5).mean()


def squared_errors(y_true, y_pred):
    return np.square(y_true - y_pred[:, 0])


METRICS = {
    "compiled": ({"metric": "mae"}, "mae", 0.0),
    "the first compiled": ({"metric": None}, "mae", 0.0),
    "the loss": ({"metric": "loss"}, "loss", 0.0),
    "known to Keras": ({"metric": "mean_squared_error"}, "mean_squared_error", 0.0),
    "an object": ({"metric": keras.metrics.MeanAbsoluteError(name="gap")}, "gap", 0.0),
    "a loss object": ({"metric": keras.losses.MeanAbsoluteError()}, "MeanAbsoluteError", 0.0),
    "one number per example": ({"metric": squared_errors, "mode": "min"}, "squared_errors", 0.0),
    "better when larger": ({"metric": shares_of_ones, "mode": "max"}, "shares_of_ones", 1.0),
}


@pytest.mark.parametrize("name", sorted(METRICS))
def test_a_cut_that_costs_more_of_the_metric_is_made_smaller(name):
    """Of 8 channels 6 are to go, each costs 1/8; 2 of them cost the 0.25 allowed."""
    options, called, before = METRICS[name]
    model = sums()
    callback, unmet = trained(model, np.ones(8), 0.25, **options)
    (event,) = callback.events
    assert model.get_layer("hidden").units == 6 and event.tries == 3
    after = before - 0.25 if before else 0.25
    assert (event.metric, event.metric_before) == (called, pytest.approx(before, abs=1e-6))
    assert event.metric_after == pytest.approx(after, abs=1e-6)
    assert "1 event went less far than scheduled" in unmet[0]


def test_a_metric_that_may_not_rise_at_all_lets_nothing_go(capsys):
    callback, unmet = trained(sums(), np.ones(8), 0.1, metric="mae", verbose=1)
    (refused,) = callback.skipped
    assert (refused.metric, refused.tries, refused.metric_after) == ("mae", 3, 0.25)
    words = "may not be above 0.1. After smaller and smaller cuts it was 0.75, 0.375, 0.25."
    assert refused.error == f"mae was 0, and {words}"
    assert words in one_line(capsys.readouterr().out)
    assert "1 event would have made mae worse than `max_drop` allows" in unmet[0]


def test_the_line_of_an_event_speaks_of_the_metric_by_its_name(capsys):
    trained(sums(), np.ones(8), 2.0, metric="mae", verbose=1)
    assert "guarded mae 0 → 0.75" in one_line(capsys.readouterr().out)


@pytest.mark.parametrize(
    "metric", ["size_mae", lambda y, p: np.abs(y[1] - p[1][:, 0])], ids=["name", "callable"]
)
def test_one_output_of_several_is_guarded(metric):
    losses, metrics = ["sparse_categorical_crossentropy", "mse"], [["accuracy"], ["mae"]]
    model = sums(losses, metrics, both=True)
    callback, _ = trained(model, [np.arange(8), np.ones(8)], 0.25, metric=metric, mode="min")
    assert [(e.metric_before, e.metric_after, e.tries) for e in callback.events] == [(0, 0.25, 3)]


def dice(y_true, y_pred):
    return 2 * (y_true * y_pred).sum() / (y_true + y_pred).sum()


ORDINARY = {
    "regressor": (ordinary.regressor, ["mae"], {"metric": "mae"}),
    "several outputs": (
        ordinary.several_outputs,
        [["accuracy"], ["mae"]],
        {"metric": "loss"},
    ),
    "autoencoder": (ordinary.autoencoder, ["mse"], {"metric": "mse"}),
    "text": (ordinary.text_classifier, [], {"metric": "accuracy"}),
    "U-Net": (ordinary.unet, [], {"metric": dice}),
    "siamese": (ordinary.siamese, [keras.metrics.AUC(name="auc")], {"metric": "auc"}),
    "attention": (ordinary.attention, ["accuracy"], {}),
    "multi-label": (ordinary.multi_label, [keras.metrics.F1Score("macro")], {"metric": "f1_score"}),
}


@pytest.mark.parametrize("name", sorted(ORDINARY))
def test_ordinary_networks_are_guarded_by_the_number_that_evaluate_reports(name):
    make, metrics, options = ORDINARY[name]
    model, loss, x, y = make()
    model.compile(keras.optimizers.SGD(0.0), loss, metrics=metrics, run_eagerly=True)
    reported = [model.evaluate(x, y, verbose=0, return_dict=True)]
    callback = pruning(
        {"channels": 0.8},
        sample=(x, y),
        criterion="auto",
        guard=AccuracyGuard((x, y), 0.99, **options),
    )
    few = keras.tree.map_structure(lambda array: array[:16], (x, y))  # Nothing is learnt from them.
    fit(model, [callback], epochs=2, examples=few)
    reported.append(model.evaluate(x, y, verbose=0, return_dict=True))
    (event,) = callback.events
    assert event.removed_channels > 0
    for value, numbers in zip((event.metric_before, event.metric_after), reported, strict=True):
        assert np.isfinite(value)
        assert value == pytest.approx(numbers.get(event.metric, value), rel=1e-4, abs=1e-5)
    assert event.metric in reported[0] or name in ("U-Net", "text")


def one_hot(count, seed):
    x, y = data(count=count, seed=seed)
    return x, np.eye(4, dtype="float32")[y]


def history_with(guard):
    """Of a training with an event in the middle of its second epoch."""
    keras.utils.set_random_seed(0)
    model = networks.plain()
    auc = keras.metrics.AUC(name="auc")
    loss = keras.losses.CategoricalCrossentropy()
    model.compile("sgd", loss, metrics=["accuracy", auc], run_eagerly=True)
    examples = one_hot(count=32, seed=0)  # two steps
    callback = pruning(schedule=schedules.one_shot(3, unit="step"), sample=examples, guard=guard)
    history = fit(model, [callback], epochs=2, examples=examples).history
    assert callback.events
    return history


@pytest.fixture(scope="module")
def unguarded():
    return history_with(None)


@pytest.mark.parametrize("metric", ["accuracy", "auc", None])
def test_metrics_of_the_running_epoch_go_on_as_if_nothing_were_measured(metric, unguarded):
    assert history_with(AccuracyGuard(one_hot(48, seed=1), 0.99, metric=metric)) == unguarded


def nan(y_true, y_pred):
    return float("nan")


def raises(y_true, y_pred):
    raise KeyError("no such column")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"metric": "recal"}, "no metric 'recal': model .* compiled with 'mae'"),
        ({"metric": "accuracy"}, r"regression. Accuracy needs .*compiled with \('mae'\)"),
        ({"metric": nan, "mode": "max"}, "nan is nan on its 8 examples before training"),
        ({"metric": raises, "mode": "max"}, "'raises' fails .*KeyError"),
        ({"metric": shares_of_ones}, "'shares_of_ones' .*mode='max' or mode='min'"),
        ({"metric": lambda y, p: "good", "mode": "max"}, "must be one number"),
    ],
)
def test_a_metric_that_cannot_be_is_refused_when_training_begins(options, message):
    model = sums()
    guard = AccuracyGuard((EIGHT, np.ones(8)), 0.1, **options)
    with pytest.raises(InvalidArgument, match=f"`guard` of GradualChannelPruning: .*{message}"):
        fit(model, [pruning(sample=EIGHT, guard=guard)], examples=(EIGHT, np.ones(8)))
    assert model.get_layer("hidden").units == 8


def test_a_metric_that_becomes_nan_lets_nothing_go():
    class Diverges(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            self.model.get_layer("size").kernel.assign(np.full((8, 1), np.nan))

    callback = pruning(
        sample=EIGHT,
        guard=AccuracyGuard((EIGHT, np.ones(8)), 0.5, metric="mae"),
        verify=False,
    )
    with pytest.warns(UserWarning, match="would have made mae worse"):
        fit(sums(), [Diverges(), callback], examples=(EIGHT, np.ones(8)))
    assert not callback.events and callback.skipped[0].error.startswith("mae was nan")


def test_settings_of_a_guard_are_words_without_its_data_or_addresses():
    guard = AccuracyGuard((EIGHT, np.ones(8)), np.float32(0.5), metric="mae")
    assert repr(guard) == "AccuracyGuard(..., max_drop=0.5, metric='mae')"
