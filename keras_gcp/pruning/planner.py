"""Plans for one model, one limit after another."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from keras_gcp import resources
from keras_gcp.channels.map import ChannelMap
from keras_gcp.costs.cost_model import CostModel
from keras_gcp.costs.costs import Costs
from keras_gcp.costs.counting import build_cost_model
from keras_gcp.pruning.original import Original
from keras_gcp.selection import Selection
from keras_gcp.selection.plan import Plan
from keras_gcp.selection.planning import choose
from keras_gcp.selection.preferences import Preferences


class Planner:
    """Makes plans by what one scoring told.

    Each goes on with what the last one has learnt of real files, so that fewer are made.

    Args:
        channels: The model's channel map.
        preferred: Which channels are rather kept.
        selection: How to select.
        original: What shares of widths refer to, with the resources of the limits.
        cost_model: The costs of the model in these resources.
        scores_are_losses: Whether the sum of the scores of all that leaves is how much the loss is
            expected to rise.
        left: `(coupled_count,)` booleans, True = not gone by an earlier plan; all if None. The
            plans are for the model as it was before that.
    """

    def __init__(
        self,
        channels: ChannelMap,
        preferred: Preferences,
        selection: Selection,
        original: Original,
        cost_model: CostModel,
        scores_are_losses: bool = False,
        left: np.ndarray | None = None,
    ) -> None:
        self._channels, self._preferred = channels, preferred
        self._selection, self._original, self._left = selection, original, left
        self._scores_are_losses = scores_are_losses
        self._resources, self._cost_model = original.resources, cost_model
        self._before: Costs | None = None  # Corrections are for narrower models than this one.

    def plan(
        self,
        limits: Mapping[str, float],
        budget: str,
        for_real: bool = True,
        goal: Mapping[str, float] | None = None,
    ) -> Plan:
        """The plan whose costs stay within limits.

        Args:
            limits: What may remain, by resource.
            budget: The limits in words.
            for_real: Whether costs that can be measured are; otherwise predictions are trusted.
            goal: What may remain when all is over, if these limits are only on the way to it.

        Raises:
            ImpossibleBudget: floors and alignment, or real files, do not let the limits be met.
        """
        found = resources.calibrated(
            self._channels,
            limits,
            self._resources,
            lambda cost_model: self._choose(cost_model, limits, budget, goal),
            for_real,
            cost_model=self._cost_model,
        )
        if found.resources is not self._resources:
            self._resources = found.resources
            self._cost_model = build_cost_model(self._channels, self._resources)
        self._before = found.plan.before if self._before is None else self._before
        return replace(found.plan, before=self._before)

    def _choose(
        self,
        cost_model: CostModel,
        limits: Mapping[str, float],
        budget: str,
        goal: Mapping[str, float] | None,
    ) -> Plan:
        return choose(
            self._channels,
            self._preferred.scores,
            limits,
            self._selection,
            self._original.widths,
            budget=budget,
            cost_model=cost_model,
            scores_are_losses=self._scores_are_losses,
            left=self._left,
            sets=self._preferred.sets,
            goal=goal,
        )
