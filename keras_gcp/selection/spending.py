"""What became of a budget: which coin bound, and how much is left of the others."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from keras_gcp.costs import Ledger
from keras_gcp.selection.candidates import Candidates
from keras_gcp.selection.ranking import holds

SPENT_COLUMNS = ("budget", "at most", "reached", "left", "binds")


@dataclass(frozen=True)
class Spent:
    """What became of one entry of a budget.

    Attributes:
        coin: The coin.
        limit: What was allowed to remain.
        reached: What remains.
        removed: How many blocks of channels could be next to come back, one for every group that
            lost channels.
        stopped: How many of these this coin alone would keep out.
    """

    coin: str
    limit: float
    reached: float
    removed: int
    stopped: int

    @property
    def binds(self) -> bool:
        """Whether any one of the removed blocks would break this limit."""
        return 0 < self.removed == self.stopped

    def row(self) -> list[str]:
        """In words: coin, limit, reached, left, whether it binds."""
        return [
            self.coin,
            _figure(self.limit),
            _figure(self.reached),
            f"{1 - self.reached / self.limit:.2%}" if self.limit else "",
            self._binding(),
        ]

    def _binding(self) -> str:
        if not self.removed:
            return "no: nothing was removed"
        if self.binds:
            return "yes: any removed block put back would break it"
        if self.stopped:
            return f"in part: {self.stopped} of {self.removed} removed blocks would break it"
        return "no: any removed block would fit"


def _figure(value: float) -> str:
    """Counts with thousands separators, small ones (milliseconds) with four digits."""
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"


def spent_of(
    groups: Sequence[Candidates],
    ledger: Ledger,
    limits: Mapping[str, float],
    kept: np.ndarray,
) -> tuple[Spent, ...]:
    """What became of every limit, when group g keeps `kept[g]` channels."""
    wider = list(_next_wider(groups, kept))
    return tuple(
        Spent(
            coin,
            float(limit),
            float(ledger.cost(coin, kept)),
            len(wider),
            sum(not holds(ledger, {coin: limit}, more) for more in wider),
        )
        for coin, limit in limits.items()
    )


def _next_wider(groups: Sequence[Candidates], kept: np.ndarray) -> list[np.ndarray]:
    """The kept channels with one removed block put back, for each that could be."""
    found = []
    for index, group in enumerate(groups):
        at = group.widths.index(int(kept[index]))
        if at:
            more = kept.copy()
            more[index] = group.widths[at - 1]
            found.append(more)
    return found
