"""How the time of pruning grows with the size of the network.

    python benchmarks/scaling.py

Chains of convolution, batch normalization and ReLU, up to the length at which Keras itself fails
(it recurses along a chain when it saves; at about 1,000 layers Python stops it), and dense blocks
in which every layer reads all layers before it, so that edges grow with the square of the depth.
Widths and images are small: what is measured is the work per layer, not arithmetic. Median of
three; edges are arguments of calls that are tensors.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras
import numpy as np
from absl import app, flags
from keras import layers

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # for `import benchmarks`

import keras_gcp
from benchmarks.records import Records, Row, machine
from keras_gcp.formatting import table

flags.DEFINE_list("chains", ["300", "600", "900"], "Numbers of layers.")
flags.DEFINE_list("dense", ["25", "50", "100"], "Numbers of convolutions in a dense block.")
flags.DEFINE_string("output", None, "JSON lines file; default under benchmarks/results.")

FLAGS = flags.FLAGS

REPETITIONS = 3
STAGES = ("trace", "plan", "apply", "narrow")


def main(arguments: Sequence[str]) -> None:
    """Runs what is missing, then prints the table."""
    if len(arguments) > 1:
        raise app.UsageError(f"Unknown arguments: {arguments[1:]}")
    output = Path(FLAGS.output or Path(__file__).parent / "results" / "scaling.jsonl")
    records = Records(output, ("kind", "size"))
    for kind, build, sizes in (("chain", chain, FLAGS.chains), ("dense", dense, FLAGS.dense)):
        for size in map(int, sizes):
            records.get(partial(run, build, size), kind=kind, size=size)
    rows = records.rows()
    cells = [
        [f"{row['kind']} {row['size']}", f"{row['calls']:,}", f"{row['edges']:,}"]
        + [f"{row[stage]:.2f}" for stage in ("build", *STAGES)]
        + [f"{1e6 * (row['trace'] + row['plan']) / row['edges']:.0f}"]
        for row in rows
    ]
    columns = ["network", "calls", "edges", "build", *STAGES, "trace + plan, µs an edge"]
    text = (
        f"Seconds, median of {REPETITIONS} (build: once); plan traces again, apply and narrow "
        f"verify; {rows[0]['machine']}\n{table(columns, cells)}"
    )
    print(text)
    output.with_suffix(".txt").write_text(text + "\n", encoding="utf-8")


def chain(size: int) -> Any:
    """`size` layers, one after the other."""
    x = inputs = keras.Input((4, 4, 3))
    for _ in range(size // 3):
        x = layers.Conv2D(8, 3, padding="same", use_bias=False)(x)
        x = layers.ReLU()(layers.BatchNormalization()(x))
    return keras.Model(inputs, layers.Dense(2)(layers.GlobalAveragePooling2D()(x)))


def dense(size: int) -> Any:
    """`size` convolutions, each of which reads all before it."""
    inputs = keras.Input((4, 4, 3))
    maps = [layers.Conv2D(4, 3, padding="same")(inputs)]
    for _ in range(size - 1):
        x = layers.Concatenate()(maps) if len(maps) > 1 else maps[0]
        maps.append(layers.Conv2D(4, 3, padding="same", activation="relu")(x))
    x = layers.GlobalAveragePooling2D()(layers.Concatenate()(maps))
    return keras.Model(inputs, layers.Dense(2)(x))


def run(build: Callable[[int], Any], size: int) -> Row:
    """Seconds of every stage."""
    keras.utils.clear_session()
    start = time.perf_counter()
    model = build(size)
    row: Row = {"build": time.perf_counter() - start, "machine": machine()}
    graph = keras_gcp.trace(model).graph
    row["calls"] = len(graph.calls)
    row["edges"] = sum(len(call.inputs) for call in graph.calls)
    plan = keras_gcp.plan(model, {"macs": 0.5}, selection={"align": 1})
    row["trace"] = _median(lambda: keras_gcp.trace(model))
    row["plan"] = _median(lambda: keras_gcp.plan(model, {"macs": 0.5}, selection={"align": 1}))
    row["apply"] = _median(lambda: keras_gcp.apply(model, plan))
    copies = [keras.models.clone_model(model) for _ in range(REPETITIONS)]
    row["narrow"] = _median(lambda: keras_gcp.narrow(copies.pop(), plan))
    return row


def _median(action: Callable[[], Any]) -> float:
    seconds = []
    for _ in range(REPETITIONS):
        start = time.perf_counter()
        action()
        seconds.append(time.perf_counter() - start)
    return float(np.median(seconds))


if __name__ == "__main__":
    app.run(main)
