"""The picture of the exported files: bytes and latency before and after."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from keras_gcp import formatting
from keras_gcp.errors import InvalidArgument
from keras_gcp.reporting.style import BLUE, TRACK, figure

Pair = tuple[float, float]


def files_chart(sizes: Mapping[str, Pair], latencies: Mapping[str, Pair], path: str | Path) -> Path:
    """Draws size and latency of every format before (pale) and after (dark), factors written out.

    Args:
        sizes: Format to bytes before and after.
        latencies: Format to milliseconds per example before and after; may be empty.
        path: PNG file to write.

    Returns:
        The path.

    Raises:
        InvalidArgument: There is nothing to draw.
        PlottingUnavailable: Matplotlib is not installed.
    """
    panels = [panel for panel in (_sizes(sizes), _latencies(latencies)) if panel.values]
    if not panels:
        raise InvalidArgument("There are no sizes and no latencies to draw.")
    slots = max(len(panel.values) for panel in panels)
    title = "Files before and after pruning"
    with figure(path, 5.6 * len(panels), 1.5 + 0.75 * slots, title) as drawing:
        grid = drawing.subplots(1, len(panels), squeeze=False)[0]
        for axes, panel in zip(grid, panels, strict=True):
            _draw_panel(axes, panel, slots)
        _draw_legend(drawing)
    return Path(path)


@dataclass(frozen=True)
class _Panel:
    heading: str
    values: Mapping[str, Pair]
    text: Callable[[float], str]
    less: str
    more: str

    def change(self, before: float, after: float) -> str:
        if after <= before:
            return f"{formatting.factor(before, after)} {self.less}"
        return f"{formatting.factor(after, before)} {self.more}"


def _sizes(values: Mapping[str, Pair]) -> _Panel:
    return _Panel("Size of the file", values, formatting.file_size, "smaller", "larger")


def _latencies(values: Mapping[str, Pair]) -> _Panel:
    return _Panel("Latency of one example", values, formatting.milliseconds, "faster", "slower")


def _draw_panel(axes: Any, panel: _Panel, slots: int) -> None:
    longest = max(max(pair) for pair in panel.values.values())
    for place, (before, after) in enumerate(panel.values.values()):
        axes.barh(place - 0.19, before, height=0.34, color=TRACK)
        axes.barh(place + 0.19, after, height=0.34, color=BLUE)
        offset, size = 0.015 * longest, 9
        axes.text(before + offset, place - 0.19, panel.text(before), va="center", fontsize=size)
        axes.text(
            after + offset,
            place + 0.19,
            f"{panel.text(after)}  ({panel.change(before, after)})",
            va="center",
            fontsize=size,
            fontweight="bold",
        )
    axes.set_yticks(range(len(panel.values)), list(panel.values))
    axes.set_ylim(slots - 0.5, -0.5)
    axes.set_xlim(0, 1.5 * longest)
    axes.set_xticks([])
    axes.spines[["bottom", "left"]].set_visible(False)
    axes.tick_params(axis="y", length=0)
    axes.grid(visible=False)
    axes.set_title(panel.heading)


def _draw_legend(drawing: Any) -> None:
    from matplotlib.patches import Patch

    drawing.legend(
        handles=[Patch(color=TRACK, label="before"), Patch(color=BLUE, label="after")],
        loc="outside upper right",
        ncols=2,
        fontsize=10,
        handlelength=1.2,
    )
