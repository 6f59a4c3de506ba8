"""Events whenever the training has stopped improving."""

import math
import warnings

import keras
import networks
import pytest
from fitting import compiled, data, fit, pruning
from hypothesis import given
from hypothesis import strategies as st

import keras_gcp
from keras_gcp import schedules
from keras_gcp.errors import InvalidArgument


def patience_by_hand(values, min_delta):
    """Epochs since the last one that was better, by more than `min_delta`, than all before it."""
    better = [
        i
        for i, value in enumerate(values)
        if all(value < earlier - min_delta for earlier in _records(values[:i], min_delta))
    ]
    return len(values) - 1 - better[-1] if better else len(values)


def _records(values, min_delta):
    best = []
    for value in values:
        if not best or value < best[-1] - min_delta:
            best.append(value)
    return best


@given(st.lists(st.integers(-5, 5).map(float)), st.sampled_from([0.0, 0.5, 1.0, 3.0]))
def test_epochs_without_improvement_are_those_since_the_last_record(values, min_delta):
    schedule = schedules.on_plateau("loss", min_delta=min_delta)
    assert schedule.epochs_without_improvement(values) == patience_by_hand(values, min_delta)
    mirrored = schedules.on_plateau("accuracy", min_delta=min_delta)
    negative = [-value for value in values]
    assert mirrored.epochs_without_improvement(negative) == patience_by_hand(values, min_delta)


def test_values_that_are_no_numbers_are_no_improvement():
    schedule = schedules.on_plateau("loss", patience=2)
    assert schedule.epochs_without_improvement([math.nan, math.nan]) == 2
    assert schedule.epochs_without_improvement([math.nan, 1.0, math.nan]) == 1


@given(
    st.lists(st.floats(0, 1), max_size=60),
    st.integers(1, 5),
    st.floats(0.01, 1.0),
    st.one_of(st.none(), st.integers(0, 40)),
)
def test_progress_rises_to_1_and_not_beyond_and_until_is_kept(values, patience, share, until):
    schedule = schedules.on_plateau("loss", patience=patience, share=share, until=until)
    progress, seen = 0.0, []
    for epoch, value in enumerate(values):
        further = schedule.next(epoch, progress, seen)
        if further is not None:
            assert progress < further <= 1.0
            in_time = until is None or epoch < until
            assert not in_time or further == pytest.approx(min(1.0, progress + share))
            progress, seen = further, []
        assert until is None or epoch < until or progress == 1.0
        seen.append(value)


def test_ten_tenths_are_the_whole_way():
    schedule, progress = schedules.on_plateau("loss", patience=1, share=0.1), 0.0
    for _ in range(10):
        progress = schedule.next(5, progress, [1.0, 1.0])
    assert progress == 1.0
    assert schedule.next(5, progress, [1.0, 1.0]) is None


@pytest.mark.parametrize(
    "options, message",
    [
        ({"monitor": ""}, "`monitor` expects the name"),
        ({"monitor": None}, "`monitor` expects the name"),
        ({"monitor": "val_f1"}, "Pass mode='min' or mode='max'"),
        ({"mode": "up"}, "`mode` expects one of 'auto', 'min', 'max'"),
        ({"patience": 0}, "`patience` expects an integer of at least 1"),
        ({"patience": None}, "`patience` expects an integer of at least 1"),
        ({"patience": 1.5}, "`patience` expects an integer of at least 1"),
        ({"min_delta": -0.1}, "`min_delta` expects a number from 0"),
        ({"share": 0.0}, r"in \(0, 1\]. Received: 0.0"),
        ({"share": 1.5}, r"in \(0, 1\]. Received: 1.5"),
        ({"until": -1}, "`until` expects an integer of at least 0"),
    ],
)
def test_values_out_of_range_are_refused_at_once(options, message):
    with pytest.raises(InvalidArgument, match=message):
        schedules.on_plateau(**options)


def on_plateau(**options):
    return pruning({"channels": 0.5}, schedules.on_plateau(**options))


def standing_still():
    """A network that nothing changes but events."""
    return compiled(networks.plain(), keras.optimizers.SGD(0.0), run_eagerly=True)


def test_events_come_when_the_loss_stands_still_and_the_rest_at_until():
    model = standing_still()
    callback = on_plateau(monitor="loss", patience=2, share=0.25, until=7)
    fit(model, [callback], epochs=9)
    # The first epoch is a record, so the first plateau is seen after epochs 0, 1 and 2.
    assert [(e.epoch, e.progress) for e in callback.events] == [(3, 0.25), (6, 0.5), (7, 1.0)]
    assert keras_gcp.count(model).channels <= 0.5 * callback.plan.before.channels


def test_without_plateaus_the_budget_is_not_met_and_a_warning_says_so():
    with pytest.warns(UserWarning, match="budget is not met: .*before enough events had come"):
        fit(standing_still(), [on_plateau(monitor="loss", patience=9)], epochs=2)


def test_a_metric_that_is_not_in_the_logs_is_refused_with_those_that_are():
    with pytest.raises(InvalidArgument, match="'top_accuracy', .*'accuracy', 'loss'"):
        fit(standing_still(), [on_plateau(monitor="top_accuracy")])


def test_validation_that_never_comes_is_a_warning_after_the_first_epoch():
    callback = on_plateau(monitor="val_loss", until=1)
    with pytest.warns(UserWarning, match="first epoch had no validation"):
        fit(standing_still(), [callback], epochs=2)
    assert [event.progress for event in callback.events] == [1.0]


def test_validation_in_some_epochs_only_counts_those():
    model = standing_still()
    never_better = {"patience": 1, "min_delta": 1.0}  # Statistics of normalizations move.
    callback = on_plateau(monitor="val_accuracy", share=1.0, **never_better)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        fit(model, [callback], epochs=5, validation_data=data(seed=1), validation_freq=2)
    assert [event.epoch for event in callback.events] == [4]


def test_an_end_behind_the_last_epoch_is_a_warning():
    with (
        pytest.warns(UserWarning, match="before epoch 5 at the latest, .*after 2 epochs"),
        pytest.warns(UserWarning, match="^The budget is not met"),
    ):
        fit(standing_still(), [on_plateau(monitor="loss", until=5)], epochs=2)
