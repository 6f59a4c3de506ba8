"""A plan whose costs hold in reality: select, cut a copy, measure, correct, select again.

Bytes of a file and milliseconds are predicted while selecting. The candidate is then made for real
and measured; if the prediction was off, it is corrected by the difference (bytes) or the ratio
(milliseconds), and the selection repeated with what was learnt.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol, runtime_checkable

import numpy as np

from keras_gcp.channels.map import ChannelMap
from keras_gcp.channels.trace import trace_as_planned
from keras_gcp.coins.files import as_if_trained
from keras_gcp.costs.cost_model import CostFunction, Ledger
from keras_gcp.costs.counting import Axes, Coin, build_ledger
from keras_gcp.errors import ImpossibleBudget
from keras_gcp.formatting import amount
from keras_gcp.keras_state import Transaction
from keras_gcp.selection.plan import Plan
from keras_gcp.selection.plan_data import Check, Totals
from keras_gcp.selection.planning import keep_of
from keras_gcp.surgery.narrow import narrow_model
from keras_gcp.surgery.rebuild import copy_model

MOST_ROUNDS = 6
"""Candidates that are made and measured, at most."""

MARGIN = 0.01
"""After a candidate that misses a limit, the next one aims this much below it."""


@runtime_checkable
class Measured(Protocol):
    """A coin whose prediction is checked on a real file."""

    @property
    def name(self) -> str:
        """Its name in a budget."""
        ...

    @property
    def scatters(self) -> bool:
        """Whether two measurements of the same model differ."""
        ...

    def function(self, model: Any, channels: ChannelMap, axes: Axes) -> CostFunction:
        """The cost as a function of the sizes of the axes."""
        ...

    def measure(self, model: Any) -> float:
        """The cost of a real model."""
        ...

    def is_close(self, measured: float, limit: float) -> bool:
        """Whether looking for a candidate nearer to the limit is not worth another measurement."""
        ...

    def corrected(self, predicted: float, measured: float) -> Measured:
        """The coin that would have predicted what was measured."""
        ...


@dataclass(frozen=True)
class Settled:
    """A plan, and what was learnt on the way to it.

    Attributes:
        plan: The plan, its costs measured where the coin is.
        coins: The coins, corrected.
        rounds: What was predicted and measured of every candidate, in order.
    """

    plan: Plan
    coins: tuple[Coin, ...]
    rounds: tuple[tuple[Check, ...], ...] = ()


@dataclass(frozen=True, eq=False)
class _Candidate:
    plan: Plan
    checks: tuple[Check, ...]

    @property
    def fits(self) -> bool:
        return all(check.measured <= check.limit for check in self.checks)

    @property
    def fill(self) -> float:
        """How much of the limits is used."""
        return max(check.measured / check.limit for check in self.checks)

    def settled(self, before: Totals) -> Plan:
        """The plan with its measured costs; those before the cut as they were at first."""
        measured = {check.coin: check.measured for check in self.checks}
        after = replace(self.plan.after, further={**self.plan.after.further, **measured})
        return replace(self.plan, before=before, after=after, checks=self.checks)


def settled(
    model: Any,
    channels: ChannelMap,
    limits: Mapping[str, float],
    coins: Sequence[Coin],
    choose: Callable[[Ledger], Plan],
    for_real: bool = True,
) -> Settled:
    """Chooses channels so that the limits hold on real files.

    Args:
        model: The model; stays as it is.
        channels: Its channel map.
        limits: What may remain, by coin.
        coins: Coins besides multiply-adds, parameters and channels.
        choose: Makes a plan with the costs of a ledger.
        for_real: Whether candidates are made and measured; otherwise predictions are trusted.

    Raises:
        ImpossibleBudget: no candidate met the limits.
    """
    coins = tuple(coins)
    plan = choose(build_ledger(model, channels, coins))
    measured = [coin for coin in coins if isinstance(coin, Measured) and coin.name in limits]
    if not for_real or not measured or not plan.removed_channels:
        return Settled(plan, coins)
    before, tried = plan.before, list[_Candidate]()
    while True:
        candidate = _measured(plan, model, channels, limits, coins)
        tried.append(candidate)
        coins = _corrected(coins, candidate, misses=sum(not one.fits for one in tried))
        if candidate.fits and _is_close(candidate, coins):
            break
        again = _chosen_again(choose, build_ledger(model, channels, coins), tried)
        if again is None or len(tried) == MOST_ROUNDS:
            break
        plan = again
    best = max((one for one in tried if one.fits), key=lambda one: one.fill, default=None)
    if best is None:
        raise ImpossibleBudget(_in_words(tried))
    return Settled(best.settled(before), coins, tuple(one.checks for one in tried))


def _chosen_again(
    choose: Callable[[Ledger], Plan], ledger: Ledger, tried: Sequence[_Candidate]
) -> Plan | None:
    """The plan under corrected costs; None if it was tried already, or nothing meets the limits."""
    try:
        plan = choose(ledger)
    except ImpossibleBudget:
        if any(one.fits for one in tried):
            return None
        raise
    return None if any(_same(plan, one.plan) for one in tried) else plan


def _same(plan: Plan, other: Plan) -> bool:
    return all(np.array_equal(keep, other.layers[path]) for path, keep in plan.layers.items())


def _measured(
    plan: Plan,
    model: Any,
    channels: ChannelMap,
    limits: Mapping[str, float],
    coins: Sequence[Coin],
) -> _Candidate:
    """Makes a narrow copy, and measures it in every coin that can be."""
    copy = as_if_trained(_narrow_copy(model, plan))
    checks = [
        Check(coin.name, plan.after.further[coin.name], coin.measure(copy), limits[coin.name])
        for coin in coins
        if isinstance(coin, Measured) and coin.name in limits
    ]
    return _Candidate(plan, tuple(checks))


def _narrow_copy(model: Any, plan: Plan) -> Any:
    copy = copy_model(model)
    own = trace_as_planned(copy)
    with Transaction() as transaction:
        narrow_model(copy, own, keep_of(plan, own), transaction)
    return copy


def _corrected(coins: Sequence[Coin], candidate: _Candidate, misses: int) -> tuple[Coin, ...]:
    checks = {check.coin: check for check in candidate.checks}
    return tuple(
        _one_corrected(coin, checks[coin.name], misses)
        if isinstance(coin, Measured) and coin.name in checks
        else coin
        for coin in coins
    )


def _one_corrected(coin: Measured, check: Check, misses: int) -> Coin:
    """Measurements that scatter would miss the limit every other time without a margin."""
    margin = MARGIN * misses if coin.scatters else 0.0
    return coin.corrected(check.predicted, check.measured * (1 + margin))


def _is_close(candidate: _Candidate, coins: Sequence[Coin]) -> bool:
    limits = {check.coin: (check.measured, check.limit) for check in candidate.checks}
    return any(
        coin.is_close(*limits[coin.name])
        for coin in coins
        if isinstance(coin, Measured) and coin.name in limits
    )


def _in_words(tried: Sequence[_Candidate]) -> str:
    rounds = "; ".join(
        ", ".join(
            f"{check.coin} {amount(check.coin, check.measured)} (predicted "
            f"{amount(check.coin, check.predicted)}, at most {amount(check.coin, check.limit)})"
            for check in one.checks
        )
        for one in tried
    )
    return (
        f"None of {len(tried)} candidates met the budget on a real file: {rounds}. On a machine "
        "with other work, latencies scatter: repeat it alone; or allow more to remain."
    )
