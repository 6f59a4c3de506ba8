"""Courses of pruning: how much of the way is gone after the share t of the events."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from keras_gcp.errors import InvalidArgument
from keras_gcp.schedules.base import checked_events, require_unit
from keras_gcp.validation import LARGEST, require_integer

MOST_EVENTS = 1_000_000
"""No training has more; all of them are listed before it begins."""


@dataclass(frozen=True)
class Curve:
    """Events from `begin` to `end`, every `every` epochs or steps.

    Attributes:
        begin: Epoch (or step) of the first event; it already takes its share.
        end: That of the last event; it reaches the budget.
        every: Epochs (or steps) between events.
        shape: Share of events that have happened, in (0, 1], to progress.
        unit: "epoch" or "step".
    """

    begin: int
    end: int
    every: int
    shape: Callable[[float], float]
    unit: str = "epoch"

    def events(self) -> dict[int, float]:
        """Epoch (or step) to progress."""
        positions = [*range(self.begin, self.end, self.every), self.end]
        return {at: self.shape((i + 1) / len(positions)) for i, at in enumerate(positions)}


@dataclass(frozen=True)
class ChannelsEvery:
    """A fixed number of channels at every event; made by `channels_every`."""

    n: int
    x: int
    until: int
    unit: str = "epoch"

    def events(self) -> dict[int, float]:
        """Epoch (or step) to share of the events that have happened."""
        positions = range(self.n, self.until + 1, self.n)
        return {at: (i + 1) / len(positions) for i, at in enumerate(positions)}


def linear(begin: int, end: int, every: int = 1, unit: str = "epoch") -> Curve:
    """Equal shares of the way at every event.

    Args:
        begin: 0-based epoch (or training step) before which the first event takes place; it
            takes its share.
        end: That before which the last event takes place; it reaches the budget.
        every: Epochs (or steps) between events. Each event costs about one first training step
            (retracing), so few events are better than many.
        unit: What the three count: "epoch", or "step" for events within epochs, as for long
            epochs, or a data set without end.

    Raises:
        InvalidArgument: a number is negative, `end < begin`, `every < 1`, or an unknown unit.

    Example:

    >>> keras_gcp.schedules.linear(begin=1000, end=4000, every=1000, unit="step").events()
    {1000: 0.25, 2000: 0.5, 3000: 0.75, 4000: 1.0}
    """
    return _curve(begin, end, every, _linear, unit)


def cubic(begin: int, end: int, every: int = 1, unit: str = "epoch") -> Curve:
    """Large shares first: progress 1 - (1 - t)^3 after the share t of the events.

    Source: Zhu and Gupta, "To prune, or not to prune", 2017 (arXiv 1710.01878), equation 1.

    Args:
        begin: 0-based epoch (or step) before which the first event takes place; it takes its share.
        end: That before which the last event takes place; it reaches the budget.
        every: Epochs (or steps) between events.
        unit: "epoch" or "step".

    Raises:
        InvalidArgument: a number is negative, `end < begin`, `every < 1`, or an unknown unit.
    """
    return _curve(begin, end, every, _cubic, unit)


def cosine(begin: int, end: int, every: int = 1, unit: str = "epoch") -> Curve:
    """Small shares first and last, large ones between: progress (1 - cos(pi t)) / 2.

    The remaining share falls as the learning rate does in Loshchilov and Hutter, "SGDR", 2016
    (arXiv 1608.03983), equation 5, from 1 to 0; `t` is the share of the events that happened.

    Args:
        begin: 0-based epoch (or step) before which the first event takes place; it takes its share.
        end: That before which the last event takes place; it reaches the budget.
        every: Epochs (or steps) between events.
        unit: "epoch" or "step".

    Raises:
        InvalidArgument: a number is negative, `end < begin`, `every < 1`, or an unknown unit.
    """
    return _curve(begin, end, every, _cosine, unit)


def function(
    shape: Callable[[float], float], begin: int, end: int, every: int = 1, unit: str = "epoch"
) -> Curve:
    """A course of your own.

    Args:
        shape: Maps the share of the events that have happened, in (0, 1], to progress: it never
            falls, and ends with 1 at 1.
        begin: 0-based epoch (or step) before which the first event takes place; it takes its share.
        end: That before which the last event takes place; it reaches the budget.
        every: Epochs (or steps) between events.
        unit: "epoch" or "step".

    Raises:
        InvalidArgument: as for `linear`; or `shape` is not such a function.

    Example:

    >>> keras_gcp.schedules.function(lambda t: t**2, begin=2, end=8, every=3).events()
    {2: 0.1111111111111111, 5: 0.4444444444444444, 8: 1.0}
    """
    if not callable(shape) or isinstance(shape, type):
        raise InvalidArgument(
            "`shape` expects a function of the share of the events that have happened. "
            f"Received: {shape!r}."
        )
    schedule = _curve(begin, end, every, shape, unit)
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
    return schedule


def one_shot(at: int, unit: str = "epoch") -> Curve:
    """The whole way at once.

    Args:
        at: 0-based epoch (or step) before which the event takes place.
        unit: "epoch" or "step".
    """
    return _curve(at, at, 1, _linear, unit)


def channels_every(n: int, x: int, until: int, unit: str = "epoch") -> ChannelsEvery:
    """The authors' schedule: after every n-th epoch x channels go, whatever they cost.

    After epoch e if (e + 1) is a multiple of `n` and e < `until`: that is, before the epochs
    n, 2n, ... up to `until`. The only schedule that goes without a budget. Tied channels (a
    residual stream) and aligned widths go together, so an event removes at least `x`.

    Source: Aketi et al. 2020 (arXiv 2002.09958) with n=21, x=120, until=150 for ResNet-56.

    Args:
        n: Epochs (or steps) between events.
        x: Output channels removed by each event.
        until: Last epoch (or step) before which there may be an event.
        unit: "epoch" or "step".

    Raises:
        InvalidArgument: a value is not a positive integer, `until < n`, or an unknown unit.
    """
    n = require_integer("n", n, least=1)
    x = require_integer("x", x, least=1)
    until = require_integer("until", until, least=1)
    require_unit(unit)
    if until < n:
        raise InvalidArgument(
            f"`channels_every(n={n}, x={x}, until={until})` has no event. Expected `until >= n`."
        )
    _require_few(until // n, "n")
    return ChannelsEvery(n, x, until, unit)


def default(epochs: int) -> Curve:
    """Four cubic events between a tenth and a half of the training.

    Args:
        epochs: Number of epochs of the fit.

    Raises:
        InvalidArgument: `epochs` is not a positive integer.
    """
    epochs = require_integer("epochs", epochs, 1, LARGEST)
    begin = max(1, round(0.1 * epochs)) if epochs > 1 else 0
    end = max(begin, round(0.5 * epochs))
    return cubic(begin, end, max(1, -(-(end - begin) // 3)))


def _curve(
    begin: int, end: int, every: int, shape: Callable[[float], float], unit: str = "epoch"
) -> Curve:
    begin = require_integer("begin", begin, least=0)
    end = require_integer("end", end, least=0)
    every = require_integer("every", every, least=1)
    require_unit(unit)
    if end < begin:
        raise InvalidArgument(f"A schedule needs `end >= begin`. Received: {begin=}, {end=}.")
    _require_few((end - begin) // every, "every")
    return Curve(begin, end, every, shape, unit)


def _require_few(events: int, spacing: str) -> None:
    if events > MOST_EVENTS:
        raise InvalidArgument(
            f"The schedule has more than {MOST_EVENTS:,} events, and each costs about one first "
            f"training step. Expected fewer: a larger `{spacing}`."
        )


def _linear(t: float) -> float:
    return t


def _cubic(t: float) -> float:
    return 1.0 - (1.0 - t) ** 3


def _cosine(t: float) -> float:
    return (1.0 - math.cos(math.pi * t)) / 2
