"""How unequal layers may get within a training from fresh weights.

    python benchmarks/evenness.py --networks=resnet8,vgg16 --shares=0.5 --seeds=0
    python benchmarks/evenness.py --summary

One fit with the default schedule, criterion and compensation; only the selection's `evenness`
differs. Test accuracy after the last epoch. CIFAR-10 with 10,000 training images; a killed run goes
on with its next row. Cuts of trained networks: `defaults.py`.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache, partial
from itertools import product
from pathlib import Path
from typing import Any

import keras
from absl import app, flags

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # for `import examples`

import keras_gcp
from benchmarks import digits_networks
from benchmarks.data import cifar10
from benchmarks.records import Records, Row, machine
from benchmarks.regret import compared
from examples.datasets import Data, load
from examples.training import Recipe, train
from keras_gcp.formatting import table

CIFAR_IMAGES = 10_000


@dataclass(frozen=True, eq=False)
class Task:
    """A network to train, and what on.

    Attributes:
        build: Makes it, with the weights that it begins with.
        recipe: The training.
        data: Training and test images, by seed.
    """

    build: Callable[[], keras.Model]
    recipe: Recipe
    data: Callable[[int], Data]


@cache
def _digits(seed: int) -> Data:
    return load("digits", seed=seed, scale=2)


@cache
def _some_of_cifar10(seed: int) -> Data:
    return cifar10(standardise=True).take(train=CIFAR_IMAGES)


_RECIPE_OF_DIGITS = Recipe(epochs=12, batch_size=32, learning_rate=0.05)
_NETWORKS_OF_CIFAR10: Mapping[str, Callable[[], keras.Model]] = {
    "resnet8": keras_gcp.models.resnet8,
    "vgg16": partial(keras_gcp.models.vgg16, width=16, hidden=128),
    "mobilenet": partial(keras_gcp.models.mobilenet, width=16),
}
TASKS: Mapping[str, Task] = {
    **{
        name: Task(digits_networks.NETWORKS[name], _RECIPE_OF_DIGITS, _digits)
        for name in ("digits_concat", "digits_mobile", "digits_vgg")  # "plain" needs another rate.
    },
    **{
        name: Task(build, Recipe(epochs=10), _some_of_cifar10)
        for name, build in _NETWORKS_OF_CIFAR10.items()
    },
}

flags.DEFINE_list("networks", list(TASKS), f"Of {', '.join(TASKS)}.")
flags.DEFINE_list("evenness", ["0", "0.25", "0.5", "0.75", "1"], "From 0 (free) to 1 (uniform).")
flags.DEFINE_list("shares", ["0.5", "0.25"], "Shares of the multiply-adds that remain.")
flags.DEFINE_list("seeds", ["0", "1", "2"], "Of weights, sample, order and augmentation.")
flags.DEFINE_boolean("summary", False, "Only the table of what is there.")
flags.DEFINE_string("output", None, "JSON lines file; default under benchmarks/results.")

FLAGS = flags.FLAGS

_KEYS = ("network", "share", "evenness", "seed")


def main(arguments: Sequence[str]) -> None:
    """Runs what is missing, then prints the table."""
    if len(arguments) > 1:
        raise app.UsageError(f"Unknown arguments: {arguments[1:]}")
    output = Path(FLAGS.output or Path(__file__).parent / "results" / "evenness.jsonl")
    records = Records(output, _KEYS)
    if not FLAGS.summary:
        runs = product(map(int, FLAGS.seeds), FLAGS.networks, ["dense", *FLAGS.shares])
        for seed, network, share in runs:
            for evenness in [""] if share == "dense" else FLAGS.evenness:
                key = dict(network=network, share=share, evenness=evenness, seed=seed)
                row = records.get(partial(run, key), **key)
                print(*key.values(), f"{row['accuracy']:.2%}", flush=True)
    text = summary(records.rows())
    print(text)
    output.with_suffix(".txt").write_text(text + "\n", encoding="utf-8")


def run(key: Row) -> Row:
    """One training to its last epoch."""
    task, seed = TASKS[key["network"]], key["seed"]
    if key["share"] == "dense":
        return trained(task, seed)
    return trained(task, seed, key["share"], selection={"evenness": float(key["evenness"])})


def trained(task: Task, seed: int, share: str | None = None, **pruning: Any) -> Row:
    """What a training to its last epoch comes to, dense or pruned by defaults but those given."""
    data, callbacks = task.data(seed), []
    keras.utils.set_random_seed(seed)
    model = task.build()
    before = keras_gcp.count(model)
    if share is not None:
        sample, budget = (data.x_train, data.y_train), {"macs": float(share)}
        callbacks.append(
            keras_gcp.GradualChannelPruning(sample, budget, seed=seed, verbose=0, **pruning)
        )
    training = train(model, data, replace(task.recipe, seed=seed), callbacks)
    after = keras_gcp.count(model)
    return {
        "accuracy": training.accuracy,
        "macs_share": after.macs / before.macs,
        "parameters_share": after.parameters / before.parameters,
        "seconds": training.seconds,
        "machine": machine(),
    }


def summary(rows: Sequence[Row]) -> str:
    """A table for every share: how far each evenness is from the best one."""
    texts = [
        "Pruned within one fit from fresh weights, by all defaults but `evenness`; test accuracy."
    ]
    texts += sorted({row["machine"] for row in rows})
    whole = {row["network"]: row["accuracy"] for row in rows if row["share"] == "dense"}
    for share in sorted({row["share"] for row in rows} - {"dense"}, reverse=True):
        comparison = compared([_as_setting(row, whole) for row in rows if row["share"] == share])
        title = f"\n{float(share):.0%} of the MACs; in brackets the seeds, where others have more"
        texts.append(table(comparison.columns, comparison.lines, title=title))
    return "\n".join(texts)


def _as_setting(row: Row, whole: Mapping[str, float]) -> Row:
    setting, dense = f"evenness {row['evenness']}", whole[row["network"]]
    return {**row, "setting": setting, "score": row["accuracy"], "dense": dense}


if __name__ == "__main__":
    app.run(main)
