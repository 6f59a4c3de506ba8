"""The order in which a kernel's inputs are best chosen, by least squares. Sees numbers only.

`A` are the rows, centred and divided by the root of their number, so that `A^T A` is the covariance
of the inputs; `added` is a variance that every input has for itself. Once the inputs S are chosen,
what is left of the covariance of some others B with all inputs is a Schur complement, in two forms:

    C_B: - C_BS C_SS^-1 C_S:   where C = A^T A + added
    A_B^T Q A + added_B:       where Q = (1 + A_S A_S^T / added)^-1

The first one needs the square of the number of inputs, the second that of the number of rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

_TIE = 1e-5
"""Share of the whole variance within which candidates count as equal: which of two equal channels
comes first must not depend on roundings, since the other one is worth nothing then."""


def greedy_order(
    rows: np.ndarray, kernel: np.ndarray, blocks: np.ndarray, ridge: float
) -> tuple[np.ndarray, np.ndarray]:
    """Blocks of inputs, best first, and how much of the outputs' variance each explains besides.

    Args:
        rows: `(rows, entries)`, what the kernel is multiplied with, without its mean.
        kernel: `(entries, filters)`.
        blocks: `(entries,)`, the block that an entry comes and goes with, numbered from 0.
        ridge: Variance that every entry has for itself besides, in units of their mean variance.

    Returns:
        `(picked, gains)`, both `(blocks,)` in the order of picking; gains in units of the outputs'
        variance, so that they sum to all of it (with what the ridge adds).
    """
    a = rows / np.sqrt(len(rows))
    added = ridge * float(np.square(a).sum()) / a.shape[1] + 1e-30
    places = _places_by_block(blocks)
    a, kernel, places, beyond = _compressed(a, kernel, places)
    left: _Left = (_FromRows if len(a) < a.shape[1] else _FromCovariance)(a, added)
    missing = a.T @ (a @ kernel) + added * kernel  # covariance with what is not expressed yet
    total = max(float(np.einsum("io,io->", kernel, missing)) + added * beyond.sum(), 1e-30)
    free = _by_size(a, places, added)
    values = np.full(len(places), -np.inf)
    picked: list[int] = []
    gains: list[float] = []
    for _ in places:
        for same in free:
            values[same.numbers] = same.explained(missing) + added * beyond[same.numbers]
        best = int(np.argmax(values >= values.max() - _TIE * total))  # The first of equal ones.
        picked.append(best)
        gains.append(max(float(values[best]), 0.0))
        values[best] = -np.inf
        own = next(own for same in free if (own := same.take(best)) is not None)
        root = _inverse_root(own, added)
        shared = root @ left.covariance(places[best])
        left.choose(places[best], root, shared)
        missing -= shared.T @ (root @ missing[places[best]])
        for same in free:
            same.without(shared)
    return np.array(picked), np.array(gains)


def _places_by_block(blocks: np.ndarray) -> list[np.ndarray]:
    order = np.argsort(blocks, kind="stable")
    return np.split(order, np.cumsum(np.bincount(blocks))[:-1])


def _compressed(
    a: np.ndarray, kernel: np.ndarray, places: Sequence[np.ndarray]
) -> tuple[np.ndarray, np.ndarray, list[np.ndarray], np.ndarray]:
    """Blocks of more entries than rows, turned so that only as many entries say something.

    Returns:
        Rows, kernel and places of the turned entries, and by block the sum of squares of the kernel
        on the entries left out, whose inputs are zero.
    """
    beyond = np.zeros(len(places))
    if max(map(len, places)) <= len(a):
        return a, kernel, list(places), beyond
    columns, kernels, turned = [], [], []
    count = 0
    for number, at in enumerate(places):
        own, weights = a[:, at], kernel[at]
        if len(at) > len(a):
            turn, triangle = np.linalg.qr(own.T)
            own, weights = triangle.T, turn.T @ kernel[at]
            beyond[number] = max(np.square(kernel[at]).sum() - np.square(weights).sum(), 0.0)
        columns.append(own)
        kernels.append(weights)
        turned.append(np.arange(count, count + len(weights)))
        count += len(weights)
    return np.concatenate(columns, axis=1), np.concatenate(kernels), turned, beyond


# ------------------------------------------------------------------------- candidates


@dataclass
class _SameSize:
    """Blocks of one size that are not chosen yet.

    Attributes:
        numbers: `(blocks,)`.
        places: `(blocks, size)`, their entries.
        own: `(blocks, size, size)`, what is left of their covariances.
    """

    numbers: np.ndarray
    places: np.ndarray
    own: np.ndarray

    def explained(self, missing: np.ndarray) -> np.ndarray:
        """How much of the variance that is not expressed yet each block could express."""
        parts = missing[self.places]
        return np.einsum("bso,bso->b", parts, np.linalg.solve(self.own, parts))

    def take(self, number: int) -> np.ndarray | None:
        """Takes a block out; what is left of its covariance, None if it is not one of these."""
        (found,) = np.nonzero(self.numbers == number)
        if not len(found):
            return None
        own = self.own[found[0]]
        self.numbers = np.delete(self.numbers, found)
        self.places = np.delete(self.places, found, axis=0)
        self.own = np.delete(self.own, found, axis=0)
        return own

    def without(self, shared: np.ndarray) -> None:
        """Takes away what the blocks have in common with the one just chosen."""
        parts = shared.T[self.places]
        self.own -= parts @ parts.transpose(0, 2, 1)


def _by_size(a: np.ndarray, places: Sequence[np.ndarray], added: float) -> list[_SameSize]:
    found = []
    for size in sorted({len(at) for at in places}):
        numbers = np.array([i for i, at in enumerate(places) if len(at) == size])
        index = np.stack([places[i] for i in numbers])
        parts = a.T[index]
        found.append(
            _SameSize(numbers, index, parts @ parts.transpose(0, 2, 1) + added * np.eye(size))
        )
    return found


def _inverse_root(own: np.ndarray, least: float) -> np.ndarray:
    """R with `R own R^T = 1`; no variance is less than what was added."""
    variances, turn = np.linalg.eigh(own)
    return (turn / np.sqrt(np.maximum(variances, least))).T


# ------------------------------------------------------------ what is left of the covariance


class _Left(Protocol):
    def __init__(self, a: np.ndarray, added: float) -> None: ...

    def covariance(self, at: np.ndarray) -> np.ndarray:
        """`(entries at, all entries)`, given those chosen so far."""
        ...

    def choose(self, at: np.ndarray, root: np.ndarray, shared: np.ndarray) -> None:
        """Chooses entries: `root` is the inverse root of their `covariance`, `shared` both."""
        ...


class _FromCovariance:
    """First form: `C_BS C_SS^-1 C_S:` is a sum over the blocks chosen."""

    def __init__(self, a: np.ndarray, added: float) -> None:
        self._covariance = a.T @ a
        self._covariance[np.diag_indices(a.shape[1])] += added
        self._shared = np.empty_like(self._covariance)
        self._chosen = 0

    def covariance(self, at: np.ndarray) -> np.ndarray:
        shared = self._shared[: self._chosen]
        return self._covariance[at] - shared[:, at].T @ shared

    def choose(self, at: np.ndarray, root: np.ndarray, shared: np.ndarray) -> None:
        self._shared[self._chosen : self._chosen + len(at)] = shared
        self._chosen += len(at)


class _FromRows:
    """Second form."""

    def __init__(self, a: np.ndarray, added: float) -> None:
        self._a, self._added = a, added
        self._q = np.eye(len(a))

    def covariance(self, at: np.ndarray) -> np.ndarray:
        found = (self._q @ self._a[:, at]).T @ self._a
        found[np.arange(len(at)), at] += self._added
        return found

    def choose(self, at: np.ndarray, root: np.ndarray, shared: np.ndarray) -> None:
        part = self._q @ (self._a[:, at] @ root.T)
        self._q -= part @ part.T
