"""Tables as plain text and as HTML."""

from __future__ import annotations

import html
import io
import re
from collections.abc import Sequence
from numbers import Integral, Real
from typing import Any

from keras_gcp.errors import InvalidArgument
from keras_gcp.formatting.columns import GAP, Column, fitted
from keras_gcp.formatting.lines import LINE, wrapped

_NUMBER = re.compile(r"[-+−]?[\d.,]+(e[-+]?\d+)? ?(%|x|[kMGT]?B?|ms|s)?( of [\d.,]+)?")


def table(
    columns: Sequence[str],
    rows: Sequence[Sequence[Any]],
    title: str | None = None,
    width: int = LINE,
) -> str:
    """A table as plain text, without colours.

    Args:
        columns: Headings.
        rows: Cells; None is an empty one, integers get thousands separators, other numbers
            four digits. Columns of numbers are aligned to the right.
        title: Line above the table.
        width: Characters that a line may have. Longer cells are wrapped between words; names that
            are too long even so are shortened in the middle, numbers never. Only a table of more
            numbers than fit is wider.

    Returns:
        Lines without trailing spaces, and no newline at the end.

    Raises:
        InvalidArgument: A row has another number of cells than there are columns.

    Example:

    >>> print(table(["layer", "kept"], [["conv_1", "8 of 16"], ["conv_2", "16 of 16"]]))
    layer       kept
    ────────────────
    conv_1   8 of 16
    conv_2  16 of 16
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
    grid = Table(
        box=box.SIMPLE_HEAD,
        show_edge=False,
        pad_edge=False,
        padding=(0, GAP - 1, 0, 0),  # beside the one character of the box itself
    )
    described = (_column(name, [row[i] for row in cells]) for i, name in enumerate(columns))
    shown = fitted(list(described), width)
    for column in shown:
        grid.add_column(
            Text(column.heading),
            justify="right" if column.numbers else "left",
            width=column.width,
        )
    for texts in zip(*(column.cells for column in shown), strict=True):
        grid.add_row(*map(Text, texts))
    output = io.StringIO()
    whole = max(width, sum(column.width + GAP for column in shown))
    # In a notebook, rich would show the table at once, and write nothing to the file.
    console = Console(
        file=output, width=whole, color_system=None, force_terminal=False, force_jupyter=False
    )
    console.print(grid)
    lines = [line.rstrip() for line in output.getvalue().splitlines()]
    above = [wrapped(title, width)] if title else []
    return "\n".join([*above, "\n".join(lines).strip("\n")])


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
    head = f"<thead>{row('th', columns)}</thead>"
    return f"<table>{head}<tbody>{body}</tbody></table>{html_lines(lines)}"


def html_lines(lines: Sequence[str]) -> str:
    """Lines of text as one paragraph of HTML; empty if there are none."""
    text = "<br>".join(html.escape(line) for line in lines)
    return f"<p>{text}</p>" if text else ""


def _column(heading: str, cells: Sequence[str]) -> Column:
    return Column(heading, tuple(cells), _are_numbers(cells))


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
