"""A budget in milliseconds: what was predicted of each candidate, and what was measured.

    python benchmarks/latency_budget.py --networks=resnet20,mobilenet_v2,resnet50

Each network (random weights) is cut to a share of its TFLite latency. The first candidate is chosen
by the table of layer times alone; its error says how good that table is. Measurements are medians
of rounds in which the original and the candidate take turns. `again s` is the whole plan once more,
with all layer times in the cache.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import keras
import numpy as np
from absl import app, flags

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # for `import examples`

import keras_gcp
from benchmarks.deployed import NETWORKS, build
from benchmarks.records import Records, Row, machine
from keras_gcp import resources
from keras_gcp.exporting import compare_latency
from keras_gcp.exporting.timing import runs_for
from keras_gcp.formatting import table
from keras_gcp.pruning import one_shot
from keras_gcp.resources.tflite_files import write_file

flags.DEFINE_list("networks", list(NETWORKS), "Networks.")
flags.DEFINE_float("share", 0.6, "Share of the latency that may remain.")
flags.DEFINE_integer("threads", 1, "Threads of the runtime.")
flags.DEFINE_integer("rounds", 21, "Rounds of the independent measurement in the end.")
flags.DEFINE_string("output", None, "JSON lines file; default under benchmarks/results.")

FLAGS = flags.FLAGS


def main(arguments: Sequence[str]) -> None:
    """Runs what is missing, then prints the table."""
    if len(arguments) > 1:
        raise app.UsageError(f"Unknown arguments: {arguments[1:]}")
    output = Path(FLAGS.output or Path(__file__).parent / "results" / "latency_budget.jsonl")
    records = Records(output, ("network", "share", "threads"))
    for network in FLAGS.networks:
        make = partial(run, network)
        records.get(make, network=network, share=FLAGS.share, threads=FLAGS.threads)
    rows = records.rows()
    cells = [
        [
            row["network"],
            f"{row['original_ms']:.3g}",
            f"{row['limit_ms']:.3g}",
            f"{row['rounds'][0][0]:.3g}",
            f"{row['rounds'][0][1]:.3g}",
            f"{row['rounds'][0][0] / row['rounds'][0][1] - 1:+.1%}",
            f"{row['predicted_ms']:.3g}",
            f"{row['measured_ms']:.3g}",
            f"{row['predicted_ms'] / row['measured_ms'] - 1:+.1%}",
            str(len(row["rounds"])),
            f"{row['independent_share']:.1%}",
            f"{row['macs_share']:.1%}",
            f"{row['seconds']:.0f}",
            f"{row['seconds_again']:.0f}",
        ]
        for row in rows
    ]
    columns = ["network", "dense ms", "limit ms", "first: predicted", "measured", "error"]
    columns += ["last: predicted", "measured", "error", "candidates", "share measured again"]
    columns += ["MACs left", "s", "again s"]
    title = (
        f"Latency budget of {rows[0]['share']:.0%} (float32, batch 1, {rows[0]['threads']} "
        f"thread); {rows[0]['runtime']}; {rows[0]['machine']}"
    )
    text = f"{title}\n{table(columns, cells, width=200)}"
    print(text)
    output.with_suffix(".txt").write_text(text + "\n", encoding="utf-8")


def run(network: str) -> Row:
    """Plans under the budget, twice, and measures the result once more by other means."""
    print(network, flush=True)
    keras.utils.set_random_seed(0)
    dense = build(network)
    with tempfile.TemporaryDirectory() as folder, Rounds() as rounds:
        timing = keras_gcp.timed(FLAGS.share, FLAGS.threads, Path(folder) / "cache")
        start = time.perf_counter()
        plan = keras_gcp.plan(dense, {"latency_ms": timing})
        seconds = time.perf_counter() - start
        first = list(rounds.seen)
        start = time.perf_counter()
        keras_gcp.plan(dense, {"latency_ms": timing})
        again = time.perf_counter() - start
        paths = [Path(folder) / "dense.tflite", Path(folder) / "narrow.tflite"]
        for model, path in zip((dense, keras_gcp.apply(dense, plan)), paths, strict=True):
            write_file(model, path)
        runs = runs_for(paths[0], FLAGS.threads, 60.0)
        compared = compare_latency(paths, FLAGS.threads, FLAGS.rounds, runs, warmup=5)
    (check,) = plan.checks
    return {
        "original_ms": plan.before.further["latency_ms"],
        "limit_ms": check.limit,
        "predicted_ms": check.predicted,
        "measured_ms": check.measured,
        "rounds": first,
        "independent_share": 1 / compared.speedups[1],
        "independent_spread": [1 / s for s in compared.spreads[1]],
        "macs_share": plan.after.macs / plan.before.macs,
        "widths": int(np.sum(list(plan.widths().values()))),
        "seconds": seconds,
        "seconds_again": again,
        "runtime": compared.latencies[0].runtime,
        "machine": machine(),
    }


class Rounds:
    """Writes down what `keras_gcp.plan` predicts and measures of every candidate."""

    def __init__(self) -> None:
        self.seen: list[tuple[float, float]] = []

    def __enter__(self) -> Rounds:
        self._settled = resources.calibrated
        one_shot.resources.calibrated = self._listening
        return self

    def __exit__(self, *error: Any) -> None:
        one_shot.resources.calibrated = self._settled

    def _listening(self, *arguments: Any, **settings: Any) -> Any:
        found = self._settled(*arguments, **settings)
        for checks in found.rounds:
            self.seen.extend((check.predicted, check.measured) for check in checks)
        return found


if __name__ == "__main__":
    app.run(main)
