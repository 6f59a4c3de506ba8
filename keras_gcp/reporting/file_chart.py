"""The picture of the exported files: bytes and latency before and after."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from keras_gcp import formatting
from keras_gcp.errors import InvalidArgument
from keras_gcp.extras import imported
from keras_gcp.reporting.rows import Pair, Spreads, format_name, overlap
from keras_gcp.reporting.style import BLUE, INK, NARROW, TRACK, figure

_TITLE = "Files before and after pruning"
_LONGEST_WHISKER = 1.6  # of the median: a busy machine must not press the bars to the left
_WHISKER = {"ecolor": INK, "elinewidth": 1.2, "capsize": 3.0}


def files_chart(
    sizes: Mapping[str, Pair],
    latencies: Mapping[str, Pair],
    path: str | Path,
    latency_spreads: Mapping[str, Spreads] | None = None,
    narrow: bool = False,
) -> Path:
    """Draws size and latency of every format before (pale) and after (dark), factors written out.

    Args:
        sizes: Format to bytes before and after.
        latencies: Format to milliseconds per example before and after; may be empty.
        path: SVG, PDF or PNG file to write.
        latency_spreads: Format to the 10th and 90th percentile of the calls before, and after;
            drawn as whiskers, and no factor is written where they overlap.
        narrow: Whether it is for a telephone: one below the other.

    Returns:
        The path.

    Raises:
        InvalidArgument: There is nothing to draw.
        MissingPackage: Matplotlib is not installed.
    """
    panels = [
        panel
        for panel in (_sizes(sizes), _latencies(latencies, latency_spreads or {}))
        if panel.values
    ]
    if not panels:
        raise InvalidArgument("There are no sizes and no latencies to draw.")
    if narrow:
        _draw_below_each_other(panels, path)
    else:
        _draw_side_by_side(panels, path)
    return Path(path)


def _draw_side_by_side(panels: Sequence[_Panel], path: str | Path) -> None:
    slots = max(len(panel.values) for panel in panels)
    with figure(path, 5.6 * len(panels), 1.5 + 0.75 * slots, _TITLE) as drawing:
        grid = drawing.subplots(1, len(panels), squeeze=False)[0]
        for axes, panel in zip(grid, panels, strict=True):
            _draw_panel(axes, panel, slots, room=1.5)
        _draw_legend(drawing, "outside upper right")


def _draw_below_each_other(panels: Sequence[_Panel], path: str | Path) -> None:
    heights = [0.5 + 0.75 * len(panel.values) for panel in panels]
    with figure(path, NARROW, 1.0 + sum(heights), _TITLE) as drawing:
        grid = drawing.subplots(len(panels), 1, squeeze=False, height_ratios=heights)[:, 0]
        for axes, panel in zip(grid, panels, strict=True):
            _draw_panel(axes, panel, len(panel.values), room=2.3)
        _draw_legend(drawing, "outside lower left")


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

    def shown(self, name: str, which: int) -> str:
        """A value, and where its whisker would end if it is too long to be drawn."""
        text = self.text(self.values[name][which])
        if name not in self.spreads or self.spreads[name][which][1] <= self.ends(name)[which]:
            return text
        return f"{text} (to {formatting.three_digits(self.spreads[name][which][1])})"

    def whiskers(self, name: str) -> tuple[list[list[float]] | None, list[list[float]] | None]:
        """How far the spread goes to the left and to the right of both values."""
        if name not in self.spreads:
            return None, None
        (low, _), (other_low, _) = self.spreads[name]
        (value, other), (end, other_end) = self.values[name], self.ends(name)
        return [[value - low], [end - value]], [[other - other_low], [other_end - other]]

    def ends(self, name: str) -> Pair:
        """Where both bars end, whiskers included; those of a few slow calls are cut."""
        if name not in self.spreads:
            return self.values[name]
        both = zip(self.values[name], self.spreads[name], strict=True)
        before, after = (min(high, _LONGEST_WHISKER * value) for value, (_, high) in both)
        return before, after


def _sizes(values: Mapping[str, Pair]) -> _Panel:
    return _Panel("Size of the file", values, formatting.file_size, "smaller", "larger")


def _latencies(values: Mapping[str, Pair], spreads: Mapping[str, Spreads]) -> _Panel:
    title = "Latency, 10th to 90th percentile" if spreads else "Latency of one example"
    return _Panel(title, values, formatting.milliseconds, "faster", "slower", spreads)


def _draw_panel(axes: Any, panel: _Panel, slots: int, room: float) -> None:
    longest = max(max(panel.ends(name)) for name in panel.values)
    for place, (name, (before, after)) in enumerate(panel.values.items()):
        before_whiskers, after_whiskers = panel.whiskers(name)
        axes.barh(place - 0.19, before, 0.34, color=TRACK, xerr=before_whiskers, error_kw=_WHISKER)
        axes.barh(place + 0.19, after, 0.34, color=BLUE, xerr=after_whiskers, error_kw=_WHISKER)
        offset, size = 0.015 * longest, 9
        before_end, after_end = panel.ends(name)
        axes.text(
            before_end + offset, place - 0.19, panel.shown(name, 0), va="center", fontsize=size
        )
        axes.text(
            after_end + offset,
            place + 0.19,
            f"{panel.shown(name, 1)}{panel.change(name)}",
            va="center",
            fontsize=size,
            fontweight="bold",
        )
    axes.set_yticks(range(len(panel.values)), [format_name(name) for name in panel.values])
    axes.set_ylim(slots - 0.5, -0.5)
    axes.set_xlim(0, room * longest)
    axes.set_xticks([])
    axes.spines[["bottom", "left"]].set_visible(False)
    axes.tick_params(axis="y", length=0)
    axes.grid(visible=False)
    axes.set_title(panel.heading)


def _draw_legend(drawing: Any, place: str) -> None:
    Patch = imported("matplotlib.patches", "Pictures need").Patch
    drawing.legend(
        handles=[Patch(color=TRACK, label="before"), Patch(color=BLUE, label="after")],
        loc=place,
        ncols=2,
        fontsize=10,
        handlelength=1.2,
    )
