"""What a schedule is: one that knows its events before training, or one that decides as it goes."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import is_dataclass
from typing import Any, Protocol, runtime_checkable

from keras_gcp.errors import InvalidArgument
from keras_gcp.validation import between, require_integer, require_one_of

UNITS = ("epoch", "step")
"""What schedules count in."""

MIN_STEP = 0.03
"""Share of the original cost below which an event is put together with another.

A step of ResNet-56 on two cores takes 0.75 of the time at half of the multiply-adds, so 3 % of
them are 1.5 % of a step; an event on it takes 10 s, which 11 minutes of training win back.
"""


@runtime_checkable
class Schedule(Protocol):
    """Anything that tells when events happen.

    It may have an attribute `unit`, one of `UNITS`; without one it counts epochs. It may have an
    attribute `min_step`; without one that is `MIN_STEP`.
    """

    def events(self) -> dict[int, float]:
        """Epoch (or step) to progress in [0, 1] after the event before it; never falling."""


@runtime_checkable
class AdaptiveSchedule(Protocol):
    """Anything that decides before each epoch whether an event is due.

    Attributes:
        monitor: Entry of the logs that it looks at.
    """

    monitor: str

    def next(self, epoch: int, progress: float, values: Sequence[float]) -> float | None:
        """How far an event before an epoch is to go.

        It has to follow from the arguments alone: a training that is resumed asks again.

        Args:
            epoch: The 0-based epoch that is about to begin.
            progress: Share of the way that is gone already.
            values: Of the monitored entry, one per epoch since the last event (or since the
                training began), latest last.

        Returns:
            The progress after the event; None if none is due.
        """


@runtime_checkable
class LimitingSchedule(Protocol):
    """A schedule that says itself what each event leaves, so that it goes without a budget."""

    def limits(self, costs: Mapping[str, float], events: int) -> dict[str, float]:
        """What may remain after some events, by resource.

        Args:
            costs: What the model costs now, by resource.
            events: How many events that come now, at once.
        """


def unit_of(schedule: Any) -> str:
    """What a schedule counts in."""
    return getattr(schedule, "unit", "epoch")


def min_step_of(schedule: Any) -> float:
    """Share of the original cost that is worth an event; see `MIN_STEP`."""
    return checked_min_step(getattr(schedule, "min_step", MIN_STEP))


def checked_min_step(min_step: Any) -> float:
    """The share, as a plain number.

    Raises:
        InvalidArgument: it is not in [0, 1).
    """
    share = between(min_step, 0.0, 1.0)
    if share is None or share == 1:
        raise InvalidArgument(
            "`min_step` of a schedule is a share of the original cost in [0, 1); 0 puts no events "
            f"together. Received: {min_step!r}."
        )
    return share


def in_words(schedule: Any) -> str:
    """A schedule in words that are the same in another process."""
    if isinstance(schedule, Schedule):
        return f"{unit_of(schedule)}s {schedule.events()}"
    return str(schedule) if is_dataclass(schedule) else type(schedule).__qualname__


def checked_events(schedule: Schedule) -> dict[int, float]:
    """The events of any schedule, in order.

    Raises:
        InvalidArgument: there are none, or they are not numbers that can be followed.
    """
    events = schedule.events()
    if not isinstance(events, Mapping) or not events:
        raise InvalidArgument(
            f"`events()` of the schedule {schedule!r} must return a dict of epochs (or steps) to "
            f"progress, with one entry at least. Received: {events!r}."
        )
    require_unit(unit_of(schedule))
    for at, progress in events.items():
        require_integer(f"events() of {schedule!r}", at, least=0)
        if between(progress, 0.0, 1.0) is None:
            raise InvalidArgument(
                f"`events()` of the schedule {schedule!r} returned the progress {events[at]!r} for "
                f"{at}. Expected a number from 0 (nothing is gone) to 1 (the budget is reached)."
            )
    # As plain numbers: logs, backups and reports hold them.
    ordered = {int(at): float(events[at]) for at in sorted(events)}
    for (a, before), (b, after) in itertools.pairwise(ordered.items()):
        if after < before:
            raise InvalidArgument(
                f"The schedule {schedule!r} goes back: its progress is {before} at {a} and "
                f"{after} at {b}, but channels do not return. Expected progress that never falls."
            )
    return ordered


def require_unit(unit: object) -> None:
    """Refuses a unit that schedules do not count in."""
    require_one_of("unit", unit, UNITS)
