"""The set of channels with the greatest ratio of two sums. Sees numbers only."""

from __future__ import annotations

from typing import Any

import numpy as np

from keras_gcp.errors import InvalidArgument
from keras_gcp.validation import require_integer

_LEAST = 1e-300
_NO_MORE = 1e-12
"""Share by which the ratio has to grow for another iteration."""


def trace_ratio_set(between: Any, within: Any, size: int) -> tuple[np.ndarray, float]:
    """The channels whose features, taken together, separate classes best.

    With the scatter of channel c between classes b_c and within classes w_c, the set S of `size`
    channels with the greatest `J(S) = sum_S b_c / sum_S w_c`. That is not the set of the greatest
    ratios b_c / w_c, and the best set of n channels need not be a part of the best one of n + 1.

    It begins with the greatest ratios, and takes the channels with the greatest `b_c - J w_c` until
    J does not grow any more: Dinkelbach's method for a ratio of sums, which ends at the greatest
    ratio of all sets of that size, after two or three rounds mostly.

    CATRO: Hu et al., "CATRO: Channel Pruning via Class-Aware Trace Ratio Optimization", 2021 (arXiv
    2110.10921); the method for a set of given size after Wang et al., "Trace Ratio vs. Ratio
    Trace", CVPR 2007, and Nie et al., "Trace Ratio Criterion for Feature Selection", AAAI 2008.

    Args:
        between: `(channels,)`, scatter between classes, not negative.
        within: `(channels,)`, scatter within classes, not negative.
        size: How many channels to choose.

    Returns:
        `(indices, ratio)`: the chosen channels, rising, and their J; infinite if they do not vary
        within classes, 0 if they do not vary at all.

    Raises:
        InvalidArgument: the arrays do not fit each other, are not finite or negative, or there are
            not so many channels.

    Example:

    >>> between, within = [9.0, 4.0, 5.0], [10.0, 2.0, 4.0]
    >>> indices, ratio = trace_ratio_set(between, within, 2)
    >>> indices.tolist(), ratio
    ([1, 2], 1.5)
    """
    b, w = _checked(between, within)
    size = require_integer("size", size, least=1, most=len(b))
    chosen = _greatest(b / np.maximum(w, _LEAST), size)
    ratio = _ratio(b, w, chosen)
    while np.isfinite(ratio):
        better = _greatest(b - ratio * w, size)
        found = _ratio(b, w, better)
        if found <= ratio * (1 + _NO_MORE):
            break
        chosen, ratio = better, found
    return chosen, ratio


def _checked(between: Any, within: Any) -> tuple[np.ndarray, np.ndarray]:
    b, w = np.asarray(between, np.float64), np.asarray(within, np.float64)
    if b.ndim != 1 or b.shape != w.shape or not len(b):
        raise InvalidArgument(
            "`between` and `within` expect an array each, with a number for every channel. "
            f"Received shapes {b.shape} and {w.shape}."
        )
    for name, values in (("between", b), ("within", w)):
        wrong = ~np.isfinite(values) | (values < 0)
        if wrong.any():
            at = int(np.flatnonzero(wrong)[0])
            raise InvalidArgument(
                f"`{name}` expects finite sums of squares, not negative. Received {values[at]} for "
                f"channel {at}."
            )
    return b, w


def _greatest(values: np.ndarray, size: int) -> np.ndarray:
    """Of equal ones the earlier."""
    return np.sort(np.argsort(-values, kind="stable")[:size])


def _ratio(b: np.ndarray, w: np.ndarray, chosen: np.ndarray) -> float:
    top, bottom = float(b[chosen].sum()), float(w[chosen].sum())
    if bottom:
        return top / bottom
    return np.inf if top else 0.0
