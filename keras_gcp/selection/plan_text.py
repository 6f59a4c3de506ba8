"""A plan in words: what every group keeps, what it costs, which limit is binding."""

from __future__ import annotations

from keras_gcp.costs.cost_model import left_out
from keras_gcp.formatting import amount, html_table, table
from keras_gcp.graph import Shapes
from keras_gcp.selection.plan_data import PlanData, PlannedGroup
from keras_gcp.selection.slack import SLACK_COLUMNS

_COLUMNS = ("group", "kept", "share", "members", "anchored because, or limited")


def explanation(plan: PlanData) -> str:
    """The text of `Plan.explain`."""
    return "\n".join([table(_columns(plan), _rows(plan)), *_lines(plan)])


def html(plan: PlanData) -> str:
    """The same for notebooks."""
    below = [line for text in _lines(plan) for line in text.splitlines()]
    return html_table(_columns(plan), _rows(plan), below)


def _lines(plan: PlanData) -> list[str]:
    """What stands below the table of the groups."""
    lines = _cost_lines(plan)
    if plan.counted_at:
        lines.append(sizes_line(plan.counted_at))
    if plan.budget:
        lines.append(f"budget: {plan.budget}")
    if plan.criterion:
        lines.append(f"criterion: {plan.criterion}")
    if plan.predicted_loss is not None:
        lines.append(f"predicted loss: {plan.predicted_loss:+.3g}, of the cuts alone")
    if plan.slack:
        lines.append(table(SLACK_COLUMNS, [one.row() for one in plan.slack]))
    lines.extend(map(str, plan.checks))
    lines.extend(left_out(plan.uncounted))
    lines.extend(f"not followed: {reason}" for reason in plan.notes.values())
    lines.extend(f"beside it: {outlook}" for outlook in plan.outlooks)
    return lines


def _columns(plan: PlanData) -> tuple[str, ...]:
    return (*_COLUMNS[:3], "loss", *_COLUMNS[3:]) if plan.predicted_losses else _COLUMNS


def _rows(plan: PlanData) -> list[list[str]]:
    """One row per group: name, what it keeps, the share, its members, what limits it."""
    return [_row(plan, group) for group in plan.groups]


def _row(plan: PlanData, group: PlannedGroup) -> list[str]:
    keep = plan.layers[group.members[0].path][list(group.positions)]
    kept, width = int(keep.sum()), len(group.positions)
    members = [m.path for m in group.members]
    shown = ", ".join(members[:4]) + (f", … ({len(members)})" if len(members) > 4 else "")
    share = f"{kept / width:.0%}" if width else ""
    loss = plan.predicted_losses.get(group.name)
    losses = ["" if not loss else f"{loss:+.2g}"] if plan.predicted_losses else []
    limited = group.anchored or group.note or ""
    return [group.name, f"{kept} of {width}", share, *losses, shown, limited]


def _cost_lines(plan: PlanData) -> list[str]:
    before, after = plan.before, plan.after
    further = (
        _cost_line(resource, before.further[resource], cost)
        for resource, cost in after.further.items()
        if resource in before.further
    )
    return [
        _macs_line(before.macs, after.macs),
        *_activation_line(before.activation_macs, after.activation_macs),
        _cost_line("parameters", before.parameters, after.parameters),
        _cost_line("prunable channels", before.channels, after.channels),
        *further,
    ]


def _activation_line(before: int | None, after: int | None) -> list[str]:
    """The part of the multiply-adds that no kernel has, if there is one."""
    if not before or after is None:
        return []
    return [_cost_line("of these between activations", before, after)]


def _cost_line(name: str, before: float, after: float) -> str:
    share = f" ({after / before:.1%})" if before else ""
    return f"{name}: {amount(name, before)} -> {amount(name, after)}{share}"


def _macs_line(before: int | None, after: int | None) -> str:
    if before is None or after is None:
        return "MACs: not counted, since the size of the input is unknown"
    return _cost_line("MACs", before, after)


def sizes_line(shapes: Shapes) -> str:
    """One line that says at which size a model of open sizes was counted."""
    sizes = ", ".join(map(str, shapes))
    return f"counted at an input of {sizes}: the model leaves its size open"
