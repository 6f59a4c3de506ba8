"""Selection: scores, budget and allowed widths to keep-arrays. Sees numbers only.

Three ways to weigh channels of different groups against each other:

- by score, `ranking="score"`: one ranking of the whole network; whatever a channel costs, the
  least relevant ones leave (`ranking`);
- by score for what it costs, `ranking="score_per_cost"`: the kept channels have about the largest
  total score that the budget can buy (`knapsack`);
- not at all, `ranking="uniform"`: every group keeps the same share of its original width, or
  (`ranking={layer: share}`) shares that stand to each other as those given.

In each way the budget is met, and no single block of channels could be put back. `evenness` lies
between them: no group gets narrower than a share of what it would keep in the third way.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from keras_gcp.costs.cost_model import CostModel
from keras_gcp.criteria.normalization import AUTO, NORMALIZATIONS
from keras_gcp.errors import ImpossibleBudget, InvalidArgument
from keras_gcp.selection.candidates import Blocks, Candidates, at_least, narrowest, widest
from keras_gcp.selection.floors import how_far
from keras_gcp.selection.knapsack import keep_most_score
from keras_gcp.selection.prior import Prior, check_prior
from keras_gcp.selection.ranking import holds, keep_by_rank
from keras_gcp.selection.widths import (
    DEFAULT_FLOOR,
    Align,
    Cap,
    Floor,
    Shares,
    checked_align,
    checked_cap,
    checked_floor,
    checked_shares,
)
from keras_gcp.validation import between, require_one_of
from keras_gcp.validation.configured import Configured

RANKINGS = ("score", "score_per_cost", "uniform")
"""What a criterion may say (but "uniform"); a selection may say "auto", too."""

EVENNESS_OF_FRESH = 0.75
"""What `Selection(evenness="auto")` is in a `fit` from fresh weights (benchmarks/evenness.py)."""


@dataclass(frozen=True, repr=False)
class Selection(Configured):
    """How channels are selected. A dict of some of its arguments is short for it.

    Args:
        align: Widths to prefer, because odd ones run slower than the next larger multiple: `"auto"`
            (multiples of 8 for layers of 16 channels and more, free below), a number, or a dict of
            these by layer. A layer narrower than the number has the halves of it (4, 2, 1).
        floor: Least width of a layer: int = channels, float = share of its original width, or a
            dict of these by layer.
        cap: Largest width that may remain, in the same terms, or None: layers that must shrink. In
            `fit` it holds from the first event on.
        ranking: `"score"`: one ranking of the whole network; the channels with the least scores
            leave, whatever they cost. `"score_per_cost"`: the kept channels have the largest total
            score that the budget buys (to about 1 %), so that a layer whose channels are costly
            loses more of them. `"uniform"`: every layer keeps the same share of its width, as far
            as `align`, `floor` and `cap` let it; scores rank within layers only. A dict of shares
            in (0, 1] by layer: likewise, but layers keep shares that stand to each other as those
            given, such as `keras_gcp.methods.gradient_flow_shares` finds; layers not named have 1.
            `"auto"`: what the criterion itself says, by its attribute `ranking`; `"score"` if it
            has none.
        prior: What `keras_gcp.sensitivity` measured on the model, or on the wider one that it was
            cut from, or another object with its method `weighted`. Scores are multiplied by the
            drop of the metric per removed channel at each width (`Sensitivity.weighted`), so that
            groups that lose little are pruned more. None: scores count as they are.
        normalize: What makes scores of different layers comparable. `"norm"`: each layer's are
            divided by their L2 norm, as in the authors' program; so a channel of a wide layer
            counts less, and wide layers lose most. `"mean"`: by the mean of their absolute values;
            layers count alike, whatever their widths. `"rank"`: their ranks in the layer, from
            above 0 to 1; nearly equal shares of all layers leave. `"none"`: as they are, for
            criteria whose scores are in one unit all over the network. `"auto"`: what the criterion
            itself says, by its attribute `normalize`; `"mean"` for a function that has none.
        evenness: No layer gets narrower than this share, from 0 to 1, of the width that it would
            keep with `ranking="uniform"` and the same budget: 0 leaves all to the ranking, 1 cuts
            all layers alike. `"auto"`: 0, but 0.75 in a `fit` that begins with fresh weights, where
            layers that have not learned much yet look dispensable; it follows the budget of each
            event there.

    Dicts by layer name convolutions, dense layers and embeddings, or nested models with all layers
    inside; `"*"` stands for the layers not named, which have the default otherwise.

    Raises:
        InvalidArgument: an argument is malformed.

    Example:

    >>> keras_gcp.Selection(align=8, floor={"*": 0.25, "stem": 16})
    Selection(align=8, floor={'*': 0.25, 'stem': 16})
    """

    align: Align = "auto"
    floor: Floor = DEFAULT_FLOOR
    cap: Cap = None
    ranking: str | Shares = AUTO
    prior: Prior | None = field(default=None, kw_only=True)
    normalize: str = field(default=AUTO, kw_only=True)
    evenness: float | str = field(default=AUTO, kw_only=True)

    def __post_init__(self) -> None:
        object.__setattr__(self, "align", checked_align(self.align))
        object.__setattr__(self, "floor", checked_floor(self.floor))
        object.__setattr__(self, "cap", checked_cap(self.cap))
        if isinstance(self.ranking, Mapping):
            object.__setattr__(self, "ranking", checked_shares(self.ranking))
        else:
            require_one_of("ranking", self.ranking, (AUTO, *RANKINGS))
        check_prior(self.prior)
        require_one_of("normalize", self.normalize, (AUTO, *NORMALIZATIONS))
        object.__setattr__(self, "evenness", _checked_evenness(self.evenness))

    @staticmethod
    def parse(selection: Any) -> Selection:
        """The selection that a user means: one, or a dict of its arguments.

        Raises:
            InvalidArgument: it is neither, or malformed.
        """
        if isinstance(selection, Selection):
            return selection
        if not isinstance(selection, Mapping):
            raise InvalidArgument(
                "`selection` expects `keras_gcp.Selection(...)`, or a dict of its arguments such "
                f"as {{'align': 8}}. Received: {selection!r}."
            )
        return Selection.from_config(selection)


def select(
    groups: Sequence[Candidates],
    cost_model: CostModel,
    limits: Mapping[str, float],
    ranking: str = "score",
    evenness: float = 0.0,
    goal: Mapping[str, float] | None = None,
) -> np.ndarray:
    """Chooses how many channels every group keeps.

    Args:
        groups: The prunable groups.
        cost_model: Costs for any numbers of kept channels per group, never falling in any of them.
        limits: What may remain, by resource.
        ranking: One of `RANKINGS`.
        evenness: Share of its width by `"uniform"` that every group keeps at least.
        goal: What may remain when all is over, if these limits are only on the way to it. Only
            such channels leave as would leave for the goal at once: what is gone does not come
            back, so widths chosen for the way alone may not fit the goal well.

    Returns:
        Kept channels per group, `(groups,)`; they are the best of their group.

    Raises:
        ImpossibleBudget: even with the least allowed widths the limits do not hold.
    """
    require_one_of("ranking", ranking, RANKINGS)
    full, least = widest(groups), narrowest(groups)
    if not holds(cost_model, limits, least):
        raise ImpossibleBudget(how_far(groups, cost_model, limits))
    if holds(cost_model, limits, full):
        return full
    if goal is not None and goal != limits and holds(cost_model, goal, least):
        ahead = select(groups, cost_model, goal, ranking, evenness)
        bounded = [at_least(one, n) for one, n in zip(groups, ahead, strict=True)]
        groups = bounded if holds(cost_model, limits, ahead) else groups
    if evenness and ranking != "uniform":
        even = select(groups, cost_model, limits, "uniform")
        groups = [at_least(one, evenness * n) for one, n in zip(groups, even, strict=True)]
    if ranking == "score_per_cost":
        return keep_most_score(groups, cost_model, limits)
    blocks = Blocks.of(groups)
    uniform = [-_shares(blocks, groups), blocks.scores]
    keys = uniform if ranking == "uniform" else [blocks.scores]
    return keep_by_rank(blocks, blocks.by(*keys), full, cost_model, limits)


def _checked_evenness(evenness: object) -> float | str:
    """ "auto", or a share."""
    is_auto = isinstance(evenness, str) and evenness == AUTO
    found = AUTO if is_auto else between(evenness, 0.0, 1.0)
    if found is None:
        raise InvalidArgument(
            f"`evenness` expects 'auto' or a number from 0 to 1. Received: {evenness!r}."
        )
    return found


def _shares(blocks: Blocks, groups: Sequence[Candidates]) -> np.ndarray:
    """What is left of a group when a block is gone: a share of its width times its density."""
    whole = np.array([one.original * one.density for one in groups])
    shares: np.ndarray = blocks.lowers / whole[blocks.groups]
    return shares
