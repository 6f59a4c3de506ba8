"""Cutting an array along labelled axes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

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


def kept_along(block: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
    """The axes of a tensor that lose something, or may, with what is kept along each.

    Args:
        block: Which positions of the tensor are kept; its first axis is that after the batch axis,
            and its size is 1 along axes on which that does not depend.

    Yields:
        `(axis, (size,) booleans)`, the batch axis counted.
    """
    for axis, size in enumerate(block.shape):
        if size > 1:
            yield axis + 1, np.moveaxis(block, axis, 0).reshape(size, -1)[:, 0]


def kept_part(value: np.ndarray, block: np.ndarray) -> np.ndarray:
    """The kept part of a tensor's value, with the batch axis first; `block` as for `kept_along`."""
    for axis, line in kept_along(block):
        value = np.compress(line, value, axis)
    return value
