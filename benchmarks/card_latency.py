"""Latency of the models in savedmodels/ beside the unpruned ones, written into their cards.

    python benchmarks/card_latency.py                       (a minute; nothing else may run)
    python benchmarks/card_latency.py --cards=digits

Unpruned and pruned .tflite files, float32 and int8, are timed in turns. What a network computes
does not change its time: the unpruned digits network, which is not kept, has random weights here.
The others are read from the folder that KERAS_GCP_TRAINED names.
"""

from __future__ import annotations

import json
import re
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np
from absl import app, flags

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # for `import examples`

import keras_gcp
from benchmarks.data import existing
from benchmarks.trained_networks import FOLDER
from keras_gcp.exporting import LatencyComparison, compare_latency
from keras_gcp.exporting.timing import runs_for
from keras_gcp.reading import read_model

CARDS = Path(__file__).resolve().parents[1] / "savedmodels"
ANY = 100.0
"""Tolerance of the unpruned int8 files: they are calibrated on noise, and only timed."""


@dataclass(frozen=True)
class Card:
    """A folder of savedmodels/.

    Attributes:
        unpruned: Makes the network that was pruned.
        row: A line of the table of its page, with what it is called and the two times.
    """

    unpruned: Callable[[], Any]
    row: str


NETWORKS: Mapping[str, Card] = {
    "cifar10": Card(
        lambda: read_model(existing(FOLDER / "resnet8_cifar10.h5")), "| {} | {} | | | {} |"
    ),
    "digits": Card(lambda: keras_gcp.models.resnet8(input_shape=(16, 16, 1)), "| {} | {} | {} | |"),
    "vww": Card(lambda: read_model(existing(FOLDER / "vww_96.h5")), "| {} | {} | {} | |"),
}
TYPES = {"float32": "tflite", "int8": "tflite_int8"}

flags.DEFINE_list("cards", list(NETWORKS), "Folders of savedmodels/.")
flags.DEFINE_integer("rounds", 30, "How many times each file has its turn.")
flags.DEFINE_float("turn", 50.0, "Milliseconds of a turn, at most 200 calls.")

FLAGS = flags.FLAGS


def main(arguments: Sequence[str]) -> None:
    """Times the files of each card, and writes its page and its numbers."""
    if len(arguments) > 1:
        raise app.UsageError(f"Unknown arguments: {arguments[1:]}")
    for name in FLAGS.cards:
        keras.utils.set_random_seed(0)
        write(name, measured(name))


def measured(name: str) -> dict[str, LatencyComparison]:
    """By type of the files: the unpruned one, and the pruned one."""
    unpruned = NETWORKS[name].unpruned()
    pruned = keras.models.load_model(CARDS / name / f"{name}.keras", compile=False)
    noise = np.random.default_rng(0).random((64, *unpruned.input_shape[1:]), dtype=np.float32)
    with tempfile.TemporaryDirectory() as folder:
        before = keras_gcp.export(unpruned, folder, [*TYPES.values()], noise, tolerance=ANY)
        (after,) = keras_gcp.export(pruned, folder, ["tflite"], noise, name="pruned")
        paths = {
            "float32": [before[0].path, after.path],
            "int8": [before[1].path, CARDS / name / f"{name}_int8.tflite"],
        }
        return {
            kind: compare_latency(
                pair, rounds=FLAGS.rounds, runs=runs_for(pair[0], 1, FLAGS.turn), warmup=10
            )
            for kind, pair in paths.items()
        }


def write(name: str, found: Mapping[str, LatencyComparison]) -> None:
    """The numbers into `card.json`, rows and a sentence into the page."""
    path = CARDS / name / "card.json"
    card = json.loads(path.read_text("utf-8"))
    card["latency_ms"] = {
        kind: [round(one.milliseconds, 4) for one in times.latencies]
        for kind, times in found.items()
    }
    path.write_text(_written(card) + "\n", encoding="utf-8")
    page = CARDS / name / "README.md"
    text = page.read_text("utf-8")
    for kind, times in found.items():
        label = f"latency, {kind} file, ms"
        line = NETWORKS[name].row.format(
            label, *(f"{one.milliseconds:.4f}" for one in times.latencies)
        )
        text = _replaced(text, rf"^\| {label} \|.*$", line)
    text = _replaced(text, r"^Latency: (?:.+\n)+", _sentence(found) + "\n")
    page.write_text(text, encoding="utf-8")
    print(name, json.dumps(card["latency_ms"]), _sentence(found), sep="\n", flush=True)


def _written(card: Mapping[str, Any]) -> str:
    """JSON with pairs of numbers on one line."""
    return re.sub(r"\[\s+([\d.]+),\s+([\d.]+)\s+\]", r"[\1, \2]", json.dumps(card, indent=1))


def _sentence(found: Mapping[str, LatencyComparison]) -> str:
    one = found["float32"]
    left = " and ".join(
        f"{1 / times.speedups[1]:.1%} ({kind}; eight of ten rounds: {1 / times.spreads[1][1]:.1%} "
        f"to {1 / times.spreads[1][0]:.1%})"
        for kind, times in found.items()
    ).replace("%", " %")
    return (
        f"Latency: medians of {one.rounds} rounds in turns, batch 1, one thread, "
        f"{one.latencies[0].runtime}. Of the time of the\nunpruned file there is left {left}."
    )


def _replaced(text: str, pattern: str, line: str) -> str:
    text, count = re.subn(pattern, lambda _: line, text, flags=re.MULTILINE)
    if count != 1:
        raise ValueError(f"Expected one place in the page like {pattern!r}. Found: {count}")
    return text


if __name__ == "__main__":
    app.run(main)
