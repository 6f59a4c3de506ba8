"""Numbers and tables as people read them."""

from __future__ import annotations

import html
import io
import math
import re
from collections.abc import Sequence
from numbers import Integral, Real
from typing import Any

from keras_gcp.errors import InvalidArgument

_NUMBER = re.compile(r"[-+−]?[\d.,]+ ?(%|x|[kMGT]?B?|ms|s)?( of [\d.,]+)?")


def count(value: float) -> str:
    """A count with three digits and a unit: 512, 94.8 k, 1.23 M, 2.10 G.

    >>> count(1_234_567)
    '1.23 M'
    """
    if abs(value) < 1000:
        return f"{value:.0f}" if value == int(value) else three_digits(value)
    for unit, power in (("k", 1e3), ("M", 1e6), ("G", 1e9), ("T", 1e12)):
        scaled = three_digits(value / power)
        if abs(float(scaled)) < 1000:
            return f"{scaled} {unit}"
    return f"{value:.2e}"


def file_size(value: float) -> str:
    """Bytes with three digits, in powers of 1000: 948 B, 94.8 kB, 1.10 MB."""
    text = count(value)
    return f"{text}B" if " " in text else f"{text} B"


def percent(share: float, digits: int = 1) -> str:
    """A share as a percentage: 0.493 is 49.3 %."""
    return f"{100 * share:.{digits}f} %"


def metric(name: str, value: float) -> str:
    """A value of a metric: accuracies as percentages, with two decimals; others with four digits.

    >>> metric("sparse_categorical_accuracy", 0.98765)
    '98.77 %'
    >>> metric("mae", 0.123456)
    '0.1235'
    """
    words = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).lower()
    is_share = re.search(r"(^|_)(acc|accuracy)(_|$)", words)
    return percent(value, 2) if is_share else f"{value:.4g}"


def seconds(value: float) -> str:
    """A duration: 0.04 s, 2.3 s, 41 s, 3 min 05 s, 2 h 10 min."""
    if value < 60:
        return f"{value:.2f} s" if value < 1 else f"{three_digits(value, 2)} s"
    minutes, rest = divmod(round(value), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02d} s"
    return f"{minutes // 60} h {minutes % 60:02d} min"


def milliseconds(value: float) -> str:
    """A latency with three digits: 0.168 ms."""
    return f"{three_digits(value)} ms"


def factor(before: float, after: float) -> str:
    """How many times smaller: 2.04x; an en dash where there is nothing to divide by."""
    return f"{before / after:.2f}x" if after else "–"


def three_digits(value: float, digits: int = 3) -> str:
    """A number rounded to `digits` significant digits, trailing zeros kept: 2.10, 45.6, 123."""
    if value == 0 or not math.isfinite(value):
        return f"{value:.{digits - 1}f}"
    rounded = float(f"{value:.{digits - 1}e}")
    decimals = digits - 1 - math.floor(math.log10(abs(rounded)))
    return f"{rounded:.{max(decimals, 0)}f}"


def amount(resource: str, cost: float) -> str:
    """A cost as people read it: counts with thousands separators, times with four digits."""
    return f"{cost:.4g}" if resource == "latency_ms" else f"{cost:,.0f}"


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


def html_table(
    columns: Sequence[str], rows: Sequence[Sequence[Any]], lines: Sequence[str] = ()
) -> str:
    """A table as HTML, as notebooks show it; cells as for `table`.

    Args:
        columns: Headings.
        rows: Cells.
        lines: What stands below the table.
    """
    cells = [[_cell(value) for value in row] for row in rows]
    aligned = [
        "right" if _are_numbers([row[i] for row in cells]) else "left" for i in range(len(columns))
    ]

    def row(tag: str, texts: Sequence[str]) -> str:
        parts = [
            f'<{tag} style="text-align: {side}">{html.escape(text)}</{tag}>'
            for side, text in zip(aligned, texts, strict=True)
        ]
        return f"<tr>{''.join(parts)}</tr>"

    body = "".join(row("td", texts) for texts in cells)
    below = "<br>".join(html.escape(line) for line in lines)
    head = f"<thead>{row('th', columns)}</thead>"
    return f"<table>{head}<tbody>{body}</tbody></table>{f'<p>{below}</p>' if below else ''}"


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
