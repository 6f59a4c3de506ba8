"""The picture of every layer's width before and after."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from keras_gcp.errors import InvalidArgument
from keras_gcp.extras import imported
from keras_gcp.formatting import percent, shortened_at_words
from keras_gcp.reporting.style import BLUE, FAINT, INK, NARROW, TRACK, figure

T = TypeVar("T")

LAYERS_PER_ROW = 40
_LONGEST_NAME = 34
_LONGEST_NAME_NARROW = 27


def width_bars(
    before: Mapping[str, int],
    after: Mapping[str, int],
    path: str | Path,
    prunable: tuple[int, int] | None = None,
    narrow: bool = False,
) -> Path:
    """Draws every layer's width before (grey) and after (blue), and the kept share.

    Args:
        before: Layer to number of output channels, in the order to draw.
        after: The same layers, after pruning.
        path: SVG, PDF or PNG file to write.
        prunable: The prunable channels before and after, as a plan counts them (`before.channels`,
            `after.channels`); None counts all channels of the layers.
        narrow: Whether it is for a telephone: a line for every layer.

    Returns:
        The path.

    Raises:
        InvalidArgument: There is no layer, or the two name different layers.
        MissingPackage: Matplotlib is not installed.
    """
    if not before or set(before) != set(after):
        odd = sorted(set(before) ^ set(after))
        raise InvalidArgument(
            f"Widths before ({len(before)} layers) and after ({len(after)}) must name the same "
            f"layers, at least one. Named once only: {odd}"
        )
    total, kept = prunable or (sum(before.values()), sum(after.values()))
    what = "prunable channels" if prunable else "channels"
    title = f"{kept:,} of {total:,} {what} kept ({percent(kept / total)})" if total else ""
    names = shortened_at_words(before, _LONGEST_NAME_NARROW if narrow else _LONGEST_NAME)
    widths = [_Width(names[layer], before[layer], after[layer]) for layer in before]
    if narrow:
        _draw_lines(widths, path, title)
    else:
        _draw_rows(widths, path, title)
    return Path(path)


@dataclass(frozen=True)
class _Width:
    name: str
    before: int
    after: int

    @property
    def share(self) -> str:
        return f"{100 * self.after / self.before:.0f}" if self.before else "100"

    @property
    def style(self) -> dict[str, str]:
        """Of the number: bold where something went."""
        whole = self.after == self.before
        return {"color": FAINT if whole else INK, "fontweight": "normal" if whole else "bold"}


def rows_of(layers: Sequence[T]) -> list[list[T]]:
    """Layers in as few rows as stay readable, the rows equally long but for the last."""
    count = math.ceil(len(layers) / LAYERS_PER_ROW)
    length = math.ceil(len(layers) / count)
    return [list(layers[i : i + length]) for i in range(0, len(layers), length)]


def _draw_rows(widths: Sequence[_Width], path: str | Path, title: str) -> None:
    rows = rows_of(widths)
    per_row = len(rows[0])
    width = min(13.3, max(9.5, 1.5 + 0.42 * per_row))
    height_of_names = 0.075 * max(len(one.name) for one in widths)
    with figure(path, width, 0.75 + (1.75 + height_of_names) * len(rows), title) as drawing:
        grid = drawing.subplots(len(rows), 1, squeeze=False)[:, 0]
        for axes, row in zip(grid, rows, strict=True):
            _draw_row(axes, row, per_row)
        _draw_legend(drawing)


def _draw_row(axes: Any, row: Sequence[_Width], slots: int) -> None:
    places = range(len(row))
    thickness = min(0.78, 0.05 * slots)
    axes.bar(places, [one.before for one in row], width=thickness, color=TRACK)
    axes.bar(places, [one.after for one in row], width=thickness, color=BLUE)
    highest = max(one.before for one in row)
    for place, one in zip(places, row, strict=True):
        height = one.before + 0.025 * highest
        axes.text(place, height, one.share, ha="center", va="bottom", fontsize=8, **one.style)
    axes.set_xlim(-0.6, slots - 0.4)
    axes.set_ylim(0, 1.12 * highest)
    axes.set_xticks(list(places), [one.name for one in row], rotation=90, fontsize=8)
    axes.tick_params(axis="x", length=0)
    axes.grid(axis="x", visible=False)
    axes.yaxis.get_major_locator().set_params(integer=True)
    axes.set_ylabel("channels")


def _draw_lines(widths: Sequence[_Width], path: str | Path, title: str) -> None:
    with figure(path, NARROW, 1.1 + 0.2 * len(widths), title) as drawing:
        axes = drawing.subplots()
        places = range(len(widths))
        axes.barh(places, [one.before for one in widths], height=0.7, color=TRACK)
        axes.barh(places, [one.after for one in widths], height=0.7, color=BLUE)
        widest = max(one.before for one in widths)
        for place, one in zip(places, widths, strict=True):
            end = one.before + 0.025 * widest
            axes.text(end, place, f"{one.share} %", va="center", fontsize=8, **one.style)
        axes.set_ylim(len(widths) - 0.4, -0.6)
        axes.set_xlim(0, 1.25 * widest)
        axes.set_yticks(list(places), [one.name for one in widths], fontsize=8)
        axes.tick_params(axis="y", length=0)
        axes.grid(axis="y", visible=False)
        axes.xaxis.get_major_locator().set_params(integer=True, nbins=4)
        axes.set_xlabel("channels before (grey) and after (blue)", fontsize=9)


def _draw_legend(drawing: Any) -> None:
    Patch = imported("matplotlib.patches", "Pictures need").Patch
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
