"""What layers that mix channels compute from the kept channels alone.

Removing a channel changes such a layer's other outputs: a layer normalization takes its mean over
fewer of them. "Masked" therefore means, for these layers: as if there had never been the others.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from keras import ops


def taken(x: Any, keep: np.ndarray, axis: int) -> Any:
    """The kept channels of a tensor."""
    return ops.take(x, np.flatnonzero(keep), axis=axis)


def put_back(y: Any, keep: np.ndarray, axis: int) -> Any:
    """A tensor of the kept channels at full width, with zeros for the others."""
    zero = ops.zeros_like(ops.take(y, np.array([0]), axis=axis))
    place = np.where(keep, np.cumsum(keep) - 1, keep.sum())
    return ops.take(ops.concatenate([y, zero], axis=axis), place, axis=axis)


def over_kept(
    function: Callable[..., Any], axis: int
) -> Callable[[np.ndarray], Callable[..., Any]]:
    """A function of a tensor, restricted to the kept channels.

    Args:
        function: `(x, keep) -> outputs` of the kept channels `x` of the input.
        axis: The channel axis, batch axis counted.
    """

    def restricted(keep: np.ndarray) -> Callable[..., Any]:
        def call(x: Any, *args: Any, **kwargs: Any) -> Any:
            return put_back(function(taken(x, keep, axis), keep), keep, axis)

        return call

    return restricted


def reduced_over_kept(operation: Any, axis: int) -> Callable[[np.ndarray], Callable[..., Any]]:
    """A reduction over the channel axis, restricted to the kept channels."""

    def restricted(keep: np.ndarray) -> Callable[..., Any]:
        def call(x: Any, *args: Any, **kwargs: Any) -> Any:
            return type(operation).call(operation, taken(x, keep, axis), *args, **kwargs)

        return call

    return restricted
