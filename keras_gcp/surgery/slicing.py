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


def kept_part(value: np.ndarray, block: np.ndarray) -> np.ndarray:
    """The kept part of a tensor's value.

    Args:
        value: The value, with the batch axis first.
        block: Which positions are kept; size 1 along axes on which that does not depend.
    """
    for axis, size in enumerate(block.shape):
        if size > 1:
            line = np.moveaxis(block, axis, 0).reshape(size, -1)[:, 0]
            value = np.compress(line, value, axis + 1)
    return value
