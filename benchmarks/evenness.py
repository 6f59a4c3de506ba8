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
        build: Makes it with fresh weights, for images of a shape, in ten classes.
        recipe: The training from fresh weights.
        digits: Whether on digits, else on CIFAR-10.
    """

    build: Callable[[], keras.Model]
    recipe: Recipe
    digits: bool = False


_DIGITS = Recipe(epochs=12, batch_size=32, learning_rate=0.05)
_CIFAR = Recipe(epochs=10)
TASKS: Mapping[str, Task] = {
    **{
        name: Task(digits_networks.NETWORKS[name], _DIGITS, digits=True)
        for name in ("digits_concat", "digits_mobile", "digits_vgg")  # "plain" needs another rate.
    },
    "resnet8": Task(keras_gcp.models.resnet8, _CIFAR),
    "vgg16": Task(partial(keras_gcp.models.vgg16, width=16, hidden=128), _CIFAR),
    "mobilenet": Task(partial(keras_gcp.models.mobilenet, width=16), _CIFAR),
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
    name, seed = key["network"], key["seed"]
    task, data = TASKS[name], data_of(name, seed)
    keras.utils.set_random_seed(seed)
    model = task.build()
    before, callbacks = keras_gcp.count(model), []
    if key["share"] != "dense":
        pruning = keras_gcp.GradualChannelPruning(
            (data.x_train, data.y_train),
            {"macs": float(key["share"])},
            selection={"evenness": float(key["evenness"])},
            seed=seed,
            verbose=0,
        )
        callbacks.append(pruning)
    accuracy = train(model, data, replace(task.recipe, seed=seed), callbacks).accuracy
    after = keras_gcp.count(model)
    return {
        "accuracy": accuracy,
        "macs_share": after.macs / before.macs,
        "parameters_share": after.parameters / before.parameters,
        "machine": machine(),
    }


@cache
def data_of(name: str, seed: int) -> Data:
    """Training and test images."""
    if TASKS[name].digits:
        return load("digits", seed=seed, scale=2)
    return cifar10(standardise=True).take(train=CIFAR_IMAGES)


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
