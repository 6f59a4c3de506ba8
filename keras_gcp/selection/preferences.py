"""What is known of channels when widths are chosen: scores, and for some criteria best sets."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, eq=False)
class SetChoice:
    """Which channels of a group stay, once it is known how many.

    Scores rank channels once and for all: the best n are part of the best n + 1. Where the worth of
    a channel depends on the others that stay, the best sets need not be nested, and are found anew
    for each number.

    Attributes:
        evidence: `(coupled_count, numbers)`, what the choice goes by.
        choose: `(evidence of some channels, count)` to the positions of those that stay.
    """

    evidence: np.ndarray
    choose: Callable[[np.ndarray, int], np.ndarray]

    def among(self, coupled: np.ndarray) -> Callable[[int], np.ndarray]:
        """The choice among some coupled channels, by their number."""
        return lambda count: self.choose(self.evidence[coupled], count)


@dataclass(frozen=True, eq=False)
class Preferences:
    """Which channels are rather kept.

    Attributes:
        scores: One score per set of coupled channels, larger = keep: how much each group keeps goes
            by them.
        sets: Which channels these are; None: those with the best scores.
    """

    scores: np.ndarray
    sets: SetChoice | None = None
