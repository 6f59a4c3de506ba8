"""Events within epochs: schedules that count training steps (`unit="step"`)."""

import functools
import warnings

import fitting
import keras
import networks
import numpy as np
import pytest
from fitting import THREE_STEPS, compiled, data, pruning, slots_of, weights_of
from hypothesis import given
from hypothesis import strategies as st

import keras_gcp
from keras_gcp import schedules
from keras_gcp.errors import InvalidArgument
from keras_gcp.training.fit_checks import check_schedule

STEPS = 3  # of an epoch
fit = functools.partial(fitting.fit, examples=THREE_STEPS)


several_in_one = pytest.mark.not_on("torch", "Keras wants steps_per_execution=1 there")


def moments(callback):
    return [(event.epoch, event.step) for event in callback.events]


def test_training_goes_on_within_the_epoch_like_that_of_a_fresh_narrow_model():
    traced = {"optimizer": keras.optimizers.Adam(1e-2), "run_eagerly": False}
    model = compiled(networks.plain(), **traced)
    x, y = data()
    at_cut = {}

    class BehindTheEvent(keras.callbacks.Callback):
        def on_train_batch_begin(self, batch, logs=None):
            if callback.events and not at_cut:
                at_cut.update(weights=weights_of(model), slots=slots_of(model))

    callback = pruning(schedule=schedules.one_shot(4, unit="step"))
    model.fit(
        x,
        y,
        batch_size=16,
        epochs=2,
        shuffle=False,
        verbose=0,
        callbacks=[callback, BehindTheEvent()],
    )
    assert moments(callback) == [(1, 4)]

    traced["optimizer"] = keras.optimizers.Adam(1e-2)
    fresh = compiled(keras.Model.from_config(model.get_config()), **traced)
    fresh.set_weights(at_cut["weights"])
    fresh.optimizer.build(fresh.trainable_variables)
    for variable, value in zip(fresh.optimizer.variables, at_cut["slots"], strict=True):
        variable.assign(value)
    fresh.fit(x[16:], y[16:], batch_size=16, shuffle=False, verbose=0)  # The epoch's other steps.
    for ours, theirs in zip(weights_of(model), weights_of(fresh), strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_metrics_of_the_epoch_are_over_all_its_steps_those_before_the_event_too():
    layers = [
        keras.Input((8, 8, 3)),
        keras.layers.Conv2D(8, 3, activation="relu"),
        keras.layers.GlobalAveragePooling2D(),
        keras.layers.Dense(4, activation="softmax"),
    ]
    model = compiled(keras.Sequential(layers), keras.optimizers.SGD(0.0))  # Nothing learns.
    x, y = data()
    wide = model.evaluate(x[:16], y[:16], verbose=0)[1]
    callback = pruning({"channels": 0.3}, schedules.one_shot(1, unit="step"))
    history = fit(model, [callback], epochs=1).history
    narrow = model.evaluate(x[16:], y[16:], verbose=0)[1]
    assert history["accuracy"] == [pytest.approx((16 * wide + 32 * narrow) / 48, abs=1e-6)]
    assert moments(callback) == [(0, 1)]


@several_in_one
def test_events_of_several_steps_in_one_execution_take_place_together():
    model = compiled(networks.plain(), steps_per_execution=3)
    callback = pruning({"channels": 0.5}, schedules.linear(1, 5, 2, unit="step"))
    fit(model, [callback], epochs=3)
    assert moments(callback) == [(1, 3), (2, 6)]  # Steps 1 and 3 before 3, step 5 before 6.
    assert [event.progress for event in callback.events] == [pytest.approx(2 / 3), 1.0]


@several_in_one
def test_channels_of_events_that_take_place_together_add_up():
    model = compiled(networks.plain(), steps_per_execution=3)
    callback = keras_gcp.GradualChannelPruning(
        data(),
        schedule=schedules.channels_every(1, 1, 3, unit="step"),
        criterion="l2_norm",
        selection={"align": 1},
        verbose=0,
    )
    fit(model, [callback], epochs=2)
    assert [event.removed_channels for event in callback.events] == [3]


@pytest.mark.filterwarnings("ignore:`shuffle=True` was passed")
def test_steps_of_a_data_set_of_unknown_length_are_counted_as_they_come():
    model = compiled(networks.plain())
    x, y = data()

    class Unknown(keras.utils.PyDataset):
        @property
        def num_batches(self):
            return None

        def __getitem__(self, index):
            return x[:16], y[:16]

    callback = pruning({"channels": 0.5}, schedules.linear(2, 7, 5, unit="step"), floor=2)
    model.fit(Unknown(), steps_per_epoch=STEPS, epochs=3, verbose=0, callbacks=[callback])
    assert moments(callback) == [(0, 2), (2, 7)]

    def generator():
        while True:
            yield x[:16], y[:16]

    again = pruning({"channels": 0.4}, schedules.linear(2, 7, 5, unit="step"), floor=2)
    model.fit(generator(), steps_per_epoch=STEPS, epochs=3, verbose=0, callbacks=[again])
    assert moments(again) == [(0, 2), (2, 7)]


def test_steps_are_counted_from_the_epoch_that_fit_begins_with():
    model = compiled(networks.plain())
    callback = pruning({"channels": 0.5}, schedules.linear(1, 7, 3, unit="step"))
    with pytest.warns(UserWarning, match="after 6 steps, so only 67% of the way"):
        fit(model, [callback], epochs=2)
    fit(model, [callback], epochs=4, initial_epoch=2)
    assert moments(callback) == [(0, 1), (1, 4), (2, 7)]


def test_a_step_event_that_fails_leaves_the_epoch_bit_identical(monkeypatch):
    def fail(*args):
        raise RuntimeError("made by the test")

    losses = []
    for callbacks in ([], [pruning(schedule=schedules.one_shot(4, "step"), on_failure="skip")]):
        keras.utils.set_random_seed(2)
        model = compiled(networks.flatten_dense())
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            losses.append(fit(model, callbacks).history["loss"])
        monkeypatch.setattr("keras_gcp.surgery.cut.verify_narrow", fail)
    assert losses[0] == losses[1]
    assert [(s.epoch, s.step) for s in callbacks[0].skipped] == [(1, 4)]


def test_a_schedule_behind_the_last_step_is_refused():
    with pytest.raises(InvalidArgument, match="no event inside the 9 steps of this fit"):
        fit(compiled(networks.plain()), [pruning(schedule=schedules.one_shot(9, "step"))])


def test_a_schedule_that_is_cut_off_by_the_end_says_how_far_it_gets():
    schedule = schedules.linear(0, 12, 4, unit="step")
    with pytest.warns(UserWarning, match="after 10 steps, so only 75% of the way"):
        assert check_schedule(schedule, 2, 5) == {0: 0.25, 4: 0.5, 8: 0.75}


@given(st.integers(0, 30), st.integers(0, 30), st.integers(1, 9), st.integers(1, 20))
def test_without_a_known_end_no_event_is_left_out(begin, length, every, epochs):
    schedule = schedules.cubic(begin, begin + length, every, unit="step")
    assert check_schedule(schedule, epochs, None) == schedule.events()


@pytest.mark.parametrize("make", [schedules.linear, schedules.cubic, schedules.channels_every])
def test_unknown_units_are_refused(make):
    with pytest.raises(InvalidArgument, match="`unit` expects one of 'epoch', 'step'"):
        make(1, 2, 3, unit="batch")
