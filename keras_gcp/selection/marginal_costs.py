"""Marginal costs of channels: what one more costs, at the widths that a ranking by them leads to.

A block of channels is worth its score, and costs what it adds to each resource. To rank blocks by
score per unit of cost is the classical greedy answer to a knapsack problem (Dantzig, "Discrete-
variable extremum problems", 1957). Here the cost of a channel depends on the widths around it:
multiply-adds are products of neighbouring widths. At an optimum the marginal costs are
those at the widths that the ranking by them leads to (the first-order condition of the
Lagrangian: score = multiplier times marginal cost). So marginal costs and widths are computed in
turns, each time with the geometric mean of old and new costs, and the best outcome is taken.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from keras_gcp.costs.cost_model import CostModel
from keras_gcp.selection.candidates import Blocks, Candidates, total_score, widest
from keras_gcp.selection.ranking import keep_by_rank

ROUNDS = 5
LEAST_COST = 0.1
"""As a share of the mean. A group may be free for the moment, such as one away from the place
where memory peaks, and count as soon as others have left."""


def best_by_marginal_costs(
    groups: Sequence[Candidates], blocks: Blocks, cost_model: CostModel, limits: Mapping[str, float]
) -> tuple[np.ndarray, np.ndarray]:
    """The greedy outcome with the largest total score, and the marginal costs that led to it.

    One of the outcomes is that of equal costs, so the ranking by score alone is never better.

    Args:
        groups: The groups; at their least widths the limits hold.
        blocks: Their blocks.
        cost_model: Costs for any numbers of kept channels.
        limits: What may remain, by resource.

    Returns:
        Kept channels per group, and marginal costs per channel of each group, both `(groups,)`.
    """
    full = widest(groups)

    def outcome(marginal: np.ndarray) -> tuple[float, np.ndarray, np.ndarray]:
        order = blocks.by(blocks.scores / marginal[blocks.groups])
        kept = keep_by_rank(blocks, order, full, cost_model, limits)
        return total_score(groups, kept), kept, marginal

    outcomes = [outcome(np.ones(len(groups)))]
    for resources in _sets_of_resources(limits):
        marginal = marginal_costs_at(full, groups, cost_model, limits, resources)
        for _ in range(ROUNDS):
            outcomes.append(outcome(marginal))
            kept = outcomes[-1][1]
            there = marginal_costs_at(kept, groups, cost_model, limits, resources)
            marginal = np.sqrt(marginal * there)
    _, kept, marginal = max(outcomes, key=lambda found: found[0])
    return kept, marginal


def _sets_of_resources(limits: Mapping[str, float]) -> list[list[str]]:
    """Which resources to pay in: each alone, as if only that one were scarce, and all together."""
    alone = [[resource] for resource in limits]
    return alone if len(alone) == 1 else [*alone, list(limits)]


def marginal_costs_at(
    kept: np.ndarray,
    groups: Sequence[Candidates],
    cost_model: CostModel,
    limits: Mapping[str, float],
    resources: Sequence[str],
) -> np.ndarray:
    """Cost of one more channel of each group around given widths, as a share of the limits.

    Args:
        kept: The widths, channels per group.
        groups: The groups.
        cost_model: Costs for any numbers of kept channels.
        limits: What may remain, by resource.
        resources: Those that are paid in.
    """
    marginal = np.zeros(len(groups))
    for index, group in enumerate(groups):
        upper, lower = _around(group.widths, int(kept[index]))
        if upper > lower:
            more, less = kept.copy(), kept.copy()
            more[index], less[index] = upper, lower
            added = (
                (cost_model.cost(resource, more) - cost_model.cost(resource, less))
                / (limits[resource] or 1.0)
                for resource in resources
            )
            marginal[index] = sum(added) / (upper - lower)
    if not marginal.any():
        return np.ones(len(groups))  # Nothing costs anything here.
    found: np.ndarray = np.maximum(marginal, LEAST_COST * marginal.mean())
    return found


def _around(widths: Sequence[int], width: int) -> tuple[int, int]:
    """A wider and a narrower one, some way apart, because costs may rise in stairs."""
    at, reach = widths.index(width), max(1, len(widths) // 8)
    return widths[max(0, at - reach)], widths[min(len(widths) - 1, at + reach)]
