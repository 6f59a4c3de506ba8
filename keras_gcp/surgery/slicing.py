"""Cutting an array along labelled axes."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np


def taken(value: np.ndarray, axes: Mapping[int, np.ndarray], keep: np.ndarray) -> np.ndarray:
    """The kept part of an array.

    Args:
        value: The array.
        axes: Axis to the channel class of each of its positions.
        keep: `(class_count,)` booleans, True = kept.
    """
    for axis, classes in axes.items():
        value = np.compress(keep[classes], value, axis)
    return value
