"""Selection: scores, budget and allowed widths to keep-arrays. Sees numbers only.

Three ways to weigh channels of different groups against each other:

- by score, `normalize="none"`: one ranking of the whole network; whatever a channel costs, the
  least relevant ones leave (`ranking`);
- by score for what it costs, `normalize="cost"`: the kept channels have about the largest total
  score that the budget can buy (`knapsack`);
- not at all, `scope="group"`: every group keeps the same share of its original width.

In each way the budget is met, and no single block of channels could be put back.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from keras_gcp.costs.cost_model import CostModel
from keras_gcp.errors import ImpossibleBudget, InvalidArgument
from keras_gcp.selection.candidates import Blocks, Candidates, narrowest, widest
from keras_gcp.selection.floors import how_far
from keras_gcp.selection.knapsack import keep_most_score
from keras_gcp.selection.ranking import holds, keep_by_rank
from keras_gcp.selection.widths import (
    DEFAULT_FLOOR,
    Align,
    Cap,
    Floor,
    checked_align,
    checked_cap,
    checked_floor,
)
from keras_gcp.validation import require_one_of

NORMALIZE = ("none", "cost")
SCOPES = ("global", "group")


@dataclass(frozen=True)
class Preferences:
    """How channels are selected; see `keras_gcp.plan` for each.

    Raises:
        InvalidArgument: one of them is malformed.
    """

    align: Align = "auto"
    floor: Floor = DEFAULT_FLOOR
    cap: Cap = None
    normalize: str = "none"
    scope: str = "global"

    def __post_init__(self) -> None:
        object.__setattr__(self, "align", checked_align(self.align))
        object.__setattr__(self, "floor", checked_floor(self.floor))
        object.__setattr__(self, "cap", checked_cap(self.cap))
        require_one_of("normalize", self.normalize, NORMALIZE)
        require_one_of("scope", self.scope, SCOPES)
        if self.scope == "group" and self.normalize == "cost":
            raise InvalidArgument(
                "`normalize='cost'` weighs channels of different layers against each other, but "
                "with `scope='group'` every layer keeps the same share. Expected one of the two: "
                "leave `scope` or `normalize` out."
            )


def select(
    groups: Sequence[Candidates],
    cost_model: CostModel,
    limits: Mapping[str, float],
    normalize: str = "none",
    scope: str = "global",
) -> np.ndarray:
    """Chooses how many channels every group keeps.

    Args:
        groups: The prunable groups.
        cost_model: Costs for any numbers of kept channels per group, never falling in any of them.
        limits: What may remain, by resource.
        normalize: One of `NORMALIZE`.
        scope: One of `SCOPES`.

    Returns:
        Kept channels per group, `(groups,)`; they are the best of their group.

    Raises:
        ImpossibleBudget: even with the least allowed widths the limits do not hold.
    """
    full, least = widest(groups), narrowest(groups)
    if not holds(cost_model, limits, least):
        raise ImpossibleBudget(how_far(groups, cost_model, limits))
    if holds(cost_model, limits, full):
        return full
    if normalize == "cost":
        return keep_most_score(groups, cost_model, limits)
    blocks = Blocks.of(groups)
    keys = [blocks.scores] if scope == "global" else [-_shares(blocks, groups), blocks.scores]
    return keep_by_rank(blocks, blocks.by(*keys), full, cost_model, limits)


def _shares(blocks: Blocks, groups: Sequence[Candidates]) -> np.ndarray:
    """What is left of a group, as a share of its original width, when a block is gone."""
    return blocks.lowers / np.array([group.original for group in groups])[blocks.groups]
