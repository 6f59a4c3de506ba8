"""What cannot work is refused when training begins, not after epochs of it."""

from __future__ import annotations

import warnings

import fitting
import keras
import networks
import numpy as np
import pytest
from keras import ops

import keras_gcp
from keras_gcp import schedules
from keras_gcp.errors import ImpossibleBudget, InvalidArgument, UnsupportedModel


class Steps(keras.callbacks.Callback):
    """Counts what has begun."""

    steps = 0

    def on_train_batch_begin(self, batch, logs=None):
        self.steps += 1


def refused(error, match, model=None, epochs=5, **options):
    """Fit ends with an error before the first step, and the model is as it was."""
    model = model or fitting.compiled(networks.plain())
    before, counter = fitting.weights_of(model), Steps()
    options.setdefault("schedule", schedules.one_shot(3))
    callback = fitting.pruning(options.pop("budget", {"channels": 0.6}), **options)
    with pytest.raises(error, match=match):
        fitting.fit(model, [callback, counter], epochs, fitting.THREE_STEPS)
    assert counter.steps == 0
    for now, then in zip(fitting.weights_of(model), before, strict=True):
        np.testing.assert_array_equal(now, then)


def ones(channels):
    return {path: np.ones(len(classes)) for path, classes in channels.produced.items()}


def with_first(value):
    """A criterion that returns ones, and something else for the first layer."""
    return lambda model, channels, sample: {**ones(channels), "a_conv": value}


WRONG_SCORES = {
    "nothing": (lambda m, c, s: None, "must return a dict.*Received NoneType"),
    "an array": (lambda m, c, s: np.ones(20), "must return a dict.*Received ndarray"),
    "too few layers": (lambda m, c, s: {"a_conv": np.ones(8)}, r"Missing: \['b_conv'\]"),
    "an unknown layer": (lambda m, c, s: {**ones(c), "a_bn": np.ones(8)}, "Not among .*'a_bn'"),
    "a layer as key": (lambda m, c, s: {m.layers[1]: np.ones(8)}, "Missing: .*'a_conv'"),
    "too short": (with_first(np.ones(7)), r"shape \(8,\). Received shape \(7,\)"),
    "two axes": (with_first(np.ones((8, 1))), r"Received shape \(8, 1\)"),
    "one number": (with_first(1.0), r"Received shape \(\)"),
    "none": (with_first(None), "no real numbers for layer 'a_conv'"),
    "words": (with_first(["1"] * 8), "no real numbers for layer 'a_conv': an array of <U1"),
    "complex": (with_first(np.ones(8) * 1j), "no real numbers .*complex128"),
    "objects": (with_first(np.array([None] * 8)), "no real numbers .*object"),
    "ragged": (with_first([[1], [1, 2]]), "no real numbers"),
    "nan": (with_first(np.full(8, np.nan)), "NaN or infinite scores for 8 of 8"),
    "infinite": (with_first([np.inf, *[1.0] * 7]), "NaN or infinite scores for 1 of 8"),
}


@pytest.mark.parametrize("case", WRONG_SCORES)
def test_a_criterion_of_ones_own_that_returns_something_else_is_refused_at_once(case):
    criterion, match = WRONG_SCORES[case]
    refused(InvalidArgument, match, criterion=criterion)
    with pytest.raises(InvalidArgument, match=match):
        keras_gcp.plan(networks.plain(), {"channels": 0.6}, criterion)


@pytest.mark.parametrize("scores", [np.arange(8), list(range(8)), ops.arange(8.0), [True] * 8])
def test_what_is_like_an_array_of_numbers_is_taken(scores):
    plan = keras_gcp.plan(
        networks.plain(), {"channels": 0.6}, with_first(scores), selection={"align": 1}
    )
    assert plan.removed_channels == 8


def test_negative_scores_are_refused_at_once_with_a_prior_only():
    model = fitting.compiled(networks.plain())
    prior = keras_gcp.sensitivity(model, fitting.data(), shares=(0.5,), verbose=0)
    negative = with_first(-np.ones(8))
    refused(InvalidArgument, "has negative ones", model, criterion=negative, prior=prior)
    assert keras_gcp.plan(networks.plain(), {"channels": 0.6}, negative, selection={"align": 1})


def test_an_error_in_the_function_itself_is_shown_as_it_is():
    def wrong(model, channels, sample):
        raise KeyError("my own mistake")

    refused(KeyError, "my own mistake", criterion=wrong)


def moves_statistics(model, channels, sample):
    model(np.ones((4, 8, 8, 3), "float32"), training=True)
    return ones(channels)


def masks_a_kernel(model, channels, sample):
    kernel = model.get_layer("b_conv").kernel
    kernel.assign(np.zeros(kernel.shape))
    return ones(channels)


def fails_half_way(model, channels, sample):
    masks_a_kernel(model, channels, sample)
    raise KeyError("half way")


@pytest.mark.parametrize(
    "criterion, error, match",
    [
        (
            moves_statistics,
            InvalidArgument,
            "'moves_statistics' changed 4 .*training=False",
        ),
        (masks_a_kernel, InvalidArgument, "changed 1 weights .*'b_conv/kernel'"),
        (fails_half_way, KeyError, "half way"),
    ],
)
def test_a_criterion_that_changes_weights_is_refused_and_they_get_their_values_back(
    criterion, error, match
):
    refused(error, match, criterion=criterion)
    model = networks.plain()
    before = fitting.weights_of(model)
    with pytest.raises(error, match=match):
        keras_gcp.plan(model, {"channels": 0.6}, criterion)
    for now, then in zip(fitting.weights_of(model), before, strict=True):
        np.testing.assert_array_equal(now, then)


def test_weights_that_are_nan_are_not_taken_for_changed_ones():
    model = networks.plain()
    bias = model.get_layer("classifier").bias
    bias.assign(np.full(4, np.nan))
    assert keras_gcp.plan(model, {"channels": 0.6}, lambda m, c, s: ones(c))


@pytest.mark.parametrize("at, calls", [(0, 1), (1, 2)])
def test_scores_from_before_training_serve_an_event_before_the_first_step_only(at, calls):
    seen = []

    def counting(model, channels, sample):
        seen.append(len(channels.produced["a_conv"]))
        return ones(channels)

    callback = fitting.pruning(schedule=schedules.one_shot(at), criterion=counting)
    fitting.fit(fitting.compiled(networks.plain()), [callback], epochs=2)
    assert len(seen) == calls and callback.events[0].removed_channels


def test_scores_of_other_weights_are_not_taken_again():
    """Another callback changes the weights between the start and the first event."""
    kernels = []

    class Changes(keras.callbacks.Callback):
        def on_train_begin(self, logs=None):
            self.model.get_layer("a_conv").kernel.assign(np.ones((3, 3, 3, 8)))

    def looking(model, channels, sample):
        kernels.append(float(ops.mean(model.get_layer("a_conv").kernel)))
        return ones(channels)

    callback = fitting.pruning(schedule=schedules.one_shot(0), criterion=looking)
    fitting.fit(fitting.compiled(networks.plain()), [callback, Changes()], epochs=1)
    assert len(kernels) == 2 and kernels[1] == 1.0


# ---- schedules


class Says:
    """An adaptive schedule that always says the same."""

    monitor = "loss"

    def __init__(self, progress, monitor="loss"):
        self.progress, self.monitor = progress, monitor

    def next(self, epoch, progress, values):
        return self.progress


@pytest.mark.parametrize("said", ["x", 1.5, -0.5, float("nan"), [1.0], True])
def test_an_adaptive_schedule_that_says_no_progress_is_refused_at_once(said):
    refused(InvalidArgument, "`next` of the schedule .* returned", schedule=Says(said))


@pytest.mark.parametrize("monitor", [None, "", 5])
def test_an_adaptive_schedule_without_the_name_of_an_entry_is_refused_at_once(monitor):
    refused(InvalidArgument, "`monitor` of the schedule", schedule=Says(None, monitor))


@pytest.mark.parametrize("monitor", ["acuracy", "val_acc", "auc", "macs", "learning_rate"])
def test_an_entry_that_the_logs_will_not_have_is_refused_at_once(monitor):
    match = f"monitors '{monitor}', which the logs .* will not have. Expected one of 'accuracy', '"
    refused(InvalidArgument, match, schedule=Says(None, monitor))


@pytest.mark.parametrize("monitor", ["loss", "val_accuracy", "learning_rate", "val_loss"])
def test_entries_that_the_logs_may_have_are_not(monitor):
    callback = fitting.pruning(schedule=Says(None, monitor))
    rates = keras.callbacks.LearningRateScheduler(lambda epoch: 0.01)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Without validation, or without an event.
        fitting.fit(fitting.compiled(networks.plain()), [rates, callback], epochs=1)


def test_what_another_callback_may_log_is_not_refused():
    class Logs(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            logs["mine"] = 0.5

    callback = fitting.pruning(schedule=schedules.on_plateau("mine", 1, mode="max"))
    model = fitting.compiled(networks.plain())
    with pytest.warns(UserWarning, match="budget is not met: channels"):
        fitting.fit(model, [Logs(), callback], epochs=4)
    assert callback.events


def test_an_entry_that_is_no_number_is_refused():
    class Logs(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            logs["mine"] = "good"

    callback = fitting.pruning(schedule=Says(None, "mine"))
    with pytest.raises(InvalidArgument, match="monitors 'mine', which is 'good' .*epoch 0"):
        fitting.fit(fitting.compiled(networks.plain()), [Logs(), callback], epochs=2)


def test_progress_that_goes_back_is_refused_when_it_is_said():
    class Back(Says):
        min_step = 0.0

        def next(self, epoch, progress, values):
            return {0: 0.6, 1: 0.2}.get(epoch)

    callback = fitting.pruning({"channels": 0.5}, Back(None))
    with pytest.raises(InvalidArgument, match="returned 0.2 before epoch 1, when 60% .*from 0.6"):
        fitting.fit(fitting.compiled(networks.plain()), [callback], epochs=3)


def refused_without_budget(error, match, schedule, epochs=6, initial_epoch=0, **options):
    model, counter = fitting.compiled(networks.plain()), Steps()
    callback = keras_gcp.GradualChannelPruning(
        fitting.data(),
        schedule=schedule,
        criterion="l2_norm",
        selection=fitting.selection_in(options),
        verbose=0,
        **options,
    )
    with pytest.raises(error, match=match):
        fitting.fit(
            model, [callback, counter], epochs, fitting.THREE_STEPS, initial_epoch=initial_epoch
        )
    assert counter.steps == 0


def test_a_schedule_that_removes_more_channels_than_may_go_is_refused_at_once():
    schedule = schedules.channels_every(1, 6, 4)
    match = r"channels=6, until=4\) has 4 events to come, and the model has 20 .*down to 3"
    refused_without_budget(ImpossibleBudget, match, schedule)
    steps = schedules.channels_every(2, 6, 8, unit="step")
    refused_without_budget(ImpossibleBudget, r"channels=6.* has 4 events to come", steps)


def test_events_before_the_first_epoch_of_a_fit_are_what_they_remove():
    model = fitting.compiled(networks.plain())
    callback = keras_gcp.GradualChannelPruning(
        fitting.data(),
        schedule=schedules.channels_every(1, 3, 4),
        criterion="l2_norm",
        selection={"align": 1, "floor": 2},
        verbose=0,
    )
    fitting.fit(model, [callback], epochs=5, initial_epoch=3)
    assert keras_gcp.count(model).channels == 20 - 4 * 3


def test_without_a_budget_settings_by_layer_are_looked_at_at_once_too():
    schedule = schedules.channels_every(3, 2, 4)
    match = "`floor` names layer 'nowhere'"
    refused_without_budget(InvalidArgument, match, schedule, floor={"nowhere": 2})
    match = "keep at most 2 of its 12.*at least 6"
    refused_without_budget(InvalidArgument, match, schedule, floor=0.5, cap={"b_conv": 2})


# ---- distillation


class OwnStep(keras.Model):
    """A training step that computes its loss by itself."""

    def train_step(self, data):
        return {"loss": ops.zeros(())}


class GoodStep(keras.Model):
    """One that asks for it, by way of another method."""

    traced = 0

    def train_step(self, data):
        type(self).traced += 1
        return self.another(data)

    def another(self, data):
        x, y = data
        y_pred = self(x, training=True)
        return {"loss": self.compute_loss(x=x, y=y, y_pred=y_pred)}


@pytest.mark.needs_tensorflow("a step is traced without being taken")
def test_a_training_step_that_does_not_learn_from_the_teacher_is_refused_at_once():
    plain = networks.plain()
    model = fitting.compiled(OwnStep(plain.inputs, plain.outputs))
    distillation = keras_gcp.Distillation()
    refused(UnsupportedModel, "`train_step` .*class OwnStep", model, distillation=distillation)
    model = fitting.compiled(GoodStep(plain.inputs, plain.outputs), metrics=None)
    callback = fitting.pruning(schedule=schedules.one_shot(1), distillation=distillation)
    fitting.fit(model, [callback], epochs=2)
    assert GoodStep.traced > 0 and callback.events[0].removed_channels
