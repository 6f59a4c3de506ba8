"""Axes on which the result of a training can be seen, and not its first epochs alone."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

Lines = Iterable[Sequence[float]]

_CLOSE = 95.0  # From this accuracy on, what is left to 100 % counts.
_BEYOND = 0.1  # Where the axis would end: 100 % itself has to have a place on it.
_TICKS = (0, 20, 40, 60, 80, 90, 95, 98, 99, 99.5, 99.8, 100)
_LEAST_GAP = 0.09  # of the axis, between two ticks


def all_positive(lines: Lines) -> bool:
    """Whether a logarithmic axis has a place for all values that are finite."""
    values = _finite(lines)
    return bool(values) and min(values) > 0


def limits_of_end(lines: Lines) -> tuple[float, float] | None:
    """What every line but its first third spans, with a margin; None without a value.

    Args:
        lines: Values per epoch, in percent.
    """
    values = _finite([line[len(line) // 3 :] for line in lines])
    if not values:
        return None
    margin = max(0.08 * (max(values) - min(values)), 0.05)
    return max(0.0, min(values) - margin), min(100.0, max(values) + margin)


def show_end_of(axes: Any, lines: Lines) -> None:
    """Sets the vertical axis of accuracies in percent.

    Where they come close to 100 %, the axis is logarithmic in what is missing: 99.2 and 99.8 are
    as far from each other as 80 and 95.

    Args:
        axes: With the lines drawn.
        lines: Their values.
    """
    every = [list(line) for line in lines]
    limits = limits_of_end(every)
    if limits is None:
        return
    low, high = limits
    if high >= _CLOSE:
        axes.set_yscale("function", functions=(_closeness, _accuracy))
        axes.set_yticks(ticks_between(low, 100.0), minor=False)
        axes.yaxis.set_major_formatter("{x:g}")
        high = 100.0
    axes.set_ylim(low, high)


def ticks_between(low: float, high: float) -> list[float]:
    """Accuracies to write at an axis that is stretched towards 100 %, none too close to the next.

    >>> ticks_between(50.0, 100.0)
    [60, 80, 90, 95, 98, 99, 99.5, 99.8, 100]
    """
    ends = [_closeness_of(end) for end in (low, high)]
    gap = _LEAST_GAP * (ends[1] - ends[0])
    kept: list[float] = []
    for tick in _TICKS:
        place = _closeness_of(tick)
        if low <= tick <= high and (not kept or place - _closeness_of(kept[-1]) >= gap):
            kept.append(tick)
    return kept


def _closeness_of(accuracy: float) -> float:
    return -math.log10(100 + _BEYOND - accuracy)


def _closeness(accuracy: Any) -> Any:
    import numpy as np

    return -np.log10(np.maximum(100 + _BEYOND - np.asarray(accuracy, float), 1e-6))


def _accuracy(closeness: Any) -> Any:
    import numpy as np

    return 100 + _BEYOND - 10.0 ** -np.asarray(closeness, float)


def _finite(lines: Lines) -> list[float]:
    return [value for line in lines for value in line if math.isfinite(value)]
