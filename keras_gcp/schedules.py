"""Schedules: before which epochs (or steps) events happen, and how much of the way is gone then.

Both are 0-based, as in Keras callbacks. An event takes place *before* its epoch or step.
Steps are counted through all epochs: with 100 steps an epoch, step 250 is the 51st of epoch 2.

`linear(begin=2, end=8, every=2)` and `cubic(begin=2, end=8, every=2)`:

| event before epoch | linear | cubic |
|---|---|---|
| 2 | 25 % | 57.8 % |
| 4 | 50 % | 87.5 % |
| 6 | 75 % | 98.4 % |
| 8 | 100 % | 100 % |
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from keras_gcp.errors import InvalidArgument

UNITS = ("epoch", "step")
"""What schedules count in."""


@runtime_checkable
class Schedule(Protocol):
    """Anything that tells when events happen.

    It may have an attribute `unit`, one of `UNITS`; without one it counts epochs.
    """

    def events(self) -> dict[int, float]:
        """Epoch (or step) to progress in (0, 1] after the event before it."""


def unit_of(schedule: Schedule) -> str:
    """What a schedule counts in."""
    return getattr(schedule, "unit", "epoch")


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
    for name, value in (("n", n), ("x", x), ("until", until)):
        _require_position(name, value, least=1)
    _require_unit(unit)
    if until < n:
        raise InvalidArgument(
            f"`channels_every(n={n}, x={x}, until={until})` has no event. Expected `until >= n`."
        )
    return ChannelsEvery(n, x, until, unit)


def default(epochs: int) -> Curve:
    """Four cubic events between a tenth and a half of the training.

    Args:
        epochs: Number of epochs of the fit.
    """
    begin = max(1, round(0.1 * epochs)) if epochs > 1 else 0
    end = max(begin, round(0.5 * epochs))
    return cubic(begin, end, max(1, -(-(end - begin) // 3)))


def _curve(
    begin: int, end: int, every: int, shape: Callable[[float], float], unit: str = "epoch"
) -> Curve:
    _require_position("begin", begin, least=0)
    _require_position("end", end, least=0)
    _require_position("every", every, least=1)
    _require_unit(unit)
    if end < begin:
        raise InvalidArgument(f"A schedule needs `end >= begin`. Received: {begin=}, {end=}.")
    return Curve(begin, end, every, shape, unit)


def _require_position(name: str, value: object, least: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise InvalidArgument(
            f"`{name}` expects an integer of at least {least}. Received: {value!r}."
        )


def _require_unit(unit: object) -> None:
    if unit not in UNITS:
        raise InvalidArgument(
            f"`unit` of a schedule expects one of {', '.join(map(repr, UNITS))}. "
            f"Received: {unit!r}."
        )


def _linear(t: float) -> float:
    return t


def _cubic(t: float) -> float:
    return 1.0 - (1.0 - t) ** 3
