"""A plan in words: what every group keeps, what it costs, which limit is binding."""

from __future__ import annotations

from keras_gcp.costs.cost_model import left_out
from keras_gcp.formatting import amount, footnoted, html_lines, html_table, listed, table, wrapped
from keras_gcp.graph import Shapes
from keras_gcp.selection.plan_data import PlanData, PlannedGroup
from keras_gcp.selection.slack import SLACK_COLUMNS

_COLUMNS = ("group", "kept", "share", "tied to it", "stays because")
_MOST_NAMES = 2


def explanation(plan: PlanData) -> str:
    """The text of `Plan.explain`; no line is longer than that of a terminal."""
    rows = _rows(plan)
    limits, notes = footnoted([row[-1] for row in rows])
    short = [[*row[:-1], limit] for row, limit in zip(rows, limits, strict=True)]
    blocks = [
        [table(_columns(plan), short), *map(wrapped, notes)],
        [wrapped(line) for line in _lines(plan)],
        [table(SLACK_COLUMNS, _slack_rows(plan))] if plan.slack else [],
        [wrapped(line) for line in _remarks(plan)],
    ]
    return "\n\n".join("\n".join(block) for block in blocks if block)


def html(plan: PlanData) -> str:
    """The same for notebooks."""
    groups = html_table(_columns(plan), _rows(plan), _lines(plan))
    slack = html_table(SLACK_COLUMNS, _slack_rows(plan)) if plan.slack else ""
    return groups + slack + html_lines(_remarks(plan))


def _slack_rows(plan: PlanData) -> list[list[str]]:
    return [one.row() for one in plan.slack]


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
    return lines


def _remarks(plan: PlanData) -> list[str]:
    """What was measured, and what the numbers leave out."""
    return [
        *map(str, plan.checks),
        *left_out(plan.uncounted),
        *(f"not followed: {reason}" for reason in plan.notes.values()),
        *(f"beside it: {outlook}" for outlook in plan.outlooks),
    ]


def _columns(plan: PlanData) -> tuple[str, ...]:
    return (*_COLUMNS[:3], "loss", *_COLUMNS[3:]) if plan.predicted_losses else _COLUMNS


def _rows(plan: PlanData) -> list[list[str]]:
    """One row per group: name, what it keeps, the share, what is tied to it, what limits it."""
    return [_row(plan, group) for group in plan.groups]


def _row(plan: PlanData, group: PlannedGroup) -> list[str]:
    keep = plan.layers[group.members[0].path][list(group.positions)]
    kept, width = int(keep.sum()), len(group.positions)
    share = f"{kept / width:.0%}" if width else ""
    loss = plan.predicted_losses.get(group.name)
    losses = ["" if not loss else f"{loss:+.2g}"] if plan.predicted_losses else []
    tied = listed([member.path for member in group.members[1:]], _MOST_NAMES)
    return [group.name, f"{kept} of {width}", share, *losses, tied, group.limit_of(kept)]


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
