"""Pictures of what fewer channels cost: a metric against widths, and against the model's size."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from keras_gcp.errors import InvalidArgument
from keras_gcp.reporting import units
from keras_gcp.reporting.figures import (
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
from keras_gcp.reporting.widths import shortened

if TYPE_CHECKING:  # These modules draw with this one.
    from keras_gcp.frontiers import Frontier, FrontierPoint
    from keras_gcp.sensitivities import GroupSensitivity, Sensitivity

_COLORS = (VERMILION, BLUE, ORANGE, GREEN, PURPLE, SKY)
_REFERENCE = {"color": DENSE, "linewidth": 1.2, "linestyle": (0, (4, 3))}
_LEAST_GAP = 0.17  # of the width of the picture: below, labels of neighbours would overlap
_COIN_NAMES = {"macs": "MACs"}


def sensitivity_curves(sensitivity: Sensitivity, path: str | Path) -> Path:
    """Draws the metric against the kept share, a line per group; the six lowest in colour.

    Args:
        sensitivity: The measurements.
        path: PNG file to write.

    Returns:
        The path.

    Raises:
        InvalidArgument: There is no group that was measured with fewer channels.
        PlottingUnavailable: Matplotlib is not installed.
    """
    groups = [group for group in sensitivity.groups if group.narrowed]
    if not groups:
        raise InvalidArgument("There are no groups to draw: none was measured with fewer channels.")
    scale = _Scale.of(
        sensitivity.metric,
        [sensitivity.baseline, *(p.value for g in groups for p in g.points)],
    )
    ranked = sorted(groups, key=lambda group: -_mean_drop(sensitivity, group))
    colored, others = ranked[: len(_COLORS)], ranked[len(_COLORS) :]
    title = f"What each group costs when it alone gets narrower ({len(ranked)} groups)"
    with figure(path, 11.0, 5.2, title) as drawing:
        axes = drawing.subplots()
        axes.set_prop_cycle(color=_COLORS)
        # In the order in which the lines end, from above.
        for group in sorted(colored, key=lambda one: -scale.number(one.points[-1].value)):
            label = f"{shortened(group.name)}: {scale.text(group.points[-1].value)}"
            _draw_group(axes, sensitivity, group, scale, label=label, zorder=3)
        for i, group in enumerate(others):
            name = None if i else f"{len(others)} less sensitive ones"
            _draw_group(axes, sensitivity, group, scale, color=TRACK, label=name, zorder=2)
        axes.axhline(
            scale.number(sensitivity.baseline),
            label=f"whole model: {scale.text(sensitivity.baseline)}",
            **_REFERENCE,
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


def frontier_curve(frontier: Frontier, path: str | Path) -> Path:
    """Draws the metric against the share of the coin that is left, every point written out.

    Args:
        frontier: The points.
        path: PNG file to write.

    Returns:
        The path.

    Raises:
        InvalidArgument: There is no point.
        PlottingUnavailable: Matplotlib is not installed.
    """
    if not frontier.points:
        raise InvalidArgument("There are no points to draw.")
    scale = _Scale.of(frontier.metric, (point.value for point in frontier.points))
    coin = _COIN_NAMES.get(frontier.coin, frontier.coin)
    title = f"One training, {len(frontier.points)} models: {frontier.metric} against {coin}"
    with figure(path, 9.5, 5.0, title) as drawing:
        axes = drawing.subplots()
        first = frontier.points[0]
        if first.budget == 1:
            axes.axhline(
                scale.number(first.value), label="before the first cut", zorder=1, **_REFERENCE
            )
            axes.legend(loc="lower left", fontsize=10)
        shares = [100 * point.share for point in frontier.points]
        heights = [scale.number(point.value) for point in frontier.points]
        axes.plot(shares, heights, "o-", color=BLUE, markersize=7)
        for i, point in enumerate(frontier.points):
            axes.annotate(
                scale.text(point.value),
                (shares[i], heights[i]),
                textcoords="offset points",
                color=INK,
                fontweight="bold",
                bbox={"facecolor": "white", "edgecolor": "none", "pad": 1},
                **_beside_the_line(heights, i),
            )
        axes.set_xticks(shares, _sizes(frontier.points))
        axes.set_xlabel(f"{coin} left")
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


def _sizes(points: Sequence[FrontierPoint]) -> list[str]:
    """What stands below each point; only its share where points are close together."""
    shares = [f"{100 * point.share:.0f} %" for point in points]
    gaps = [one.share - other.share for one, other in itertools.pairwise(points)]
    if min(gaps, default=1.0) < _LEAST_GAP * max(1e-9, points[0].share - points[-1].share):
        return shares
    return [
        "\n".join([share, *_macs(point), f"{units.count(point.parameters)} params"])
        for share, point in zip(shares, points, strict=True)
    ]


def _macs(point: FrontierPoint) -> list[str]:
    return [] if point.macs is None else [f"{units.count(point.macs)} MACs"]


class _Scale:
    """How a metric is shown: shares in percent, anything else as it is."""

    def __init__(self, metric: str, percent: bool) -> None:
        self._factor = 100.0 if percent else 1.0
        self._unit = " %" if percent else ""
        self.label = f"{metric}, %" if percent else metric

    @staticmethod
    def of(metric: str, values: Iterable[float]) -> _Scale:
        share = any(word in metric.lower() for word in ("acc", "precision", "recall"))
        return _Scale(metric, share and all(0 <= value <= 1 for value in values))

    def number(self, value: float) -> float:
        return self._factor * value

    def text(self, value: float) -> str:
        return f"{100 * value:.1f} %" if self._unit else units.three_digits(value)


def _mean_drop(sensitivity: Sensitivity, group: GroupSensitivity) -> float:
    return sum(sensitivity.drop(point.value) for point in group.points) / len(group.points)


def _draw_group(
    axes: Any, sensitivity: Sensitivity, group: GroupSensitivity, scale: _Scale, **style: Any
) -> None:
    curve = {100.0: scale.number(sensitivity.baseline)}
    curve.update((100 * p.kept / group.width, scale.number(p.value)) for p in group.points)
    axes.plot(list(curve), list(curve.values()), "o-", markersize=4, **style)
