"""Does it pay to keep widths at multiples of 8? TFLite latency at equal multiply-adds.

    python benchmarks/aligned_latency.py --networks=resnet20,resnet50,mobilenet_v2

Each network (random weights) is cut with `align=8` to a share of its multiply-adds, and with
`align=1` to exactly as many. The unpruned file and the two narrow ones are timed in turns.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import keras
from absl import app, flags

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # for `import examples`

import keras_gcp
from benchmarks.deployed import NETWORKS, build
from benchmarks.records import Records, Row, machine
from keras_gcp.exporting import compare_latency
from keras_gcp.exporting.timing import runs_for
from keras_gcp.formatting import table
from keras_gcp.resources.tflite_files import write_file

flags.DEFINE_list("networks", list(NETWORKS), "Networks.")
flags.DEFINE_list("shares", ["0.5", "0.7"], "Shares of the multiply-adds that remain.")
flags.DEFINE_integer("threads", 1, "Threads of the runtime.")
flags.DEFINE_integer("rounds", 15, "How many times each file has its turn.")
flags.DEFINE_float("turn", 60.0, "Milliseconds of a turn, at least 3 calls.")
flags.DEFINE_string("output", None, "JSON lines file; default under benchmarks/results.")

FLAGS = flags.FLAGS


def main(arguments: Sequence[str]) -> None:
    """Runs what is missing, then prints the table."""
    if len(arguments) > 1:
        raise app.UsageError(f"Unknown arguments: {arguments[1:]}")
    output = Path(FLAGS.output or Path(__file__).parent / "results" / "aligned_latency.jsonl")
    records = Records(output, ("network", "share", "threads"))
    for network in FLAGS.networks:
        for share in map(float, FLAGS.shares):
            make = partial(run, network, share)
            records.get(make, network=network, share=share, threads=FLAGS.threads)
    rows = records.rows()
    cells = [
        [
            row["network"],
            f"{row['macs_8']:.2%}",
            f"{row['macs_1']:.2%}",
            f"{row['dense_ms']:.3g}",
            f"{row['ms_8']:.3g}",
            f"{row['ms_1']:.3g}",
            f"{row['speedup_8']:.2f}x",
            f"{row['speedup_1']:.2f}x",
            f"{row['speedup_8'] / row['speedup_1']:.2f}x",
            str(row["threads"]),
        ]
        for row in rows
    ]
    columns = ["network", "MACs, align=8", "align=1", "dense ms", "align=8 ms", "align=1 ms"]
    columns += ["faster: align=8", "align=1", "gain of 8 over 1", "threads"]
    title = (
        f"TFLite latency (float32, batch 1, medians of interleaved rounds) at equal multiply-adds; "
        f"{rows[0]['runtime']}; {rows[0]['machine']}"
    )
    text = f"{title}\n{table(columns, cells, width=160)}"
    print(text)
    output.with_suffix(".txt").write_text(text + "\n", encoding="utf-8")


def run(network: str, share: float) -> Row:
    """Cuts in both ways, and times the three files."""
    print(network, share, flush=True)
    keras.utils.set_random_seed(0)
    dense = build(network)
    aligned = keras_gcp.plan(dense, {"macs": share}, selection={"align": 8})
    free = keras_gcp.plan(
        dense, {"macs": keras_gcp.absolute(aligned.after.macs)}, selection={"align": 1}
    )
    models = [dense, keras_gcp.apply(dense, aligned), keras_gcp.apply(dense, free)]
    with tempfile.TemporaryDirectory() as folder:
        paths = [Path(folder) / f"{name}.tflite" for name in ("dense", "align_8", "align_1")]
        for model, path in zip(models, paths, strict=True):
            write_file(model, path)
        runs = runs_for(paths[0], FLAGS.threads, FLAGS.turn)
        compared = compare_latency(paths, FLAGS.threads, FLAGS.rounds, runs, warmup=5)
    whole = aligned.before.macs
    milliseconds = [one.milliseconds for one in compared.latencies]
    return {
        "macs_8": aligned.after.macs / whole,
        "macs_1": free.after.macs / whole,
        "dense_ms": milliseconds[0],
        "ms_8": milliseconds[1],
        "ms_1": milliseconds[2],
        "speedup_8": compared.speedups[1],
        "speedup_1": compared.speedups[2],
        "spread_8": compared.spreads[1],
        "spread_1": compared.spreads[2],
        "runtime": compared.latencies[0].runtime,
        "machine": machine(),
    }


if __name__ == "__main__":
    app.run(main)
