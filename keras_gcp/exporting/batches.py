"""Runs models and files that take a fixed number of examples at a time."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

Run = Callable[[Sequence[np.ndarray]], Sequence[np.ndarray]]


def in_batches(run: Run, arrays: Sequence[np.ndarray], batch: int | None) -> list[np.ndarray]:
    """Outputs for all examples, computed batch by batch.

    Args:
        run: From inputs to outputs, each `(examples, ...)`.
        arrays: The inputs.
        batch: How many examples `run` takes, no more and no fewer: the last batch is filled up with
            its last example, and what comes of that is dropped. None: all at once.
    """
    if batch is None:
        return list(run(arrays))
    count = len(arrays[0])
    parts = [
        run([array[np.minimum(np.arange(at, at + batch), count - 1)] for array in arrays])
        for at in range(0, count, batch)
    ]
    return [np.concatenate(pieces)[:count] for pieces in zip(*parts, strict=True)]
