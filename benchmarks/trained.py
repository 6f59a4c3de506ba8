"""A trained network pruned inside one short `fit`: at once or gradually, compensated, distilled.

    python benchmarks/trained.py --seeds=0,1,2

MLPerf Tiny's ResNet-8 (87.19 % on CIFAR-10) goes down to half of its multiply-adds. Beside the
ways of pruning stand the same recipe without pruning, and the same widths from fresh weights.
KERAS_GCP_TRAINED names the folder that the network lies in. Every finished run is a row at once.
"""

from __future__ import annotations

import statistics
import sys
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import keras
from absl import app, flags

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # for `import examples`

import keras_gcp
from benchmarks import trained_networks
from benchmarks.records import Records, Row, machine
from examples.datasets import Data, load
from examples.training import Recipe, same_widths_from_scratch, train
from keras_gcp.formatting import table

AT_ONCE = keras_gcp.schedules.one_shot(0)
GRADUALLY = keras_gcp.schedules.cubic(0, 2, 1)
PLAIN: Mapping[str, Any] = {"compensate": None, "recalibrate": False}
REFITTED: Mapping[str, Any] = {"compensate": "least_squares", "recalibrate": True}
DISTILLED: Mapping[str, Any] = {"distill": keras_gcp.Distillation()}

RUNS: Mapping[str, Mapping[str, Any]] = {
    "at once": {"schedule": AT_ONCE, **PLAIN},
    "at once, compensated": {"schedule": AT_ONCE, **REFITTED},
    "at once, distilled": {"schedule": AT_ONCE, **PLAIN, **DISTILLED},
    "at once, compensated, distilled": {"schedule": AT_ONCE, **REFITTED, **DISTILLED},
    "gradually": {"schedule": GRADUALLY, **PLAIN},
    "gradually, compensated": {"schedule": GRADUALLY, **REFITTED},
}

flags.DEFINE_list("seeds", ["0"], "Of sample, order and augmentation.")
flags.DEFINE_list("runs", [*range(len(RUNS)), "dense", "scratch"], "Numbers of runs, or controls.")
flags.DEFINE_integer("epochs", 6, "Epochs of each run.")
flags.DEFINE_float("learning_rate", 0.02, "Highest learning rate (one cycle).")
flags.DEFINE_float("share", 0.5, "Share of the multiply-adds that remains.")
flags.DEFINE_string("output", None, "JSON lines file; default under benchmarks/results.")

FLAGS = flags.FLAGS


def main(arguments: Sequence[str]) -> None:
    """Runs what is missing, then prints the table."""
    if len(arguments) > 1:
        raise app.UsageError(f"Unknown arguments: {arguments[1:]}")
    output = Path(FLAGS.output or Path(__file__).parent / "results" / "trained.jsonl")
    records = Records(output, ("run", "seed", "epochs", "learning_rate", "share"))
    data = load("cifar10", standardise=False)
    for seed in map(int, FLAGS.seeds):
        for name in FLAGS.runs:
            kind = list(RUNS)[int(name)] if str(name).isdigit() else name
            records.get(
                partial(run, kind, data, seed),
                run=kind,
                seed=seed,
                epochs=FLAGS.epochs,
                learning_rate=FLAGS.learning_rate,
                share=FLAGS.share,
            )
    text = summary(records.rows())
    print(text)
    output.with_suffix(".txt").write_text(text + "\n", encoding="utf-8")


def run(kind: str, data: Data, seed: int) -> Row:
    """One training from the trained weights (or fresh ones) to its last epoch."""
    recipe = Recipe(FLAGS.epochs, 128, FLAGS.learning_rate, seed=seed)
    keras.utils.set_random_seed(seed)
    model = trained_networks.resnet8()
    sample, budget = (data.x_train, data.y_train), {"macs": FLAGS.share}
    if kind == "scratch":
        # The widths of a cut at once; fresh weights get the rate that they need.
        narrow = keras_gcp.prune(model, budget, sample=sample, seed=seed, **PLAIN)
        model = same_widths_from_scratch(narrow, seed)
        recipe = Recipe(FLAGS.epochs, 128, 0.1, seed=seed)
    callbacks = []
    if kind in RUNS:
        callbacks = [keras_gcp.GradualChannelPruning(sample, budget, seed=seed, **RUNS[kind])]
    training = train(model, data, recipe, callbacks)
    counted = keras_gcp.count(model)
    print(f"seed {seed}, {kind}: {training.accuracy:.2%}", flush=True)
    return {
        "accuracy": training.accuracy,
        "first": training.history["val_accuracy"][0],
        "macs": counted.macs,
        "parameters": counted.parameters,
        "machine": machine(),
    }


def summary(rows: Sequence[Row]) -> str:
    """One line for every way, means over the seeds."""
    cells = []
    for kind in dict.fromkeys(row["run"] for row in rows):
        found = [row for row in rows if row["run"] == kind]
        accuracies = [row["accuracy"] for row in found]
        cells.append(
            [
                kind,
                f"{statistics.mean(row['macs'] for row in found):,.0f}",
                f"{statistics.mean(row['first'] for row in found):.2%}",
                f"{statistics.mean(accuracies):.2%}",
                ", ".join(f"{100 * a:.2f}" for a in accuracies),
            ]
        )
    columns = ["run", "MACs", "after 1 epoch", "last epoch, mean", "each seed"]
    first = rows[0]
    title = (
        f"Trained ResNet-8 (87.19 % on CIFAR-10) to {first['share']:.0%} of its multiply-adds in "
        f"{first['epochs']} epochs (one cycle up to {first['learning_rate']}, from scratch up to "
        f"0.1); test accuracy; {first['machine']}"
    )
    return f"{title}\n{table(columns, cells, width=140)}"


if __name__ == "__main__":
    app.run(main)
