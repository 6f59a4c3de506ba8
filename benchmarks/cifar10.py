"""CIFAR-10: pruned inside one fit (with and without compensation), dense, same widths from scratch.

    python benchmarks/cifar10.py                      ResNet-8, 12 epochs: under an hour on 2 cores
    python benchmarks/cifar10.py --recipe=authors --network=resnet110 --budget_macs=0.44

The second is the authors' recipe (200 epochs; take a GPU). Every finished run is a row of the
output file at once, and is not repeated when the script is started again.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import keras
from absl import app, flags

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # for `import examples`

import keras_gcp
from benchmarks.data import cifar10
from benchmarks.records import Records, machine
from examples.datasets import Data
from examples.training import Recipe, Training, same_widths_from_scratch, train
from keras_gcp.formatting import table
from keras_gcp.selection.plan import Plan

flags.DEFINE_enum("network", "resnet8", keras_gcp.models.names(), "Reference network.")
flags.DEFINE_enum("recipe", "short", ["short", "authors"], "12 epochs, or the authors' 200.")
flags.DEFINE_integer("epochs", None, "Instead of the recipe's.")
flags.DEFINE_float("budget_macs", 0.5, "Share of the multiply-adds that may remain.")
flags.DEFINE_string("criterion", "feature_relevance", "Name of the criterion.")
flags.DEFINE_list("seeds", ["0"], "One row of each run for each of them.")
flags.DEFINE_list("runs", ["pruned", "uncompensated", "dense", "scratch"], "Scratch needs pruned.")
flags.DEFINE_string("output", None, "JSON lines file; default under benchmarks/results.")
flags.DEFINE_integer("verbose", 1, "0: silent, 1: progress bars.")

FLAGS = flags.FLAGS

PRUNED: Mapping[str, dict[str, Any]] = {
    "pruned": {"compensation": "least_squares"},
    "uncompensated": {"compensation": None},
}


def main(arguments: Sequence[str]) -> None:
    """Runs what is missing, then prints the table."""
    if len(arguments) > 1:
        raise app.UsageError(f"Unknown arguments: {arguments[1:]}")
    results = Path(__file__).parent / "results"
    name = f"cifar10_{FLAGS.network}_{FLAGS.recipe}"
    output = Path(FLAGS.output or results / f"{name}.jsonl")
    records = Records(output, ("seed", "run"))
    data = cifar10(standardise=True)
    for seed in map(int, FLAGS.seeds):
        for kind in FLAGS.runs:
            records.get(partial(run, kind, data, seed, records), seed=seed, run=kind)
    text = summary(records.rows())
    print(text)
    output.with_suffix(".txt").write_text(text + "\n", encoding="utf-8")


def run(kind: str, data: Data, seed: int, records: Records) -> dict[str, Any]:
    """One training from seed to last epoch."""
    recipe = recipe_of(seed)
    keras.utils.set_random_seed(seed)
    model = keras_gcp.models.build(FLAGS.network, input_shape=(32, 32, 3), classes=10)
    if kind in PRUNED:
        return pruned_run(kind, model, data, recipe)
    if kind == "scratch":
        pruned = records.find(seed=seed, run="pruned")
        if pruned is None:
            raise app.UsageError("The control needs the pruned run of the same seed first.")
        model = keras_gcp.apply(model, Plan.from_json(json.dumps(pruned["plan"])))
        model = same_widths_from_scratch(model, seed)
    print(f"seed {seed}: {kind}")
    return _entry(model, recipe, train(model, data, recipe, verbose=FLAGS.verbose))


def pruned_run(kind: str, model: keras.Model, data: Data, recipe: Recipe) -> dict[str, Any]:
    """One training with pruning; its plan and events are kept in the row."""
    epochs = recipe.epochs
    if FLAGS.recipe == "authors":
        schedule = keras_gcp.schedules.linear(21, 147, 21)
    else:
        schedule = keras_gcp.schedules.cubic(epochs // 6, epochs // 2, max(1, epochs // 6))
    pruning = keras_gcp.GradualChannelPruning(
        sample=(data.x_train, data.y_train),
        budget={"macs": FLAGS.budget_macs},
        schedule=schedule,
        criterion=FLAGS.criterion,
        selection={"evenness": 0} if FLAGS.recipe == "authors" else {},
        seed=recipe.seed,
        verbose=1,
        **PRUNED[kind],
    )
    print(f"seed {recipe.seed}: {kind}")
    training = train(model, data, recipe, [pruning], verbose=FLAGS.verbose)
    row = _entry(model, recipe, training)
    row["plan"] = json.loads(pruning.plan.to_json())
    row["events"] = [event.to_dict() for event in pruning.events]
    return row


def recipe_of(seed: int) -> Recipe:
    """The short recipe, or the authors'."""
    if FLAGS.recipe == "authors":
        return Recipe(FLAGS.epochs or 200, 256, 0.1, "steps", weight_decay=5e-4, seed=seed)
    return Recipe(FLAGS.epochs or 12, 128, 0.2, "one_cycle", weight_decay=5e-4, seed=seed)


def summary(rows: Sequence[dict[str, Any]]) -> str:
    """The rows as a table."""
    cells = [
        [
            row["seed"],
            row["run"],
            row["macs"],
            row["parameters"],
            f"{row['accuracy']:.2%}",
            f"{row['seconds']:.0f}",
            f"{sorted(row['history']['seconds'])[len(row['history']['seconds']) // 2]:.1f}",
            f"{row['history']['seconds'][-1]:.1f}",
        ]
        for row in rows
    ]
    columns = [
        "seed",
        "run",
        "MACs",
        "parameters",
        "accuracy",
        "seconds",
        "s/epoch",
        "last epoch s",
    ]
    first = rows[0]
    title = (
        f"{first['network']} on CIFAR-10, {first['epochs']} epochs, batch {first['batch_size']}; "
        f"{first['machine']}; last-epoch test accuracy"
    )
    return title + "\n" + table(columns, cells)


def _entry(model: keras.Model, recipe: Recipe, training: Training) -> dict[str, Any]:
    counted = keras_gcp.count(model)
    return {
        "network": FLAGS.network,
        "epochs": recipe.epochs,
        "batch_size": recipe.batch_size,
        "criterion": FLAGS.criterion,
        "macs": counted.macs,
        "parameters": counted.parameters,
        "accuracy": training.accuracy,
        "seconds": training.seconds,
        "history": dict(training.history),
        "machine": machine(),
    }


if __name__ == "__main__":
    app.run(main)
