"""Schedules: before which epochs there is an event, and how much of the way is gone after it.

Epochs are 0-based, as in Keras callbacks. An event takes place *before* its epoch.

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


@runtime_checkable
class Schedule(Protocol):
    """Anything that tells when events happen."""

    def events(self) -> dict[int, float]:
        """Epoch to progress in (0, 1] after the event before that epoch."""


@dataclass(frozen=True)
class Curve:
    """Events from epoch `begin` to epoch `end`, every `every` epochs.

    Attributes:
        begin: Epoch of the first event; it already takes its share.
        end: Epoch of the last event; it reaches the budget.
        every: Epochs between events.
        shape: Share of events that have happened, in (0, 1], to progress.
    """

    begin: int
    end: int
    every: int
    shape: Callable[[float], float]

    def events(self) -> dict[int, float]:
        """Epoch to progress."""
        epochs = [*range(self.begin, self.end, self.every), self.end]
        return {epoch: self.shape((i + 1) / len(epochs)) for i, epoch in enumerate(epochs)}


@dataclass(frozen=True)
class ChannelsEvery:
    """A fixed number of channels at every event; made by `channels_every`."""

    n: int
    x: int
    until: int

    def events(self) -> dict[int, float]:
        """Epoch to share of the events that have happened."""
        epochs = range(self.n, self.until + 1, self.n)
        return {epoch: (i + 1) / len(epochs) for i, epoch in enumerate(epochs)}


def linear(begin: int, end: int, every: int = 1) -> Curve:
    """Equal shares of the way at every event.

    Args:
        begin: 0-based epoch before which the first event takes place; it takes its share.
        end: Epoch before which the last event takes place; it reaches the budget.
        every: Epochs between events. Each event costs about one first training step
            (retracing), so few events are better than many.

    Raises:
        InvalidArgument: an epoch is negative, `end < begin`, or `every < 1`.
    """
    return _curve(begin, end, every, _linear)


def cubic(begin: int, end: int, every: int = 1) -> Curve:
    """Large shares first: progress 1 - (1 - t)^3 after the share t of the events.

    Source: Zhu and Gupta, "To prune, or not to prune", 2017 (arXiv 1710.01878), equation 1.

    Args:
        begin: 0-based epoch before which the first event takes place; it takes its share.
        end: Epoch before which the last event takes place; it reaches the budget.
        every: Epochs between events.

    Raises:
        InvalidArgument: an epoch is negative, `end < begin`, or `every < 1`.
    """
    return _curve(begin, end, every, _cubic)


def one_shot(epoch: int) -> Curve:
    """The whole way at once, before one epoch.

    Args:
        epoch: 0-based epoch before which the event takes place.
    """
    return _curve(epoch, epoch, 1, _linear)


def channels_every(n: int, x: int, until: int) -> ChannelsEvery:
    """The authors' schedule: after every n-th epoch x channels go, whatever they cost.

    After epoch e if (e + 1) is a multiple of `n` and e < `until`: that is, before the epochs
    n, 2n, ... up to `until`. The only schedule that goes without a budget. Tied channels (a
    residual stream) and aligned widths go together, so an event removes at least `x`.

    Source: Aketi et al. 2020 (arXiv 2002.09958) with n=21, x=120, until=150 for ResNet-56.

    Args:
        n: Epochs between events.
        x: Output channels removed by each event.
        until: Last epoch before which there may be an event.

    Raises:
        InvalidArgument: a value is not a positive integer, or `until < n`.
    """
    for name, value in (("n", n), ("x", x), ("until", until)):
        _require_epoch(name, value, least=1)
    if until < n:
        raise InvalidArgument(
            f"`channels_every(n={n}, x={x}, until={until})` has no event. Expected `until >= n`."
        )
    return ChannelsEvery(n, x, until)


def default(epochs: int) -> Curve:
    """Four cubic events between a tenth and a half of the training.

    Args:
        epochs: Number of epochs of the fit.
    """
    begin = max(1, round(0.1 * epochs)) if epochs > 1 else 0
    end = max(begin, round(0.5 * epochs))
    return cubic(begin, end, max(1, -(-(end - begin) // 3)))


def _curve(begin: int, end: int, every: int, shape: Callable[[float], float]) -> Curve:
    _require_epoch("begin", begin, least=0)
    _require_epoch("end", end, least=0)
    _require_epoch("every", every, least=1)
    if end < begin:
        raise InvalidArgument(f"A schedule needs `end >= begin`. Received: {begin=}, {end=}.")
    return Curve(begin, end, every, shape)


def _require_epoch(name: str, value: object, least: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise InvalidArgument(
            f"`{name}` expects an integer of at least {least}. Received: {value!r}."
        )


def _linear(t: float) -> float:
    return t


def _cubic(t: float) -> float:
    return 1.0 - (1.0 - t) ** 3
