"""Comparisons of models and files, row by row. Sees numbers and names only."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from keras_gcp import formatting
from keras_gcp.errors import InvalidArgument
from keras_gcp.validation import require_one_of

FORMAT = 1

COSTS = ("macs", "parameters", "bytes", "latency_ms", "peak_bytes")
"""What a row costs, in the order of the table."""

_HEADINGS = ("MACs", "params", "size", "ms", "memory")
_LONGEST_HEADING = 9
_WIDTH = 80


@dataclass(frozen=True)
class ComparedModel:
    """One model or file of a comparison; None where something does not apply or is unknown.

    Attributes:
        name: Its name.
        kind: `"model"` for one in memory; `"keras"`, `"h5"`, `"saved_model"`, `"tflite"` or
            `"onnx"` for files.
        path: The file, or the folder of a SavedModel.
        value: The metric on the data.
        macs: Multiply-adds for one example.
        parameters: Parameters; of .tflite and .onnx files, the numbers that they hold as weights.
        bytes: Size of the file; of a model in memory, of its TFLite file in 32-bit floats.
        latency_ms: Milliseconds for one example, the median.
        latency_spread: 10th and 90th percentile of these milliseconds.
        speedup: How many times as fast as the first row that was timed, measured in turns.
        speedup_spread: 10th and 90th percentile of that over the turns.
        peak_bytes: Peak memory of activations for one example.
        notes: Why something is None.
        error: Why there is no number at all, where failures are skipped.
    """

    name: str
    kind: str
    path: str | None = None
    value: float | None = None
    macs: int | None = None
    parameters: int | None = None
    bytes: int | None = None
    latency_ms: float | None = None
    latency_spread: tuple[float, float] | None = None
    speedup: float | None = None
    speedup_spread: tuple[float, float] | None = None
    peak_bytes: int | None = None
    notes: tuple[str, ...] = ()
    error: str | None = None

    def cost(self, name: str) -> float | None:
        """One of `COSTS`."""
        found: float | None = getattr(self, name)
        return found


@dataclass(frozen=True, repr=False)
class Comparison:
    """What models and files are worth, and what they cost; printed, a table.

    Attributes:
        rows: One per model or file, in the given order.
        metric: Name of the metric; None without data.
        higher_is_better: Whether larger values of it are better; None without data.
        examples: How many examples it was measured on; None without data.
        threads: Threads that latency was measured with.
    """

    rows: tuple[ComparedModel, ...]
    metric: str | None = None
    higher_is_better: bool | None = None
    examples: int | None = None
    threads: int = 1

    def __repr__(self) -> str:
        names = ", ".join(row.name for row in self.rows)
        return f"<Comparison: {names if len(names) <= 60 else f'{len(self.rows)} models'}>"

    def __str__(self) -> str:
        text = formatting.table(self._columns(), self._cells(), width=_WIDTH)
        return "\n".join([text, *self._lines()])

    def _repr_html_(self) -> str:
        return formatting.html_table(self._columns(), self._cells(), self._lines())

    def __getitem__(self, name: str) -> ComparedModel:
        found = [row for row in self.rows if row.name == name]
        if not found:
            names = ", ".join(repr(row.name) for row in self.rows)
            raise InvalidArgument(f"There is no row {name!r}. Expected one of {names}.")
        return found[0]

    def __iter__(self) -> Iterator[ComparedModel]:
        return iter(self.rows)

    def __len__(self) -> int:
        return len(self.rows)

    def relative(self, name: str) -> dict[str, float]:
        """A row against the first one.

        Args:
            name: The row.

        Returns:
            `"value"`: by how much its metric is larger; all else as a share of the first row's
            cost, latencies as they were measured in turns. What either does not have is left out.
        """
        first, row = self.rows[0], self[name]
        found = {}
        if row.value is not None and first.value is not None:
            found["value"] = row.value - first.value
        for cost in COSTS:
            before, after = first.cost(cost), row.cost(cost)
            if before and after is not None:
                found[cost] = after / before
        if "latency_ms" in found and row.speedup:  # Both were timed: the first one is the first.
            found["latency_ms"] = 1 / row.speedup
        return found

    def pareto(self, cost: str = "macs") -> tuple[ComparedModel, ...]:
        """The rows that no other row beats in metric and cost, the cheapest first.

        Args:
            cost: `"macs"`, `"parameters"`, `"bytes"`, `"latency_ms"` or `"peak_bytes"`.

        Raises:
            InvalidArgument: no row has a metric and that cost.
        """
        best: list[ComparedModel] = []
        sign = -1.0 if self.higher_is_better else 1.0
        points = sorted(self._points(cost), key=lambda point: (point[1], sign * point[2]))
        for row, _, value in points:
            if not best or sign * value < sign * (best[-1].value or 0.0):
                best.append(row)
        return tuple(best)

    def plot(self, path: str | Path, cost: str = "macs") -> Path:
        """Draws the metric against a cost, with the Pareto front.

        Args:
            path: The file to write: .svg or .png.
            cost: `"macs"`, `"parameters"`, `"bytes"`, `"latency_ms"` or `"peak_bytes"`.

        Raises:
            InvalidArgument: there was no data, or nothing has that cost.
            MissingPackage: Matplotlib is not installed (`pip install "keras-gcp[plot]"`).
        """
        from keras_gcp.evaluation.comparison_plot import Point, front_chart

        front = {row.name for row in self.pareto(cost)}
        points = [
            Point(row.name, paid, value, row.name in front)
            for row, paid, value in self._points(cost)
        ]
        assert self.metric is not None, "there are points"
        return front_chart(points, self.metric, cost, path)

    def to_dict(self) -> dict[str, Any]:
        """All numbers as a dict that `json.dumps` takes; those that are not finite are None."""
        rows = [
            {**_finite(asdict(row)), "relative": _finite(self.relative(row.name))}
            for row in self.rows
        ]
        return {"format": FORMAT, **asdict(self), "rows": rows}

    def to_json(self) -> str:
        """All numbers as JSON text."""
        return json.dumps(self.to_dict(), indent=1, allow_nan=False)

    def _points(self, cost: str) -> list[tuple[ComparedModel, float, float]]:
        """Rows that have both, with their cost and metric."""
        require_one_of("cost", cost, COSTS)
        found = [
            (row, paid, row.value)
            for row in self.rows
            if (paid := row.cost(cost)) is not None
            and row.value is not None
            and math.isfinite(row.value)
        ]
        if not found:
            raise InvalidArgument(
                f"None of the {len(self.rows)} rows has a metric and a cost in {cost!r}. Expected "
                "`keras_gcp.compare(..., data=(x, y))`, and a cost that some rows have."
            )
        return found

    # ---- the table

    def _columns(self) -> list[str]:
        if self.metric is None:
            return ["", *_HEADINGS]
        return ["", self.metric if len(self.metric) <= _LONGEST_HEADING else "metric", *_HEADINGS]

    def _cells(self) -> list[list[Any]]:
        cells = []
        for row in self.rows:
            cells.append([row.name, *self._numbers(row)])
            if row is not self.rows[0] and (shares := self.relative(row.name)):
                cells.append(["", *self._shares(shares)])
        return cells

    def _numbers(self, row: ComparedModel) -> list[str | None]:
        texts = (
            formatting.count,
            formatting.count,
            formatting.file_size,
            formatting.three_digits,
            formatting.file_size,
        )
        costs = [
            None if (paid := row.cost(name)) is None else text(paid)
            for name, text in zip(COSTS, texts, strict=True)
        ]
        if self.metric is None:
            return costs
        value = None if row.value is None else formatting.metric(self.metric, row.value)
        return [value, *costs]

    def _shares(self, shares: Mapping[str, float]) -> list[str | None]:
        costs = [formatting.percent(shares[n]) if n in shares else None for n in COSTS]
        if self.metric is None:
            return costs
        return [self._difference(shares["value"]) if "value" in shares else None, *costs]

    def _difference(self, value: float) -> str:
        text = f"{100 * value:+.2f}" if self._in_percent else f"{value:+.4g}"
        return text.replace("-", "−")

    @property
    def _in_percent(self) -> bool:
        return self.metric is not None and formatting.metric(self.metric, 0.5).endswith("%")

    def _lines(self) -> list[str]:
        """What the numbers are, and why some are missing."""
        lines = [f"{self.metric} on {self.examples:,} examples"] if self.metric else []
        if any(row.latency_ms is not None for row in self.rows):
            lines.append(f"ms: latency of one example, {_threads(self.threads)}, the median")
        if len(self.rows) > 1:
            unit = "in points" if self._in_percent else "as a difference"
            of_metric = f"{self.metric} {unit}, " if self.metric else ""
            lines.append(f"below each: {of_metric}costs in percent of those of {self.rows[0].name}")
        noisy = [row.name for row in self.rows[1:] if _is_noise(row)]
        if noisy:
            lines.append(f"no faster or slower within the noise: {', '.join(noisy)}")
        notes = [f"{row.name}: {note}" for row in self.rows for note in row.notes]
        failed = [row.error for row in self.rows if row.error]
        return [*lines, *notes, *failed]


def _threads(count: int) -> str:
    return "1 thread" if count == 1 else f"{count} threads"


def _is_noise(row: ComparedModel) -> bool:
    return row.speedup_spread is not None and row.speedup_spread[0] <= 1 <= row.speedup_spread[1]


def _finite(values: Mapping[str, Any]) -> dict[str, Any]:
    return {
        name: None if isinstance(value, float) and not math.isfinite(value) else value
        for name, value in values.items()
    }
