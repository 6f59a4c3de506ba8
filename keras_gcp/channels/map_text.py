"""A channel map in words: which channels live or die together, what stays, and why."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from keras_gcp.formatting import footnoted, html_table, listed, table, wrapped

COLUMNS = ("group", "channels", "tied to it", "stays because")

_MOST_NAMES = 2


def group_row(
    name: str, channels: int, layers: Iterable[str], anchored: str | None, least: str | None
) -> list[str]:
    """A row of the table of groups.

    Args:
        name: Name of the group.
        channels: How many it has.
        layers: Layers that produce them, that of the name first.
        anchored: Why it stays whole, or None.
        least: What it has to keep, and why, or None.
    """
    tied = listed(list(layers)[1:], _MOST_NAMES)
    return [name, str(channels), tied, anchored or least or ""]


def below(free: int, total: int, refusals: Mapping[str, str], causes: Iterable[str]) -> list[str]:
    """The lines below the table.

    Args:
        free: Sets of coupled channels that may be pruned.
        total: All of them.
        refusals: Layer to why its channels could not be followed.
        causes: What keeps channels, where nothing may be pruned.
    """
    lines = [f"{free:,} of {total:,} channels, or sets of tied ones, may be pruned"]
    if not free:
        told = set(refusals.values())
        lines = ["no channels may be pruned"]
        lines += [f"kept by: {cause}" for cause in causes if cause not in told]
    return [*lines, *(f"not followed: {reason}" for reason in refusals.values())]


def text(rows: list[list[str]], lines: list[str]) -> str:
    """Table and lines."""
    limits, notes = footnoted([row[-1] for row in rows])
    short = [[*row[:-1], limit] for row, limit in zip(rows, limits, strict=True)]
    tables = [table(COLUMNS, short)] if rows else []
    return "\n".join([*tables, *map(wrapped, [*notes, *lines])])


def html(rows: list[list[str]], lines: list[str]) -> str:
    """The same for notebooks."""
    return html_table(COLUMNS, rows, lines)
