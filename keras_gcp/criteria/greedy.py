"""The order in which a kernel's inputs are best chosen, by least squares. Sees numbers only.

`A` are the rows, centred and divided by the root of their number, so that `A^T A` is the covariance
of the inputs; `added` is a variance that every input has for itself. Once the inputs S are chosen,
what is left of the covariance of some others B with all inputs is a Schur complement, in two forms:

    C_B: - C_BS C_SS^-1 C_S:   where C = A^T A + added
    A_B^T Q A + added_B:       where Q = (1 + A_S A_S^T / added)^-1

The first one takes the square of the number of inputs, the second that of the number of rows.

What a block of inputs B would explain is `tr(L_B^-1 M_B M_B^T)`, where L_B is what is left of its
own covariance, and M_B of its covariance with the outputs. Both products are small squares, and a
block that is chosen changes them by small ones: so no step looks at all outputs of all blocks.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

_TIE = 1e-5
"""Share of the whole variance within which candidates count as equal: which of two equal channels
comes first must not depend on roundings, since the other one is worth nothing then."""

_FEW_ROWS = 0.2
"""Rows for each input below which the second form is the cheaper one."""

_MOST_WAITING = 1024
_LARGEST_SHARE_WAITING = 0.2
"""So many chosen entries wait, at most, until they are taken away from the arrays: fewer would be
slower there, more would make every step slower and take memory."""


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
    added = ridge * float(np.vdot(rows, rows)) / rows.size + 1e-30
    rows, kernel, places, beyond = _compressed(rows, kernel, _places_by_block(blocks))
    form = _FromRows if len(rows) < _FEW_ROWS * rows.shape[1] else _FromCovariance
    inputs: _Inputs = form(rows, added)
    missing = inputs.times(kernel)  # Covariance with what is not expressed yet.
    total = max(float(np.vdot(kernel, missing)) + added * beyond.sum(), 1e-30)
    left = _Left(inputs, missing, max(map(len, places)))
    free = _by_size(places, inputs, missing)
    values = np.full(len(places), -np.inf)
    picked: list[int] = []
    gains: list[float] = []
    for _ in places:
        for same in free:
            values[same.numbers] = same.explained() + added * beyond[same.numbers]
        best = int(np.argmax(values >= values.max() - _TIE * total))  # The first of equal ones.
        picked.append(best)
        gains.append(max(float(values[best]), 0.0))
        values[best] = -np.inf
        at, own = next(found for same in free if (found := same.take(best)) is not None)
        chosen = left.choose(at, own, added)
        for same in free:
            same.without(chosen)
        if left.is_full:
            left.keep(free)
    return np.array(picked), np.array(gains)


def _places_by_block(blocks: np.ndarray) -> list[np.ndarray]:
    order = np.argsort(blocks, kind="stable")
    return np.split(order, np.cumsum(np.bincount(blocks))[:-1])


def _compressed(
    rows: np.ndarray, kernel: np.ndarray, places: Sequence[np.ndarray]
) -> tuple[np.ndarray, np.ndarray, list[np.ndarray], np.ndarray]:
    """Blocks of more entries than rows, turned so that only as many entries say something.

    Returns:
        Rows, kernel and places of the turned entries, and by block the sum of squares of the kernel
        on the entries left out, whose inputs are zero.
    """
    beyond = np.zeros(len(places))
    if max(map(len, places)) <= len(rows):
        return rows, kernel, list(places), beyond
    columns, kernels, turned = [], [], []
    count = 0
    for number, at in enumerate(places):
        own, weights = rows[:, at], kernel[at]
        if len(at) > len(rows):
            turn, triangle = np.linalg.qr(own.T)
            own, weights = triangle.T, turn.T @ kernel[at]
            beyond[number] = max(np.square(kernel[at]).sum() - np.square(weights).sum(), 0.0)
        columns.append(own)
        kernels.append(weights)
        turned.append(np.arange(count, count + len(weights)))
        count += len(weights)
    return np.concatenate(columns, axis=1), np.concatenate(kernels), turned, beyond


# ------------------------------------------------------------------------- candidates


@dataclass(frozen=True)
class _Chosen:
    """What the block just chosen changes.

    Attributes:
        shared: `(size, entries)`, covariance of its inputs, made independent and of variance 1,
            with all entries.
        heard: `(entries, size)`, what was missing at all entries, times what these inputs express.
        expressed: `(size, size)`, what they express times itself.
    """

    shared: np.ndarray
    heard: np.ndarray
    expressed: np.ndarray


@dataclass
class _SameSize:
    """Blocks of one size that are not chosen yet.

    Attributes:
        numbers: `(blocks,)`.
        places: `(blocks, size)`, their entries.
        own: `(blocks, size, size)`, what is left of their covariances.
        missing: `(blocks, size, size)`, their covariance with what is not expressed yet, times
            itself.
    """

    numbers: np.ndarray
    places: np.ndarray
    own: np.ndarray
    missing: np.ndarray

    def explained(self) -> np.ndarray:
        """How much of the variance that is not expressed yet each block could express."""
        if self.own.shape[1] == 1:
            found: np.ndarray = self.missing[:, 0, 0] / self.own[:, 0, 0]
            return found
        return np.einsum("bst,bst->b", np.linalg.inv(self.own), self.missing)

    def take(self, number: int) -> tuple[np.ndarray, np.ndarray] | None:
        """Takes a block out: its entries and what is left of its covariance; None if not here."""
        (found,) = np.nonzero(self.numbers == number)
        if not len(found):
            return None
        at, own = self.places[found[0]], self.own[found[0]]
        rest = self.numbers != number
        self.numbers, self.places = self.numbers[rest], self.places[rest]
        self.own, self.missing = self.own[rest], self.missing[rest]
        return at, own

    def without(self, chosen: _Chosen) -> None:
        """Takes away what the blocks have in common with the one just chosen."""
        parts = chosen.shared.T[self.places]
        across = parts.transpose(0, 2, 1)
        self.own -= parts @ across
        # (M - P E)(M - P E)^T, of which M E^T was made for all entries at once.
        half = (chosen.heard[self.places] - parts @ (chosen.expressed / 2)) @ across
        self.missing -= half + half.transpose(0, 2, 1)


def _by_size(places: Sequence[np.ndarray], inputs: _Inputs, missing: np.ndarray) -> list[_SameSize]:
    found = []
    for size in sorted({len(at) for at in places}):
        numbers = np.array([i for i, at in enumerate(places) if len(at) == size])
        index = np.stack([places[i] for i in numbers])
        parts = missing[index]
        found.append(
            _SameSize(numbers, index, inputs.within(index), parts @ parts.transpose(0, 2, 1))
        )
    return found


def _inverse_root(own: np.ndarray, least: float) -> np.ndarray:
    """R with `R own R^T = 1`; no variance is less than what was added."""
    variances, turn = np.linalg.eigh(own)
    return (turn / np.sqrt(np.maximum(variances, least))).T


# ------------------------------------------------------------ what is left of the covariance


class _Left:
    """What the blocks chosen so far leave of the covariances with inputs and with outputs.

    Blocks wait until there are some of them, and are then taken away from the arrays all at once:
    that is two passes over them instead of hundreds.

    Args:
        inputs: Their covariances with each other.
        missing: `(entries, filters)`, those with the outputs.
        largest: Entries of the largest block.
    """

    def __init__(self, inputs: _Inputs, missing: np.ndarray, largest: int) -> None:
        self._inputs, self._missing, self._largest = inputs, missing, largest
        self._empty()

    def _empty(self) -> None:
        entries, filters = self._missing.shape
        self._most = min(_MOST_WAITING, _LARGEST_SHARE_WAITING * entries)
        lines = int(self._most) + self._largest
        self._shared, self._expressed = np.empty((lines, entries)), np.empty((lines, filters))
        self._waiting: list[np.ndarray] = []
        self._count = 0

    @property
    def is_full(self) -> bool:
        """Whether those that wait had better be taken away."""
        return self._count > self._most

    def choose(self, at: np.ndarray, own: np.ndarray, least: float) -> _Chosen:
        """Chooses entries.

        Args:
            at: The entries.
            own: What is left of their covariance.
            least: None of its variances is less.
        """
        before = self._count
        all_shared, all_expressed = self._shared[:before], self._expressed[:before]
        common = all_shared[:, at].T
        root = _inverse_root(own, least)
        shared = root @ (self._inputs.covariance(at) - common @ all_shared)
        expressed = root @ (self._missing[at] - common @ all_expressed)
        heard = self._missing @ expressed.T - all_shared.T @ (all_expressed @ expressed.T)
        self._waiting.append(at)
        self._count += len(at)
        self._shared[before : self._count] = shared
        self._expressed[before : self._count] = expressed
        return _Chosen(shared, heard, expressed @ expressed.T)

    def keep(self, free: Sequence[_SameSize]) -> None:
        """Takes those that wait away, and leaves all that are chosen out of the arrays.

        Args:
            free: Blocks that are not chosen yet; their places are changed.
        """
        kept = np.sort(np.concatenate([same.places.ravel() for same in free]))
        for same in free:
            same.places = np.searchsorted(kept, same.places)
        shared = self._shared[: self._count, kept]
        self._inputs.keep(kept, np.concatenate(self._waiting), shared)
        self._missing = self._missing[kept] - shared.T @ self._expressed[: self._count]
        self._empty()


class _Inputs(Protocol):
    """Covariances of entries, given those that were chosen and left out."""

    def __init__(self, rows: np.ndarray, added: float) -> None: ...

    def covariance(self, at: np.ndarray) -> np.ndarray:
        """`(entries at, all entries)`."""
        ...

    def within(self, index: np.ndarray) -> np.ndarray:
        """`(blocks, size, size)` of the entries of each block; `index` is `(blocks, size)`."""
        ...

    def times(self, kernel: np.ndarray) -> np.ndarray:
        """All of them, times a kernel of `(entries, filters)`."""
        ...

    def keep(self, kept: np.ndarray, chosen: np.ndarray, shared: np.ndarray) -> None:
        """Leaves entries out.

        Args:
            kept: All other entries.
            chosen: Those left out.
            shared: `(chosen, kept)`, covariance of those left out, made independent and of variance
                1, with the others.
        """
        ...


class _FromCovariance:
    """First form: `C_BS C_SS^-1 C_S:` is a sum over the blocks chosen."""

    def __init__(self, rows: np.ndarray, added: float) -> None:
        self._covariance = rows.T @ rows / len(rows)
        self._covariance[np.diag_indices(rows.shape[1])] += added

    def covariance(self, at: np.ndarray) -> np.ndarray:
        return self._covariance[at]

    def within(self, index: np.ndarray) -> np.ndarray:
        return self._covariance[index[:, :, None], index[:, None, :]]

    def times(self, kernel: np.ndarray) -> np.ndarray:
        return self._covariance @ kernel

    def keep(self, kept: np.ndarray, chosen: np.ndarray, shared: np.ndarray) -> None:
        self._covariance = self._covariance[np.ix_(kept, kept)] - shared.T @ shared


class _FromRows:
    """Second form."""

    def __init__(self, rows: np.ndarray, added: float) -> None:
        self._a, self._added = rows / np.sqrt(len(rows)), added
        self._q = np.eye(len(rows))

    def covariance(self, at: np.ndarray) -> np.ndarray:
        found = (self._q @ self._a[:, at]).T @ self._a
        found[np.arange(len(at)), at] += self._added
        return found

    def within(self, index: np.ndarray) -> np.ndarray:
        parts = np.moveaxis(self._a[:, index], 0, -1)
        return parts @ parts.transpose(0, 2, 1) + self._added * np.eye(index.shape[1])

    def times(self, kernel: np.ndarray) -> np.ndarray:
        return self._a.T @ (self._a @ kernel) + self._added * kernel

    def keep(self, kept: np.ndarray, chosen: np.ndarray, shared: np.ndarray) -> None:
        part = self._q @ self._a[:, chosen]
        own = self._a[:, chosen].T @ part
        own[np.diag_indices(len(chosen))] += self._added
        self._q -= part @ np.linalg.solve(own, part.T)
        self._a = self._a[:, kept]
