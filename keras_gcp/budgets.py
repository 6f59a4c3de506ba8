"""Budgets: how much may remain in the end, and in which coin. Sees numbers only."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from keras_gcp.costs import COINS
from keras_gcp.errors import InvalidArgument


@dataclass(frozen=True)
class Absolute:
    """An absolute count in a budget; made by `keras_gcp.absolute`."""

    value: float


def absolute(value: float) -> Absolute:
    """An absolute count, for use in a budget instead of a share.

    Args:
        value: How much may remain; positive.

    Returns:
        A marker for budgets.

    Raises:
        InvalidArgument: `value` is not a positive number.

    Example:

    ```python
    keras_gcp.prune(model, {"macs": keras_gcp.absolute(20e6)})
    ```
    """
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < math.inf:
        raise InvalidArgument(
            f"`keras_gcp.absolute` expects a positive number. Received: {value!r}."
        )
    return Absolute(float(value))


@dataclass(frozen=True)
class Budget:
    """What may remain, by coin: a share of the original in (0, 1), or an `Absolute`.

    Attributes:
        entries: Coin to share or absolute count; all of them must hold.
    """

    entries: Mapping[str, float | Absolute]

    @staticmethod
    def parse(budget: Any) -> Budget:
        """Checks what a user wrote.

        Raises:
            InvalidArgument: no dict, an unknown coin, or a share outside (0, 1).
        """
        if isinstance(budget, Budget):
            return budget
        if not isinstance(budget, Mapping) or not budget:
            raise InvalidArgument(
                "`budget` expects a dict of what may remain, such as {'macs': 0.5}. "
                f"Received: {budget!r}."
            )
        for coin, value in budget.items():
            _check_entry(coin, value)
        return Budget(dict(budget))

    def limits(self, original: Mapping[str, int], progress: float = 1.0) -> dict[str, float]:
        """What may remain by coin, when `progress` of the way is gone.

        Args:
            original: The original model's cost by coin.
            progress: 0 = nothing removed yet, 1 = the budget itself.
        """
        limits = {}
        for coin, value in self.entries.items():
            full = original[coin]
            final = value.value if isinstance(value, Absolute) else value * full
            limits[coin] = full - progress * (full - final) if final < full else final
        return limits

    def __str__(self) -> str:
        parts = [
            f"{coin} <= {value.value:,.0f}"
            if isinstance(value, Absolute)
            else f"{coin} <= {value:.1%} of the original"
            for coin, value in self.entries.items()
        ]
        return " and ".join(parts)


def _check_entry(coin: Any, value: Any) -> None:
    if coin not in COINS:
        known = ", ".join(repr(name) for name in COINS)
        raise InvalidArgument(f"`budget` names the coin {coin!r}. Expected one of {known}.")
    if isinstance(value, Absolute):
        return
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < 1:
        raise InvalidArgument(
            f"`budget[{coin!r}]` is the share of the original that may remain and must lie "
            f"between 0 and 1, both excluded. Received: {value!r}. For a count use "
            f"`keras_gcp.absolute({value!r})`."
        )
