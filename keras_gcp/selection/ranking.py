"""Selection by a ranking: blocks of channels leave in its order until the budget holds.

Then blocks that have left come back, the last first, as long as the budget still holds. So the
budget is met, and no single block could be put back. It is the same as to begin with nothing and
to take block after block, from the end of the ranking, whenever it fits: the outcome is the best
one in lexicographic order. No block is left out for the sake of blocks that rank lower.
"""

from __future__ import annotations

import bisect
from collections.abc import Mapping

import numpy as np

from keras_gcp.costs.cost_model import CostModel, IncrementalCost
from keras_gcp.selection.candidates import Blocks


def holds(cost_model: CostModel, limits: Mapping[str, float], kept: np.ndarray) -> bool:
    """Whether all limits hold for these numbers of kept channels per group."""
    return all(cost_model.cost(resource, kept) <= limit for resource, limit in limits.items())


def keep_by_rank(
    blocks: Blocks,
    order: np.ndarray,
    widest: np.ndarray,
    cost_model: CostModel,
    limits: Mapping[str, float],
) -> np.ndarray:
    """Kept channels per group.

    Args:
        blocks: All blocks; without all of them the limits hold.
        order: The order in which they leave; those of a group as they stand in `blocks`.
        widest: Channels per group with all blocks.
        cost_model: Costs for any numbers of kept channels.
        limits: What may remain, by resource.
    """
    gone = bisect.bisect_left(
        range(len(order)),
        True,
        key=lambda n: holds(cost_model, limits, blocks.kept_without(order[:n], widest)),
    )
    kept = blocks.kept_without(order[:gone], widest)
    return put_back(blocks, order[:gone][::-1], kept, cost_model, limits)


def put_back(
    blocks: Blocks,
    order: np.ndarray,
    kept: np.ndarray,
    cost_model: CostModel,
    limits: Mapping[str, float],
) -> np.ndarray:
    """Puts blocks back while the limits hold.

    A block that does not fit now never will: costs only grow as others come back.

    Args:
        blocks: All blocks.
        order: Those that are gone, in the order in which they are tried.
        kept: Channels per group without them.
        cost_model: Costs for any numbers of kept channels.
        limits: What may remain, by resource.
    """
    kept = kept.copy()
    incremental = IncrementalCost(cost_model, kept, limits)
    closed: set[int] = set()
    for group, size in zip(
        blocks.groups[order].tolist(), blocks.sizes[order].tolist(), strict=True
    ):
        if group in closed:
            continue
        if incremental.grow(group, size):
            kept[group] += size
        else:
            closed.add(group)
    return kept
