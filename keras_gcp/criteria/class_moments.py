"""How far classes lie apart, and how wide they are, from one pass over examples. Numbers only."""

from __future__ import annotations

import numpy as np


class ClassMoments:
    """Scatter between and within classes, of many features at once, in one pass.

    With n_k examples of class k, `between = sum_k n_k (mean_k - mean)^2` and `within = sum_k sum_i
    (x_i - mean_k)^2`; both add up to the whole scatter. Only sums of the class at hand and of all
    examples are held, so that memory does not grow with the number of classes: examples have to
    come in order of class.

    Example:

    >>> moments = ClassMoments()
    >>> moments.add(np.array([[0.0], [2.0], [5.0], [7.0]]), np.array([0, 0, 1, 1]))
    >>> between, within = moments.scatter()
    >>> between.tolist(), within.tolist()
    ([25.0], [4.0])
    """

    def __init__(self) -> None:
        self._label: int | None = None
        self._known: set[int] = set()
        self._count, self._own_count = 0, 0
        self._sum: np.ndarray | float = 0.0
        self._own_sum: np.ndarray | float = 0.0
        self._squares: np.ndarray | float = 0.0
        self._squares_of_means: np.ndarray | float = 0.0

    def add(self, x: np.ndarray, labels: np.ndarray) -> None:
        """Adds a batch.

        Args:
            x: `(examples, features)`.
            labels: `(examples,)` integers, equal ones one after the other, in this batch and
                from batch to batch.

        Raises:
            ValueError: a class comes again after another one.
        """
        bounds = np.flatnonzero(np.diff(labels)) + 1
        for rows, own in zip(np.split(x, bounds), np.split(labels, bounds), strict=True):
            if len(rows):
                self._add_one_class(rows.astype(np.float64), int(own[0]))

    def _add_one_class(self, rows: np.ndarray, label: int) -> None:
        if label != self._label:
            if label in self._known:
                raise ValueError(f"Class {label} came again after another one.")
            self._finish()
            self._label = label
            self._known.add(label)
        self._own_sum = self._own_sum + rows.sum(axis=0)
        self._squares = self._squares + np.square(rows).sum(axis=0)
        self._own_count += len(rows)

    def _finish(self) -> None:
        """Puts the class at hand to those before."""
        if self._own_count:
            self._squares_of_means += np.square(self._own_sum) / self._own_count
            self._sum, self._count = self._sum + self._own_sum, self._count + self._own_count
        self._own_sum, self._own_count = 0.0, 0

    def scatter(self) -> tuple[np.ndarray, np.ndarray]:
        """`(between, within)`, both `(features,)`; after it no more examples may come."""
        self._finish()
        whole = np.square(self._sum) / max(self._count, 1)
        between = np.maximum(self._squares_of_means - whole, 0.0)
        within = np.maximum(self._squares - self._squares_of_means, 0.0)
        return np.asarray(between), np.asarray(within)
