"""The guard: no event takes more accuracy than allowed, and what was refused leaves no trace."""

import warnings

import keras
import networks
import numpy as np
import pytest
from fitting import compiled, data, fit, pruning
from helpers import one_line
from states import assert_same_state, state_of

import keras_gcp
from keras_gcp import AccuracyGuard, schedules
from keras_gcp.errors import InvalidArgument

CLASSES = 8
EXAMPLES = np.eye(CLASSES, dtype="float32"), np.arange(CLASSES)


def one_channel_for_every_class():
    """Without channel i, examples of class i are taken for class 0: each costs 1/8 of accuracy."""
    inputs = keras.Input((CLASSES,))
    x = keras.layers.Dense(CLASSES, activation="relu", name="hidden")(inputs)
    model = keras.Model(inputs, keras.layers.Dense(CLASSES, activation="softmax", name="out")(x))
    identity, none = np.eye(CLASSES), np.zeros(CLASSES)
    model.set_weights([identity, none, 5 * identity, none])
    return compiled(model, keras.optimizers.SGD(0.0), run_eagerly=True)


def last_ones_first(model, channels, sample):
    return {"hidden": np.arange(len(channels.produced["hidden"]), 0, -1)}


def guarded(max_drop, schedule, share=0.25, data=EXAMPLES, size=None, **options):
    guard = AccuracyGuard(data, max_drop, size)
    return keras_gcp.GradualChannelPruning(
        EXAMPLES,
        {"channels": share},
        schedule,
        criterion=last_ones_first,
        selection={"align": 1},
        verbose=options.pop("verbose", 0),
        guard=guard,
        compensation=None,
        **options,
    )


def fit_guarded(callback, epochs=4, model=None):
    model = model or one_channel_for_every_class()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        fit(model, [callback], epochs=epochs, examples=EXAMPLES)
    return model, [str(w.message) for w in caught if "budget is not met" in str(w.message)]


def width(model):
    return model.get_layer("hidden").units


def accuracies(callback):
    return [(e.metric_before, e.metric_after, e.tries) for e in callback.events]


def test_an_event_within_the_limit_happens_as_scheduled():
    callback = guarded(0.75, schedules.one_shot(1))
    model, unmet = fit_guarded(callback)
    assert width(model) == 2 and not unmet
    assert accuracies(callback) == [(1.0, 0.25, 1)]


def test_an_event_that_costs_too_much_is_tried_with_half_and_a_quarter(capsys):
    """Of 8 channels 6 are to go; 3 would cost 37.5 %; 2 (1.5 rounded up) cost the 25 % allowed."""
    callback = guarded(0.25, schedules.one_shot(1), verbose=1)
    model, unmet = fit_guarded(callback)
    assert width(model) == 6
    assert accuracies(callback) == [(1.0, 0.75, 3)]
    assert callback.events[0].progress == 0.25
    assert unmet[0].startswith("The budget is not met: channels 6 (at most 2 wanted)")
    assert "1 event went less far than scheduled" in unmet[0]
    printed = one_line(capsys.readouterr().out)
    assert "guarded accuracy 100.00 % → 75.00 % · smaller than scheduled (try 3)" in printed


def test_drops_do_not_add_up_over_events():
    """The second event starts at the limit, since nothing was learnt between: nothing more goes."""
    callback = guarded(0.25, schedules.linear(1, 2))
    model, unmet = fit_guarded(callback)
    assert width(model) == 6
    assert accuracies(callback) == [(1.0, 0.75, 2)]
    (refused,) = callback.skipped
    assert refused.refused and (refused.epoch, refused.tries) == (2, 3)
    assert refused.metric_before == 0.75
    assert refused.metric_after == 0.625  # after the smallest cut, of one channel
    assert "1 event would have made accuracy worse than `max_drop` allows" in unmet[0]


def test_what_was_learnt_again_may_be_given_up_again():
    class Learns(keras.callbacks.Callback):
        """Between the events, classes 6 and 7 are told by two of the channels that are left."""

        def on_epoch_end(self, epoch, logs=None):
            if epoch == 1:
                pairs = [[1, 1, 0, 0, 0, 0], [0, 0, 1, 1, 0, 0]]
                codes = np.concatenate([np.eye(6), pairs])
                out = np.concatenate([5 * np.eye(6), 4 * codes[6:].T], axis=1)
                self.model.get_layer("hidden").kernel.assign(codes)
                self.model.get_layer("out").kernel.assign(out)

    callback = guarded(0.25, schedules.linear(1, 2), share=0.5)
    model = one_channel_for_every_class()
    fit(model, [callback, Learns()], epochs=3, examples=EXAMPLES)
    assert accuracies(callback) == [(1.0, 0.75, 1), (1.0, 0.75, 1)]
    assert width(model) == 4


def test_an_accuracy_that_is_too_low_already_lets_nothing_go():
    class Forgets(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            if epoch == 1:
                self.model.get_layer("out").kernel.assign(np.zeros((7, CLASSES)))

    callback = guarded(0.2, schedules.linear(1, 2), share=0.8)
    model = one_channel_for_every_class()
    with pytest.warns(UserWarning, match="budget is not met"):
        fit(model, [callback, Forgets()], epochs=3, examples=EXAMPLES)
    assert [event.removed_channels for event in callback.events] == [1]
    assert [(s.refused, s.tries, s.metric_after) for s in callback.skipped] == [(True, 0, None)]
    assert "may not be below 80.00 %. Nothing could go" in callback.skipped[0].error


def test_channels_every_says_that_it_was_refused():
    callback = keras_gcp.GradualChannelPruning(
        None,
        schedule=schedules.channels_every(1, 1, 1),
        criterion="l2_norm",
        selection={"align": 1},
        verbose=0,
        guard=AccuracyGuard(EXAMPLES, 0.1),
    )
    with pytest.warns(UserWarning, match="1 event would .*`max_drop` allows, and removed nothing"):
        fit(one_channel_for_every_class(), [callback], examples=EXAMPLES)
    assert callback.plan is None


def falling(monkeypatch, values):
    """Lets the model have these accuracies, one after the other."""
    left = iter(values)
    monkeypatch.setattr("keras_gcp.training.measurements.value_of", lambda *arguments: next(left))


@pytest.mark.parametrize("unit", ["epoch", pytest.param("step", marks=pytest.mark.slow)])
def test_a_refused_event_leaves_the_training_bit_identical(unit, monkeypatch):
    losses = []
    for guard in (False, True):
        keras.utils.set_random_seed(3)
        # Dropout: random state must go on, too.
        model = compiled(networks.flatten_dense(), run_eagerly=False)
        callbacks = []
        if guard:
            falling(monkeypatch, [0.9, 0.5, 0.6, 0.7])
            schedule = schedules.one_shot(1 if unit == "epoch" else 4, unit)
            callbacks = [pruning(schedule=schedule, guard=AccuracyGuard(data(), 0.1))]
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            losses.append(fit(model, callbacks).history["loss"])
    assert losses[0] == losses[1]
    (refused,) = callbacks[0].skipped
    assert (refused.metric_before, refused.metric_after, refused.tries) == (0.9, 0.7, 3)
    assert "50.00 %, 60.00 %, 70.00 %" in refused.error
    assert any("budget is not met" in str(warning.message) for warning in caught)


def test_a_refused_event_leaves_model_and_optimizer_as_they_were(monkeypatch):
    model = compiled(networks.plain(), keras.optimizers.Adam(1e-2))
    states = []

    class Around(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            states.append(state_of(self.model))

    falling(monkeypatch, [0.9, 0.5, 0.6, 0.7])
    callback = pruning(guard=AccuracyGuard(data(), 0.1))
    with pytest.warns(UserWarning, match="budget is not met"):
        fit(model, [Around(), callback, Around()], epochs=2)
    assert len(callback.skipped) == 1
    assert_same_state(states[3], states[2])


def test_channels_that_only_go_together_are_not_tried_twice(monkeypatch):
    """Half and a quarter of two channels are one channel: the same cut."""
    falling(monkeypatch, [0.9, 0.5, 0.6])
    callback = guarded(0.1, schedules.one_shot(1), share=0.75)
    fit_guarded(callback)
    assert [skipped.tries for skipped in callback.skipped] == [2]


def test_validation_data_may_be_a_data_set_of_which_some_examples_are_drawn():
    class Batches(keras.utils.PyDataset):
        def __len__(self):
            return 100

        def __getitem__(self, index):
            return EXAMPLES

    callback = guarded(0.75, schedules.one_shot(1), data=Batches(), size=16)
    fit_guarded(callback)
    assert len(callback._run.guard.sample) == 16
    assert accuracies(callback) == [(1.0, 0.25, 1)]


@pytest.mark.parametrize(
    "options, message",
    [
        ({"data": None}, "`data` of AccuracyGuard expects examples"),
        ({"max_drop": 1.0}, "in units of 'accuracy', which is at most 1"),
        ({"max_drop": 5, "metric": "head_accuracy"}, "in units of 'head_accuracy'"),
        ({"max_drop": -0.1}, "a number of 0 or more"),
        ({"max_drop": float("nan")}, "a number of 0 or more"),
        ({"max_drop": float("inf")}, "a number of 0 or more"),
        ({"max_drop": "1 %"}, "a number of 0 or more"),
        ({"max_drop": True}, "a number of 0 or more"),
        ({"max_drop": None}, "a number of 0 or more"),
        ({"size": 0}, "positive integer"),
        ({"mode": "up"}, "'auto', 'max', 'min'"),
        ({"metric": 3}, "`metric` of AccuracyGuard expects .* Received: 3"),
        ({"metric": keras.metrics.AUC}, "`metric` of AccuracyGuard expects .*class"),
    ],
)
def test_a_guard_that_makes_no_sense_is_refused_at_once(options, message):
    with pytest.raises(InvalidArgument, match=message):
        AccuracyGuard(**{"data": EXAMPLES, **options})


def test_what_is_no_guard_is_refused_at_once():
    with pytest.raises(InvalidArgument, match="`guard` expects `keras_gcp.AccuracyGuard"):
        pruning(guard=0.01)


@pytest.mark.parametrize(
    "validation, message",
    [
        ((np.zeros((4, 9, 8, 3), "float32"), np.zeros(4)), "`guard` .*8, 8, 3"),
        ((data()[0], None), "`guard` .*no labels"),
        ((data()[0], data()[1] + 7), "`guard` .*whole numbers from 0 to 3"),
        ("validation.npz", "`guard` .*str"),
    ],
)
def test_validation_data_that_do_not_fit_are_refused_before_training(validation, message):
    callback = pruning(guard=AccuracyGuard(validation, 0.1))
    with pytest.raises(InvalidArgument, match=message):
        fit(compiled(networks.plain()), [callback])


def test_a_model_without_an_accuracy_is_refused_before_training():
    model = networks.autoencoder()
    model.compile("sgd", "mse", metrics=["mae"])
    x, _ = data()
    target = np.zeros((len(x), *model.output_shape[1:]), "float32")
    callback = pruning(sample=(x, target), guard=AccuracyGuard((x, target), 0.1))
    with pytest.raises(InvalidArgument, match="`guard` .*Accuracy needs .*compiled with .'mae'"):
        fit(model, [callback], examples=(x, target))
