"""What selection chooses from: groups of channels, and the blocks in which they leave."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from keras_gcp.errors import InvalidArgument


@dataclass(frozen=True, eq=False)
class Candidates:
    """The channels of one prunable group.

    Attributes:
        name: The group's name.
        scores: `(channels,)`, larger = keep.
        widths: Numbers of channels that it may keep, falling. The first is the present one, or
            the largest that a cap allows.
        original: Channels the group had in the original model.
        earlier: Wider widths that it may have and had, before cuts that a plan counts as its own;
            falling.
        base: Channels it had before these cuts; None if there were none.
        sets: Number of channels to the positions of the best set of so many; None: those with the
            best scores.
        density: What share of its width it keeps, compared with other groups, where shares rank.
    """

    name: str
    scores: np.ndarray
    widths: tuple[int, ...]
    original: int
    earlier: tuple[int, ...] = ()
    base: int | None = None
    sets: Callable[[int], np.ndarray] | None = None
    density: float = 1.0

    @cached_property
    def values(self) -> np.ndarray:
        """Total score of the best n channels for every n from 0 on, `(channels + 1,)`."""
        return np.concatenate([[0.0], np.cumsum(np.sort(self.scores)[::-1])])

    def wider_than(self, kept: int) -> int | None:
        """The next wider width that it may have; None if there is none."""
        return min((w for w in (*self.earlier, *self.widths) if w > kept), default=None)

    def has_lost(self, kept: int) -> bool:
        """Whether it has lost channels, here or by an earlier cut."""
        return kept < max(len(self.scores), self.base or 0)

    def best(self, count: int) -> np.ndarray:
        """Its best set of `count` channels as booleans; of equal ones the earlier stays.

        Raises:
            InvalidArgument: a set-valued criterion chose other than so many different channels.
        """
        keep = np.zeros(len(self.scores), bool)
        if self.sets is None or count in (0, len(keep)):
            keep[np.argsort(-self.scores, kind="stable")[:count]] = True
            return keep
        chosen = np.asarray(self.sets(count))
        keep[chosen] = True
        if chosen.shape != (count,) or int(keep.sum()) != count:
            raise InvalidArgument(
                f"`best_set` of the criterion was asked for {count} of the {len(keep)} channels of "
                f"group '{self.name}'. Expected so many different positions. Received: "
                f"{chosen.tolist()}."
            )
        return keep


@dataclass(frozen=True, eq=False)
class Blocks:
    """Channels that leave together, of all groups.

    The blocks of a group stand one after the other in the order in which they can leave: each
    takes it from one of its widths to the next smaller one.

    Attributes:
        groups: `(blocks,)`, the group of each.
        uppers: `(blocks,)`, channels that the group keeps with the block.
        lowers: `(blocks,)`, channels that it keeps without it.
        scores: `(blocks,)`, mean score of the channels; never falling inside a group.
    """

    groups: np.ndarray
    uppers: np.ndarray
    lowers: np.ndarray
    scores: np.ndarray

    @staticmethod
    def of(groups: Sequence[Candidates]) -> Blocks:
        """All blocks of these groups."""
        parts = [_blocks_of(index, group) for index, group in enumerate(groups)]
        none = np.zeros((4, 0))
        owners, uppers, lowers, scores = np.concatenate([none, *parts], axis=1)
        return Blocks(
            owners.astype(np.int64), uppers.astype(np.int64), lowers.astype(np.int64), scores
        )

    @property
    def sizes(self) -> np.ndarray:
        """Channels of each block."""
        channels: np.ndarray = self.uppers - self.lowers
        return channels

    @property
    def total_scores(self) -> np.ndarray:
        """Score of each block as a whole; made never falling inside a group."""
        totals = self.scores * self.sizes
        starts = np.flatnonzero(np.diff(self.groups, prepend=-1))
        parts = np.split(totals, starts[1:])
        return np.concatenate([np.maximum.accumulate(part) for part in parts])

    def by(self, *keys: np.ndarray) -> np.ndarray:
        """Their order by keys, the first one counting most; ties as they stand."""
        order: np.ndarray = np.lexsort(keys[::-1])
        return order

    def kept_without(self, gone: np.ndarray, widest: np.ndarray) -> np.ndarray:
        """Kept channels per group once these blocks are gone."""
        lost = np.bincount(self.groups[gone], self.sizes[gone], minlength=len(widest))
        return widest - lost.astype(np.int64)


def _blocks_of(index: int, group: Candidates) -> np.ndarray:
    widths = np.array(group.widths)
    uppers, lowers = widths[:-1], widths[1:]
    bounds = len(group.scores) - widths  # where the best `width` channels begin
    scores = np.add.reduceat(np.sort(group.scores), bounds)[:-1] / (uppers - lowers)
    # Rounding may order equal channels; in a group the widest block always leaves first.
    scores = np.maximum.accumulate(scores)
    return np.stack([np.full(len(scores), index), uppers, lowers, scores])


def widest(groups: Sequence[Candidates]) -> np.ndarray:
    """The largest width of each group that is allowed."""
    return np.array([group.widths[0] for group in groups], np.int64)


def narrowest(groups: Sequence[Candidates]) -> np.ndarray:
    """The least width of each group that is allowed."""
    return np.array([group.widths[-1] for group in groups], np.int64)


def at_least(group: Candidates, width: float) -> Candidates:
    """The group with only those of its widths that are not below one of them, or a part of it."""
    return replace(group, widths=tuple(one for one in group.widths if one >= width))


def total_score(groups: Sequence[Candidates], kept: np.ndarray) -> float:
    """The sum of the scores of the best `kept[g]` channels of every group g."""
    return float(sum(group.values[n] for group, n in zip(groups, kept, strict=True)))
