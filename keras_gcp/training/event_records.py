"""What one event did, as plain numbers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Self

from keras_gcp.errors import InvalidArgument

STAGES = (
    *("trace", "loss", "score", "select", "compensate"),
    *("narrow", "verify", "guard", "retrace"),
)
"""What takes time at an event: following the channels and counting; the loss on the sample, before
and after; scores; choosing; refitting what stays; the cut itself; its proof; the guarded
metric, before and after; and compiling the next step again."""

STAGE_NAMES = {"narrow": "surgery"}
"""Of stages that are printed under another name."""


@dataclass(frozen=True)
class EventRequest:
    """When an event takes place, and how far it is to go.

    Attributes:
        epoch: The 0-based epoch before which, or (with `step`) within which, it takes place.
        step: The 0-based training step before which it takes place, counted through all epochs;
            None if the schedule counts epochs.
        progress: Share of the way to the budget that is to be gone afterwards.
        limits: What may remain afterwards, by resource.
        merged: How many events of the schedule it stands for.
        goal: What may remain after the last event, by resource; None if no schedule says that.
    """

    epoch: int
    step: int | None
    progress: float
    limits: Mapping[str, float]
    merged: int = 1
    goal: Mapping[str, float] | None = None


@dataclass(frozen=True)
class Event:
    """One score-select-cut inside `fit`.

    Attributes:
        epoch: The 0-based epoch before which, or (with `step`) within which, the event took place.
        step: The 0-based training step before which it took place, counted through all epochs;
            None if the schedule counts epochs.
        progress: Share of the way to the budget, in [0, 1], that is gone after it.
        removed_channels: Channels that went at this event.
        macs_before: Multiply-adds of the model for one example, before the event; None where the
            size of the input is unknown.
        macs_after: The same after it.
        parameters_before: Parameters before the event.
        parameters_after: Parameters after it.
        loss_before: Loss on the sample before the event; None if it was not measured.
        loss_after: Loss on the sample after it; None likewise.
        widths: Layer to number of output channels after the event.
        seconds: Stage to wall-clock seconds, one entry for each of `STAGES`. "retrace" is what the
            first training step took longer than the next ones; it is 0 until they are done.
        merged: How many events of the schedule it stands for: neighbours that would have removed
            too little are put together.
        tries: How many cuts were tried; more than one if the guarded metric got too bad at the
            first.
        metric: Name of the guarded metric; None without a guard.
        metric_before: Its value on the guard's data before the event; None likewise.
        metric_after: The same after it; None likewise.
        further: Costs after the event, by resource, in further resources of the budget.
    """

    epoch: int
    step: int | None
    progress: float
    removed_channels: int
    macs_before: int | None
    macs_after: int | None
    parameters_before: int
    parameters_after: int
    loss_before: float | None
    loss_after: float | None
    widths: Mapping[str, int]
    seconds: Mapping[str, float]
    merged: int = 1
    tries: int = 1
    metric: str | None = None
    metric_before: float | None = None
    metric_after: float | None = None
    further: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if set(self.seconds) != set(STAGES):
            raise InvalidArgument(
                f"`seconds` of an event has the keys {sorted(self.seconds)}. "
                f"Expected {', '.join(STAGES)}."
            )
        # A caller that goes on filling its dictionaries must not change what has happened.
        object.__setattr__(self, "widths", dict(self.widths))
        object.__setattr__(self, "seconds", dict(self.seconds))
        object.__setattr__(self, "further", dict(self.further))

    def to_dict(self) -> dict[str, Any]:
        """The event as a dict that `json.dumps` takes."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """The inverse of `to_dict`.

        Raises:
            InvalidArgument: An entry is missing or unknown.
        """
        expected = set(cls.__dataclass_fields__)
        if set(values) != expected:
            missing, unknown = expected - set(values), set(values) - expected
            raise InvalidArgument(
                f"Not an event: missing entries {sorted(missing)}, unknown {sorted(unknown)}."
            )
        return cls(**values)


@dataclass(frozen=True)
class SkippedEvent:
    """An event that failed, or was refused by the guard, and left the model as it was.

    Attributes:
        epoch: As in `Event`.
        step: As in `Event`.
        error: Class and message of the exception, or why it was refused.
        refused: Whether it was refused.
        tries: How many cuts were tried, if it was refused.
        metric: As in `Event`, if it was refused.
        metric_before: As in `Event`, if it was refused.
        metric_after: The metric after the smallest cut that was tried; None if none was.
    """

    epoch: int
    step: int | None
    error: str
    refused: bool = False
    tries: int = 0
    metric: str | None = None
    metric_before: float | None = None
    metric_after: float | None = None


def counted_events(number: int) -> str:
    """A number of events, in words."""
    return f"{number} event" if number == 1 else f"{number} events"


def when(epoch: int, step: int | None) -> str:
    """When an event takes place, in words."""
    return f"epoch {epoch}" if step is None else f"step {step:,} (epoch {epoch})"
