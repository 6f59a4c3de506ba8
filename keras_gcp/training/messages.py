"""The lines that a fit prints before training, and at its events."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import keras

from keras_gcp import formatting
from keras_gcp.costs.budget import Absolute, Budget, Timed, limit_of
from keras_gcp.costs.cost_model import in_words
from keras_gcp.costs.costs import Costs
from keras_gcp.formatting import amount, listed, parts_line, wrapped
from keras_gcp.training.event_records import (
    STAGE_NAMES,
    STAGES,
    Event,
    counted_events,
    when,
)
from keras_gcp.training.settings import AUTO

_LISTED_EVENTS = 6


def say(text: str) -> None:
    """Prints lines, as Keras prints its own, no longer than those of a terminal.

    After `keras.config.disable_interactive_logging()` they go to the logger `keras_gcp` instead.
    """
    if keras.config.is_interactive_logging_enabled():
        print(wrapped(text), flush=True)
    else:
        logging.getLogger("keras_gcp").info(text)


def verbosity(verbose: Any, params: Mapping[str, Any]) -> int:
    """How much a callback prints: what the user said, or what `fit` was told.

    Args:
        verbose: The callback's own argument: `"auto"` or a number.
        params: The callback's `params`, as Keras sets them.
    """
    if verbose != AUTO:
        return int(verbose)
    return 0 if params.get("verbose") == 0 else 1


def end_open_line() -> None:
    """Ends the line of Keras' progress bar, which stands open within an epoch."""
    if keras.config.is_interactive_logging_enabled():
        print()


# ---- before training


@dataclass(frozen=True)
class Outlook:
    """What a training is going to prune.

    Attributes:
        budget: What may remain; None if the schedule says it.
        schedule: The schedule in words, for that case.
        unit: What events are counted in, "epoch" or "step".
        events: Epochs or steps before which they take place; empty if they are not known.
        monitor: What decides on events that are not known before.
        channels: Output channels of layers, all of them.
        prunable: Those that may be pruned.
        anchored: Groups that stay whole.
    """

    budget: Budget | None
    schedule: str
    unit: str
    events: Sequence[int]
    monitor: str
    channels: int
    prunable: int
    anchored: Sequence[str]


def outlook_line(outlook: Outlook) -> str:
    """One line: budget, events and when, what can be pruned, what is anchored.

    If it does not fit, first the words get fewer, then details become numbers. What is too long
    even so gets a second line, and is told in full.
    """
    goal = _goal(outlook)
    events, free, anchored = _events_in(outlook), _prunable_in(outlook), _anchored_in(outlook)
    steps = [(0, 0, 0), (0, 1, 0), (1, 1, 0), (1, 2, 0), (1, 2, 1), (2, 2, 1), (2, 2, 2)]
    steps += [(3, 2, 2), (3, 3, 2)]
    lines = [f"{goal}{events[e]} · {free[f]}{anchored[a]}" for e, f, a in steps]
    return _first_that_fits([*lines, lines[0]])


def _goal(outlook: Outlook) -> str:
    if outlook.budget is None:
        return f"pruning by {outlook.schedule}"
    limits = (_limit(resource, limit) for resource, limit in outlook.budget.limits.items())
    return f"pruning to {', '.join(limits)}"


def _limit(resource: str, limit: float | str | Absolute | Timed) -> str:
    share = limit_of(limit)
    if isinstance(share, Absolute):
        return f"{in_words(resource)} {amount(resource, share.value)}"
    return f"{in_words(resource)} {100 * share:.3g} %"


def _events_in(outlook: Outlook) -> tuple[str, ...]:
    """When events take place, in more and in fewer words."""
    if not outlook.events:
        return (f" as {outlook.monitor} says",) * 4
    unit, events, number = outlook.unit, outlook.events, counted_events(len(outlook.events))
    units = unit if len(events) == 1 else f"{unit}s"
    every = ", ".join(f"{at:,}" for at in events)
    ends = f"{events[0]:,} to {events[-1]:,}" if len(events) > 1 else every
    short = (f", {number}, {units} {ends}", f", {number} to {unit} {events[-1]:,}")
    if len(events) > _LISTED_EVENTS:
        return (short[0], *short, short[1])
    return (f" before {units} {every}", f", {units} {every}", *short)


def _prunable_in(outlook: Outlook) -> tuple[str, ...]:
    free, every = f"{outlook.prunable:,}", f"{outlook.channels:,}"
    return (
        f"{free} of {every} channels can be pruned",
        f"{free} of {every} channels prunable",
        f"{free}/{every} prunable",
        f"{free} prunable",
    )


def _anchored_in(outlook: Outlook) -> tuple[str, ...]:
    names = outlook.anchored
    if not names:
        return " · nothing anchored", "", ""
    return (
        f" · anchored: {listed(names, 3)}",
        f" · anchored: {listed(names, 1)}",
        f" · {len(names)} anchored",
    )


# ---- at events


def number_text(first: int, last: int, of: int | None) -> str:
    """Which event of a schedule this is, or which ones that were put together.

    Args:
        first: Number of the first of them, from 1.
        last: Of the last.
        of: How many the schedule has; None if that is not known.
    """
    total = "" if of is None else f" of {of}"
    if first == last:
        return f"event {last}{total}"
    return f"events {first} {'and' if last == first + 1 else 'to'} {last}{total} in one"


def begin_line(number: str, epoch: int, step: int | None, compiles: bool) -> str:
    """The line before an event, which may take a while.

    Args:
        number: Which event, in words.
        epoch: As in `Event`.
        step: As in `Event`.
        compiles: Whether the next step is compiled again afterwards.
    """
    start = f"{number}, before {when(epoch, step)}: scoring and cutting"
    afterwards = (", then the next step compiles again", ", then compiling again")
    return _first_that_fits([*(start + text for text in afterwards if compiles), start])


def event_lines(event: Event, original: Costs, number: str) -> Iterator[str]:
    """Two lines that say what an event did: what went and is left; how long it took, what it cost.

    Args:
        event: The event.
        original: What the model cost before any event.
        number: Which event, in words.
    """
    yield parts_line([f"  {event.removed_channels:,} channels removed", *_left(event, original)])
    yield parts_line([f"  {number}: {formatting.seconds(_seconds(event))}", *_effects(event)])


def stages_line(event: Event) -> str:
    """What the stages of an event took."""
    taken = [(stage, event.seconds[stage]) for stage in STAGES if event.seconds[stage] > 0]
    each = (f"{STAGE_NAMES.get(stage, stage)} {seconds:.2f} s" for stage, seconds in taken)
    return f"  {', '.join(each)}"


def _seconds(event: Event) -> float:
    return sum(event.seconds.values())


def _left(event: Event, original: Costs) -> Iterator[str]:
    if event.macs_after is not None and original.macs is not None:
        yield f"MACs {_share_left(event.macs_after, original.macs)}"
    yield f"parameters {_share_left(event.parameters_after, original.parameters)}"
    for resource, cost in event.further.items():
        whole = original.further.get(resource)
        share = f" ({formatting.percent(cost / whole)})" if whole else ""
        yield f"{resource} {amount(resource, cost)}{share}"


def _effects(event: Event) -> Iterator[str]:
    if event.loss_before is not None and event.loss_after is not None:
        yield f"loss on the sample {event.loss_before:.4g} → {event.loss_after:.4g}"
    name, before, after = event.metric, event.metric_before, event.metric_after
    if name is not None and before is not None and after is not None:
        shown = f"{formatting.metric(name, before)} → {formatting.metric(name, after)}"
        yield f"guarded {name} {shown}"
    if event.tries > 1:
        yield f"smaller than scheduled (try {event.tries})"


def _share_left(now: int, original: int) -> str:
    return f"{formatting.count(now)} ({formatting.percent(now / original)})" if original else "0"


def _first_that_fits(lines: Sequence[str]) -> str:
    return next((line for line in lines if len(line) <= formatting.LINE), lines[-1])
