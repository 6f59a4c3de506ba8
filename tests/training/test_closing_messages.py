"""What a fit says at its end: no verdict from noise, and why a budget is not met."""

from __future__ import annotations

import pytest

from keras_gcp.training.closing_messages import savings_line, unmet_line
from keras_gcp.training.event_records import SkippedEvent
from keras_gcp.training.step_times import Savings


def test_a_budget_that_is_not_met_says_what_is_left_and_why():
    now, limits = {"macs": 1200, "channels": 40}, {"macs": 1000.0, "channels": 50.0}
    refused = SkippedEvent(3, None, "too much", refused=True, metric="mae")
    failed = SkippedEvent(4, None, "RuntimeError: no")

    assert unmet_line({"macs": 1000}, {"macs": 1000.0}, [], [refused], 1) is None
    line = unmet_line(now, limits, [], [refused, refused, failed], 2)
    assert line is not None
    assert line.startswith("The budget is not met: macs 1,200 (at most 1,000 wanted). Of the")
    assert "channels" not in line
    assert "1 event failed and was skipped" in line
    assert "2 events would have made mae worse than `max_drop` allows" in line
    assert line.endswith("2 had not come when the training ended.")


@pytest.mark.parametrize(
    ("events", "saved", "ending"),
    [
        (21, (30.0, 40.0), "which saved 30 s to 40 s: 9.0 s to 19 s saved in all"),
        (21, (1.5, 3.0), "which saved 1.5 s to 3.0 s: 18 s to 20 s lost so far in all"),
        (21, (15.0, 30.0), "which saved 15 s to 30 s, about as much as the events took"),
        (21, (-4.0, 5.0), "; what was saved in all is within the noise"),
        (21, (-4.0, -2.0), ": training took 23 s to 25 s longer"),
        (21, None, "; too few epochs to tell what that saved"),
    ],
)
def test_no_verdict_on_time_is_drawn_from_noise(events, saved, ending):
    savings = Savings(events, 2.0, 0.045, 0.037, saved, (0.044, 0.0482), (0.0365, 0.038))
    line = savings_line(savings, [])
    assert line.endswith(ending)
    assert "a step took 45.0 ms (44.0 ms to 48.2 ms), now 37.0 ms (36.5 ms to 38.0 ms)" in line


def test_savings_of_steps_that_were_not_timed_are_unknown():
    line = savings_line(Savings(3.0, None, None, 0.037), [])
    assert line.endswith("what they saved is unknown, since too few steps were timed around them")


def test_steps_whose_spreads_overlap_say_nothing_of_what_was_saved():
    # A machine that became busier: steps seem slower, but the quickest are as quick as before.
    savings = Savings(58, -5.0, 0.062, 0.084, (-13.0, -3.0), (0.0612, 0.0649), (0.0558, 0.12))
    assert savings_line(savings, []).endswith("; what was saved in all is within the noise")
