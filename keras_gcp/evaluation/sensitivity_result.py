"""Sensitivities: a metric against the kept share of each group. Sees numbers and names only."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from keras_gcp.errors import InvalidArgument
from keras_gcp.formatting import table, wrapped
from keras_gcp.selection.prior import LEAST_WEIGHT, check_weighable
from keras_gcp.validation.plain_data import DoesNotFit, check_finite, fields_of, parsed, told_as

FORMAT = 1


@dataclass(frozen=True)
class SensitivityPoint:
    """One measurement.

    Attributes:
        share: Share of the group's channels that was asked for.
        kept: Number of channels that were kept, the best ones.
        value: The metric.
    """

    share: float
    kept: int
    value: float


@dataclass(frozen=True)
class GroupSensitivity:
    """The curve of one group.

    Attributes:
        name: The group's name.
        layers: The layers that produce its channels.
        width: Its number of channels.
        points: The measurements, from wide to narrow.
    """

    name: str
    layers: tuple[str, ...]
    width: int
    points: tuple[SensitivityPoint, ...]

    @property
    def narrowed(self) -> bool:
        """Whether it was measured with fewer channels at all; some groups have to keep theirs."""
        return any(point.kept < self.width for point in self.points)

    def limited(self, point: SensitivityPoint) -> bool:
        """Whether more channels had to stay than the share asked for."""
        return point.kept > max(1, round(point.share * self.width))


@dataclass(frozen=True)
class Sensitivity:
    """What a metric becomes when one group alone keeps a part of its channels.

    Attributes:
        metric: The metric's name.
        higher_is_better: Whether larger values are better.
        baseline: The metric of the whole model.
        examples: Number of examples it was measured on.
        groups: A curve for every group that may be pruned, in network order.
    """

    metric: str
    higher_is_better: bool
    baseline: float
    examples: int
    groups: tuple[GroupSensitivity, ...]

    def drop(self, value: float) -> float:
        """By how much a value is worse than the baseline; negative if it is better."""
        return self.baseline - value if self.higher_is_better else value - self.baseline

    def explain(self) -> str:
        """A text table: every group, and the metric at every share."""
        shares = [point.share for point in self.groups[0].points] if self.groups else []
        limited = False
        rows: list[list[Any]] = []
        for group in self.groups:
            marks = ["*" if group.limited(point) else "" for point in group.points]
            limited |= any(marks)
            values = (f"{p.value:.4f}{m}" for p, m in zip(group.points, marks, strict=True))
            rows.append([group.name, group.width, *values])
        lines = [
            table(["group", "channels", *(f"{share:.0%}" for share in shares)], rows),
            wrapped(
                f"{self.metric} when one group alone keeps a share of its channels; the whole "
                f"model: {self.baseline:.4f}, on {self.examples:,} examples"
            ),
        ]
        if limited:
            lines.append(
                "* the group has to keep more channels than that; `plan.explain()` says why"
            )
        return "\n".join(lines)

    def plot(self, path: str | Path) -> Path:
        """Draws the curves of all groups, the most sensitive ones in colour.

        Args:
            path: SVG, PDF or PNG file to write.

        Raises:
            MissingPackage: Matplotlib is not installed (`pip install "keras-gcp[plot]"`).
        """
        from keras_gcp.evaluation.plots import Curve, sensitivity_curves

        narrowed = [group for group in self.groups if group.narrowed]
        curves = [
            Curve(group.name, tuple((p.kept / group.width, p.value) for p in group.points))
            for group in sorted(narrowed, key=self._mean_drop, reverse=True)
        ]
        return sensitivity_curves(curves, self.baseline, self.metric, path)

    def _mean_drop(self, group: GroupSensitivity) -> float:
        return sum(self.drop(point.value) for point in group.points) / len(group.points)

    def to_dict(self) -> dict[str, Any]:
        """The measurements as a dict that `json.dumps` takes."""
        return {"format": FORMAT, **asdict(self)}

    @staticmethod
    def from_dict(values: Mapping[str, Any]) -> Sensitivity:
        """The inverse of `to_dict`.

        Raises:
            InvalidArgument: it is not one of a known format.
        """
        with told_as("Sensitivity.to_dict"):
            fields = fields_of(values, FORMAT)
            check_finite(fields, but=("value",))  # A masked model's metric may be NaN.
            found: Sensitivity = parsed(Sensitivity, fields)
            found._check()
            return found

    def _check(self) -> None:
        for i, group in enumerate(self.groups):
            if len(group.points) != len(self.groups[0].points):
                raise DoesNotFit(f"groups[{i}] has another number of points than the first group")
            for j, point in enumerate(group.points):
                if not (0 < point.share <= 1 and 0 <= point.kept <= group.width):
                    raise DoesNotFit(
                        f"groups[{i}].points[{j}] has the share {point.share} and keeps "
                        f"{point.kept} of {group.width} channels"
                    )

    def weighted(self, scores: np.ndarray, groups: Mapping[str, np.ndarray]) -> np.ndarray:
        """Scores times the loss that the measurements predict for each channel's removal.

        The n-th best channel of a group leaves when the group shrinks from n channels to n - 1;
        its weight is the slope of the group's curve there: the drop of the metric per channel. So
        wide groups that lose nothing are pruned far, and no further than to where their curve
        falls. Slopes never fall towards the best channels, which keeps the order within a group;
        below the narrowest measurement the last one goes on. A hundredth of the mean is added, so
        that channels whose removal did not show are still ranked by their scores.

        Args:
            scores: One score per set of coupled channels, larger = keep.
            groups: Name of each group that may be pruned to its coupled channels.

        Returns:
            Scores of the same shape; those outside of all groups are unchanged.

        Raises:
            InvalidArgument: a group was not measured, or was narrower then, or scores are negative.
        """
        slopes = {name: self._slopes_for(name, len(coupled)) for name, coupled in groups.items()}
        mean = np.concatenate([np.zeros(0), *slopes.values()]).mean() if slopes else 0.0
        weighted = np.array(scores, np.float64)
        for name, coupled in groups.items():
            own = weighted[coupled]
            check_weighable(name, own)
            weights = slopes[name] / mean + LEAST_WEIGHT if mean > 0 else np.ones(len(own))
            best_first = np.argsort(-own, kind="stable")
            own[best_first] *= weights
            weighted[coupled] = own
        return weighted

    def _slopes_for(self, name: str, width: int) -> np.ndarray:
        """Drop of the metric per channel, `(width,)`: of the best channel first."""
        measured = next((group for group in self.groups if group.name == name), None)
        if measured is None or measured.width < width:
            known = "was not measured" if measured is None else f"had {measured.width} channels"
            raise InvalidArgument(
                f"The prior was measured on another model: group '{name}' {known}, and has {width} "
                "here. Expected the result of `keras_gcp.sensitivity` for this model, or for the "
                "wider one that it was cut from."
            )
        drops = [self.drop(point.value) for point in measured.points]
        kept = [point.kept for point in measured.points]
        return slopes_of(kept, drops, measured.width, width)


def slopes_of(
    kept: Sequence[int], drops: Sequence[float], width: int, best: int | None = None
) -> np.ndarray:
    """The drop per channel along a curve, for the best channel first.

    Args:
        kept: Kept channels at each measurement.
        drops: By how much the metric fell; a gain counts as 0, NaN as the largest fall.
        width: Channels of the whole group, where the drop is 0.
        best: Of how many channels, the best ones, the drops are wanted; all of them if None.

    Returns:
        `(best,)`: entry n is the drop when the group goes from n + 1 channels to n. It never
        rises from one entry to the next.
    """
    values = np.asarray(drops, np.float64)
    finite = values[np.isfinite(values)]
    values = np.where(np.isfinite(values), values, finite.max(initial=0.0))
    curve = {width: 0.0}
    for count, value in sorted(zip(kept, values, strict=True), reverse=True):
        if count < width:
            curve[count] = max(float(value), *curve.values())
    counts = list(curve)
    slopes = np.zeros(width if best is None else best)
    steepest = 0.0
    for upper, lower in itertools.pairwise(counts):
        steepest = max(steepest, (curve[lower] - curve[upper]) / (upper - lower))
        slopes[:upper] = steepest
    return slopes
