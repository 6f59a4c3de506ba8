"""The nearest sequence that never rises."""

from __future__ import annotations

import numpy as np


def falling(values: np.ndarray) -> np.ndarray:
    """The sequence that never rises and comes nearest to the given one, by least squares.

    A greedy choice may gain more by a later pick than by an earlier one; it must not rank before it
    for that. Runs of equal values have the sum that the given ones have there, so sums over what
    comes last stay what they were wherever a run ends.

    Source: the pool-adjacent-violators algorithm (Ayer et al., 1955).

    Args:
        values: `(n,)`.

    Example:

    >>> falling(np.array([5.0, 1.0, 3.0, 0.0])).tolist()
    [5.0, 2.0, 2.0, 0.0]
    """
    levels: list[float] = []
    sizes: list[int] = []
    for value in values.tolist():
        level, size = value, 1
        while levels and levels[-1] < level:
            before, count = levels.pop(), sizes.pop()
            level, size = (level * size + before * count) / (size + count), size + count
        levels.append(level)
        sizes.append(size)
    found: np.ndarray = np.repeat(levels, sizes)
    return found
