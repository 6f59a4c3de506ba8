"""The lines that a fit ends with: what pruning has cost and saved, and what a budget lacks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from keras_gcp import formatting
from keras_gcp.formatting import amount
from keras_gcp.training.event_records import (
    STAGE_NAMES,
    STAGES,
    Event,
    SkippedEvent,
    counted_events,
)
from keras_gcp.training.step_times import Savings, Spread


def savings_line(
    savings: Savings, events: Sequence[Event], skipped: Sequence[SkippedEvent] = ()
) -> str:
    """One line that says what pruning has cost in a training, and what it has saved.

    What it has saved is a range, for steps differ from epoch to epoch by themselves; where that is
    more than what they differ by pruning, nothing is said of savings.

    Args:
        savings: The sums.
        events: The events.
        skipped: Events that failed or were refused.

    Returns:
        Text without a newline.
    """
    stages = {stage: sum(event.seconds[stage] for event in events) for stage in STAGES}
    largest = sorted(stages, key=lambda stage: -stages[stage])[:3]
    spent = ", ".join(f"{STAGE_NAMES.get(s, s)} {formatting.seconds(stages[s])}" for s in largest)
    scheduled = sum(event.merged for event in events)
    count = counted_events(len(events))
    if scheduled > len(events):
        count += f" (in place of {scheduled}, of which some were too small)"
    refused = sum(one.refused for one in skipped)
    if refused:
        count += f", {refused} more refused by the guard,"
    cost = f"pruning: {count} took {formatting.seconds(savings.events_seconds)} ({spent})"
    return f"{cost}; {_saved_text(savings)}"


def _saved_text(savings: Savings) -> str:
    """What narrower steps saved, as a range; no verdict where steps differ more by themselves."""
    wide = _step_text(savings.wide_step_seconds, savings.wide_step_spread)
    narrow = _step_text(savings.narrow_step_seconds, savings.narrow_step_spread)
    if wide is None or narrow is None:
        return "what they saved is unknown, since too few steps were timed around them"
    change = f"a step took {wide}, now {narrow}"
    if savings.saved_spread is None:
        return f"{change}; too few epochs to tell what that saved"
    least, most = savings.saved_spread
    if least <= 0 <= most or _overlap(savings.wide_step_spread, savings.narrow_step_spread):
        return f"{change}; what was saved in all is within the noise"
    if most < 0:
        return f"{change}: training took {_range(-most, -least, savings.events_seconds)} longer"
    saved = f"{change}, which saved {_range(least, most)}"
    if least > savings.events_seconds:
        return f"{saved}: {_range(least, most, -savings.events_seconds)} saved in all"
    if most < savings.events_seconds:
        return f"{saved}: {_range(-most, -least, savings.events_seconds)} lost so far in all"
    return f"{saved}, about as much as the events took"


def _overlap(one: Spread | None, other: Spread | None) -> bool:
    return one is None or other is None or (one[0] <= other[1] and other[0] <= one[1])


def _step_text(seconds: float | None, spread: Spread | None) -> str | None:
    if seconds is None or spread is None:
        return None if seconds is None else _milliseconds(seconds)
    return f"{_milliseconds(seconds)} ({' to '.join(_milliseconds(end) for end in spread)})"


def _range(low: float, high: float, further: float = 0.0) -> str:
    ends = [formatting.seconds(end + further) for end in (low, high)]
    return ends[0] if ends[0] == ends[1] else " to ".join(ends)


def unmet_line(
    now: Mapping[str, float],
    limits: Mapping[str, float],
    events: Sequence[Event],
    skipped: Sequence[SkippedEvent],
    to_come: int,
) -> str | None:
    """What a budget lacks when a training has ended, and why; None if it is met.

    Args:
        now: What the model costs, by resource.
        limits: What was to remain.
        events: The events.
        skipped: Events that failed or were refused.
        to_come: Events that had not come.
    """
    unmet = [
        f"{resource} {amount(resource, now[resource])} (at most {amount(resource, limit)} wanted)"
        for resource, limit in limits.items()
        if now[resource] > limit
    ]
    if not unmet:
        return None
    refused = sum(one.refused for one in skipped)
    failed, smaller = len(skipped) - refused, sum(event.tries > 1 for event in events)
    reasons = [
        text
        for number, text in (
            (
                failed,
                f"{counted_events(failed)} failed and {'was' if failed == 1 else 'were'} skipped",
            ),
            (refused, refused_text(skipped)),
            (
                smaller,
                f"{counted_events(smaller)} went less far than scheduled for the same reason",
            ),
            (to_come, f"{to_come} had not come when the training ended"),
        )
        if number
    ]
    why = ", ".join(reasons) or "the training ended before enough events had come"
    return f"The budget is not met: {', '.join(unmet)}. Of the schedule's events, {why}."


def refused_text(skipped: Sequence[SkippedEvent]) -> str:
    """How many events the guard refused, and for which metric's sake."""
    refused = [one for one in skipped if one.refused]
    names = sorted({one.metric or "the metric" for one in refused})
    worse = f"would have made {', '.join(names)} worse than `max_drop` allows"
    return f"{counted_events(len(refused))} {worse}"


def _milliseconds(seconds: float) -> str:
    return formatting.milliseconds(1000 * seconds)
