"""How long training steps take, and what narrower ones have saved."""

from __future__ import annotations

import itertools
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Self

Spread = tuple[float, float]
"""From the 10th to the 90th percentile of what was measured."""


@dataclass
class Phase:
    """The training between two cuts.

    Attributes:
        steps: How many steps it had.
        first_seconds: What the first one took, compilation included; None before it is done.
        stretches: Of every uninterrupted run of steps `[steps, seconds]`, without the first step,
            in which data sets are started.
    """

    steps: int = 0
    first_seconds: float | None = None
    stretches: list[list[float]] = field(default_factory=list)

    @property
    def step_seconds(self) -> float | None:
        """Seconds of a usual step: the median of the stretches' means; None if there are none."""
        means = self._means()
        return statistics.median(means) if means else None

    @property
    def step_spread(self) -> Spread | None:
        """10th and 90th percentile of the stretches' means; None of a single one."""
        means = self._means()
        if len(means) < 2:
            return None
        tenths = statistics.quantiles(means, n=10, method="inclusive")
        return tenths[0], tenths[-1]

    def _means(self) -> list[float]:
        return [seconds / steps for steps, seconds in self.stretches if steps]


@dataclass(frozen=True)
class Savings:
    """What pruning has cost and saved in one training.

    Attributes:
        events_seconds: What all events took, compiling the next step again included.
        saved_seconds: What the steps after the first cut took less than wide ones would have
            taken; None if no step of the wide model, or none of a narrow one, was timed.
        wide_step_seconds: A usual step before the first cut; None if none was timed.
        narrow_step_seconds: A usual step after the last cut; None likewise.
        saved_spread: From the least to the most that `saved_seconds` may be, as the time of a
            step differs from epoch to epoch; None where a single run of steps was timed.
        wide_step_spread: Likewise, of `wide_step_seconds`.
        narrow_step_spread: Likewise, of `narrow_step_seconds`.
    """

    events_seconds: float
    saved_seconds: float | None
    wide_step_seconds: float | None
    narrow_step_seconds: float | None
    saved_spread: Spread | None = None
    wide_step_spread: Spread | None = None
    narrow_step_spread: Spread | None = None

    @property
    def net_seconds(self) -> float | None:
        """Saved minus spent; negative if pruning has made the training longer."""
        return None if self.saved_seconds is None else self.saved_seconds - self.events_seconds


class StepTimes:
    """Times steps by when they begin, so that Keras may run ahead of the device.

    A step lasts until the next one begins, or until the epoch's training ends. Where a framework
    returns before the device is done, single steps mean little, and runs of steps are right.

    Args:
        now: Clock, in seconds.
    """

    def __init__(self, now: Callable[[], float] = time.perf_counter) -> None:
        self.phases = [Phase()]
        self._now = now
        self._began: float | None = None
        self._in_first = True

    def start(self) -> None:
        """A fit begins; a step that an exception cut off, in an earlier one, does not count."""
        self._began = None

    def step(self) -> None:
        """A step begins."""
        self._close()
        self._in_first = self._began is None
        self._began = self._now()
        self.phases[-1].steps += 1

    def pause(self) -> None:
        """The last step is over; what follows is not training."""
        self._close()
        self._began = None

    def cut(self) -> None:
        """The model has become narrower."""
        self.pause()
        self.phases.append(Phase())

    def _close(self) -> None:
        if self._began is None:
            return
        seconds = self._now() - self._began
        phase = self.phases[-1]
        if not self._in_first:
            phase.stretches[-1][0] += 1
            phase.stretches[-1][1] += seconds
            return
        if phase.first_seconds is None:
            phase.first_seconds = seconds
        phase.stretches.append([0, 0.0])

    def retrace_seconds(self) -> list[float]:
        """For every cut, how much longer than a usual one the step after it took.

        0 until that step is done.
        """
        found = []
        for before, after in itertools.pairwise(self.phases):
            usual = after.step_seconds or before.step_seconds or 0.0
            found.append(max(0.0, (after.first_seconds or 0.0) - usual))
        return found

    def savings(self, events_seconds: float) -> Savings:
        """Costs and savings so far.

        Args:
            events_seconds: What all events took.
        """
        wide = self.phases[0]
        narrow = [phase for phase in self.phases[1:] if phase.step_seconds]
        return Savings(
            events_seconds,
            _saved(wide, narrow),
            wide.step_seconds,
            narrow[-1].step_seconds if narrow else None,
            _saved_spread(wide, narrow),
            wide.step_spread,
            narrow[-1].step_spread if narrow else None,
        )

    def to_list(self) -> list[dict[str, Any]]:
        """The phases as plain data."""
        return [asdict(phase) for phase in self.phases]

    @classmethod
    def from_list(cls, phases: Sequence[Mapping[str, Any]]) -> Self:
        """The inverse of `to_list`."""
        times = cls()
        times.phases = [Phase(**phase) for phase in phases]
        return times


def _saved(wide: Phase, narrow: Sequence[Phase]) -> float | None:
    usual = wide.step_seconds
    if usual is None or not narrow:
        return None
    return sum(phase.steps * (usual - (phase.step_seconds or 0.0)) for phase in narrow)


def _saved_spread(wide: Phase, narrow: Sequence[Phase]) -> Spread | None:
    """From quick wide steps against slow narrow ones, to slow wide against quick narrow ones."""
    usual = wide.step_spread
    spreads = [(phase.steps, phase.step_spread) for phase in narrow]
    if usual is None or not spreads:
        return None
    least = most = 0.0
    for steps, spread in spreads:
        if spread is None:
            return None
        least += steps * (usual[0] - spread[1])
        most += steps * (usual[1] - spread[0])
    return least, most
