"""Plain text for the terminal: tables, and the line that reports an event."""

from __future__ import annotations

import io
import re
from collections.abc import Mapping, Sequence
from numbers import Integral, Real
from typing import Any

from keras_gcp.costs import amount
from keras_gcp.errors import InvalidArgument
from keras_gcp.events import STAGES, Event, SkippedEvent, moment
from keras_gcp.graph import Shapes
from keras_gcp.reporting import units
from keras_gcp.step_times import Savings

_STAGE_NAMES = {"narrow": "surgery"}

_NUMBER = re.compile(r"[-+−]?[\d.,]+ ?(%|x|[kMGT]?B?|ms|s)?( of [\d.,]+)?")


def table(
    columns: Sequence[str],
    rows: Sequence[Sequence[Any]],
    title: str | None = None,
    width: int = 120,
) -> str:
    """A table as plain text, without colours.

    Args:
        columns: Headings.
        rows: Cells; None is an empty one, integers get thousands separators, other numbers
            four digits. Columns of numbers are aligned to the right.
        title: Line above the table.
        width: Characters that a line may have; longer cells are wrapped, nothing is cut off.

    Returns:
        Lines without trailing spaces, and no newline at the end.

    Raises:
        InvalidArgument: A row has another number of cells than there are columns.

    Example:

    >>> print(table(["layer", "kept"], [["conv_1", "8 of 16"], ["conv_2", "16 of 16"]]))
    layer        kept
    ─────────────────
    conv_1    8 of 16
    conv_2   16 of 16
    """
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    cells = [[_cell(value) for value in row] for row in rows]
    for row in cells:
        if len(row) != len(columns):
            raise InvalidArgument(
                f"A row has {len(row)} cells for {len(columns)} columns {list(columns)}: {row}"
            )
    heading = Text(title) if title else None
    grid = Table(
        box=box.SIMPLE_HEAD,
        title=heading,
        title_justify="left",
        show_edge=False,
        pad_edge=False,
    )
    for i, column in enumerate(columns):
        numbers = _are_numbers([row[i] for row in cells])
        grid.add_column(
            Text(column), justify="right" if numbers else "left", overflow="fold", no_wrap=numbers
        )
    for row in cells:
        grid.add_row(*map(Text, row))
    output = io.StringIO()
    Console(file=output, width=width, color_system=None, force_terminal=False).print(grid)
    lines = [line.rstrip() for line in output.getvalue().splitlines()]
    return "\n".join(lines).strip("\n")


def sizes_line(shapes: Shapes) -> str:
    """One line that says at which size a model of open sizes was counted."""
    sizes = ", ".join(map(str, shapes))
    return f"counted at an input of {sizes}: the model leaves its size open"


def event_line(
    event: Event,
    original_macs: int | None,
    original_parameters: int,
    original_further: Mapping[str, float] | None = None,
) -> str:
    """One line that says what an event did and what it cost.

    Args:
        event: The event.
        original_macs: Multiply-adds of the model before any event; None if they are unknown.
        original_parameters: Its parameters.
        original_further: Its cost in further coins of the budget, by coin.

    Returns:
        Text without a newline: when, channels removed, what is left and its share of the
        original, the loss on the sample before and after, the guarded metric likewise, and the
        seconds of each stage.
    """
    left = _left(event.macs_after, original_macs)
    parts = [
        f"{moment(event.epoch, event.step)}: {event.removed_channels:,} channels removed",
        *([] if left is None else [f"MACs {left}"]),
        f"parameters {_left(event.parameters_after, original_parameters)}",
    ]
    for coin, cost in event.further.items():
        whole = (original_further or {}).get(coin)
        share = f" ({units.percent(cost / whole)})" if whole else ""
        parts.append(f"{coin} {amount(coin, cost)}{share}")
    if event.loss_before is not None and event.loss_after is not None:
        parts.append(f"loss on the sample {event.loss_before:.4g} → {event.loss_after:.4g}")
    name, before, after = event.metric, event.metric_before, event.metric_after
    if name is not None and before is not None and after is not None:
        shown = f"{units.metric(name, before)} → {units.metric(name, after)}"
        parts.append(f"guarded {name} {shown}")
    if event.tries > 1:
        parts.append(f"smaller than scheduled (try {event.tries})")
    if event.merged > 1:
        parts.append(f"{event.merged} events of the schedule in one")
    taken = [(stage, event.seconds[stage]) for stage in STAGES if event.seconds[stage] > 0]
    if taken:
        parts.append(", ".join(f"{_STAGE_NAMES.get(s, s)} {seconds:.2f} s" for s, seconds in taken))
    return " · ".join(parts)


def savings_line(
    savings: Savings, events: Sequence[Event], skipped: Sequence[SkippedEvent] = ()
) -> str:
    """One line that says what pruning has cost in a training, and what it has saved.

    Args:
        savings: The sums.
        events: The events.
        skipped: Events that failed or were refused.

    Returns:
        Text without a newline.
    """
    stages = {stage: sum(event.seconds[stage] for event in events) for stage in STAGES}
    largest = sorted(stages, key=lambda stage: -stages[stage])[:3]
    spent = ", ".join(f"{_STAGE_NAMES.get(s, s)} {units.seconds(stages[s])}" for s in largest)
    scheduled = sum(event.merged for event in events)
    count = _events(len(events))
    if scheduled > len(events):
        count += f" (in place of {scheduled}, of which some were too small)"
    refused = sum(one.refused for one in skipped)
    if refused:
        count += f", {refused} more refused by the guard,"
    cost = f"pruning: {count} took {units.seconds(savings.events_seconds)} ({spent})"
    net, wide, narrow = savings.net_seconds, savings.wide_step_seconds, savings.narrow_step_seconds
    if net is None or wide is None or narrow is None or savings.saved_seconds is None:
        return f"{cost}; what they saved is unknown, since too few steps were timed around them"
    change = f"a step took {_milliseconds(wide)}, now {_milliseconds(narrow)}"
    if savings.saved_seconds < 0:
        return f"{cost}; {change}: training took {units.seconds(-net)} longer"
    result = f"{units.seconds(abs(net))} {'saved' if net >= 0 else 'lost so far'} in all"
    return f"{cost}; {change}, which saved {units.seconds(savings.saved_seconds)}: {result}"


def unmet_line(
    now: Mapping[str, float],
    limits: Mapping[str, float],
    events: Sequence[Event],
    skipped: Sequence[SkippedEvent],
    to_come: int,
) -> str | None:
    """What a budget lacks when a training has ended, and why; None if it is met.

    Args:
        now: What the model costs, by coin.
        limits: What was to remain.
        events: The events.
        skipped: Events that failed or were refused.
        to_come: Events that had not come.
    """
    unmet = [
        f"{coin} {amount(coin, now[coin])} (at most {amount(coin, limit)} wanted)"
        for coin, limit in limits.items()
        if now[coin] > limit
    ]
    if not unmet:
        return None
    refused = sum(one.refused for one in skipped)
    failed, smaller = len(skipped) - refused, sum(event.tries > 1 for event in events)
    reasons = [
        text
        for number, text in (
            (failed, f"{_events(failed)} failed and {'was' if failed == 1 else 'were'} skipped"),
            (refused, refused_text(skipped)),
            (smaller, f"{_events(smaller)} went less far than scheduled for the same reason"),
            (to_come, f"{to_come} had not come when the training ended"),
        )
        if number
    ]
    why = ", ".join(reasons) or "the training ended before enough events had come"
    return f"The budget is not met: {', '.join(unmet)}. Of the schedule's events, {why}."


def refused_text(skipped: Sequence[SkippedEvent]) -> str:
    """How many events the guard refused, and for which metric's sake."""
    refused = [one for one in skipped if one.refused]
    names = sorted({one.metric or "the metric" for one in refused})
    return (
        f"{_events(len(refused))} would have made {', '.join(names)} worse than `max_drop` allows"
    )


def _events(number: int) -> str:
    return f"{number} event" if number == 1 else f"{number} events"


def _milliseconds(seconds: float) -> str:
    return units.milliseconds(1000 * seconds)


def _left(now: int | None, original: int | None) -> str | None:
    """What is left of a cost; None where it is unknown."""
    if now is None or original is None:
        return None
    return f"{units.count(now)} ({units.percent(now / original)})" if original else "0"


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, Integral):
        return f"{int(value):,}"
    if isinstance(value, Real):
        return f"{float(value):.4g}"
    return str(value)


def _are_numbers(cells: Sequence[str]) -> bool:
    filled = [cell for cell in cells if cell]
    return bool(filled) and all(_NUMBER.fullmatch(cell) for cell in filled)
