"""Schedules: when events happen, and how far they go."""

import itertools
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keras_gcp import schedules
from keras_gcp.errors import InvalidArgument


def test_linear_as_in_the_documented_table():
    assert schedules.linear(2, 8, 2).events() == {2: 0.25, 4: 0.5, 6: 0.75, 8: 1.0}


def test_cubic_as_in_the_documented_table():
    events = schedules.cubic(2, 8, 2).events()
    assert list(events) == [2, 4, 6, 8]
    assert list(events.values()) == pytest.approx([0.578125, 0.875, 0.984375, 1.0])


def test_cosine_as_in_the_documented_table():
    events = schedules.cosine(2, 8, 2).events()
    assert list(events) == [2, 4, 6, 8]
    assert list(events.values()) == pytest.approx([0.146447, 0.5, 0.853553, 1.0], abs=1e-6)


def test_a_course_of_ones_own_is_asked_for_the_share_of_events_that_happened():
    asked = []

    def square(t):
        asked.append(t)
        return t * t

    events = schedules.function(square, begin=1, end=5, every=2, unit="step").events()
    assert events == {1: pytest.approx(1 / 9), 3: pytest.approx(4 / 9), 5: 1.0}
    assert set(asked) == {1 / 3, 2 / 3, 1.0}


@pytest.mark.parametrize(
    "shape, message",
    [
        (lambda t: 1 - t, "goes back: its progress is .* at 1 and .* at 2"),
        (lambda t: t / 2, r"must be 1: the budget is reached. Received: 0.5"),
        (lambda t: 2 * t, "returned the progress 1.3"),
        (lambda t: float("nan"), "returned the progress nan"),
        (lambda t: "half", "returned the progress 'half'"),
        (0.5, "expects a function"),
    ],
)
def test_courses_that_cannot_be_followed_are_refused(shape, message):
    with pytest.raises(InvalidArgument, match=message):
        schedules.function(shape, begin=1, end=3)


@dataclass(frozen=True)
class Own:
    """A schedule of one's own."""

    given: object
    unit: str = "epoch"

    def events(self):
        return self.given


def test_a_schedule_of_ones_own_is_put_in_order():
    assert list(schedules.checked_events(Own({5: 1.0, 2: 0.5}))) == [2, 5]


@pytest.mark.parametrize(
    "schedule, message",
    [
        (Own({}), "with one entry at least"),
        (Own([1, 2]), r"must return a dict .* Received: \[1, 2\]"),
        (Own({-1: 0.5}), "integer of at least 0. Received: -1"),
        (Own({1.5: 0.5}), "integer of at least 0. Received: 1.5"),
        (Own({1: 1.5}), "returned the progress 1.5 for 1"),
        (Own({1: True}), "returned the progress True for 1"),
        (Own({1: 0.5, 2: 0.4}), "channels do not return"),
        (Own({1: 0.5}, unit="batch"), "`unit` expects one of"),
    ],
)
def test_schedules_of_ones_own_that_cannot_be_followed_are_refused(schedule, message):
    with pytest.raises(InvalidArgument, match=message):
        schedules.checked_events(schedule)


def test_the_last_event_is_at_the_end_even_if_every_does_not_divide_the_span():
    assert list(schedules.linear(1, 6, 2).events()) == [1, 3, 5, 6]


def test_one_shot_goes_the_whole_way_at_once():
    assert schedules.one_shot(3).events() == {3: 1.0}


def test_the_authors_schedule_for_vgg_has_ten_events():
    """After epochs 14, 29, ..., 149: (e + 1) % 15 == 0 and e < 150."""
    assert list(schedules.channels_every(15, 160, 150).events()) == list(range(15, 151, 15))


def test_the_authors_schedule_for_resnets_has_seven_events():
    assert len(schedules.channels_every(21, 120, 150).events()) == 7


@given(
    st.sampled_from([schedules.linear, schedules.cubic, schedules.cosine]),
    st.integers(0, 50),
    st.integers(0, 50),
    st.integers(1, 20),
)
def test_progress_rises_and_reaches_1_at_the_end(make, begin, length, every):
    events = make(begin, begin + length, every).events()
    progress = list(events.values())
    assert min(events) == begin and max(events) == begin + length
    assert all(a < b for a, b in itertools.pairwise(progress))
    assert 0 < progress[0] <= progress[-1] == 1.0


@given(st.integers(1, 300))
def test_the_default_schedule_ends_within_any_training(epochs):
    events = schedules.default(epochs).events()
    assert 1 <= len(events) <= 4
    assert max(events) < epochs or epochs == 1


@pytest.mark.parametrize(
    "make",
    [
        lambda: schedules.linear(-1, 5),
        lambda: schedules.linear(5, 4),
        lambda: schedules.cubic(0, 5, 0),
        lambda: schedules.one_shot(1.5),
        lambda: schedules.channels_every(0, 1, 1),
        lambda: schedules.channels_every(5, 1, 4),
        lambda: schedules.linear(True, 5),
    ],
)
def test_bad_epochs_are_refused(make):
    with pytest.raises(InvalidArgument):
        make()
