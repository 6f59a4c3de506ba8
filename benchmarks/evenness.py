"""How unequal layers may get within a training: networks from fresh weights, and trained ones.

    python benchmarks/evenness.py
    python benchmarks/evenness.py --networks=resnet8,vgg16 --start=trained
    python benchmarks/evenness.py --summary

One fit with the default schedule, criterion and compensation; only the selection's `evenness`
differs. `fresh` begins with random weights; `trained` goes on from a training of the same length,
at a tenth of its rate. Test accuracy after the last epoch, and in brackets what is left of the
parameters. CIFAR-10 with 10,000 training images; a killed run goes on with its next row.
"""

from __future__ import annotations

import statistics
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, partial
from itertools import product
from pathlib import Path

import keras
from absl import app, flags

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # for `import examples`

import keras_gcp
from benchmarks import digits_networks
from benchmarks.data import cifar10
from benchmarks.intervals import half_width
from benchmarks.records import Records, Row, machine
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
flags.DEFINE_enum("start", "fresh", ["fresh", "trained"], "What a fit begins with.")
flags.DEFINE_list("shares", ["0.5", "0.25"], "Shares of the multiply-adds that remain.")
flags.DEFINE_list("seeds", ["0", "1", "2"], "Of weights, sample, order and augmentation.")
flags.DEFINE_boolean("summary", False, "Only the table of what is there.")
flags.DEFINE_string("cache", None, "Folder of trained networks; default build/evenness.")
flags.DEFINE_string("output", None, "JSON lines file; default under benchmarks/results.")

FLAGS = flags.FLAGS

_KEYS = ("start", "network", "share", "evenness", "seed")


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
                key = dict(
                    start=FLAGS.start, network=network, share=share, evenness=evenness, seed=seed
                )
                row = records.get(partial(run, key), **key)
                print(*key.values(), f"{row['accuracy']:.2%}", flush=True)
    text = summary(records.rows())
    print(text)
    output.with_suffix(".txt").write_text(text + "\n", encoding="utf-8")


def run(key: Row) -> Row:
    """One training to its last epoch."""
    name, seed = key["network"], key["seed"]
    data, model = data_of(name, seed), fresh(name, seed)
    recipe = _recipe(name, seed)
    if key["start"] == "trained":
        model, recipe = trained(name, seed), _recipe(name, seed, rate=0.1)
    before, callbacks = keras_gcp.count(model), []
    if key["share"] != "dense":
        share = float(key["share"])
        pruning = keras_gcp.GradualChannelPruning(
            (data.x_train, data.y_train),
            {"macs": share},
            selection={"evenness": float(key["evenness"])},
            seed=seed,
            verbose=0,
        )
        callbacks.append(pruning)
    accuracy = train(model, data, recipe, callbacks).accuracy
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


def fresh(name: str, seed: int) -> keras.Model:
    """Random weights, the same for the same seed."""
    keras.utils.set_random_seed(seed)
    return TASKS[name].build()


def trained(name: str, seed: int) -> keras.Model:
    """The network after its training; kept for the next run."""
    folder = Path(FLAGS.cache or Path(__file__).parents[1] / "build" / "evenness")
    path = folder / f"{name}_{seed}.keras"
    if not path.exists():
        model = fresh(name, seed)
        train(model, data_of(name, seed), _recipe(name, seed))
        folder.mkdir(parents=True, exist_ok=True)
        model.save(path)
    return keras.models.load_model(path, compile=False)


def _recipe(name: str, seed: int, rate: float = 1.0) -> Recipe:
    own = TASKS[name].recipe
    return Recipe(own.epochs, own.batch_size, rate * own.learning_rate, seed=seed)


def summary(rows: Sequence[Row]) -> str:
    """Accuracy by network and evenness, and how far each evenness is from the best."""
    texts = [
        "Pruned within one fit by all defaults but `evenness`; test accuracy after it, in brackets",
        "what is left of the parameters. Regret: points behind the best, on seeds that all have.",
    ]
    texts += sorted({row["machine"] for row in rows})
    for start, share in sorted({(row["start"], row["share"]) for row in rows}):
        own = [row for row in rows if (row["start"], row["share"]) == (start, share)]
        if share == "dense":
            continue
        dense = [row for row in rows if (row["start"], row["share"]) == (start, "dense")]
        what = "fresh weights" if start == "fresh" else "trained weights"
        texts.append(f"\n{float(share):.0%} of the MACs, from {what}")
        texts.append(_table(own, dense))
    return "\n".join(texts)


def _table(own: Sequence[Row], dense: Sequence[Row]) -> str:
    ways = list(dict.fromkeys(row["evenness"] for row in own))
    cells, behind = [], {one: [] for one in ways}
    for network in dict.fromkeys(row["network"] for row in own):
        of_network = [row for row in own if row["network"] == network]
        by_way = {one: [r for r in of_network if r["evenness"] == one] for one in ways}
        shared = set.intersection(*({r["seed"] for r in rows} for rows in by_way.values()))
        if shared:
            means = {one: _mean(by_way[one], shared) for one in ways}
            for one, mean in means.items():
                behind[one].append(100 * (max(means.values()) - mean))
        whole = [row for row in dense if row["network"] == network]
        cells.append([network, _cell(whole), *(_cell(by_way[one]) for one in ways)])
    regrets = [behind[one] for one in ways]
    cells.append(["worst regret", "", *(f"{max(one):.1f}" if one else "" for one in regrets)])
    means = (f"{statistics.mean(one):.1f}" if one else "" for one in regrets)
    cells.append(["mean regret", "", *means])
    return table(["network", "dense", *ways], cells)


def _mean(rows: Sequence[Row], seeds: set[int]) -> float:
    return statistics.mean(row["accuracy"] for row in rows if row["seed"] in seeds)


def _cell(rows: Sequence[Row]) -> str:
    if not rows:
        return ""
    accuracies = [100 * row["accuracy"] for row in rows]
    half, left = half_width(accuracies), statistics.mean(row["parameters_share"] for row in rows)
    spread = "" if half is None else f" ± {half:.1f}"
    return f"{statistics.mean(accuracies):.1f}{spread} ({left:.0%})"


if __name__ == "__main__":
    app.run(main)
