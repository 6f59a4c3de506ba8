"""Plans as JSON text. It may come from anywhere: it is looked through before it is used."""

from __future__ import annotations

import dataclasses
import json
import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from keras_gcp.costs.costs import Costs
from keras_gcp.errors import InvalidArgument
from keras_gcp.selection.plan_data import FORMAT, Check, PlanData, PlannedGroup
from keras_gcp.selection.slack import Slack
from keras_gcp.validation.plain_data import DoesNotFit, check_finite, loaded, parsed, with_new_name

MOST_CHANNELS = 2**26
"""Of all layers together. A layer that produces channels has as many as its groups say; those that
follow it have no such bound, and a file must not say how much memory is taken."""

MOST_NUMBERS = 2**26
"""Of an input, for one example."""


@dataclass(frozen=True)
class _SavedLayer:
    """How many channels a layer has, and the indices of those that it keeps."""

    width: int
    kept: list[int]


@dataclass(frozen=True)
class _SavedPlan:
    """The fields of `Plan.to_json`."""

    format: int
    layers: Mapping[str, _SavedLayer]
    groups: list[PlannedGroup]
    before: Costs
    after: Costs
    budget: str
    notes: Mapping[str, str]
    slack: list[Slack]
    checks: list[Check]
    uncounted: Mapping[str, str]
    outlooks: list[str]
    counted_at: tuple[tuple[int, ...], ...]
    criterion: str
    predicted_losses: Mapping[str, float]


def written(plan: PlanData) -> str:
    """A plan as JSON text."""
    return json.dumps(
        {
            "format": FORMAT,
            "layers": {
                path: {"width": len(keep), "kept": np.flatnonzero(keep).tolist()}
                for path, keep in plan.layers.items()
            },
            "groups": [dataclasses.asdict(group) for group in plan.groups],
            "before": dataclasses.asdict(plan.before),
            "after": dataclasses.asdict(plan.after),
            "budget": plan.budget,
            "notes": dict(plan.notes),
            "slack": [dataclasses.asdict(one) for one in plan.slack],
            "checks": [dataclasses.asdict(check) for check in plan.checks],
            "uncounted": dict(plan.uncounted),
            "outlooks": list(plan.outlooks),
            "counted_at": plan.counted_at,
            "criterion": plan.criterion,
            "predicted_losses": dict(plan.predicted_losses),
        },
        indent=1,
    )


def read(text: Any) -> dict[str, Any]:
    """The fields of the plan that `written` wrote.

    Raises:
        InvalidArgument: the text is not a plan of a known format; what is wrong with it is named.
    """
    try:
        data = loaded(text)
        if isinstance(data, dict) and data.get("format", FORMAT) not in (1, FORMAT):
            raise InvalidArgument(
                f"The plan has format {data['format']!r}; expected 1 to {FORMAT}."
            )
        check_finite(data)
        saved = parsed(_SavedPlan, _completed(data))
        _check_groups(saved)
        _check_sizes(saved.counted_at)
        return _fields_of(saved)
    except DoesNotFit as error:
        raise InvalidArgument(f"Not a plan written by `Plan.to_json`: {error}.") from error


def _completed(data: Any) -> Any:
    """With the fields that plans of older versions do not have."""
    if not isinstance(data, dict):
        return data
    if data.get("format") == 1:
        (data,) = with_new_name([data], "spent", "slack")
    new: dict[str, Any] = {"slack": [], "checks": [], "uncounted": {}, "outlooks": []}
    complete = {**new, "counted_at": [], "criterion": "", "predicted_losses": {}, **data}
    for name in ("before", "after"):
        if isinstance(complete.get(name), dict):
            complete[name] = {"further": {}, "activation_macs": 0, **complete[name]}
    if isinstance(complete.get("groups"), list):
        complete["groups"] = [
            {"least": 0, **one} if type(one) is dict else one for one in complete["groups"]
        ]
    if complete.get("format") == 1:
        for name in ("slack", "checks"):
            complete[name] = with_new_name(complete[name], "coin", "resource")
    if isinstance(complete["slack"], list):
        complete["slack"] = [
            {"capped": 0, "predicted": False, "whole": False, **one} if type(one) is dict else one
            for one in complete["slack"]
        ]
    return complete


def _check_groups(saved: _SavedPlan) -> None:
    """Widths are what the groups say; indices lie below them."""
    parts: dict[str, int] = defaultdict(int)
    for number, group in enumerate(saved.groups):
        where = f"groups[{number}]"
        _counted(f"{where}.least", group.least)
        if not group.members:
            raise DoesNotFit(f"{where}.members is empty")
        for member in group.members:
            if member.path not in saved.layers:
                raise DoesNotFit(f"{where} has layer '{member.path}', which is not among `layers`")
            parts[member.path] += _counted(f"{where}: the width of '{member.path}'", member.width)
        lead = saved.layers[group.members[0].path]
        _check_indices(f"{where}.positions", group.positions, lead.width)
    for path, layer in saved.layers.items():
        where = f"layers.{path}"
        width = _counted(f"{where}.width", layer.width)
        if path in parts and width != parts[path]:
            raise DoesNotFit(
                f"{where}.width is {width}, but its groups have {parts[path]} channels"
            )
        _check_indices(f"{where}.kept", layer.kept, width)
    total = sum(layer.width for layer in saved.layers.values())
    if total > MOST_CHANNELS:
        raise DoesNotFit(f"its layers have {total:,} channels; at most {MOST_CHANNELS:,} are read")


def _check_sizes(shapes: Sequence[tuple[int, ...]]) -> None:
    """A cut is proved at these sizes of the inputs."""
    for i, shape in enumerate(shapes):
        if min(shape, default=1) < 1 or math.prod(shape) > MOST_NUMBERS:
            raise DoesNotFit(
                f"counted_at[{i}] is {list(shape)}, expected sizes from 1 of at most "
                f"{MOST_NUMBERS:,} numbers in all"
            )


def _counted(where: str, number: int) -> int:
    if number < 0:
        raise DoesNotFit(f"{where} is {number}, expected 0 or more")
    return number


def _check_indices(where: str, indices: Sequence[int], width: int) -> None:
    wrong = [index for index in indices if not 0 <= index < width]
    if wrong:
        raise DoesNotFit(f"{where} has {wrong[0]}, expected indices from 0 to {width - 1}")
    if len(set(indices)) < len(indices):
        raise DoesNotFit(f"{where} has an index twice")


def _fields_of(saved: _SavedPlan) -> dict[str, Any]:
    for name, costs in (("before", saved.before), ("after", saved.after)):
        for resource, cost in costs.items():
            if cost < 0:
                raise DoesNotFit(f"{name}.{resource} is {cost}, expected 0 or more")
    return dict(
        layers={path: _keep(layer) for path, layer in saved.layers.items()},
        groups=tuple(saved.groups),
        before=saved.before,
        after=saved.after,
        budget=saved.budget,
        notes=saved.notes,
        slack=tuple(saved.slack),
        checks=tuple(saved.checks),
        uncounted=saved.uncounted,
        outlooks=tuple(saved.outlooks),
        counted_at=saved.counted_at,
        criterion=saved.criterion,
        predicted_losses=saved.predicted_losses,
    )


def _keep(layer: _SavedLayer) -> np.ndarray:
    keep = np.zeros(layer.width, bool)
    keep[layer.kept] = True
    return keep
