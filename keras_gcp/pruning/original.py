"""The model that shares refer to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from keras_gcp import resources
from keras_gcp.channels.map import ChannelMap
from keras_gcp.channels.trace import trace_at
from keras_gcp.costs.budget import Budget
from keras_gcp.costs.costs import Costs
from keras_gcp.costs.counting import Resource, count_map
from keras_gcp.graph import Shapes


@dataclass(frozen=True)
class Original:
    """What the model costs that shares refer to, and how wide its layers are.

    Attributes:
        costs: What it costs.
        widths: Producing layer to its width.
        resources: Further resources of the budget, fitted to it.
    """

    costs: Costs
    widths: Mapping[str, int]
    resources: tuple[Resource, ...] = ()

    @staticmethod
    def of(
        model: Any,
        exclude: Sequence[str] = (),
        budget: Budget | None = None,
        shapes: Shapes | None = None,
    ) -> Original:
        """Counts the budget's reference, or else the model; for some resources it is measured."""
        reference = model if budget is None or budget.reference is None else budget.reference
        return Original.of_traced(trace_at(shapes, reference, exclude), budget)

    @staticmethod
    def of_traced(channels: ChannelMap, budget: Budget | None) -> Original:
        """Counts a model that is traced already."""
        further = resources.of_budget(budget, channels)
        return Original(count_map(channels, further), channels.widths(), further)
