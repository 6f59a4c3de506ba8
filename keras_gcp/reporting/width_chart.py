"""The picture of every layer's width before and after."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from keras_gcp.errors import InvalidArgument
from keras_gcp.formatting import percent
from keras_gcp.reporting.style import BLUE, FAINT, INK, TRACK, figure

LAYERS_PER_ROW = 40
_LONGEST_NAME = 22


def width_bars(before: Mapping[str, int], after: Mapping[str, int], path: str | Path) -> Path:
    """Draws every layer's width before (pale) and after (dark), the kept share above.

    Args:
        before: Layer to number of output channels, in the order to draw.
        after: The same layers, after pruning.
        path: PNG file to write.

    Returns:
        The path.

    Raises:
        InvalidArgument: There is no layer, or the two name different layers.
        PlottingUnavailable: Matplotlib is not installed.
    """
    if not before or set(before) != set(after):
        odd = sorted(set(before) ^ set(after))
        raise InvalidArgument(
            f"Widths before ({len(before)} layers) and after ({len(after)}) must name the same "
            f"layers, at least one. Named once only: {odd}"
        )
    layers = list(before)
    rows = rows_of(layers)
    kept, total = sum(after.values()), sum(before.values())
    title = f"Channels of every layer: {kept:,} of {total:,} kept ({percent(kept / total)})"
    per_row = len(rows[0])
    width = min(13.3, max(9.5, 1.5 + 0.42 * per_row))
    height_of_names = 0.07 * max(len(shortened(name)) for name in layers)
    with figure(path, width, 0.75 + (1.75 + height_of_names) * len(rows), title) as drawing:
        grid = drawing.subplots(len(rows), 1, squeeze=False)[:, 0]
        for axes, names in zip(grid, rows, strict=True):
            _draw_row(axes, names, before, after, per_row)
        _draw_legend(drawing)
    return Path(path)


def rows_of(layers: Sequence[str]) -> list[list[str]]:
    """Layers in as few rows as stay readable, the rows equally long but for the last."""
    count = math.ceil(len(layers) / LAYERS_PER_ROW)
    length = math.ceil(len(layers) / count)
    return [list(layers[i : i + length]) for i in range(0, len(layers), length)]


def _draw_row(
    axes: Any, names: list[str], before: Mapping[str, int], after: Mapping[str, int], slots: int
) -> None:
    places = range(len(names))
    thickness = min(0.78, 0.05 * slots)
    axes.bar(places, [before[n] for n in names], width=thickness, color=TRACK)
    axes.bar(places, [after[n] for n in names], width=thickness, color=BLUE)
    highest = max(before[n] for n in names)
    for place, name in zip(places, names, strict=True):
        share = after[name] / before[name] if before[name] else 1.0
        whole = after[name] == before[name]
        axes.text(
            place,
            before[name] + 0.025 * highest,
            f"{100 * share:.0f}",
            ha="center",
            va="bottom",
            fontsize=8,
            color=FAINT if whole else INK,
            fontweight="normal" if whole else "bold",
        )
    axes.set_xlim(-0.6, slots - 0.4)
    axes.set_ylim(0, 1.12 * highest)
    axes.set_xticks(list(places), [shortened(n) for n in names], rotation=90, fontsize=8)
    axes.tick_params(axis="x", length=0)
    axes.grid(axis="x", visible=False)
    axes.yaxis.get_major_locator().set_params(integer=True)
    axes.set_ylabel("channels")


def _draw_legend(drawing: Any) -> None:
    from matplotlib.patches import Patch

    drawing.legend(
        handles=[
            Patch(color=TRACK, label="before"),
            Patch(color=BLUE, label="after"),
            Patch(alpha=0, label="number: kept, %"),
        ],
        loc="outside upper right",
        ncols=3,
        fontsize=10,
        handlelength=1.2,
        columnspacing=1.4,
    )


def shortened(name: str) -> str:
    """A name short enough for a tick: its middle goes, since both ends tell layers apart."""
    if len(name) <= _LONGEST_NAME:
        return name
    half = (_LONGEST_NAME - 1) // 2
    return f"{name[:half]}…{name[-half:]}"
