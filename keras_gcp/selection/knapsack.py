"""Selection that keeps as much score as the budget buys: the knapsack problem.

Maximise the total score of the kept channels, subject to the limits. Greedily first, by score per
marginal cost (`marginal_costs`). Then single groups are forced to another width, the rest follows
greedily, and what keeps more score stays: one group at a time, then two.
"""

from __future__ import annotations

import bisect
import itertools
from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from keras_gcp.costs.cost_model import CostModel
from keras_gcp.selection.candidates import Blocks, Candidates, total_score
from keras_gcp.selection.marginal_costs import best_by_marginal_costs
from keras_gcp.selection.ranking import holds

EFFORT = 5000
"""Cost evaluations spent on forcing widths. Small problems are searched through with far fewer; in
large ones a single block hardly counts."""


def keep_most_score(
    groups: Sequence[Candidates], cost_model: CostModel, limits: Mapping[str, float]
) -> np.ndarray:
    """Kept channels per group with about the largest total score within the limits.

    Args:
        groups: The groups; at their least widths the limits hold.
        cost_model: Costs for any numbers of kept channels.
        limits: What may remain, by resource.
    """
    blocks = Blocks.of(groups)
    kept, marginal = best_by_marginal_costs(groups, blocks, cost_model, limits)
    search = _LocalSearch(groups, blocks, cost_model, limits)
    for values in (blocks.scores / marginal[blocks.groups], blocks.total_scores):
        kept = search.improved(kept, blocks.by(values))
    return search.refilled(kept, blocks.by(blocks.scores))


class _LocalSearch:
    """Forces groups to other widths, and lets the rest follow greedily."""

    def __init__(
        self,
        groups: Sequence[Candidates],
        blocks: Blocks,
        cost_model: CostModel,
        limits: Mapping[str, float],
    ) -> None:
        self._groups, self._blocks = groups, blocks
        self._cost_model, self._limits = cost_model, limits
        self._left = EFFORT

    def improved(self, kept: np.ndarray, order: np.ndarray) -> np.ndarray:
        """The outcome when no forced change keeps more score, or the effort is spent.

        Args:
            kept: Channels per group to begin with.
            order: Blocks in the order in which they make room for others.
        """
        while (better := self._better(kept, order)) is not None:
            kept = better
        return kept

    def _better(self, kept: np.ndarray, order: np.ndarray) -> np.ndarray | None:
        """The first outcome of a forced change that keeps more score."""
        score = total_score(self._groups, kept)
        least = score + 1e-12 * abs(score)
        for forced in itertools.chain(self._singles(kept), self._pairs(kept)):
            if self._left <= 0:
                return None
            trial = self._forced(kept, forced, order)
            if trial is not None and total_score(self._groups, trial) > least:
                return trial
        return None

    def _singles(self, kept: np.ndarray) -> Iterator[dict[int, int]]:
        """Every group at every other width, the nearest first."""
        for distance in range(1, max(len(group.widths) for group in self._groups)):
            for index, group in enumerate(self._groups):
                at = group.widths.index(int(kept[index]))
                for there in (at - distance, at + distance):
                    if 0 <= there < len(group.widths):
                        yield {index: group.widths[there]}

    def _pairs(self, kept: np.ndarray) -> Iterator[dict[int, int]]:
        singles = list(self._singles(kept))
        for first, second in itertools.combinations(singles, 2):
            if first.keys() != second.keys():
                yield first | second

    def _forced(
        self, kept: np.ndarray, forced: Mapping[int, int], order: np.ndarray
    ) -> np.ndarray | None:
        """What is kept if these groups have these widths; None if the limits forbid it."""
        trial = kept.copy()
        trial[list(forced)] = list(forced.values())
        fitting = trial if self._holds(trial) else self._shrunk(trial, order, forced)
        if fitting is None:
            return None
        narrowed = [index for index, width in forced.items() if width < kept[index]]
        return self.refilled(fitting, order, narrowed)

    def _shrunk(
        self, kept: np.ndarray, order: np.ndarray, spared: Mapping[int, int]
    ) -> np.ndarray | None:
        """Without the fewest blocks in this order that have to go; `spared` groups stay."""
        blocks = self._blocks
        owners = blocks.groups[order]
        present = blocks.uppers[order] <= kept[owners]
        order = order[present & ~np.isin(owners, list(spared))]
        if not self._holds(blocks.kept_without(order, kept)):
            return None
        count = bisect.bisect_left(
            range(len(order)),
            True,
            key=lambda n: self._holds(blocks.kept_without(order[:n], kept)),
        )
        return blocks.kept_without(order[:count], kept)

    def refilled(
        self, kept: np.ndarray, order: np.ndarray, narrowed: Sequence[int] = ()
    ) -> np.ndarray:
        """With as many blocks as fit, from the end of the order; not of groups just narrowed."""
        blocks = self._blocks
        order = order[::-1]
        order = order[blocks.lowers[order] >= kept[blocks.groups[order]]]
        closed = set(narrowed)
        for group, upper in zip(
            blocks.groups[order].tolist(), blocks.uppers[order].tolist(), strict=True
        ):
            if group in closed:
                continue
            trial = kept.copy()
            trial[group] = upper
            if self._holds(trial):
                kept = trial
            else:
                closed.add(group)
        return kept

    def _holds(self, kept: np.ndarray) -> bool:
        self._left -= 1
        return holds(self._cost_model, self._limits, kept)
