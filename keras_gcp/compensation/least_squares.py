"""Least squares on the inputs that are left: what a kernel has to become. Sees numbers only."""

from __future__ import annotations

from typing import Any

import numpy as np

RIDGE = 0.03
"""Weight of staying as it is, in units of the inputs' mean variance."""

_SINGLE_PRECISION_FROM = 64
"""Entries from which products of so many rows are taken in single precision, in half of the time.
With the ridge, solutions differ by less than 1e-5 of the largest entry."""


def correction(
    inputs: np.ndarray, missing: np.ndarray, intercept: bool, ridge: float = RIDGE
) -> np.ndarray:
    """What to add to a kernel so that its outputs come nearest to the wanted ones.

    Minimises `|inputs @ D - missing|^2 + ridge * (mean variance) * rows * |D|^2` over D: with few
    rows the kernel stays nearly as it is, with many the solution is that of least squares.

    Source: Xie et al., "Pruning with Compensation", 2021 (arXiv 2108.13728): W' = Sigma_SS^-1
    Sigma_S W; here for the difference to the present kernel, and with inputs of the network that
    is cut already, so that it also makes up for what earlier layers have lost.

    Args:
        inputs: `(rows, entries)`, what the kernel is multiplied with.
        missing: `(rows, filters)`, the wanted outputs minus the present ones.
        intercept: Whether a constant is free besides (a bias, or the mean of the normalization
            after it): then only deviations from the means are fitted.
        ridge: See above.

    Returns:
        `(entries, filters)`.

    Example:

    >>> inputs = np.array([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]])
    >>> correction(inputs, inputs @ [[2.0], [-1.0]], intercept=False, ridge=1e-9).round(2)
    array([[ 2.],
           [-1.]])
    """
    single = inputs.dtype == np.float32 and inputs.shape[1] >= _SINGLE_PRECISION_FROM
    dtype: type[np.floating[Any]] = np.float32 if single else np.float64
    x: np.ndarray = inputs.astype(dtype)
    t: np.ndarray = missing.astype(dtype)
    if intercept:
        x, t = (a - a.mean(axis=0, dtype=np.float64).astype(dtype) for a in (x, t))
    rows, entries = x.shape
    penalty = ridge * float(np.square(x).sum(dtype=np.float64)) / max(entries, 1)
    if penalty == 0.0:  # Inputs without variance say nothing.
        return np.zeros((entries, t.shape[1]))
    if rows >= entries:
        gram = (x.T @ x).astype(np.float64)
        gram[np.diag_indices(entries)] += penalty
        return np.linalg.solve(gram, (x.T @ t).astype(np.float64))
    gram = (x @ x.T).astype(np.float64)
    gram[np.diag_indices(rows)] += penalty
    return x.T @ np.linalg.solve(gram, t)
