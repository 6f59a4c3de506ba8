"""Curves of pruning: how much of the way is gone after the share t of the events."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from keras_gcp.errors import InvalidArgument
from keras_gcp.schedules.base import MIN_STEP, checked_events, checked_min_step, require_unit
from keras_gcp.validation import LARGEST, require_integer
from keras_gcp.validation.configured import Configured, call_text, changed_fields

MOST_EVENTS = 1_000_000
"""No training has more; all of them are listed before it begins."""

Shape = Callable[[float], float]


def _linear(t: float) -> float:
    return t


def _cubic(t: float) -> float:
    return 1.0 - (1.0 - t) ** 3


def _cosine(t: float) -> float:
    return (1.0 - math.cos(math.pi * t)) / 2


SHAPES: dict[str, Shape] = {"linear": _linear, "cubic": _cubic, "cosine": _cosine}


@dataclass(frozen=True, repr=False)
class Curve(Configured):
    """Events from `begin` to `end`, every `every` epochs or steps.

    Attributes:
        begin: Epoch (or step) of the first event; it already takes its share.
        end: That of the last event; it reaches the budget.
        every: Epochs (or steps) between events.
        shape: "linear", "cubic" or "cosine", or a function of the share of events that have
            happened, in (0, 1], that returns the progress.
        unit: "epoch" or "step".
        min_step: Share of the original cost that is worth an event.
    """

    begin: int
    end: int
    every: int = 1
    shape: str | Shape = "linear"
    unit: str = "epoch"
    min_step: float = MIN_STEP

    def __post_init__(self) -> None:
        begin = require_integer("begin", self.begin, least=0)
        end = require_integer("end", self.end, least=0)
        every = require_integer("every", self.every, least=1)
        require_unit(self.unit)
        if end < begin:
            raise InvalidArgument(f"A schedule needs `end >= begin`. Received: {begin=}, {end=}.")
        _require_few((end - begin) // every, "every")
        for name, value in (("begin", begin), ("end", end), ("every", every)):
            object.__setattr__(self, name, value)
        object.__setattr__(self, "min_step", checked_min_step(self.min_step))
        if isinstance(self.shape, str) and self.shape in SHAPES:
            return
        _check_shape(self)

    def events(self) -> dict[int, float]:
        """Epoch (or step) to progress."""
        shape = SHAPES[self.shape] if isinstance(self.shape, str) else self.shape
        positions = [*range(self.begin, self.end, self.every), self.end]
        return {at: shape((i + 1) / len(positions)) for i, at in enumerate(positions)}

    def __repr__(self) -> str:
        arguments = changed_fields(self)
        if not isinstance(self.shape, str):
            shape = arguments.pop("shape")
            return call_text("function", {"shape": shape, **arguments})
        arguments.pop("shape", None)
        if self.begin == self.end and self.shape == "linear":
            rest = {k: v for k, v in arguments.items() if k not in ("begin", "end", "every")}
            return call_text("one_shot", {"at": self.begin, **rest})
        return call_text(self.shape, arguments)


@dataclass(frozen=True, repr=False)
class ChannelsEvery(Configured):
    """A fixed number of channels at every event; made by `channels_every`."""

    every: int
    channels: int
    until: int
    unit: str = "epoch"

    def __post_init__(self) -> None:
        for name in ("every", "channels", "until"):
            object.__setattr__(self, name, require_integer(name, getattr(self, name), least=1))
        require_unit(self.unit)
        if self.until < self.every:
            raise InvalidArgument(f"`{self!r}` has no event. Expected `until >= every`.")
        _require_few(self.until // self.every, "every")

    def events(self) -> dict[int, float]:
        """Epoch (or step) to share of the events that have happened."""
        positions = range(self.every, self.until + 1, self.every)
        return {at: (i + 1) / len(positions) for i, at in enumerate(positions)}

    def limits(self, costs: Mapping[str, float], events: int) -> dict[str, float]:
        """What may remain after some events: so many channels less."""
        return {"channels": costs["channels"] - events * self.channels}

    def __repr__(self) -> str:
        return call_text("channels_every", changed_fields(self))


def linear(
    begin: int, end: int, every: int = 1, unit: str = "epoch", *, min_step: float = MIN_STEP
) -> Curve:
    """Equal shares of the way at every event.

    Args:
        begin: 0-based epoch (or training step) before which the first event takes place; it
            takes its share.
        end: That before which the last event takes place; it reaches the budget.
        every: Epochs (or steps) between events. Each event costs about one first training step
            (retracing), so few events are better than many.
        unit: What the three count: "epoch", or "step" for events within epochs, as for long
            epochs, or a data set without end.
        min_step: Share of the original cost that is worth an event. An event that would remove
            less is put together with the next; the last ones, if they would, with the one before.
            The budget is reached in any case. 0: every event takes place.

    Raises:
        InvalidArgument: a number is negative, `end < begin`, `every < 1`, or an unknown unit.

    Example:

    >>> keras_gcp.schedules.linear(begin=1000, end=4000, every=1000, unit="step").events()
    {1000: 0.25, 2000: 0.5, 3000: 0.75, 4000: 1.0}
    """
    return Curve(begin, end, every, "linear", unit, min_step)


def cubic(
    begin: int, end: int, every: int = 1, unit: str = "epoch", *, min_step: float = MIN_STEP
) -> Curve:
    """Large shares first: progress 1 - (1 - t)^3 after the share t of the events.

    Source: Zhu and Gupta, "To prune, or not to prune", 2017 (arXiv 1710.01878), equation 1.

    Args:
        begin: 0-based epoch (or step) before which the first event takes place; it takes its share.
        end: That before which the last event takes place; it reaches the budget.
        every: Epochs (or steps) between events.
        unit: "epoch" or "step".
        min_step: As in `linear`.

    Raises:
        InvalidArgument: a number is negative, `end < begin`, `every < 1`, or an unknown unit.
    """
    return Curve(begin, end, every, "cubic", unit, min_step)


def cosine(
    begin: int, end: int, every: int = 1, unit: str = "epoch", *, min_step: float = MIN_STEP
) -> Curve:
    """Small shares first and last, large ones between: progress (1 - cos(pi t)) / 2.

    The remaining share falls as the learning rate does in Loshchilov and Hutter, "SGDR", 2016
    (arXiv 1608.03983), equation 5, from 1 to 0; `t` is the share of the events that happened.

    Args:
        begin: 0-based epoch (or step) before which the first event takes place; it takes its share.
        end: That before which the last event takes place; it reaches the budget.
        every: Epochs (or steps) between events.
        unit: "epoch" or "step".
        min_step: As in `linear`.

    Raises:
        InvalidArgument: a number is negative, `end < begin`, `every < 1`, or an unknown unit.
    """
    return Curve(begin, end, every, "cosine", unit, min_step)


def function(
    shape: Shape,
    begin: int,
    end: int,
    every: int = 1,
    *,
    unit: str = "epoch",
    min_step: float = MIN_STEP,
) -> Curve:
    """A course of your own.

    Args:
        shape: Maps the share of the events that have happened, in (0, 1], to progress: it never
            falls, and ends with 1 at 1.
        begin: 0-based epoch (or step) before which the first event takes place; it takes its share.
        end: That before which the last event takes place; it reaches the budget.
        every: Epochs (or steps) between events.
        unit: "epoch" or "step".
        min_step: As in `linear`.

    Raises:
        InvalidArgument: as for `linear`; or `shape` is not such a function.

    Example:

    >>> keras_gcp.schedules.function(lambda t: t**2, begin=2, end=8, every=3).events()
    {2: 0.1111111111111111, 5: 0.4444444444444444, 8: 1.0}
    """
    if isinstance(shape, str):
        raise InvalidArgument(
            "`shape` expects a function of the share of the events that have happened. "
            f"Received: {shape!r}."
        )
    return Curve(begin, end, every, shape, unit, min_step)


def one_shot(at: int, unit: str = "epoch") -> Curve:
    """The whole way at once.

    Args:
        at: 0-based epoch (or step) before which the event takes place.
        unit: "epoch" or "step".
    """
    return Curve(at, at, 1, "linear", unit)


def channels_every(every: int, channels: int, until: int, unit: str = "epoch") -> ChannelsEvery:
    """The authors' schedule: after every n-th epoch some channels go, whatever they cost.

    After epoch e if (e + 1) is a multiple of `every` and e < `until`: that is, before the epochs
    `every`, 2 `every`, ... up to `until`. The only schedule that goes without a budget. Tied
    channels (a residual stream) and aligned widths go together, so an event removes at least
    `channels`. Every event takes place, however little it removes.

    Source: Aketi et al. 2020 (arXiv 2002.09958) with every=21, channels=120, until=150 for
    ResNet-56.

    Args:
        every: Epochs (or steps) between events.
        channels: Output channels removed by each event.
        until: Last epoch (or step) before which there may be an event.
        unit: "epoch" or "step".

    Raises:
        InvalidArgument: a value is not a positive integer, `until < every`, or an unknown unit.
    """
    return ChannelsEvery(every, channels, until, unit)


def default(epochs: int) -> Curve:
    """Four cubic events between a tenth and a half of the training.

    What `GradualChannelPruning` takes for a model that has still to learn something.

    Args:
        epochs: Number of epochs of the fit.

    Raises:
        InvalidArgument: `epochs` is not a positive integer.
    """
    epochs = require_integer("epochs", epochs, 1, LARGEST)
    begin = max(1, round(0.1 * epochs)) if epochs > 1 else 0
    end = max(begin, round(0.5 * epochs))
    return cubic(begin, end, max(1, -(-(end - begin) // 3)))


def _check_shape(schedule: Curve) -> None:
    """Refuses what is not a function from shares of the events to progress."""
    shape: Any = schedule.shape
    if not callable(shape) or isinstance(shape, type):
        raise InvalidArgument(
            "`shape` expects a function of the share of the events that have happened, or one of "
            f"{', '.join(map(repr, SHAPES))}. Received: {shape!r}."
        )
    try:
        schedule.events()
    except Exception as error:
        raise InvalidArgument(
            "`shape` expects a function of the share of the events that have happened, in (0, 1]. "
            f"It failed with {type(error).__name__}: {error}"
        ) from error
    last = checked_events(schedule)[schedule.end]
    if last != 1:
        raise InvalidArgument(
            f"`shape(1.0)` is the progress after the last event and must be 1: the budget is "
            f"reached. Received: {last!r}."
        )


def _require_few(events: int, spacing: str) -> None:
    if events > MOST_EVENTS:
        raise InvalidArgument(
            f"The schedule has more than {MOST_EVENTS:,} events, and each costs about one first "
            f"training step. Expected fewer: a larger `{spacing}`."
        )
