"""How far the widths that are allowed let the costs fall, in words; what floors hold of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from keras_gcp.costs.cost_model import CostModel
from keras_gcp.formatting import amount
from keras_gcp.selection.candidates import Candidates, narrowest, widest
from keras_gcp.selection.ranking import holds

MOST_NAMES = 3


@dataclass(frozen=True)
class Floors:
    """What floors and alignment hold of a cost that is too high.

    Attributes:
        resource: What is counted.
        least: The cost with the least widths that are allowed.
        lowest: The cost without floors and alignment.
        aligned: Whether channels leave in blocks.
        groups: The groups whose least widths hold most of the difference, the first one most.
        reaches: Whether all limits would hold without.
        bottleneck: The layer that alone decides the cost without, for resources that are a maximum.
    """

    resource: str
    least: float
    lowest: float
    aligned: bool
    groups: tuple[str, ...]
    reaches: bool
    bottleneck: str | None = None

    @staticmethod
    def of(
        groups: Sequence[Candidates],
        cost_model: CostModel,
        limits: Mapping[str, float],
        lowest: np.ndarray,
        resource: str,
    ) -> Floors:
        """Compares the least widths that are allowed with the lowest that the network lets be."""
        least = narrowest(groups)
        lowest = np.minimum(least, lowest)
        cost = cost_model.cost(resource, least)
        saved = [
            (
                cost
                - cost_model.cost(resource, np.where(np.arange(len(least)) == i, lowest, least)),
                i,
            )
            for i in np.flatnonzero(lowest < least).tolist()
        ]
        most = sorted(saved, key=lambda pair: -pair[0])[:MOST_NAMES]
        return Floors(
            resource,
            float(cost),
            float(cost_model.cost(resource, lowest)),
            any(np.diff(group.widths).min(initial=0) < -1 for group in groups),
            tuple(groups[i].name for gain, i in most if gain > 0),
            holds(cost_model, limits, lowest),
            cost_model.bottleneck(resource, lowest),
        )

    def __str__(self) -> str:
        text = "Floors and alignment hold none of that."
        if self.lowest < self.least:
            settings = " and ".join(["`floor=1`", *(["`align=1`"] if self.aligned else [])])
            names = ", ".join(map(repr, self.groups))
            most = f"; the least widths of {names} hold most of the difference" if names else ""
            text = (
                f"With {settings}, {self.resource} could go down to "
                f"{amount(self.resource, self.lowest)}{most}."
            )
        if self.bottleneck is not None and not self.reaches:
            text += f" The highest point is at layer '{self.bottleneck}' then."
        return text


def how_far(
    groups: Sequence[Candidates], cost_model: CostModel, limits: Mapping[str, float]
) -> str:
    """What was asked for, and how far one can go."""
    full, least = widest(groups), narrowest(groups)
    parts = []
    for resource, limit in limits.items():
        now, end, asked = (
            amount(resource, cost)
            for cost in (cost_model.cost(resource, full), cost_model.cost(resource, least), limit)
        )
        parts.append(f"{resource}: asked for {asked}, can go from {now} down to {end}")
    return (
        "The budget cannot be reached with the present floors, alignment and anchored layers ("
        + "; ".join(parts)
        + ")."
    )
