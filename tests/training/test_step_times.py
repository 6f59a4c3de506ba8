"""Times of training steps: phases between cuts, and what narrower ones save."""

import json

import pytest

from keras_gcp.training.step_times import StepTimes


class Clock:
    """Stands still until told."""

    def __init__(self):
        self.seconds = 100.0

    def __call__(self):
        return self.seconds


def trained(*parts):
    """`StepTimes` of seconds per step; "pause" and "cut" in between."""
    clock = Clock()
    times = StepTimes(clock)
    for part in parts:
        if part == "pause":
            times.pause()
            clock.seconds += 1000  # validation, say
        elif part == "cut":
            times.cut()
            clock.seconds += 1000  # an event
        else:
            times.step()
            clock.seconds += part
    return times


def test_the_first_step_of_every_run_is_left_out_of_the_usual_step():
    times = trained(9.0, 1.0, 1.0, "pause", 5.0, 1.0, 1.0, "pause")
    (phase,) = times.phases
    assert phase.steps == 6
    assert phase.first_seconds == 9.0
    assert phase.step_seconds == 1.0


def test_the_usual_step_is_the_median_of_runs_so_one_slow_epoch_does_not_count():
    epoch = (2.0, 1.0, 1.0, "pause")
    times = trained(*epoch, 2.0, 30.0, 40.0, "pause", *epoch)
    assert times.phases[0].step_seconds == 1.0


def test_retracing_is_what_the_first_step_takes_longer_than_the_next_ones():
    times = trained(9.0, 1.0, "cut", 4.0, 0.5, 0.5, "pause", 0.5, "cut", 3.0)
    assert times.retrace_seconds() == [3.5, 0.0]  # the second is not over yet
    times.pause()
    assert times.retrace_seconds() == [3.5, 2.5]  # against a step before the cut


def test_savings_count_every_step_behind_the_first_cut():
    times = trained(9.0, 1.0, 1.0, "cut", 4.0, 0.5, 0.5, "cut", 4.0, 0.25, 0.25, 0.25, "pause")
    savings = times.savings(events_seconds=1.5)
    assert savings.saved_seconds == 3 * 0.5 + 4 * 0.75
    assert savings.net_seconds == 3.0
    assert (savings.wide_step_seconds, savings.narrow_step_seconds) == (1.0, 0.25)


def test_savings_are_a_range_as_wide_as_the_epochs_differ():
    wide = (9.0, 1.0, "pause", 9.0, 1.5, "pause", 9.0, 1.25, "pause")
    narrow = (9.0, 0.5, 0.5, "pause", 9.0, 0.75, "pause")
    savings = trained(*wide, "cut", *narrow).savings(events_seconds=0.0)
    assert savings.wide_step_spread == pytest.approx((1.05, 1.45))
    assert savings.narrow_step_spread == pytest.approx((0.525, 0.725))
    least, most = savings.saved_spread
    assert (least, most) == pytest.approx((5 * (1.05 - 0.725), 5 * (1.45 - 0.525)))
    assert least < savings.saved_seconds < most


@pytest.mark.parametrize(
    "parts",
    [
        [9.0, 1.0, "cut", 4.0, 0.5, "pause", 4.0, 0.5, "pause"],
        [9.0, 1.0, "pause", 9.0, 1.0, "cut", 4.0, 0.5, "pause"],
    ],
)
def test_one_epoch_has_no_spread(parts):
    savings = trained(*parts).savings(0.0)
    assert savings.saved_seconds is not None
    assert savings.saved_spread is None


@pytest.mark.parametrize("parts", [["cut", 4.0, 0.5, 0.5, "pause"], [9.0, 1.0, "cut", 4.0]])
def test_savings_are_unknown_where_one_side_was_not_timed(parts):
    savings = trained(*parts).savings(2.0)
    assert savings.saved_seconds is savings.net_seconds is None
    assert savings.events_seconds == 2.0


def test_times_go_on_after_json():
    times = trained(9.0, 1.0, "cut", 4.0, 0.5, "pause")
    again = StepTimes.from_list(json.loads(json.dumps(times.to_list())))
    assert again.savings(0.0) == times.savings(0.0)
    again.step()
    assert again.phases[-1].steps == 3
