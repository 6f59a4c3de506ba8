"""Several cuts to a budget, each by new scores, as one plan for the original.

Scores are those of the network as it is. Once half of its channels are gone, and the others have
been refitted, what is left does other work than before. So the budget is reached in rounds: each
asks the criterion again, about a copy that is as narrow as the plan so far.

That copy is always made of the original. Its kernels are refitted to what the original computes,
never to what a copy of the round before does, so errors do not add up; and it is the network that
`apply` would make of the plan so far.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from keras_gcp.channels.map import ChannelMap
from keras_gcp.costs.cost_model import CostModel
from keras_gcp.costs.costs import Costs
from keras_gcp.pruning.original import Original
from keras_gcp.pruning.planner import Planner
from keras_gcp.pruning.stages import preferences, scores_are_losses, weighted
from keras_gcp.sample import DrawnSample
from keras_gcp.selection import Selection
from keras_gcp.selection.plan import Plan, summed_losses
from keras_gcp.selection.planning import keep_of
from keras_gcp.selection.preferences import Preferences, SetChoice
from keras_gcp.validation import require_integer

MOST_ROUNDS = 100
"""Each takes as long as a cut: more are a mistake."""


def checked_rounds(rounds: Any) -> int:
    """The number of rounds.

    Raises:
        InvalidArgument: it is not an integer from 1 to `MOST_ROUNDS`.
    """
    return require_integer("rounds", rounds, least=1, most=MOST_ROUNDS)


@dataclass(frozen=True, eq=False)
class Rounds:
    """Plans a way to a budget.

    Attributes:
        channels: The channel map of the original.
        scorer: The criterion; of "auto", the one that was decided for.
        sample: The sample, drawn once, or None.
        selection: How to select.
        original: What shares of widths refer to, with the resources of the limits.
        cost_model: The costs of the original in these resources.
        cut_copy: Makes the narrow copy that a plan leaves, and traces it.
    """

    channels: ChannelMap
    scorer: Any
    sample: DrawnSample | None
    selection: Selection
    original: Original
    cost_model: CostModel
    cut_copy: Callable[[Plan], ChannelMap]

    def plan(self, limits: Mapping[str, float], now: Costs, budget: str, rounds: int) -> Plan:
        """The plan whose costs stay within limits.

        What has to be measured on real files is measured in the last round only: no other one has
        to be exact.

        Args:
            limits: What may remain in the end, by resource.
            now: What the original costs.
            budget: The limits in words.
            rounds: The most rounds; those whose limits hold already are left out.

        Raises:
            ImpossibleBudget: floors and alignment, or real files, do not let the limits be met.
        """
        plan = None
        for number in range(1, rounds):
            aim = limits_on_the_way(now, limits, number / rounds)
            if plan is None or any(plan.after[name] > limit for name, limit in aim.items()):
                plan = self._next(plan, aim, budget, for_real=False, goal=limits)
        return self._next(plan, limits, budget)

    def _next(
        self,
        plan: Plan | None,
        limits: Mapping[str, float],
        budget: str,
        for_real: bool = True,
        goal: Mapping[str, float] | None = None,
    ) -> Plan:
        """What the next round leaves; what it is predicted to cost comes to the rounds before."""
        found = self._planner(plan).plan(limits, budget, for_real=for_real, goal=goal)
        if plan is None:
            return found
        return replace(found, predicted_losses=summed_losses(plan, found))

    def _planner(self, so_far: Plan | None) -> Planner:
        """With the scores of what a plan leaves."""
        left = None if so_far is None else keep_of(so_far, self.channels)
        narrow = self.channels if so_far is None else self.cut_copy(so_far)
        found = preferences(self.scorer, narrow, self.sample, self.selection)
        if left is not None:
            found = preferences_of_left(found, narrow, self.channels, left)
        scores = weighted(found.scores, self.channels, self.selection.prior, left)
        predicts = scores_are_losses(self.selection, self.scorer)
        return Planner(
            self.channels,
            replace(found, scores=scores),
            self.selection,
            self.original,
            self.cost_model,
            scores_are_losses=predicts,
            left=left,
        )


def limits_on_the_way(
    now: Mapping[str, float], limits: Mapping[str, float], part: float
) -> dict[str, float]:
    """Limits after a part of the way, if each round leaves the same share of what there is.

    Args:
        now: What the model costs, by resource.
        limits: What may remain in the end; a limit that holds already holds all along.
        part: The part, from 0 to 1.
    """
    return {
        resource: limit
        if limit >= now[resource]
        else now[resource] * (limit / now[resource]) ** part
        for resource, limit in limits.items()
    }


def preferences_of_left(
    found: Preferences, narrow: ChannelMap, channels: ChannelMap, left: np.ndarray
) -> Preferences:
    """`scores_of_left` for scores and, column by column, for what best sets are chosen by."""
    scores = scores_of_left(found.scores, narrow, channels, left)
    if found.sets is None:
        return Preferences(scores)
    columns = [scores_of_left(one, narrow, channels, left) for one in found.sets.evidence.T]
    return Preferences(scores, SetChoice(np.stack(columns, axis=1), found.sets.choose))


def scores_of_left(
    scores: np.ndarray, narrow: ChannelMap, channels: ChannelMap, left: np.ndarray
) -> np.ndarray:
    """Scores of a narrow copy as scores of the channels of the original that are left.

    In place, the original may tie channels that a copy does not, because of other living models:
    such ones have the mean of their scores.

    Args:
        scores: One score per set of coupled channels of the copy.
        narrow: The copy's channel map.
        channels: That of the original.
        left: `(coupled_count,)` of the original, True = in the copy.

    Returns:
        `(coupled_count,)` of the original; +inf for those that were not scored, or are gone.
    """
    pairs = {
        (there, here)
        for path, coupled in channels.produced.items()
        for there, here in zip(
            coupled[left[coupled]].tolist(), narrow.produced[path].tolist(), strict=True
        )
    }
    total, counts = np.zeros((2, channels.coupled_count))
    for there, here in pairs:
        total[there] += scores[here]
        counts[there] += 1
    return np.where(counts > 0, total / np.maximum(counts, 1), np.inf)
