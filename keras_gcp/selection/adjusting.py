"""Widths that go up and down at equal cost: some layers get more channels, others fewer.

The rule of Network Adjustment (Chen et al., CVPR 2020, arXiv 2004.02767), in numbers only.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from keras_gcp.errors import ImpossibleBudget

HALVINGS = 60
"""Of the factor that all widths are multiplied by: beyond all digits of it."""


@dataclass(frozen=True)
class WidthGrid:
    """The widths that a layer may have: multiples of a step, from a least one on.

    Attributes:
        least: The fewest channels.
        step: What widths are multiples of.
    """

    least: int
    step: int

    def nearest(self, width: float) -> int:
        """The nearest allowed width."""
        return max(self.lowest, round(width / self.step) * self.step)

    @property
    def lowest(self) -> int:
        """The least allowed width."""
        return max(-(-self.least // self.step), 1) * self.step


class Aims:
    """What to aim at to reach a cost that is not quite what it is predicted to be.

    By the secant of the logarithms: where costs are powers of what they are predicted to be, the
    third aim is right.

    Args:
        target: The cost wanted.

    Attributes:
        next: What to aim at.
    """

    def __init__(self, target: float) -> None:
        self._target, self.next = float(target), float(target)
        self._known: list[tuple[float, float]] = []

    def missed(self, reached: float) -> None:
        """Says what the last aim has led to."""
        self._known.append((math.log(self.next), math.log(reached)))
        (x, y), slope = self._known[-1], 1.0
        if len(self._known) > 1:
            before_x, before_y = self._known[-2]
            rises = (y - before_y) * (x - before_x) > 0
            slope = (y - before_y) / (x - before_x) if rises else slope
        self.next = math.exp(x + (math.log(self._target) - y) / slope)


def moved(
    widths: Sequence[float],
    initial: Sequence[float],
    ratios: Sequence[float],
    count: int,
    step: float,
    decay: float,
) -> np.ndarray:
    """Widths after one adjustment, not yet rounded, nor rescaled.

    The `count` layers with the greatest ratios get wider, those with the least ones narrower, by a
    share of their *initial* widths that falls with the rank: `step` for the first of either,
    `step - decay` for the second, and so on, never less than 0. No layer does both.

    Args:
        widths: The present widths.
        initial: Those that the search began with.
        ratios: How well each layer uses what it costs.
        count: How many layers get wider, and as many narrower; at most half of them.
        step: Share of the initial width.
        decay: By how much it falls from one rank to the next.

    Returns:
        `(layers,)`, numbers that may be negative.

    >>> moved([10, 10, 10], [10, 10, 10], [0.3, 0.1, 0.2], 1, 0.2, 0.0).tolist()
    [12.0, 8.0, 10.0]
    """
    found = np.array(widths, np.float64)
    count = min(count, len(found) // 2)
    worst_first = np.argsort(ratios, kind="stable")
    for rank in range(count):  # A slice of the last 0 would be all of them.
        share = max(step - decay * rank, 0.0)
        best, worst = worst_first[-1 - rank], worst_first[rank]
        found[best] += share * initial[best]
        found[worst] -= share * initial[worst]
    return found


def rescaled(
    widths: np.ndarray,
    grids: Sequence[WidthGrid],
    cost_of: Callable[[np.ndarray], float],
    target: float,
    tolerance: float,
) -> np.ndarray:
    """Allowed widths in the proportions of the given ones, that cost what they should.

    All widths are multiplied by one factor, found by bisection, and rounded. Layers that would then
    take their next step all at once, such as those of one width, take it one after the other. If
    the cost is still beyond the tolerance, single widths, or two of them, go a step up or down as
    long as that brings it nearer.

    Args:
        widths: Widths before, `(layers,)`.
        grids: What each may be.
        cost_of: The cost of integer widths, which must not fall when one grows.
        target: What they should cost.
        tolerance: By which share of it they may miss that.

    Raises:
        ImpossibleBudget: no such widths were found.
    """

    def at(factor: float) -> np.ndarray:
        pairs = zip(grids, widths, strict=True)
        return np.array([grid.nearest(factor * width) for grid, width in pairs], np.int64)

    def miss(one: np.ndarray) -> float:
        return abs(cost_of(one) - target)

    lowest = np.array([grid.lowest for grid in grids], np.int64)
    if cost_of(lowest) > (1 + tolerance) * target:
        raise ImpossibleBudget(
            f"The least widths, {lowest.tolist()}, cost {cost_of(lowest):,.0f} already, more than "
            f"the {target:,.0f} of the start. Lower `least` or `align`."
        )
    low, high = 0.0, 1.0
    while cost_of(at(high)) < target:
        low, high = high, 2 * high
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        low, high = (middle, high) if cost_of(at(middle)) < target else (low, middle)
    between = _one_by_one(at(low), at(high))
    best = _nearer(min(between, key=miss), grids, miss, tolerance * target)
    if miss(best) > tolerance * target:
        raise ImpossibleBudget(
            f"No widths near {best.tolist()}, in steps of {[grid.step for grid in grids]}, cost "
            f"{target:,.0f} within {tolerance:.1%}: these cost {cost_of(best):,.0f}. Lower "
            "`align`, or raise `tolerance`."
        )
    return best


def _one_by_one(lower: np.ndarray, upper: np.ndarray) -> list[np.ndarray]:
    """From some widths to others, one layer after the other."""
    layers = np.arange(len(lower))
    return [np.where(layers < count, upper, lower) for count in range(len(lower) + 1)]


def _nearer(
    widths: np.ndarray,
    grids: Sequence[WidthGrid],
    miss: Callable[[np.ndarray], float],
    enough: float,
) -> np.ndarray:
    """Steps of one width, or of two, as long as the cost is off, and they bring it nearer."""
    steps = np.diag([grid.step for grid in grids])
    single = np.concatenate([steps, -steps])
    pairs = (single[:, None] + single[None]).reshape(-1, len(grids))
    lowest = np.array([grid.lowest for grid in grids])
    now = miss(widths)
    while now > enough:
        found = widths
        for moves in (single, pairs):
            around = [one for one in widths + moves if (one >= lowest).all() and miss(one) < now]
            if around:
                found = min(around, key=miss)
                break
        if found is widths:
            break
        widths, now = found, miss(found)
    return widths
