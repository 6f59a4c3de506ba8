"""How many examples take part, and from which layer on. Sees numbers only.

Early layers have large maps, and few channels: there a few examples are too large for memory, and
more than enough for least squares. Late layers have small maps, and many channels: after a global
pooling an example is one row. So examples may join in later, once the large maps are behind.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate

_WORTH_IT = 1.25
"""Joining in costs a run through the layers before: it has to bring so many times the examples."""


def examples_by_call(numbers: Sequence[int], total: int, most: int) -> dict[int, int]:
    """Position of a call to the number of examples from there on, where that changes.

    Args:
        numbers: The numbers that the largest tensor of every call has, for one example.
        total: How many examples there are.
        most: How many numbers a tensor may have, all examples together.

    Returns:
        Counts that grow, at least one, the first at position 0.

    Example:

    >>> examples_by_call([100, 100, 10, 20, 1], total=50, most=1000)
    {0: 10, 2: 50}
    """
    largest = list(accumulate(reversed(numbers), max))[::-1]
    found = {0: _fit(largest[0], total, most)}
    for at, size in enumerate(largest):
        count, now = _fit(size, total, most), next(reversed(found.values()))
        if count >= _WORTH_IT * now or (count == total > now):
            found[at] = count
    return found


def _fit(size: int, total: int, most: int) -> int:
    return max(1, min(total, most // size))
