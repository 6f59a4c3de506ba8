"""The picture of a comparison: a metric against a cost, and the front that nothing beats."""

from __future__ import annotations

import itertools
import textwrap
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from keras_gcp import formatting
from keras_gcp.evaluation.plots import MetricScale
from keras_gcp.extras import imported
from keras_gcp.reporting.style import BLUE, DENSE, FAINT, INK, figure

_LONGEST_NAME = 22


@dataclass(frozen=True)
class Point:
    """A model or file.

    Attributes:
        name: Its name.
        cost: What it costs.
        value: Its metric.
        is_best: Whether nothing is as good and cheaper, or as cheap and better.
    """

    name: str
    cost: float
    value: float
    is_best: bool


def front_chart(points: Sequence[Point], metric: str, cost: str, path: str | Path) -> Path:
    """Draws every point with its name; those that nothing beats in blue, joined by a line.

    Args:
        points: The models.
        metric: Name of the metric.
        cost: Which cost it is, of those of a `Comparison`.
        path: The file to write, .svg or .png.

    Returns:
        The path.

    Raises:
        MissingPackage: Matplotlib is not installed.
    """
    scale = MetricScale.of(metric, (point.value for point in points))
    name, unit, text = _COSTS[cost]
    with figure(path, 8.0, 5.0, f"{metric} against {name}") as drawing:
        axes = drawing.subplots()
        _draw_front(axes, [point for point in points if point.is_best], scale)
        for point in sorted(points, key=lambda one: one.is_best):  # The best ones on top.
            color = BLUE if point.is_best else DENSE
            axes.plot(point.cost, scale.number(point.value), "o", color=color, markersize=8)
        _set_axes(axes, points, text)
        axes.set_xlabel(f"{name}, {unit}" if unit else name)
        axes.set_ylabel(scale.label)
        _write_names(drawing, axes, points, scale)
    return Path(path)


def _draw_front(axes: Any, front: Sequence[Point], scale: MetricScale) -> None:
    """In steps: for a cost in between, the cheaper one is the best there is."""
    if len(front) < 2:
        return
    ordered = sorted(front, key=lambda point: point.cost)
    axes.plot(
        [point.cost for point in ordered],
        [scale.number(point.value) for point in ordered],
        color=BLUE,
        drawstyle="steps-post",
        zorder=1,
        label="Pareto front: nothing is as good and cheaper",
    )
    axes.legend(loc="upper left", bbox_to_anchor=(0.0, 1.1), fontsize=10, borderaxespad=0.0)


def _set_axes(axes: Any, points: Sequence[Point], text: Callable[[float], str]) -> None:
    ticker = imported("matplotlib.ticker", "Pictures need")
    axes.margins(x=0.15, y=0.2)
    costs = [point.cost for point in points]
    if 0 < min(costs) * _WIDE < max(costs):
        axes.set_xscale("log")
        axes.xaxis.set_minor_formatter(lambda value, _: "")
    else:
        axes.set_xlim(left=0)
        axes.xaxis.set_major_locator(ticker.MaxNLocator(5))
    axes.xaxis.set_major_formatter(lambda value, _: text(value) if value > 0 else "0")


def _write_names(drawing: Any, axes: Any, points: Sequence[Point], scale: MetricScale) -> None:
    """Names beside each point, where no name, no point and no line stands yet."""
    drawing.draw_without_rendering()  # Only then it is known where points are, in pixels.
    pixel = drawing.dpi / 72
    groups = _together(points, axes.transData.transform, scale, 6 * pixel)
    around = 6 * pixel
    taken = [(x - around, y - around, x + around, y + around) for x, y, _ in groups]
    best = sorted((x, y) for x, y, group in groups if any(point.is_best for point in group))
    taken += _steps(best, 2 * pixel)
    box = axes.get_window_extent()
    for x, y, group in groups:
        lines = _lines(group, scale)
        width, height = 6.2 * pixel * max(map(len, lines)), 13 * pixel * len(lines)
        areas = {offset: _area(x, y, offset, width, height, pixel) for offset in _OFFSETS}
        offset = min(_OFFSETS, key=lambda one: _covered(areas[one], taken, box))
        taken.append(areas[offset])
        is_best = any(point.is_best for point in group)
        axes.annotate(
            "\n".join(lines),
            (group[0].cost, scale.number(group[0].value)),
            textcoords="offset points",
            xytext=(offset[0], offset[1] * (1 + 0.5 * (len(lines) - 1))),
            ha=offset[2],
            va="center",
            fontsize=10,
            color=INK if is_best else FAINT,
            fontweight="bold" if is_best else "normal",
        )


def _steps(best: Sequence[tuple[float, float]], thickness: float) -> list[Box]:
    """What the line of the front covers."""
    found = []
    for (x, y), (next_x, next_y) in itertools.pairwise(best):
        low, high = min(y, next_y), max(y, next_y)
        found.append((x, y - thickness, next_x, y + thickness))
        found.append((next_x - thickness, low, next_x + thickness, high))
    return found


def _together(
    points: Sequence[Point], place: Callable[[Any], Any], scale: MetricScale, near: float
) -> list[tuple[float, float, list[Point]]]:
    """Points that cover each other, with where they are, in pixels."""
    groups: list[tuple[float, float, list[Point]]] = []
    for point in points:
        x, y = place((point.cost, scale.number(point.value)))
        for other_x, other_y, members in groups:
            if abs(x - other_x) < near and abs(y - other_y) < near:
                members.append(point)
                break
        else:
            groups.append((x, y, [point]))
    return groups


def _lines(group: Sequence[Point], scale: MetricScale) -> list[str]:
    names = ", ".join(formatting.shortened(point.name, _LONGEST_NAME) for point in group)
    return textwrap.wrap(f"{names}  {scale.text(group[0].value)}", 34, break_long_words=False)


Offset = tuple[float, float, str]
"""Right and up, in points, and how the text is aligned there."""

_OFFSETS: tuple[Offset, ...] = (
    *((9.0, 0.0, "left"), (0.0, 14.0, "center"), (0.0, -14.0, "center"), (-9.0, 0.0, "right")),
    *((9.0, 12.0, "left"), (9.0, -12.0, "left"), (-9.0, 12.0, "right"), (-9.0, -12.0, "right")),
    *((9.0, 24.0, "left"), (9.0, -24.0, "left"), (-9.0, 24.0, "right"), (-9.0, -24.0, "right")),
)

Box = tuple[float, float, float, float]


def _area(x: float, y: float, offset: Offset, width: float, height: float, pixel: float) -> Box:
    left = x + offset[0] * pixel - {"left": 0.0, "center": 0.5, "right": 1.0}[offset[2]] * width
    up = offset[1] * pixel
    middle = y + up + (height / 2 - 6.5 * pixel) * ((up > 0) - (up < 0))
    return left, middle - height / 2, left + width, middle + height / 2


def _covered(area: Box, taken: Sequence[Box], box: Any) -> float:
    """How much of an area is taken, or lies outside of the box."""
    outside = (area[2] - area[0]) * (area[3] - area[1]) - _common(area, box.extents)
    return outside + sum(_common(area, other) for other in taken)


def _common(area: Box, other: Any) -> float:
    across = min(area[2], other[2]) - max(area[0], other[0])
    along = min(area[3], other[3]) - max(area[1], other[1])
    return float(max(across, 0.0) * max(along, 0.0))


_WIDE = 20
"""Costs that differ by more stand on a logarithmic axis."""

_COSTS: Mapping[str, tuple[str, str, Callable[[float], str]]] = {
    "macs": ("multiply-adds of one example", "", formatting.count),
    "parameters": ("parameters", "", formatting.count),
    "bytes": ("size of the file", "", formatting.file_size),
    "latency_ms": ("latency of one example", "ms", lambda value: f"{value:.4g}"),
    "peak_bytes": ("peak memory of one example", "", formatting.file_size),
}
