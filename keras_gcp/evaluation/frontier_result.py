"""Frontiers: a metric against the size of the model, from one training. Sees numbers only."""

from __future__ import annotations

import json
import math
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from keras_gcp.errors import InvalidArgument
from keras_gcp.formatting import table, wrapped
from keras_gcp.storage.writing import write_text
from keras_gcp.validation import between, require_path
from keras_gcp.validation.plain_data import DoesNotFit, check_finite, loaded, parsed, with_new_name

FORMAT = 2
"""Format 1 said `coin` for `resource`; it is read, too."""
FILE = "frontier.json"
"""Name of the file with the points, in the folder with the models."""


@dataclass(frozen=True)
class FrontierPoint:
    """One size of the model, at the last epoch before the next cut.

    Attributes:
        budget: Share of the resource that was allowed; 1.0 for the model before any cut.
        share: Share of the resource that it has.
        macs: Multiply-adds for one example; None where the size of the input is unknown.
        parameters: Parameters.
        value: The metric on the validation data.
        epochs: Epochs trained until then.
        path: The `.keras` file with the model.
    """

    budget: float
    share: float
    macs: int | None
    parameters: int
    value: float
    epochs: int
    path: Path


@dataclass(frozen=True)
class Frontier:
    """What each size of a model is worth.

    Attributes:
        metric: The metric's name.
        higher_is_better: Whether larger values are better.
        resource: What budgets count.
        points: From the full model to the smallest.
    """

    metric: str
    higher_is_better: bool
    resource: str
    points: tuple[FrontierPoint, ...]

    def best(self, within: float = 0.01) -> FrontierPoint:
        """The smallest model that is nearly as good as the best one.

        Args:
            within: By how much its metric may be worse than the best of all points; in the unit of
                the metric, so 0.01 is one percentage point of an accuracy.

        Raises:
            InvalidArgument: `within` is negative or no number, or there is no point to choose.
        """
        margin = between(within, 0.0, math.inf)
        if margin is None:
            raise InvalidArgument(
                "`within` expects by how much the metric may be worse than the best point's, 0 or "
                f"more. Received: {within!r}."
            )
        sign = 1.0 if self.higher_is_better else -1.0
        values = [sign * point.value for point in self.points if not math.isnan(point.value)]
        if not values:
            raise InvalidArgument(
                f"None of the {len(self.points)} points of the frontier has a value of "
                f"{self.metric} to choose by."
            )
        near = [point for point in self.points if sign * point.value >= max(values) - margin]
        return min(near, key=lambda point: point.share)

    def explain(self) -> str:
        """A text table: every size, what it is worth, and its file."""
        rows = [
            [
                "none" if point.budget == 1 else f"{point.budget:.1%}",
                f"{point.share:.1%}",
                point.macs,
                point.parameters,
                f"{point.value:.4f}",
                point.epochs,
                point.path.name,
            ]
            for point in self.points
        ]
        columns = ["budget", f"{self.resource} left", "MACs", "parameters", self.metric]
        text = table([*columns, "epochs trained", "file"], rows)
        return (
            f"{text}\n{wrapped(f'in the folder {self.points[0].path.parent}')}"
            if self.points
            else text
        )

    def plot(self, path: str | Path) -> Path:
        """Draws the metric against the share that is left.

        Args:
            path: SVG, PDF or PNG file to write.

        Raises:
            MissingPackage: Matplotlib is not installed (`pip install "keras-gcp[plot]"`).
        """
        from keras_gcp.evaluation.plots import SizePoint, frontier_curve

        points = [SizePoint(p.share, p.value, p.macs, p.parameters) for p in self.points]
        whole_first = bool(points) and self.points[0].budget == 1
        return frontier_curve(points, self.metric, self.resource, path, whole_first)

    def to_dict(self) -> dict[str, Any]:
        """The points as a dict that `json.dumps` takes; of paths, the names of the files."""
        points = [{**asdict(point), "path": point.path.name} for point in self.points]
        return {"format": FORMAT, **asdict(self), "points": points}

    def save(self, directory: str | os.PathLike[str]) -> None:
        """Writes the points beside the models."""
        file = Path(directory) / FILE
        write_text(file, json.dumps(self.to_dict(), indent=1))

    @staticmethod
    def load(directory: str | os.PathLike[str]) -> Frontier:
        """Reads the points that `keras_gcp.frontier` wrote into its folder.

        Raises:
            InvalidArgument: there are none.
        """
        folder = Path(require_path("directory", directory))
        file = folder / FILE
        try:
            return _frontier(loaded(file.read_text("utf-8")), folder)
        except (OSError, UnicodeDecodeError, DoesNotFit) as error:
            raise InvalidArgument(
                f"'{file}' is not a file that `keras_gcp.frontier` wrote: {error}."
            ) from error


@dataclass(frozen=True)
class _SavedPoint:
    """A point as it stands in the file: with the name of its model's file."""

    budget: float
    share: float
    macs: int | None
    parameters: int
    value: float
    epochs: int
    path: str


@dataclass(frozen=True)
class _SavedFrontier:
    """The fields of the file."""

    format: int
    metric: str
    higher_is_better: bool
    resource: str
    points: list[_SavedPoint]


def _frontier(values: Any, directory: Path) -> Frontier:
    if isinstance(values, dict) and values.get("format", FORMAT) not in (1, FORMAT):
        raise InvalidArgument(
            f"The frontier in '{directory}' has format {values['format']!r}; expected 1 to "
            f"{FORMAT}."
        )
    check_finite(values, but=("value",))  # That of a training that diverged is NaN.
    if isinstance(values, dict) and values.get("format") == 1:
        (values,) = with_new_name([values], "coin", "resource")
    saved = parsed(_SavedFrontier, values)
    for i, point in enumerate(saved.points):
        if Path(point.path).name != point.path or point.path in ("", ".."):
            raise DoesNotFit(f"points[{i}].path is {point.path!r}, expected the name of a file")
    points = (FrontierPoint(**{**vars(p), "path": directory / p.path}) for p in saved.points)
    return Frontier(saved.metric, saved.higher_is_better, saved.resource, tuple(points))
