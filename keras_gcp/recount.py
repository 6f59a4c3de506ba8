"""Counts the narrow graph itself: a budget is met there, not only on paper."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from keras_gcp import coins
from keras_gcp.channels.map import ChannelMap
from keras_gcp.channels.trace import trace, trace_as_planned
from keras_gcp.costs import Count
from keras_gcp.counting import count_map
from keras_gcp.errors import VerificationFailed
from keras_gcp.plans import Plan


def require_planned_costs(plan: Plan, model: Any, exclude: Sequence[str] | None = None) -> None:
    """Refuses a narrow model that costs something else than its plan said.

    Args:
        plan: The plan that it was cut by.
        model: The narrow model.
        exclude: As the plan was made with; None leaves whole what hides layers.

    Raises:
        VerificationFailed: multiply-adds or parameters differ, or more memory is needed.
    """
    channels = trace_as_planned(model) if exclude is None else trace(model, exclude)
    counted = count_map(model, channels, coins.counted(plan.after.further))
    if (counted.macs, counted.parameters) != (plan.after.macs, plan.after.parameters):
        raise VerificationFailed(
            f"The narrow model has {counted.macs:,} MACs and {counted.parameters:,} parameters; "
            f"the plan said {plan.after.macs:,} and {plan.after.parameters:,}. The cut is taken "
            "back. Please report the network."
        )
    _require_no_more(plan, counted)


def _require_no_more(plan: Plan, counted: Count) -> None:
    """A tensor whose channels lie unevenly is planned at its full width; so less is possible."""
    for coin, cost in counted.further.items():
        if cost > plan.after.further[coin]:
            raise VerificationFailed(
                f"The narrow model has {cost:,.0f} {coin}; the plan said "
                f"{plan.after.further[coin]:,.0f}. The cut is taken back. Please report the "
                "network."
            )


def was_planned_for(plan: Plan, model: Any, channels: ChannelMap) -> bool:
    """Whether a model costs what the plan was made for; one on larger images, say, does not."""
    if any(site.positions is None for site in channels.macs):
        return False
    counted = count_map(model, channels)
    return (counted.macs, counted.parameters) == (plan.before.macs, plan.before.parameters)
