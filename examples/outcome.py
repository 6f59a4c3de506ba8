"""What pruning has won: the files of a network before and after, and one table of both."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import keras

import keras_gcp
from examples.datasets import Data
from keras_gcp.exporting import (
    FORMATS,
    ExportedFile,
    Latency,
    LatencyComparison,
    compare_latency,
)
from keras_gcp.formatting import percent, table, three_digits

Pair = tuple[float, float]

_TFLITE = {
    "tflite": "float32",
    "tflite_float16": "float16 weights",
    "tflite_dynamic": "int8 weights",
    "tflite_int8": "int8",
}


@dataclass(frozen=True)
class Exported:
    """The files of a network before and after pruning.

    Attributes:
        files: Format to the two files.
        latencies: TFLite format to the latencies of both files, measured in turns.
    """

    files: Mapping[str, tuple[ExportedFile, ExportedFile]]
    latencies: Mapping[str, LatencyComparison]

    @property
    def sizes(self) -> dict[str, Pair]:
        """Format to the bytes of both files."""
        return {name: (float(a.bytes), float(b.bytes)) for name, (a, b) in self.files.items()}

    @property
    def medians(self) -> dict[str, Pair]:
        """TFLite format to the milliseconds of both files."""
        return {
            name: (before.milliseconds, after.milliseconds)
            for name, (before, after) in self._latencies()
        }

    @property
    def spreads(self) -> dict[str, tuple[Pair, Pair]]:
        """TFLite format to the 10th and 90th percentile of the milliseconds of both files."""
        return {
            name: ((before.p10, before.p90), (after.p10, after.p90))
            for name, (before, after) in self._latencies()
        }

    def _latencies(self) -> list[tuple[str, tuple[Latency, ...]]]:
        return [(name, comparison.latencies) for name, comparison in self.latencies.items()]


@dataclass(frozen=True)
class Accuracy:
    """Test accuracies after the last epoch; None where there is nothing to compare with."""

    dense: float | None
    pruned: float


def export_both(
    dense: keras.Model,
    pruned: keras.Model,
    data: Data,
    formats: Sequence[str],
    directory: Path,
    name: str,
) -> Exported:
    """Exports both networks, the int8 files calibrated on training images, and times the files."""
    before, after = (
        keras_gcp.export(model, directory / part, formats, sample=data.x_train, name=name)
        for part, model in (("unpruned", dense), ("pruned", pruned))
    )
    files = {first.format: (first, second) for first, second in zip(before, after, strict=True)}
    latencies = {
        name: compare_latency([first.path, second.path])
        for name, (first, second) in files.items()
        if name in _TFLITE
    }
    return Exported(files, latencies)


def file_accuracy(model: keras.Model, file: ExportedFile, data: Data) -> float:
    """Test accuracy of an exported file: int8 may cost some that pruning is not to blame for."""
    (outputs,) = FORMATS[file.format].run(model, file.path, [data.x_test])
    return float((outputs.argmax(axis=-1) == data.y_test).mean())


def outcome_table(
    dense: keras.Model, pruned: keras.Model, accuracies: Mapping[str, Accuracy], exported: Exported
) -> str:
    """Dense beside pruned.

    Args:
        dense: The network before pruning.
        pruned: The same after it.
        accuracies: By what they are of.
        exported: The files of both.
    """
    before, after = keras_gcp.count(dense), keras_gcp.count(pruned)
    rows = [
        *(_accuracy_row(name, accuracy) for name, accuracy in accuracies.items()),
        _count_row("MACs", before.macs, after.macs),
        _count_row("parameters", before.parameters, after.parameters),
        *(
            _count_row(f"TFLite {_TFLITE[name]}, bytes", first.bytes, second.bytes)
            for name, (first, second) in exported.files.items()
            if name in _TFLITE
        ),
        *(
            _latency_row(f"latency {_TFLITE[name]}, ms", comparison)
            for name, comparison in exported.latencies.items()
        ),
    ]
    return table(["", "dense", "pruned", "ratio"], rows)


def accuracy_note(data: Data) -> str:
    """What the accuracies are, and how fine they are."""
    images = len(data.x_test)
    return (
        f"Accuracy: after the last epoch, on {images:,} test images, so one image is "
        f"{100 / images:.2f} points; one training run each."
    )


def latency_note(exported: Exported) -> str:
    """What the latencies are."""
    one = next(iter(exported.latencies.values())).latencies[0]
    return (
        f"Latency: TFLite files, batch 1, {one.threads} thread, both in turns; median of "
        f"{one.runs:,} calls (10th to 90th percentile), {one.runtime}."
    )


def _accuracy_row(name: str, accuracy: Accuracy) -> list[str | None]:
    pruned = percent(accuracy.pruned, 2)
    if accuracy.dense is None:
        return [name, None, pruned, None]
    points = f"{100 * (accuracy.pruned - accuracy.dense):+.2f} points".replace("-", "−")
    return [name, percent(accuracy.dense, 2), pruned, points]


def _count_row(name: str, before: int, after: int) -> list[str]:
    return [name, f"{before:,}", f"{after:,}", percent(after / before)]


def _latency_row(name: str, comparison: LatencyComparison) -> list[str]:
    low, high = (100 / speedup for speedup in reversed(comparison.spreads[1]))
    return [
        name,
        *map(_milliseconds, comparison.latencies),
        f"{percent(1 / comparison.speedups[1], 0)} ({low:.0f}–{high:.0f})",
    ]


def _milliseconds(one: Latency) -> str:
    """The median, and in fewer digits how far it spreads."""
    spread = "–".join(three_digits(value, 2) for value in (one.p10, one.p90))
    return f"{three_digits(one.milliseconds)} ({spread})"
