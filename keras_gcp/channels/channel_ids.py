"""Channel ids: one integer per position of a channel axis, and a union-find over them.

The ids of a tensor are a *block*: an integer array with one dimension per axis of the tensor
without its batch axis, of size 1 along every axis on which the ids do not depend. A feature map
`(batch, 32, 32, 64)` with 64 free channels has a block of shape `(1, 1, 64)`. Ids that are tied
are merged: channels that live or die together are *coupled*, and get one number.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

ChannelIds = np.ndarray
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
    """The sets of coupled channels into which the ties have merged all channel ids.

    Attributes:
        coupled_of: `(ids,)`, the number of the set that each id belongs to. Sets are numbered by
            their first id.
        reasons: Set to the reason why its channels may not be pruned.
        causes: Every cause with the sets that it forbids to prune, other causes or not.
    """

    coupled_of: np.ndarray
    reasons: dict[int, str]
    causes: dict[Cause, np.ndarray]


class ChannelIdSpace:
    """Hands out channel ids and records which of them live or die together."""

    def __init__(self) -> None:
        self._size = 0
        self._edges: list[tuple[np.ndarray, np.ndarray]] = []
        self._anchors: list[tuple[np.ndarray, str]] = []
        self._causes: dict[Cause, list[np.ndarray]] = {}

    def fresh(self, count: int) -> ChannelIds:
        """New channel ids, tied to nothing."""
        self._size += count
        return np.arange(self._size - count, self._size)

    def tie(self, first: ChannelIds, second: ChannelIds) -> None:
        """Couples the channels of two arrays position by position; the arrays are broadcast."""
        a, b = np.broadcast_arrays(first, second)
        self._edges.append((a.ravel(), b.ravel()))

    def anchor(
        self, ids: ChannelIds, reason: str, foremost: bool = False, cause: Cause | None = None
    ) -> None:
        """Forbids to prune these channels, and all that are tied to them.

        Args:
            ids: Their ids.
            reason: Why; of several reasons the earliest is reported.
            foremost: Whether this reason is to be reported before those given earlier.
            cause: Where the reason comes from; None: the reason alone, from no layer.
        """
        self._causes.setdefault(cause or Cause(None, reason), []).append(np.unique(ids))
        self._anchors.insert(0 if foremost else len(self._anchors), (np.unique(ids), reason))

    def resolve(self) -> Resolution:
        """Merges tied channel ids; the earliest reason given for a set is kept."""
        parent = _connected_components(self._size, self._edges)
        _, coupled_of = np.unique(parent, return_inverse=True)
        reasons: dict[int, str] = {}
        for ids, reason in self._anchors:
            for index in np.unique(coupled_of[ids]):
                reasons.setdefault(int(index), reason)
        causes = {
            cause: np.unique(coupled_of[np.concatenate(parts)])
            for cause, parts in self._causes.items()
        }
        return Resolution(coupled_of, reasons, causes)


def _connected_components(size: int, edges: list[tuple[np.ndarray, np.ndarray]]) -> np.ndarray:
    """The smallest id of every id's component, by repeated hooking and pointer jumping."""
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
