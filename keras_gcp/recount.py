"""Counts the narrow graph itself: a budget is met there, not only on paper."""

from __future__ import annotations

from typing import Any

from keras_gcp import coins
from keras_gcp.channels.map import ChannelMap
from keras_gcp.costs.counting import count_map
from keras_gcp.errors import VerificationFailed
from keras_gcp.selection.plan_data import Totals


def require_costs(expected: Totals, model: Any, channels: ChannelMap) -> None:
    """Refuses a narrow model that costs something else than was expected.

    Args:
        expected: What the wide model's channel map promised.
        model: The narrow model.
        channels: Its own channel map.

    Raises:
        VerificationFailed: multiply-adds or parameters differ, or more memory is needed.
    """
    counted = count_map(model, channels, coins.counted(expected.further))
    for name, found, planned in (
        ("MACs", counted.macs, expected.macs),
        ("parameters", counted.parameters, expected.parameters),
    ):
        if found != planned:
            raise VerificationFailed(
                f"The narrow model has {_number(found)} {name}; the plan said {_number(planned)}. "
                "The cut is taken back. Please report the network."
            )
    for coin, cost in counted.further.items():
        # A tensor whose channels lie unevenly is planned at its full width; so less is possible.
        if cost > expected.further[coin]:
            raise VerificationFailed(
                f"The narrow model has {cost:,.0f} {coin}; the plan said "
                f"{expected.further[coin]:,.0f}. The cut is taken back. Please report the network."
            )


def _number(count: int | None) -> str:
    return "an unknown number of" if count is None else f"{count:,}"
