"""The picture of the exported files: bytes and latency before and after."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from keras_gcp import formatting
from keras_gcp.errors import InvalidArgument
from keras_gcp.reporting.rows import Pair, Spreads, overlap
from keras_gcp.reporting.style import BLUE, INK, TRACK, figure

_WHISKER = {"ecolor": INK, "elinewidth": 1.2, "capsize": 3.0}


def files_chart(
    sizes: Mapping[str, Pair],
    latencies: Mapping[str, Pair],
    path: str | Path,
    latency_spreads: Mapping[str, Spreads] | None = None,
) -> Path:
    """Draws size and latency of every format before (pale) and after (dark), factors written out.

    Args:
        sizes: Format to bytes before and after.
        latencies: Format to milliseconds per example before and after; may be empty.
        path: PNG file to write.
        latency_spreads: Format to the 10th and 90th percentile of the calls before, and after;
            drawn as whiskers, and no factor is written where they overlap.

    Returns:
        The path.

    Raises:
        InvalidArgument: There is nothing to draw.
        PlottingUnavailable: Matplotlib is not installed.
    """
    panels = [
        panel
        for panel in (_sizes(sizes), _latencies(latencies, latency_spreads or {}))
        if panel.values
    ]
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
    spreads: Mapping[str, Spreads] = field(default_factory=dict)

    def change(self, name: str) -> str:
        """How many times less or more; nothing where spreads overlap."""
        if name in self.spreads and overlap(self.spreads[name]):
            return ""
        before, after = self.values[name]
        if after <= before:
            return f"  ({formatting.factor(before, after)} {self.less})"
        return f"  ({formatting.factor(after, before)} {self.more})"

    def whiskers(self, name: str) -> tuple[list[list[float]] | None, list[list[float]] | None]:
        """How far the spread goes to the left and to the right of both values."""
        if name not in self.spreads:
            return None, None
        both = zip(self.values[name], self.spreads[name], strict=True)
        before, after = ([[value - low], [high - value]] for value, (low, high) in both)
        return before, after

    def ends(self, name: str) -> Pair:
        """Where both bars end, whiskers included."""
        if name not in self.spreads:
            return self.values[name]
        before, after = self.spreads[name]
        return before[1], after[1]


def _sizes(values: Mapping[str, Pair]) -> _Panel:
    return _Panel("Size of the file", values, formatting.file_size, "smaller", "larger")


def _latencies(values: Mapping[str, Pair], spreads: Mapping[str, Spreads]) -> _Panel:
    title = "Latency, 10th to 90th percentile" if spreads else "Latency of one example"
    return _Panel(title, values, formatting.milliseconds, "faster", "slower", spreads)


def _draw_panel(axes: Any, panel: _Panel, slots: int) -> None:
    longest = max(max(panel.ends(name)) for name in panel.values)
    for place, (name, (before, after)) in enumerate(panel.values.items()):
        before_whiskers, after_whiskers = panel.whiskers(name)
        axes.barh(place - 0.19, before, 0.34, color=TRACK, xerr=before_whiskers, error_kw=_WHISKER)
        axes.barh(place + 0.19, after, 0.34, color=BLUE, xerr=after_whiskers, error_kw=_WHISKER)
        offset, size = 0.015 * longest, 9
        before_end, after_end = panel.ends(name)
        axes.text(before_end + offset, place - 0.19, panel.text(before), va="center", fontsize=size)
        axes.text(
            after_end + offset,
            place + 0.19,
            f"{panel.text(after)}{panel.change(name)}",
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
