"""Training step of the pruned network against the unpruned one, in turns: A B A B ...

    python benchmarks/step_time.py --networks=resnet8,resnet20,vgg16

On a machine that others use too, seconds of two runs minutes apart say little. Here both networks
train a few steps in turn, and the ratio is taken within each round.
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import keras
import numpy as np
from absl import app, flags

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # for `import examples`

import keras_gcp
from benchmarks.records import Records, Row, machine
from keras_gcp.formatting import table

flags.DEFINE_list("networks", ["resnet8", "resnet20", "resnet56", "vgg16"], "Reference networks.")
flags.DEFINE_float("budget_macs", 0.5, "Share of the multiply-adds that remains.")
flags.DEFINE_integer("batch_size", 128, "Images per step.")
flags.DEFINE_integer("rounds", 7, "How many times each network has its turn.")
flags.DEFINE_integer("steps", 20, "Training steps per turn; few would measure the start of fit.")
flags.DEFINE_string("output", None, "JSON lines file; default under benchmarks/results.")

FLAGS = flags.FLAGS


def main(arguments: Sequence[str]) -> None:
    """Runs what is missing, then prints the table."""
    if len(arguments) > 1:
        raise app.UsageError(f"Unknown arguments: {arguments[1:]}")
    output = Path(FLAGS.output or Path(__file__).parent / "results" / "step_time.jsonl")
    records = Records(output, ("network",))
    for network in FLAGS.networks:
        records.get(partial(run, network), network=network)
    rows = records.rows()
    cells = [
        [
            row["network"],
            f"{row['macs_share']:.1%}",
            f"{1000 * row['dense']:.0f}",
            f"{1000 * row['pruned']:.0f}",
            f"{row['ratio']:.2f}",
            f"{row['ratio_p10']:.2f} to {row['ratio_p90']:.2f}",
        ]
        for row in rows
    ]
    columns = ["network", "MACs left", "dense ms", "pruned ms", "ratio", "10 % to 90 %"]
    title = (
        f"Training step at 32x32, batch {rows[0]['batch_size']}, warm, medians of "
        f"{rows[0]['rounds']} interleaved rounds; {rows[0]['machine']}"
    )
    text = f"{title}\n{table(columns, cells)}"
    print(text)
    output.with_suffix(".txt").write_text(text + "\n", encoding="utf-8")


def run(network: str) -> Row:
    """Both networks in turns."""
    print(network)
    keras.utils.set_random_seed(0)
    dense = keras_gcp.models.build(network)
    pruned = keras_gcp.prune(dense, {"macs": FLAGS.budget_macs})
    rng = np.random.default_rng(0)
    x = rng.normal(size=(FLAGS.steps * FLAGS.batch_size, 32, 32, 3)).astype("float32")
    y = rng.integers(0, 10, len(x))
    for model in (dense, pruned):
        model.compile(keras.optimizers.SGD(0.01, momentum=0.9), "sparse_categorical_crossentropy")
        model.fit(x, y, batch_size=FLAGS.batch_size, verbose=0)
    rounds = [[_seconds(model, x, y) for model in (dense, pruned)] for _ in range(FLAGS.rounds)]
    ratios = np.array([after / before for before, after in rounds])
    return {
        "macs_share": keras_gcp.count(pruned).macs / keras_gcp.count(dense).macs,
        "dense": statistics.median(before for before, _ in rounds),
        "pruned": statistics.median(after for _, after in rounds),
        "ratio": float(np.median(ratios)),
        "ratio_p10": float(np.percentile(ratios, 10)),
        "ratio_p90": float(np.percentile(ratios, 90)),
        "batch_size": FLAGS.batch_size,
        "rounds": FLAGS.rounds,
        "machine": machine(),
    }


def _seconds(model: keras.Model, x: np.ndarray, y: np.ndarray) -> float:
    """Seconds of one step, over one turn."""
    start = time.perf_counter()
    model.fit(x, y, batch_size=FLAGS.batch_size, verbose=0)
    return (time.perf_counter() - start) / FLAGS.steps


if __name__ == "__main__":
    app.run(main)
