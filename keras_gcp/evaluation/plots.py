"""Pictures of what fewer channels cost: a metric against widths, and against the model's size."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from keras_gcp import formatting
from keras_gcp.costs.cost_model import in_words
from keras_gcp.errors import InvalidArgument
from keras_gcp.reporting.style import (
    BLUE,
    DENSE,
    GREEN,
    INK,
    ORANGE,
    PURPLE,
    SKY,
    TRACK,
    VERMILION,
    figure,
)

_COLORS = (VERMILION, BLUE, ORANGE, GREEN, PURPLE, SKY)
_REFERENCE = {"color": DENSE, "linewidth": 1.2, "linestyle": (0, (4, 3))}
_LONGEST_NAME = 30
_LEAST_GAP = 0.17  # of the width of the picture: below, labels of neighbours would overlap


@dataclass(frozen=True)
class Curve:
    """The metric of a model of which one group keeps fewer and fewer channels.

    Attributes:
        name: The group.
        points: Kept share of its channels, and the metric; the narrowest last.
    """

    name: str
    points: tuple[tuple[float, float], ...]


@dataclass(frozen=True)
class SizePoint:
    """A model of one size.

    Attributes:
        share: What is left of the cost that is reduced.
        value: Its metric.
        macs: Its multiply-adds; None if they are unknown.
        parameters: Its parameters.
    """

    share: float
    value: float
    macs: int | None
    parameters: int


def sensitivity_curves(
    curves: Sequence[Curve], baseline: float, metric: str, path: str | Path
) -> Path:
    """Draws the metric against the kept share, a line per group; the first six in colour.

    Args:
        curves: The most sensitive group first.
        baseline: The metric of the whole model.
        metric: Its name.
        path: SVG, PDF or PNG file to write.

    Returns:
        The path.

    Raises:
        InvalidArgument: There is no curve.
        MissingPackage: Matplotlib is not installed.
    """
    if not curves:
        raise InvalidArgument("There are no groups to draw: none was measured with fewer channels.")
    scale = MetricScale.of(metric, [baseline, *(value for c in curves for _, value in c.points)])
    colored, others = curves[: len(_COLORS)], curves[len(_COLORS) :]
    title = f"What each group costs when it alone gets narrower ({len(curves)} groups)"
    with figure(path, 11.0, 5.2, title) as drawing:
        axes = drawing.subplots()
        axes.set_prop_cycle(color=_COLORS)
        # In the order in which the lines end, from above.
        names = formatting.shortened_at_words((curve.name for curve in colored), _LONGEST_NAME)
        for curve in sorted(colored, key=lambda one: -scale.number(one.points[-1][1])):
            label = f"{names[curve.name]}: {scale.text(curve.points[-1][1])}"
            _draw_curve(axes, curve, baseline, scale, label=label, zorder=3)
        for i, curve in enumerate(others):
            name = None if i else f"{len(others)} less sensitive ones"
            _draw_curve(axes, curve, baseline, scale, color=TRACK, label=name, zorder=2)
        axes.axhline(
            scale.number(baseline), label=f"whole model: {scale.text(baseline)}", **_REFERENCE
        )
        axes.set_xlabel("channels kept, %")
        axes.set_ylabel(scale.label)
        axes.invert_xaxis()
        axes.legend(
            loc="upper left",
            bbox_to_anchor=(1.0, 1.02),
            fontsize=10,
            title="each at its narrowest",
            alignment="left",
        )
    return Path(path)


def frontier_curve(
    points: Sequence[SizePoint],
    metric: str,
    resource: str,
    path: str | Path,
    whole_first: bool = False,
) -> Path:
    """Draws the metric against the share of the resource that is left, every point written out.

    Args:
        points: The widest model first.
        metric: Name of the metric.
        resource: What `share` counts.
        path: SVG, PDF or PNG file to write.
        whole_first: Whether the first point is the model before any cut: a line marks its metric.

    Returns:
        The path.

    Raises:
        InvalidArgument: There is no point.
        MissingPackage: Matplotlib is not installed.
    """
    if not points:
        raise InvalidArgument("There are no points to draw.")
    scale = MetricScale.of(metric, (point.value for point in points))
    name = in_words(resource)
    title = f"One training, {len(points)} models: {metric} against {name}"
    with figure(path, 9.5, 5.0, title) as drawing:
        axes = drawing.subplots()
        if whole_first:
            height = scale.number(points[0].value)
            axes.axhline(height, label="before the first cut", zorder=1, **_REFERENCE)
            axes.legend(loc="lower left", fontsize=10)
        shares = [100 * point.share for point in points]
        heights = [scale.number(point.value) for point in points]
        axes.plot(shares, heights, "o-", color=BLUE, markersize=7)
        for i, point in enumerate(points):
            axes.annotate(
                scale.text(point.value),
                (shares[i], heights[i]),
                textcoords="offset points",
                color=INK,
                fontweight="bold",
                bbox={"facecolor": "white", "edgecolor": "none", "pad": 1},
                **_beside_the_line(heights, i),
            )
        axes.set_xticks(shares, _sizes(points))
        axes.set_xlabel(f"{name} left")
        axes.set_ylabel(scale.label)
        axes.margins(x=0.1, y=0.15)
        axes.invert_xaxis()
    return Path(path)


def _beside_the_line(heights: Sequence[float], i: int) -> dict[str, Any]:
    """Where a point's label stands: above, where the line leaves room, else below."""
    rises_before = i > 0 and heights[i - 1] > heights[i]
    rises_after = i + 1 < len(heights) and heights[i + 1] > heights[i]
    if rises_before and rises_after:
        return {"xytext": (0, -10), "ha": "center", "va": "top"}
    if rises_after:
        return {"xytext": (-4, 9), "ha": "right"}
    return {"xytext": (4, 9), "ha": "left"}


def _sizes(points: Sequence[SizePoint]) -> list[str]:
    """What stands below each point; only its share where points are close together."""
    shares = [f"{100 * point.share:.0f} %" for point in points]
    gaps = [one.share - other.share for one, other in itertools.pairwise(points)]
    if min(gaps, default=1.0) < _LEAST_GAP * max(1e-9, points[0].share - points[-1].share):
        return shares
    return [
        "\n".join([share, *_macs(point), f"{formatting.count(point.parameters)} params"])
        for share, point in zip(shares, points, strict=True)
    ]


def _macs(point: SizePoint) -> list[str]:
    return [] if point.macs is None else [f"{formatting.count(point.macs)} MACs"]


class MetricScale:
    """How a metric is shown: shares in percent, anything else as it is."""

    def __init__(self, metric: str, percent: bool) -> None:
        self._factor = 100.0 if percent else 1.0
        self._unit = " %" if percent else ""
        self.label = f"{metric}, %" if percent else metric

    @staticmethod
    def of(metric: str, values: Iterable[float]) -> MetricScale:
        share = any(word in metric.lower() for word in ("acc", "precision", "recall"))
        return MetricScale(metric, share and all(0 <= value <= 1 for value in values))

    def number(self, value: float) -> float:
        return self._factor * value

    def text(self, value: float) -> str:
        return f"{100 * value:.1f} %" if self._unit else formatting.three_digits(value)


def _draw_curve(axes: Any, curve: Curve, baseline: float, scale: MetricScale, **style: Any) -> None:
    heights = {100.0: scale.number(baseline)}
    heights.update((100 * share, scale.number(value)) for share, value in curve.points)
    axes.plot(list(heights), list(heights.values()), "o-", markersize=4, **style)
