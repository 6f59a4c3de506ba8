"""A plan whose costs hold in reality: select, cut a copy, measure, correct, select again.

Bytes of a file and milliseconds are predicted while selecting. The candidate is then made for real
and measured; if the prediction was off, it is corrected by the difference (bytes) or the ratio
(milliseconds), and the selection repeated with what was learnt.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol, runtime_checkable

from keras_gcp.channels.map import ChannelMap
from keras_gcp.channels.trace import trace_as_planned
from keras_gcp.costs.cost_model import CostFunction, CostModel
from keras_gcp.costs.costs import Costs
from keras_gcp.costs.counting import Axes, Resource, build_cost_model
from keras_gcp.errors import ImpossibleBudget
from keras_gcp.formatting import amount
from keras_gcp.keras_state import Transaction
from keras_gcp.resources.tflite_files import as_if_trained
from keras_gcp.selection.plan import Plan
from keras_gcp.selection.plan_data import Check
from keras_gcp.selection.planning import keep_of
from keras_gcp.surgery.model_copy import copy_model
from keras_gcp.surgery.narrow import narrow_model

MOST_ROUNDS = 6
"""Candidates that are made and measured, at most."""

MARGIN = 0.01
"""After a candidate that misses a limit, the next one aims this much below it."""


@runtime_checkable
class Measured(Protocol):
    """A resource whose prediction is checked on a real file."""

    @property
    def name(self) -> str:
        """Its name in a budget."""
        ...

    @property
    def scatters(self) -> bool:
        """Whether two measurements of the same model differ."""
        ...

    def function(self, channels: ChannelMap, axes: Axes) -> CostFunction:
        """The cost as a function of the sizes of the axes."""
        ...

    def measure(self, model: Any) -> float:
        """The cost of a real model."""
        ...

    def is_close(self, measured: float, limit: float) -> bool:
        """Whether looking for a candidate nearer to the limit is not worth another measurement."""
        ...

    def corrected(self, predicted: float, measured: float) -> Measured:
        """The resource that would have predicted what was measured."""
        ...


@dataclass(frozen=True)
class Calibrated:
    """A plan, and what was learnt on the way to it.

    Attributes:
        plan: The plan, its costs measured where the resource is.
        resources: The resources, corrected.
        rounds: What was predicted and measured of every candidate, in order.
    """

    plan: Plan
    resources: tuple[Resource, ...]
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

    def calibrated(self, before: Costs) -> Plan:
        """The plan with its measured costs; those before the cut as they were at first."""
        measured = {check.resource: check.measured for check in self.checks}
        after = replace(self.plan.after, further={**self.plan.after.further, **measured})
        return replace(self.plan, before=before, after=after, checks=self.checks)


def calibrated(
    channels: ChannelMap,
    limits: Mapping[str, float],
    resources: Sequence[Resource],
    choose: Callable[[CostModel], Plan],
    for_real: bool = True,
    cost_model: CostModel | None = None,
) -> Calibrated:
    """Chooses channels so that the limits hold on real files.

    Args:
        channels: The model's channel map.
        limits: What may remain, by resource.
        resources: Resources besides multiply-adds, parameters and channels.
        choose: Makes a plan with the costs of a cost_model.
        for_real: Whether candidates are made and measured; otherwise predictions are trusted.
        cost_model: The costs of the model in these resources, if they are known already.

    Raises:
        ImpossibleBudget: no candidate met the limits.
    """
    resources = tuple(resources)
    plan = choose(cost_model or build_cost_model(channels, resources))
    measured = [
        resource
        for resource in resources
        if isinstance(resource, Measured) and resource.name in limits
    ]
    if not for_real or not measured or not plan.removed_channels:
        return Calibrated(plan, resources)
    before, tried = plan.before, list[_Candidate]()
    while True:
        candidate = _measured(plan, channels, limits, resources)
        tried.append(candidate)
        resources = _corrected(resources, candidate, misses=sum(not one.fits for one in tried))
        if candidate.fits and _is_close(candidate, resources):
            break
        again = _chosen_again(choose, build_cost_model(channels, resources), tried)
        if again is None or len(tried) == MOST_ROUNDS:
            break
        plan = again
    best = max((one for one in tried if one.fits), key=lambda one: one.fill, default=None)
    if best is None:
        raise ImpossibleBudget(_in_words(tried))
    return Calibrated(best.calibrated(before), resources, tuple(one.checks for one in tried))


def _chosen_again(
    choose: Callable[[CostModel], Plan], cost_model: CostModel, tried: Sequence[_Candidate]
) -> Plan | None:
    """The plan under corrected costs; None if it was tried already, or nothing meets the limits."""
    try:
        plan = choose(cost_model)
    except ImpossibleBudget:
        if any(one.fits for one in tried):
            return None
        raise
    return None if any(plan.keeps_what_is_kept_by(one.plan) for one in tried) else plan


def _measured(
    plan: Plan,
    channels: ChannelMap,
    limits: Mapping[str, float],
    resources: Sequence[Resource],
) -> _Candidate:
    """Makes a narrow copy, and measures it in every resource that can be."""
    copy = as_if_trained(_narrow_copy(channels.model, plan))
    checks = [
        Check(
            resource.name,
            plan.after.further[resource.name],
            resource.measure(copy),
            limits[resource.name],
        )
        for resource in resources
        if isinstance(resource, Measured) and resource.name in limits
    ]
    return _Candidate(plan, tuple(checks))


def _narrow_copy(model: Any, plan: Plan) -> Any:
    copy = copy_model(model)
    own = trace_as_planned(copy)
    with Transaction() as transaction:
        narrow_model(own, keep_of(plan, own), transaction)
    return copy


def _corrected(
    resources: Sequence[Resource], candidate: _Candidate, misses: int
) -> tuple[Resource, ...]:
    checks = {check.resource: check for check in candidate.checks}
    return tuple(
        _one_corrected(resource, checks[resource.name], misses)
        if isinstance(resource, Measured) and resource.name in checks
        else resource
        for resource in resources
    )


def _one_corrected(resource: Measured, check: Check, misses: int) -> Resource:
    """Measurements that scatter would miss the limit every other time without a margin."""
    margin = MARGIN * misses if resource.scatters else 0.0
    return resource.corrected(check.predicted, check.measured * (1 + margin))


def _is_close(candidate: _Candidate, resources: Sequence[Resource]) -> bool:
    limits = {check.resource: (check.measured, check.limit) for check in candidate.checks}
    return any(
        resource.is_close(*limits[resource.name])
        for resource in resources
        if isinstance(resource, Measured) and resource.name in limits
    )


def _in_words(tried: Sequence[_Candidate]) -> str:
    rounds = "; ".join(
        ", ".join(
            f"{check.resource} {amount(check.resource, check.measured)} (predicted "
            f"{amount(check.resource, check.predicted)}, at most "
            f"{amount(check.resource, check.limit)})"
            for check in one.checks
        )
        for one in tried
    )
    return (
        f"None of {len(tried)} candidates met the budget on a real file: {rounds}. On a machine "
        "with other work, latencies scatter: repeat it alone; or allow more to remain."
    )
