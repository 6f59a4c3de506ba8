"""What HASTE costs a trained ResNet-8 on CIFAR-10 in accuracy, and what it saves in operations.

    python benchmarks/haste.py

The network is MLPerf Tiny's; KERAS_GCP_TRAINED names the folder it lies in. Accuracies are on the
first test images, operations are counted on some of these. Beside it, the same network cut once to
shares of its multiply-adds (`keras_gcp.prune`, no training), on the same images.
"""

from __future__ import annotations

import statistics
import sys
from collections import defaultdict
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import keras
import numpy as np
from absl import app, flags

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # for `import benchmarks`

import keras_gcp
from benchmarks import trained_networks
from benchmarks.data import cifar10
from benchmarks.records import Records, Row, machine
from examples.datasets import Data
from keras_gcp.formatting import table
from keras_gcp.methods import haste, haste_cost

flags.DEFINE_list("planes", ["4", "8", "12", "16", "24", "32"], "Numbers of random vectors.")
flags.DEFINE_list("sparsities", ["0.6667", "0.5"], "Shares of zeros in them.")
flags.DEFINE_list("seeds", ["0", "1", "2"], "Seeds of the random vectors, and of the sample.")
flags.DEFINE_list("cuts", ["0.95", "0.9", "0.8"], "Shares of multiply-adds to prune to, beside it.")
flags.DEFINE_integer("images", 1000, "Test images, the first ones.")
flags.DEFINE_integer("counted", 100, "Of these, so many to count operations on.")
flags.DEFINE_string("output", None, "JSON lines file; default under benchmarks/results.")

FLAGS = flags.FLAGS

WHOLE, HASTE, PRUNED = "whole", "haste", "pruned"


def main(arguments: Sequence[str]) -> None:
    """Runs what is missing, then prints the table."""
    if len(arguments) > 1:
        raise app.UsageError(f"Unknown arguments: {arguments[1:]}")
    output = Path(FLAGS.output or Path(__file__).parent / "results" / "haste.jsonl")
    records = Records(output, ("method", "planes", "share_asked", "seed", "images"))
    data, model = cifar10(), trained_networks.resnet8()

    def get(make: Any, method: str, planes: int, asked: float, seed: int) -> None:
        records.get(
            make, method=method, planes=planes, share_asked=asked, seed=seed, images=FLAGS.images
        )

    get(partial(whole, model, data), WHOLE, 0, 1.0, 0)
    for seed in map(int, FLAGS.seeds):
        for sparsity in map(float, FLAGS.sparsities):
            for planes in map(int, FLAGS.planes):
                get(
                    partial(merged, model, data, planes, sparsity, seed),
                    HASTE,
                    planes,
                    sparsity,
                    seed,
                )
        for share in map(float, FLAGS.cuts):
            get(partial(pruned, model, data, share, seed), PRUNED, 0, share, seed)
    text = summary(records.rows())
    print(text)
    output.with_suffix(".txt").write_text(text + "\n", encoding="utf-8")


def whole(model: Any, data: Data) -> Row:
    """The network as it is."""
    return {"accuracy": accuracy(model, data), "operations": 1.0, "channels": 1.0}


def merged(model: Any, data: Data, planes: int, sparsity: float, seed: int) -> Row:
    """With merged channels."""
    merging = haste(model, planes, sparsity, seed)
    cost = haste_cost(merging, data.x_test[: FLAGS.counted])
    print(planes, sparsity, seed, cost, sep="\n", flush=True)
    return {
        "accuracy": accuracy(merging, data),
        "operations": cost.share,
        "channels": cost.channels_left,
    }


def pruned(model: Any, data: Data, share: float, seed: int) -> Row:
    """Cut once, kernels refitted on a sample of training images, not trained."""
    sample = keras_gcp.Sample((data.x_train, data.y_train), size=512)
    compiled = keras.models.clone_model(model)
    compiled.set_weights(model.get_weights())
    compiled.compile(loss="sparse_categorical_crossentropy")
    narrow = keras_gcp.prune(
        compiled, {"macs": share}, sample=sample, criterion="loss_aware", seed=seed
    )
    left = keras_gcp.count(narrow).macs / keras_gcp.count(model).macs
    return {"accuracy": accuracy(narrow, data), "operations": left, "channels": None}


def accuracy(model: Any, data: Data) -> float:
    """On the first test images."""
    x, y = data.x_test[: FLAGS.images], data.y_test[: FLAGS.images]
    return float(np.mean(model.predict(x, batch_size=100, verbose=0).argmax(axis=1) == y))


def summary(rows: Sequence[Row]) -> str:
    """Means over seeds, and every accuracy."""
    groups: dict[tuple[Any, ...], list[Row]] = defaultdict(list)
    for row in rows:
        groups[row["method"], row["planes"], row["share_asked"], row["images"]].append(row)
    cells = []
    for (method, planes, asked, images), found in sorted(groups.items(), key=_order):
        channels = [row["channels"] for row in found if row["channels"] is not None]
        cells.append(
            [
                method,
                planes or None,
                f"{asked:.2f}" if method == HASTE else None,
                f"{100 * statistics.mean(channels):.0f} %" if channels else None,
                f"{100 * statistics.mean(row['operations'] for row in found):.1f} %",
                ", ".join(f"{100 * row['accuracy']:.1f}" for row in found),
                images,
            ]
        )
    columns = ["method", "planes", "sparsity", "channels", "operations", "accuracy, %", "images"]
    return f"ResNet-8 on CIFAR-10; {machine()}\n{table(columns, cells, width=100)}"


def _order(group: tuple[tuple[Any, ...], list[Row]]) -> tuple[Any, ...]:
    """The whole network first, then the number of planes, then what the cut was to."""
    method, planes, asked, images = group[0]
    return -images, (WHOLE, HASTE, PRUNED).index(method), planes, -asked


if __name__ == "__main__":
    app.run(main)
