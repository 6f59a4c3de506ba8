"""Labels: one integer per position of a channel axis, and a union-find over them.

A tensor's labels are a *block*: an integer array with one dimension per axis of the tensor
without its batch axis, of size 1 along every axis on which the labels do not depend. A feature
map `(batch, 32, 32, 64)` with 64 free channels has a block of shape `(1, 1, 64)`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

Labels = np.ndarray
"""Integers: a vector (one axis) or a block (a whole tensor)."""


@dataclass(frozen=True)
class Cause:
    """What forbids to prune channels.

    Attributes:
        path: The layer, if it is one of the model.
        text: What it does, and what would have to change.
        is_end: Whether it is an input or an output of the model, which never change.
    """

    path: str | None
    text: str
    is_end: bool = False


@dataclass(frozen=True)
class Resolution:
    """The classes into which the ties have merged all labels.

    Attributes:
        class_of: `(labels,)`, the class of every label. Classes are numbered by their first label.
        reasons: Class to the reason why its channels may not be pruned.
        causes: Every cause with the classes that it forbids to prune, other causes or not.
    """

    class_of: np.ndarray
    reasons: dict[int, str]
    causes: dict[Cause, np.ndarray]


class LabelSpace:
    """Hands out labels and records which of them live or die together."""

    def __init__(self) -> None:
        self._size = 0
        self._edges: list[tuple[np.ndarray, np.ndarray]] = []
        self._anchors: list[tuple[np.ndarray, str]] = []
        self._causes: dict[Cause, list[np.ndarray]] = {}

    def fresh(self, count: int) -> Labels:
        """New labels, tied to nothing."""
        self._size += count
        return np.arange(self._size - count, self._size)

    def tie(self, first: Labels, second: Labels) -> None:
        """Unites two label arrays position by position; the arrays are broadcast."""
        a, b = np.broadcast_arrays(first, second)
        self._edges.append((a.ravel(), b.ravel()))

    def anchor(
        self, labels: Labels, reason: str, foremost: bool = False, cause: Cause | None = None
    ) -> None:
        """Forbids to prune these channels, and whatever is tied to them.

        Args:
            labels: Their labels.
            reason: Why; of several reasons the earliest is reported.
            foremost: Whether this reason is to be reported before those given earlier.
            cause: What is behind it; without one it is the reason, and no layer's.
        """
        self._causes.setdefault(cause or Cause(None, reason), []).append(np.unique(labels))
        self._anchors.insert(0 if foremost else len(self._anchors), (np.unique(labels), reason))

    def resolve(self) -> Resolution:
        """Merges tied labels; the earliest reason given for a class is kept."""
        parent = _connected_components(self._size, self._edges)
        _, class_of = np.unique(parent, return_inverse=True)
        reasons: dict[int, str] = {}
        for labels, reason in self._anchors:
            for index in np.unique(class_of[labels]):
                reasons.setdefault(int(index), reason)
        causes = {
            cause: np.unique(class_of[np.concatenate(parts)])
            for cause, parts in self._causes.items()
        }
        return Resolution(class_of, reasons, causes)


def _connected_components(size: int, edges: list[tuple[np.ndarray, np.ndarray]]) -> np.ndarray:
    """The smallest label of every label's component, by repeated hooking and pointer jumping."""
    parent = np.arange(size)
    if not edges:
        return parent
    first = np.concatenate([a for a, _ in edges])
    second = np.concatenate([b for _, b in edges])
    while True:
        a, b = parent[first], parent[second]
        apart = a != b
        if not apart.any():
            return parent
        first, second, a, b = first[apart], second[apart], a[apart], b[apart]
        np.minimum.at(parent, np.maximum(a, b), np.minimum(a, b))
        while True:
            grandparent = parent[parent]
            if np.array_equal(grandparent, parent):
                break
            parent = grandparent
