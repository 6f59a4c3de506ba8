"""What became of a budget: which resource is binding, and how much is left of the others."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from keras_gcp.costs.cost_model import PREDICTED, CostModel
from keras_gcp.selection.candidates import Candidates
from keras_gcp.selection.ranking import holds

SLACK_COLUMNS = ("budget", "at most", "reached", "left", "is binding")


@dataclass(frozen=True)
class Slack:
    """What became of one entry of a budget.

    Attributes:
        resource: The resource.
        limit: What was allowed to remain.
        reached: What remains.
        removed: How many blocks of channels could be next to come back, one for every group that
            lost channels.
        stopped: How many of these this resource alone would keep out.
        capped: How many groups lost channels of which none may come back, because of `cap`.
        predicted: Whether what it would cost with a block more is a prediction.
        whole: Whether this is about all cuts of the plan, and not about the last one alone. Plans
            of older versions do not say.
    """

    resource: str
    limit: float
    reached: float
    removed: int
    stopped: int
    capped: int = 0
    predicted: bool = False
    whole: bool = False

    @property
    def is_binding(self) -> bool:
        """Whether any one of the removed blocks would break this limit."""
        return 0 < self.removed == self.stopped

    def row(self) -> list[str]:
        """In words: resource, limit, reached, left, whether it is binding."""
        return [
            self.resource,
            _figure(self.limit),
            _figure(self.reached),
            f"{1 - self.reached / self.limit:.2%}" if self.limit else "",
            ("" if self.whole else "last cut alone: ") + self._binding(),
        ]

    def _binding(self) -> str:
        if not self.removed:
            return f"no: {'`cap` forbids more' if self.capped else 'nothing was removed'}"
        block = "removed block" + (" that `cap` allows" if self.capped else "")
        by = ", as predicted" if self.predicted else ""
        if self.is_binding:
            return f"yes: no {block} fits{by}"
        if self.stopped:
            return f"in part: {self.stopped} of {self.removed} {block}s do not fit{by}"
        return f"no: any {block} would fit{by}"


def _figure(value: float) -> str:
    """Counts with thousands separators, small ones (milliseconds) with four digits."""
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"


def slack_of(
    groups: Sequence[Candidates],
    cost_model: CostModel,
    limits: Mapping[str, float],
    kept: np.ndarray,
) -> tuple[Slack, ...]:
    """What became of every limit, when group g keeps `kept[g]` channels.

    Also with blocks that earlier cuts removed: sizes are linear in the kept channels, so costs of
    wider groups than there are now are exact, too. Functions of further resources may count an axis
    as it is now, so beyond it they predict.
    """
    wider = list(_next_wider(groups, kept))
    lost = sum(g.has_lost(int(n)) for g, n in zip(groups, kept, strict=True))
    beyond = any((more > [len(group.scores) for group in groups]).any() for more in wider)
    return tuple(
        Slack(
            resource,
            float(limit),
            float(cost_model.cost(resource, kept)),
            len(wider),
            sum(not holds(cost_model, {resource: limit}, more) for more in wider),
            capped=lost - len(wider),
            predicted=resource in PREDICTED or (beyond and resource in cost_model.functions),
            whole=True,
        )
        for resource, limit in limits.items()
    )


def _next_wider(groups: Sequence[Candidates], kept: np.ndarray) -> Iterator[np.ndarray]:
    """The kept channels with one removed block put back, for each that could be."""
    for index, group in enumerate(groups):
        width = group.wider_than(int(kept[index]))
        if width is not None:
            more = kept.copy()
            more[index] = width
            yield more
