"""Between the channel map of a living model and the plain data of a plan."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from keras_gcp.channels.map import ChannelMap, Group
from keras_gcp.costs.budget import Budget
from keras_gcp.costs.cost_model import ALWAYS, CostModel, left_out
from keras_gcp.costs.costs import Costs
from keras_gcp.costs.counting import build_cost_model, prunable_groups, require_known_positions
from keras_gcp.criteria.normalization import AUTO
from keras_gcp.errors import ImpossibleBudget, InvalidArgument
from keras_gcp.formatting import amount
from keras_gcp.selection import Candidates, Selection, Slack, select, slack_of
from keras_gcp.selection.blockers import what_stays
from keras_gcp.selection.candidates import narrowest
from keras_gcp.selection.floors import Floors, how_far
from keras_gcp.selection.plan import Plan, check_plan
from keras_gcp.selection.plan_data import PlannedGroup, PlannedMember
from keras_gcp.selection.preferences import SetChoice
from keras_gcp.selection.ranking import holds
from keras_gcp.selection.select import RANKINGS
from keras_gcp.selection.widths import (
    Producer,
    allowed_widths,
    bounds_of,
    check_layers,
    density_of,
)


def choose(
    channels: ChannelMap,
    coupled_scores: np.ndarray,
    limits: Mapping[str, float],
    selection: Selection,
    original_widths: Mapping[str, int] | None = None,
    budget: str = "",
    cost_model: CostModel | None = None,
    base: Mapping[str, int] | None = None,
    scores_are_losses: bool = False,
    left: np.ndarray | None = None,
    sets: SetChoice | None = None,
    goal: Mapping[str, float] | None = None,
) -> Plan:
    """Selects channels of a traced model under limits.

    Args:
        channels: The model's channel map.
        coupled_scores: `(coupled_count,)`, larger = keep.
        limits: What may remain, by resource.
        selection: How to select.
        original_widths: Widths that shares refer to; the present ones if None.
        budget: The budget in words, for the plan.
        cost_model: The costs of the model; needed where a limit is on a further resource.
        base: Group to its channels before earlier cuts (`sizes_before`); what became of the limits
            is said of these cuts, too.
        scores_are_losses: Whether the sum of the scores of all that leaves is how much the loss is
            expected to rise.
        left: `(coupled_count,)` booleans, True = not gone already; all if None. Channels that are
            gone stay so, and what became of the limits is said of them, too.
        sets: Which channels of a group stay, once it is known how many; None: those with the best
            scores.
        goal: What may remain when all is over, if these limits are only on the way to it.

    Raises:
        ImpossibleBudget: floors and alignment do not let the limits be met.
        InvalidArgument: the selection names layers that the model does not have, or contradicts
            one another.
    """
    if "macs" in limits:
        require_known_positions(channels)
    groups = prunable_groups(channels)
    left = np.ones(channels.coupled_count, bool) if left is None else left
    candidates = candidates_of(channels, coupled_scores, selection, original_widths, base, left)
    cost_model = build_cost_model(channels) if cost_model is None else cost_model
    _require_reachable(channels, candidates, cost_model, limits)
    kept = select(candidates, cost_model, limits, _ranking(selection), _evenness(selection), goal)
    keep = left.copy()
    for group, one, count in zip(groups, candidates, kept.tolist(), strict=True):
        own = _left_of(group, left)
        one = one if sets is None else replace(one, sets=sets.among(own))
        keep[own] = one.best(count)
    slack = slack_of(candidates, cost_model, limits, kept)
    plan = plan_of(channels, keep, cost_model, budget, slack)
    if not scores_are_losses:
        return plan
    return replace(plan, predicted_losses=_losses(groups, coupled_scores, left & ~keep))


def _ranking(selection: Selection) -> str:
    """How channels are ranked; shares by layer are ranked as equal ones, by group's density."""
    if isinstance(selection.ranking, Mapping):
        return "uniform"
    # Scores alone do not say how they want to be ranked; where a criterion does, it is set before.
    return RANKINGS[0] if selection.ranking == AUTO else selection.ranking


def _evenness(selection: Selection) -> float:
    return 0.0 if selection.evenness == AUTO else float(selection.evenness)


def _losses(
    groups: Sequence[Group], coupled_scores: np.ndarray, leaving: np.ndarray
) -> dict[str, float]:
    """By group the sum of the scores of what leaves."""
    gone = {one.name: one.coupled[leaving[one.coupled]] for one in groups}
    return {name: float(coupled_scores[coupled].sum()) for name, coupled in gone.items()}


def require_reachable(
    channels: ChannelMap,
    limits: Mapping[str, float],
    selection: Selection,
    cost_model: CostModel,
    original_widths: Mapping[str, int] | None = None,
) -> None:
    """Refuses limits that no choice of channels meets; arguments as for `choose`.

    Raises:
        ImpossibleBudget: floors, alignment and anchored layers do not let them be met.
        InvalidArgument: the selection names layers that the model does not have, or contradicts
            one another.
    """
    anything = np.zeros(channels.coupled_count)
    candidates = candidates_of(channels, anything, selection, original_widths)
    _require_reachable(channels, candidates, cost_model, limits)


def _require_reachable(
    channels: ChannelMap,
    candidates: Sequence[Candidates],
    cost_model: CostModel,
    limits: Mapping[str, float],
) -> None:
    least = narrowest(candidates)
    if holds(cost_model, limits, least):
        return
    missed = next(c for c, limit in limits.items() if cost_model.cost(c, least) > limit)
    lowest = np.array([min(g.least, len(g.coupled)) for g in prunable_groups(channels)], np.int64)
    floors = Floors.of(candidates, cost_model, limits, lowest, missed)
    text = f"{how_far(candidates, cost_model, limits)} {floors}"
    unknown = _uncounted(limits, channels)
    stays = what_stays(channels, missed, ends=not floors.reaches)
    if stays:
        text += f"\n{stays}\n"
    elif not floors.reaches:
        text += " The rest is a channel of each group, and what enters and leaves the model."
    ways = ["allow more to remain", *(["set those"] if floors.reaches else [])]
    ways += ["change one of these"] if stays else []
    advice = f"Expected one of: {', '.join(ways)}." if len(ways) > 1 else "Allow more to remain."
    raise ImpossibleBudget(f"{text}{'' if stays else ' '}{advice}{unknown}")


def _uncounted(limits: Mapping[str, float], channels: ChannelMap) -> str:
    """Lines that name what multiply-adds leave out, if a limit is on them."""
    lines = left_out(channels.uncounted, most=3) if "macs" in limits else []
    return "".join(f"\n{line}" for line in lines)


def candidates_of(
    channels: ChannelMap,
    coupled_scores: np.ndarray,
    selection: Selection,
    original_widths: Mapping[str, int] | None = None,
    base: Mapping[str, int] | None = None,
    left: np.ndarray | None = None,
) -> list[Candidates]:
    """The prunable groups, as selection sees them; arguments as for `choose`."""
    _require_layers(channels, selection)
    groups = prunable_groups(channels)
    known = {**({} if left is None else _sizes_of_cut(groups, left)), **(base or {})}
    return [
        _candidates(
            group,
            coupled_scores[_left_of(group, left)],
            _original(group, channels, original_widths or {}),
            selection,
            known.get(group.name),
        )
        for group in groups
    ]


def _left_of(group: Group, left: np.ndarray | None) -> np.ndarray:
    """The channels of a group that are not gone."""
    return group.coupled if left is None else group.coupled[left[group.coupled]]


def _sizes_of_cut(groups: Sequence[Group], left: np.ndarray) -> dict[str, int]:
    """The groups with their channels before cuts, if there were any."""
    if all(left[group.coupled].all() for group in groups):
        return {}
    return {group.name: len(group.coupled) for group in groups}


def _candidates(
    group: Group, scores: np.ndarray, original: int, selection: Selection, base: int | None
) -> Candidates:
    original = max(original, base or 0)
    bounds = bounds_of(
        group.name,
        [Producer(member.path, member.multiplicity) for member in group.members],
        original,
        group.least,
        selection.align,
        selection.floor,
        selection.cap,
    )
    before = allowed_widths(group.name, base, original, bounds) if base is not None else ()
    return Candidates(
        name=group.name,
        scores=scores,
        widths=allowed_widths(group.name, len(scores), original, bounds),
        original=original,
        earlier=tuple(width for width in before if width > len(scores)),
        base=base,
        density=_density(group, selection),
    )


def _density(group: Group, selection: Selection) -> float:
    if not isinstance(selection.ranking, Mapping):
        return 1.0
    return density_of([member.path for member in group.members], selection.ranking)


def _original(group: Group, channels: ChannelMap, original_widths: Mapping[str, int]) -> int:
    """Channels of a group in the original model."""
    lead = group.members[0].path
    present = len(channels.produced[lead])
    whole = original_widths.get(lead, present)
    # A layer of several groups: each had its part of the original width.
    return max(len(group.coupled), round(len(group.coupled) * whole / present))


def _require_layers(channels: ChannelMap, selection: Selection) -> None:
    """Refuses a selection by layers that the model does not have, or that have to stay."""
    anchored = {m.path: g.anchored for g in channels.groups if g.anchored for m in g.members}
    for group in prunable_groups(channels):
        for member in group.members:
            anchored.pop(member.path, None)
    for name in ("align", "floor", "cap", "ranking"):
        check_layers(name, getattr(selection, name), channels.produced, anchored)


def plan_of(
    channels: ChannelMap,
    keep: np.ndarray,
    cost_model: CostModel,
    budget: str = "",
    slack: tuple[Slack, ...] = (),
) -> Plan:
    """The plan that keeps the given coupled channels."""
    groups = prunable_groups(channels)
    full = np.array([len(group.coupled) for group in groups], np.int64)
    kept = np.array([int(keep[group.coupled].sum()) for group in groups], np.int64)
    return Plan(
        layers={path: keep[coupled] for path, coupled in _own_channels(channels).items()},
        groups=tuple(_planned(group, channels) for group in channels.groups),
        before=_costs(cost_model, full),
        after=_costs(cost_model, kept),
        budget=budget,
        notes=dict(channels.refusals),
        slack=slack,
        uncounted=dict(channels.uncounted),
        outlooks=channels.outlooks(),
        counted_at=channels.counted_at or (),
    )


def sizes_before(plan: Plan, channels: ChannelMap) -> dict[str, int]:
    """Prunable group of a model that was cut as planned, to the channels it had before.

    Groups of a layer are numbered by their first channels, which may have left; so they are found
    by the original positions of those that stay.
    """
    found = {}
    for group in prunable_groups(channels):
        lead = group.members[0].path
        here = np.flatnonzero(np.isin(channels.produced[lead], group.coupled))
        place = int(np.flatnonzero(plan.layers[lead])[here[0]])
        whole = next(
            one for one in plan.groups if one.members[0].path == lead and place in one.positions
        )
        found[group.name] = len(group.coupled) * len(whole.positions) // len(here)
    return found


def keep_of(plan: Plan, channels: ChannelMap) -> np.ndarray:
    """The coupled channels of a traced model that a plan keeps, `(coupled_count,)`.

    Raises:
        InvalidArgument: the plan was made for another model, or it is not a plan.
    """
    check_plan(plan)
    own = _own_channels(channels)
    _require_same({p: len(k) for p, k in plan.layers.items()}, {p: len(c) for p, c in own.items()})
    keep = np.ones(channels.coupled_count, bool)
    for path, coupled in own.items():
        keep[coupled[~plan.layers[path]]] = False
    lost = np.flatnonzero(~keep & ~channels.prunable)
    if len(lost):
        reason = channels.reasons.get(int(lost[0]), "nothing produces them")
        raise InvalidArgument(
            f"The plan was made for another model: it removes channels that are anchored here "
            f"({reason})."
        )
    for path, coupled in own.items():
        if not np.array_equal(keep[coupled], plan.layers[path]):
            raise InvalidArgument(
                f"The plan was made for another model: channels of layer '{path}' that it keeps "
                "are tied here to channels that it removes."
            )
    return keep


def _require_same(planned: Mapping[str, int], present: Mapping[str, int]) -> None:
    for path in planned.keys() | present.keys():
        if planned.get(path) != present.get(path):
            raise InvalidArgument(
                f"The plan was made for another model: layer '{path}' has "
                f"{planned.get(path, 'no')} channels in the plan and "
                f"{present.get(path, 'no')} in the model."
            )


def _own_channels(channels: ChannelMap) -> dict[str, np.ndarray]:
    """Layers with weights to the coupled channels of their outputs, in network order."""
    found: dict[str, np.ndarray] = {}
    varying = {weight.path for weight in channels.weights.values() if weight.axes}
    for call in channels.graph.calls:
        if call.path in channels.produced:
            found.setdefault(call.path, channels.produced[call.path])
        elif call.path in varying:
            block = channels.tensors[call.outputs[0].index]
            if block.size == max(block.shape):  # It varies along one axis at most.
                found.setdefault(call.path, block.reshape(-1))
    return found


def _planned(group: Any, channels: ChannelMap) -> PlannedGroup:
    lead = channels.produced[group.members[0].path]
    return PlannedGroup(
        name=group.name,
        members=tuple(PlannedMember(m.path, m.kind, m.width) for m in group.members),
        positions=tuple(int(i) for i in np.flatnonzero(np.isin(lead, group.coupled))),
        anchored=group.anchored,
        note=f"keeps at least {group.least}: {group.least_reason}" if group.least > 1 else None,
        least=group.least,
    )


def _costs(cost_model: CostModel, kept: np.ndarray) -> Costs:
    costs = {
        resource: int(cost_model.cost(resource, kept))
        for resource in ALWAYS
        if cost_model.counts(resource)
    }
    further = {resource: cost_model.cost(resource, kept) for resource in cost_model.functions}
    between = int(cost_model.cost("activation_macs", kept)) if cost_model.counts("macs") else None
    macs = costs.get("macs")
    return Costs(macs, costs["parameters"], costs["channels"], further, between)


def limits_of(
    budget: Budget, costs: Costs, original: Costs, channels: ChannelMap
) -> dict[str, float]:
    """Limits of a budget for a model; refuses a budget that the model already meets.

    Args:
        budget: The budget.
        costs: What the model costs.
        original: What the model costs that shares refer to.
        channels: The model's channel map.

    Raises:
        InvalidArgument: the budget is already met.
    """
    limits = budget.limits_at(original)
    if all(costs[resource] <= limit for resource, limit in limits.items()):
        have = ", ".join(f"{amount(resource, costs[resource])} {resource}" for resource in limits)
        raise InvalidArgument(
            f"The budget ({budget}) is already met: the model has {have}. Expected a "
            f"budget below that; nothing would be pruned.{_channels_that_stay(limits, channels)}"
            f"{_uncounted(limits, channels)}"
        )
    return limits


def _channels_that_stay(limits: Mapping[str, float], channels: ChannelMap) -> str:
    """What the resource `channels` does not count, and why it stays; empty for other resources."""
    stay = sum(int((~channels.prunable[c]).sum()) for c in channels.produced.values())
    if "channels" not in limits or not stay:
        return ""
    return (
        f" `channels` counts those that may be pruned; {stay:,} more stay.\n"
        f"{what_stays(channels, 'channels')}"
    )
