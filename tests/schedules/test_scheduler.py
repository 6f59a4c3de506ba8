"""Which events are due, and which are put together because alone they would remove too little."""

import itertools

import networks
import pytest
from fitting import compiled, fit, pruning
from helpers import one_line
from hypothesis import given
from hypothesis import strategies as st

import keras_gcp
from keras_gcp import schedules
from keras_gcp.costs.budget import Budget
from keras_gcp.errors import InvalidArgument
from keras_gcp.schedules.scheduler import Scheduler

ORIGINAL = {"macs": 1000, "parameters": 100, "channels": 50}


def played(events, budget, min_step, overshoot=0):
    """A whole training: `(position, progress, merged)` of every event, and what is left.

    An event removes what it has to, and up to `overshoot` more, as alignment does.
    """
    scheduler, now, done = Scheduler(dict(events), goal=max(events.values())), dict(ORIGINAL), []
    limits_at = lambda progress: budget.limits_at(ORIGINAL, progress)  # noqa: E731
    for position in range(max(events) + 1):
        due = scheduler.due_at(position)
        due = due and scheduler.put_together(due, now, limits_at, ORIGINAL, min_step)
        if due:
            limits = limits_at(due.progress)
            now.update(
                {
                    resource: min(now[resource], limit - overshoot)
                    for resource, limit in limits.items()
                }
            )
            scheduler.done(due.progress)
            done.append((position, due.progress, due.merged))
    assert not scheduler.to_come
    return done, now


def test_the_last_event_goes_along_with_the_one_before_if_it_would_remove_too_little():
    """Cubic before epochs 3, 6 and 9 to 45 %; the last would remove 2 %."""
    events = schedules.cubic(3, 9, 3).events()
    budget = Budget.parse({"macs": 0.45})
    alone, _ = played(events, budget, 0.0)
    assert [position for position, *_ in alone] == [3, 6, 9]
    together, now = played(events, budget, 0.03)
    assert together == [(3, pytest.approx(19 / 27), 1), (6, 1.0, 2)]
    assert now["macs"] == pytest.approx(450)


def test_an_event_that_would_remove_too_little_goes_with_the_next():
    events = {1: 0.01, 2: 0.02, 3: 0.5, 4: 0.51, 5: 1.0}
    done, _ = played(events, Budget.parse({"macs": 0.5}), 0.03)
    assert done == [(3, 0.5, 3), (5, 1.0, 2)]


def test_what_was_removed_beyond_the_limit_counts_for_the_next_event():
    events, budget = {1: 0.5, 2: 0.6, 3: 1.0}, Budget.parse({"macs": 0.5})
    assert len(played(events, budget, 0.03)[0]) == 3
    assert [p for p, *_ in played(events, budget, 0.03, overshoot=40)[0]] == [1, 3]


def test_the_resource_that_asks_for_most_decides():
    events = {1: 0.1, 2: 1.0}
    small, large = {"macs": 0.8}, {"macs": 0.8, "parameters": 0.2}
    assert [p for p, *_ in played(events, Budget.parse(small), 0.03)[0]] == [2]
    assert [p for p, *_ in played(events, Budget.parse(large), 0.03)[0]] == [1, 2]


@given(
    st.dictionaries(st.integers(0, 30), st.floats(0.01, 1.0), min_size=1, max_size=8),
    st.floats(0.05, 0.95),
    st.floats(0.0, 0.5),
    st.integers(0, 30),
)
def test_the_budget_is_reached_and_no_event_but_a_last_one_is_small(
    given_events, share, least, overshoot
):
    positions, progress = sorted(given_events), sorted(given_events.values())
    events = dict(zip(positions, progress, strict=True))
    budget = Budget.parse({"macs": share})
    done, now = played(events, budget, least, overshoot)
    assert done[-1][1] == progress[-1]
    assert now["macs"] <= budget.limits_at(ORIGINAL, progress[-1])["macs"]
    assert sum(merged for *_, merged in done) == len(events)
    assert {position for position, *_ in done} <= set(positions)
    costs = [1000.0, *(budget.limits_at(ORIGINAL, p)["macs"] - overshoot for _, p, _ in done)]
    costs = list(itertools.accumulate(costs, min))
    removed = [(a - b) / 1000 for a, b in itertools.pairwise(costs)]
    assert all(one >= least - 1e-9 for one in removed[:-1])


@given(st.dictionaries(st.integers(0, 30), st.floats(0.0, 1.0), min_size=1, max_size=8))
def test_a_least_share_of_0_keeps_every_event(given_events):
    positions, progress = sorted(given_events), sorted(set(given_events.values()))
    events = dict(zip(positions, progress, strict=False))
    done, _ = played(events, Budget.parse({"macs": 0.5}), 0.0)
    assert [position for position, *_ in done] == list(events)


def test_what_a_resumed_training_needs_comes_back():
    scheduler = Scheduler(put_off=2, progress=0.25, values=[1.0, float("nan"), 0.1 + 0.2])
    other = Scheduler()
    other.restore(scheduler.to_dict())
    assert repr(other) == repr(scheduler)


def test_in_a_fit_events_that_are_too_small_are_put_together_and_the_event_says_so(capsys):
    model = compiled(networks.plain(), run_eagerly=True)
    # Of 20 channels: 0.1, then 4.9, 4.9 and 0.1 more; the last ones are below a tenth of 20.
    schedule = schedules.function(
        lambda t: {0.25: 0.01, 0.5: 0.5, 0.75: 0.99, 1.0: 1.0}[t], begin=1, end=4, min_step=0.1
    )
    callback = pruning({"channels": 0.5}, schedule, verbose=1)
    fit(model, [callback], epochs=5)
    assert [(e.epoch, e.progress, e.merged) for e in callback.events] == [(2, 0.5, 2), (3, 1.0, 2)]
    assert callback.plan.after.channels == 10
    printed = one_line(capsys.readouterr().out)
    assert "events 1 and 2 of 4 in one, before epoch 2: " in printed
    assert "events 3 and 4 of 4 in one, before epoch 3: " in printed
    assert "pruning: 2 events (in place of 4, of which some were too small) took" in printed


def test_the_authors_schedule_is_kept_as_it_is():
    callback = keras_gcp.GradualChannelPruning(
        None,
        schedule=schedules.channels_every(1, 1, 3),
        criterion="l2_norm",
        selection={"align": 1},
        verbose=0,
    )
    fit(compiled(networks.plain(), run_eagerly=True), [callback], epochs=4)
    assert [event.removed_channels for event in callback.events] == [1, 1, 1]


@pytest.mark.parametrize("min_step", [-0.1, 1.0, "much", None, True])
def test_a_least_step_out_of_range_is_refused_at_once(min_step):
    with pytest.raises(InvalidArgument, match=r"in \[0, 1\); 0 puts no events together"):
        schedules.linear(1, 3, min_step=min_step)
