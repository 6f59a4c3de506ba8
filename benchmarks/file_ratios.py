"""Do files shrink as parameters do, and times as multiply-adds? Half of the MACs, four networks.

    python benchmarks/file_ratios.py                        (some minutes; nothing else may run)
    python benchmarks/file_ratios.py --networks=resnet50 --threads=1,2

Each network is cut to a share of its multiply-adds by default settings. Dense and narrow .tflite
files, float32 and int8, are timed in turns. Weights are random but for EfficientNet-Lite0's, which
is left out where KERAS_GCP_TRAINED has none.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import keras
import numpy as np
from absl import app, flags

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # for `import examples`

import keras_gcp
from benchmarks import deployed
from benchmarks.data import Missing, existing, script
from benchmarks.records import Records, Row, machine
from benchmarks.trained_networks import FOLDER
from keras_gcp.exporting import compare_latency
from keras_gcp.exporting.timing import runs_for
from keras_gcp.formatting import file_size, table

ANY = 100.0
"""Tolerance of the int8 files: what a network of random weights says is noise."""

FORMATS = {"float32": "tflite", "int8": "tflite_int8"}


def _lite0() -> Any:
    path = existing(FOLDER / "efficientnet_lite0_imagenet.keras")
    model = keras.models.load_model(path, compile=False)
    return script(FOLDER, "efficientnet_lite0").resize_input(model, (224, 224, 3))


NETWORKS: Mapping[str, Callable[[], Any]] = {**deployed.NETWORKS, "efficientnet_lite0": _lite0}

flags.DEFINE_list("networks", list(NETWORKS), "Networks.")
flags.DEFINE_float("share", 0.5, "Share of the multiply-adds that remains.")
flags.DEFINE_list("threads", ["1", "2"], "Numbers of threads of the runtime.")
flags.DEFINE_integer("rounds", 15, "How many times each file has its turn.")
flags.DEFINE_float("turn", 100.0, "Milliseconds of a turn, at least 3 calls.")
flags.DEFINE_integer("calibration", 16, "Random examples that int8 files are calibrated on.")
flags.DEFINE_string("output", None, "JSON lines file; default under benchmarks/results.")

FLAGS = flags.FLAGS

_KEYS = ("network", "share")


def main(arguments: Sequence[str]) -> None:
    """Runs what is missing, then prints the table."""
    if len(arguments) > 1:
        raise app.UsageError(f"Unknown arguments: {arguments[1:]}")
    output = Path(FLAGS.output or Path(__file__).parent / "results" / "file_ratios.jsonl")
    records = Records(output, _KEYS)
    for network in FLAGS.networks:
        try:
            records.get(partial(run, network), network=network, share=FLAGS.share)
        except Missing as error:
            print(f"{network} is left out. {error}", flush=True)
    text = summary(records.rows())
    print(text)
    output.with_suffix(".txt").write_text(text + "\n", encoding="utf-8")


def run(network: str) -> Row:
    """Cuts a network, writes its files, times them."""
    print(network, flush=True)
    keras.utils.set_random_seed(0)
    dense = NETWORKS[network]()
    plan = keras_gcp.plan(dense, {"macs": FLAGS.share})
    narrow = keras_gcp.apply(dense, plan)
    shape = (FLAGS.calibration, *dense.input_shape[1:])
    sample = np.random.default_rng(0).random(shape, dtype=np.float32)
    row: Row = {
        "macs_ratio": plan.after.macs / plan.before.macs,
        "parameters_ratio": plan.after.parameters / plan.before.parameters,
        "machine": machine(),
    }
    with tempfile.TemporaryDirectory() as folder:
        written = [
            keras_gcp.export(
                model, Path(folder) / name, list(FORMATS.values()), sample, tolerance=ANY
            )
            for name, model in (("dense", dense), ("narrow", narrow))
        ]
        for number, kind in enumerate(FORMATS):
            files = [one[number] for one in written]
            row[f"bytes_{kind}"] = [file.bytes for file in files]
            for threads in map(int, FLAGS.threads):
                row[f"times_{kind}_{threads}"] = _times([file.path for file in files], threads)
    return row


def _times(paths: Sequence[Path], threads: int) -> Row:
    runs = runs_for(paths[0], threads, FLAGS.turn)
    compared = compare_latency(paths, threads, FLAGS.rounds, runs, warmup=5)
    return {
        "milliseconds": [one.milliseconds for one in compared.latencies],
        "ratio": 1 / compared.speedups[1],
        "runtime": compared.latencies[0].runtime,
    }


def summary(rows: Sequence[Row]) -> str:
    """One line for each network and kind of file."""
    if not rows:
        return "Nothing yet."
    threads = sorted(name[-1] for name in rows[0] if name.startswith("times_float32_"))
    columns = ["network", "file", "dense", "narrow", "bytes", "parameters", "MACs"]
    for number in threads:
        columns += [f"time, {number} thread{'s' * (number != '1')}", "ms, dense", "ms, narrow"]
    lines = [_line(row, kind, threads) for row in rows for kind in FORMATS]
    runtime = rows[0]["times_float32_1"]["runtime"]
    title = (
        "What is left of .tflite files and their times (batch 1, medians of interleaved rounds)\n"
        f"{runtime}; {rows[0]['machine']}"
    )
    return f"{title}\n{table(columns, lines, width=180)}"


def _line(row: Row, kind: str, threads: Sequence[str]) -> list[str]:
    dense, narrow = row[f"bytes_{kind}"]
    cells = [row["network"], kind, file_size(dense), file_size(narrow)]
    cells += [f"{narrow / dense:.1%}", f"{row['parameters_ratio']:.1%}", f"{row['macs_ratio']:.1%}"]
    for number in threads:
        found = row[f"times_{kind}_{number}"]
        cells += [f"{found['ratio']:.1%}", *(f"{ms:.3g}" for ms in found["milliseconds"])]
    return cells


if __name__ == "__main__":
    app.run(main)
