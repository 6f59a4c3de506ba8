"""Which events of a schedule are due, how far each goes, and which are put together.

Compiling the next step again costs seconds after small events, too; those are not worth it.
How much an event removes follows from the budget and the model alone, so every process that trains
the model, and every one that resumes the training, decides alike. What it costs in seconds is
measured, and would be another number in each of them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from keras_gcp.errors import InvalidArgument
from keras_gcp.schedules.base import AdaptiveSchedule
from keras_gcp.validation import between

Limits = Mapping[str, float]


@dataclass(frozen=True)
class DueEvent:
    """An event that is to take place now.

    Attributes:
        progress: Share of the way that is gone after it.
        merged: How many events of the schedule it stands for.
    """

    progress: float
    merged: int


@dataclass
class Scheduler:
    """The events of one training that are still to come.

    Attributes:
        to_come: Epoch (or step) to progress, of a schedule that knows.
        unit: What that counts, "epoch" or "step".
        adaptive: A schedule that decides as the training goes, or None.
        goal: Progress that the schedule reaches in this training.
        put_off: Events that were too small, and go with the next one.
        progress: Share of the way that is gone.
        values: What the adaptive schedule monitors, one per epoch since the last event.
        scheduled: How many events a schedule that knows has in all.
    """

    to_come: dict[int, float] = field(default_factory=dict)
    unit: str = "epoch"
    adaptive: AdaptiveSchedule | None = None
    goal: float = 1.0
    put_off: int = 0
    progress: float = 0.0
    values: list[float] = field(default_factory=list)
    scheduled: int = 0

    def __post_init__(self) -> None:
        self.scheduled = self.scheduled or len(self.to_come)

    def numbers_of(self, due: DueEvent) -> tuple[int, int] | None:
        """From which to which event of the schedule one stands for; None if that is not known.

        >>> scheduler = Scheduler({2: 0.5, 4: 1.0})
        >>> scheduler.numbers_of(scheduler.due_at(2))
        (1, 1)
        """
        if self.adaptive is not None:
            return None
        last = self.scheduled - len(self.to_come)
        return last - due.merged + 1, last

    @property
    def has_begun(self) -> bool:
        """Whether an event has taken place, or has been put off."""
        return self.progress > 0 or self.put_off > 0

    def drop_before(self, position: int) -> None:
        """Forgets events before an epoch or step; they have taken place."""
        self.to_come = {at: p for at, p in self.to_come.items() if at >= position}

    def due_at(self, position: int) -> DueEvent | None:
        """The event that is due, if any; several at once where steps or epochs were left out."""
        if self.adaptive is not None:
            further = next_progress(self.adaptive, position, self.progress, self.values)
            return None if further is None else DueEvent(further, 1)
        due = [at for at in self.to_come if at <= position]
        if not due:
            return None
        return DueEvent(max(self.to_come.pop(at) for at in due), len(due) + self.put_off)

    def put_together(
        self,
        due: DueEvent,
        now: Limits,
        limits_at: Callable[[float], Limits],
        original: Limits,
        min_step: float,
    ) -> DueEvent | None:
        """An event, with others where one alone would remove too little.

        If all later events together would remove less than `min_step` of the original cost, this
        one takes them along. If it would remove less than that itself, it is put together with the
        next one. The last event is never put off, so the budget is reached.

        Args:
            due: The event.
            now: What the model costs, by resource.
            limits_at: Progress to what may remain, by resource.
            original: What the original model cost, by resource.
            min_step: The least share; see `keras_gcp.schedules.linear`.

        Returns:
            The event; None if it was put off.
        """
        if not self._others_follow(due):
            return due
        after = {
            resource: min(now[resource], limit)
            for resource, limit in limits_at(due.progress).items()
        }
        if _share_between(after, limits_at(self.goal), original) < min_step:
            along = len(self.to_come)
            self.to_come.clear()
            return DueEvent(self.goal, due.merged + along)
        if self.adaptive is None and _share_between(now, after, original) < min_step:
            self.put_off = due.merged
            return None
        return due

    def _others_follow(self, due: DueEvent) -> bool:
        return due.progress < self.goal if self.adaptive is not None else bool(self.to_come)

    def done(self, progress: float) -> None:
        """An event has taken place."""
        self.progress, self.put_off = progress, 0
        self.values.clear()

    def left_out(self) -> None:
        """An event failed, or was refused; the next one makes up for it."""
        self.put_off = 0
        self.values.clear()

    def observe(self, value: float) -> None:
        """An epoch is over."""
        self.values.append(value)

    def to_dict(self) -> dict[str, Any]:
        """What a resumed training needs to know, as plain data."""
        return {
            "put_off": self.put_off,
            "progress": self.progress,
            "values": [repr(value) for value in self.values],  # JSON has no NaN.
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """The inverse of `to_dict`."""
        self.put_off, self.progress = state["put_off"], state["progress"]
        self.values = [float(value) for value in state["values"]]


def next_progress(
    schedule: AdaptiveSchedule, epoch: int, progress: float, values: Sequence[float]
) -> float | None:
    """What an adaptive schedule says, see `AdaptiveSchedule.next`.

    Raises:
        InvalidArgument: it is not progress that can be followed.
    """
    said = schedule.next(epoch, progress, tuple(values))
    found = between(said, progress, 1.0)
    if said is not None and found is None:
        raise InvalidArgument(
            f"`next` of the schedule {schedule!r} returned {said!r} before epoch {epoch}, when "
            f"{progress:.0%} of the way was gone. Expected None, or the progress after the event: "
            f"a number from {progress} to 1."
        )
    return found


def _share_between(upper: Limits, lower: Limits, original: Limits) -> float:
    """Share of the original cost between two costs, of the resource of which it is largest."""
    shares: Sequence[float] = [(upper[c] - lower[c]) / original[c] for c in lower if original[c]]
    return max(shares, default=0.0)
