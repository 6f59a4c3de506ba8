"""Handwritten digits, five splits: pruned inside one fit, dense, and the widths from scratch.

    python benchmarks/digits.py

The demo's network, trained for 20 epochs. For each split: last-epoch test accuracy of the pruned
run, of the same without compensation of the cuts, of the dense run, and of the final widths trained
from fresh weights; bytes and latency of the TFLite files. Paired differences are given with their
95 % interval (Student's t).
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import keras
from absl import app, flags

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # for `import examples`

import keras_gcp
from benchmarks.intervals import difference
from benchmarks.records import Records, Row, machine
from examples.datasets import load
from examples.training import Recipe, same_widths_from_scratch, train
from keras_gcp.exporting import compare_latency
from keras_gcp.formatting import table

flags.DEFINE_integer("splits", 5, "Number of splits.")
flags.DEFINE_string("output", None, "JSON lines file; default under benchmarks/results.")

FLAGS = flags.FLAGS

BUDGET = {"macs": 0.45}


def main(arguments: Sequence[str]) -> None:
    """Runs what is missing, then prints the table."""
    if len(arguments) > 1:
        raise app.UsageError(f"Unknown arguments: {arguments[1:]}")
    output = Path(FLAGS.output or Path(__file__).parent / "results" / "digits_resnet20.jsonl")
    records = Records(output, ("split",))
    for split in range(FLAGS.splits):
        records.get(partial(run, split), split=split)
    text = summary(records.rows())
    print(text)
    output.with_suffix(".txt").write_text(text + "\n", encoding="utf-8")


def run(split: int) -> Row:
    """The trainings of one split."""
    data = load("digits", seed=split)
    recipe = Recipe(epochs=20, batch_size=64, seed=split)

    def network() -> keras.Model:
        keras.utils.set_random_seed(split)
        return keras_gcp.models.resnet20(data.input_shape, data.classes)

    def pruning_with(**options: Any) -> keras_gcp.GradualChannelPruning:
        sample, schedule = (data.x_train, data.y_train), keras_gcp.schedules.cubic(3, 9, 3)
        return keras_gcp.GradualChannelPruning(sample, BUDGET, schedule, seed=split, **options)

    print(f"split {split}")
    wide = network()
    dense = train(wide, data, recipe)
    pruning, model = pruning_with(), network()
    pruned = train(model, data, recipe, [pruning])
    scratch = train(same_widths_from_scratch(model, split), data, recipe)
    uncompensated = pruning_with(compensation=None)
    plainly_cut = train(network(), data, recipe, [uncompensated])
    return {
        "dense": dense.accuracy,
        "pruned": pruned.accuracy,
        "uncompensated": plainly_cut.accuracy,
        "scratch": scratch.accuracy,
        "loss_after_events": [event.loss_after for event in pruning.events],
        "loss_after_events_uncompensated": [event.loss_after for event in uncompensated.events],
        "dense_seconds": dense.seconds,
        "pruned_seconds": pruned.seconds,
        "macs_share": pruning.plan.after.macs / pruning.plan.before.macs,
        "parameters_share": pruning.plan.after.parameters / pruning.plan.before.parameters,
        "machine": machine(),
        **files_of(wide, model, data.x_test[:64]),
    }


def files_of(wide: keras.Model, narrow: keras.Model, sample: Any) -> Row:
    """Bytes and milliseconds of the TFLite files of both models."""
    with tempfile.TemporaryDirectory() as folder:
        before, after = (
            keras_gcp.export(one, Path(folder) / part, ("tflite",), sample=sample)[0]
            for part, one in (("wide", wide), ("narrow", narrow))
        )
        first, second = compare_latency([before.path, after.path]).latencies
    return {
        "tflite_bytes": [before.bytes, after.bytes],
        "tflite_milliseconds": [first.milliseconds, second.milliseconds],
    }


def summary(rows: Sequence[Row]) -> str:
    """The rows as a table, and the paired differences."""
    cells = [
        [
            row["split"],
            f"{row['macs_share']:.1%}",
            f"{row['parameters_share']:.1%}",
            f"{row['dense']:.2%}",
            f"{row['pruned']:.2%}",
            f"{row['uncompensated']:.2%}",
            f"{row['scratch']:.2%}",
            f"{row['tflite_bytes'][0] / row['tflite_bytes'][1]:.2f}",
            f"{row['tflite_milliseconds'][0] / row['tflite_milliseconds'][1]:.2f}",
        ]
        for row in rows
    ]
    columns = ["split", "MACs left", "params left", "dense", "pruned", "uncompensated", "scratch"]
    lines = [
        "ResNet-20 on scikit-learn digits (16x16), 20 epochs; last-epoch test accuracy "
        f"(500 images); {rows[0]['machine']}",
        table([*columns, "bytes /", "latency /"], cells),
        *(
            difference(f"pruned - {other}", [row["pruned"] - row[other] for row in rows], "split")
            for other in ("dense", "scratch", "uncompensated")
        ),
        "bytes / and latency /: factor by which the TFLite file got smaller and faster (batch 1, "
        "one thread, median of interleaved rounds)",
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    app.run(main)
