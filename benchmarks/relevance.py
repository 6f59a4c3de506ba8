"""Is relevance conserved, and does it stay moderate, in the networks that people have?

    python benchmarks/relevance.py

One representative of every family of keras.applications with random weights (normalization
randomised), the reference networks, and two trained ones where their files are present. For each:
the relevance that arrives at the input, as a share of what starts at the output (mean, least and
greatest over the examples), the largest absolute relevance of a single element of any layer, and
where it is. Less than 1 arrives where relevance ends on the way: a depthwise filter that sees only
zeros (dead ReLUs, of which random normalization has many) owes its output to the shift of the
normalization after it, so nothing goes on to its input. More than 1 arrives where gates are
credited.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
from absl import app, flags

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # for `import benchmarks`
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))  # for `import helpers`

from helpers import load_trained, randomise

import keras_gcp
from benchmarks.records import Records, Row, machine
from keras_gcp.criteria.relevance import conservation_report
from keras_gcp.formatting import table

FAMILIES = {
    "ConvNeXtTiny": 64,
    "DenseNet121": 64,
    "EfficientNetB0": 64,
    "EfficientNetV2B0": 64,
    "InceptionResNetV2": 96,
    "InceptionV3": 96,
    "MobileNet": 64,
    "MobileNetV2": 64,
    "MobileNetV3Small": 64,
    "NASNetMobile": 64,
    "ResNet50": 64,
    "ResNet50V2": 64,
    "VGG16": 64,
    "Xception": 96,
}
"""Representative to image size."""

REFERENCES = ("resnet20", "resnet56", "resnet164", "vgg16", "mobilenet")

flags.DEFINE_list("networks", [], "Only these; all if empty.")
flags.DEFINE_integer("examples", 8, "Random images.")
flags.DEFINE_string("trained", None, "Folder with trained networks of MLPerf Tiny, if present.")
flags.DEFINE_string("output", None, "JSON lines file; default under benchmarks/results.")

FLAGS = flags.FLAGS


def main(arguments: Sequence[str]) -> None:
    """Runs what is missing, then prints the table."""
    if len(arguments) > 1:
        raise app.UsageError(f"Unknown arguments: {arguments[1:]}")
    output = Path(FLAGS.output or Path(__file__).parent / "results" / "relevance.jsonl")
    records = Records(output, ("network",))
    for network, build in builders().items():
        if not FLAGS.networks or network in FLAGS.networks:
            print(network, flush=True)
            records.get(partial(run, build), network=network)
    rows = records.rows()
    cells = [
        [
            row["network"],
            *(f"{row[key]:.3f}" for key in ("total", "least", "greatest")),
            f"{row['peak']:.3g}",
            row["peak_at"],
            f"{row['seconds']:.0f}",
        ]
        for row in rows
    ]
    columns = ["network", "at the input", "least", "greatest", "largest |R|", "at", "seconds"]
    text = (
        f"Relevance in units of what starts at the output, {FLAGS.examples} random images; "
        f"{machine()}\n{table(columns, cells)}"
    )
    print(text)
    output.with_suffix(".txt").write_text(text + "\n", encoding="utf-8")


def builders() -> dict[str, Callable[[], Any]]:
    """Name to builder."""
    found: dict[str, Callable[[], Any]] = {
        name: partial(_application, name, size) for name, size in FAMILIES.items()
    }
    found |= {f"{name} (CIFAR)": partial(_reference, name) for name in REFERENCES}
    if FLAGS.trained:
        found |= {
            f"{file}, trained": partial(load_trained, Path(FLAGS.trained) / f"{file}.h5")
            for file in ("resnet8_cifar10", "vww_96")
        }
    return found


def _application(name: str, size: int) -> Any:
    build = getattr(keras.applications, name)
    return randomise(build(weights=None, input_shape=(size, size, 3), classes=10))


def _reference(name: str) -> Any:
    return randomise(keras_gcp.models.build(name))


def run(build: Callable[[], Any]) -> Row:
    """Conservation and the largest element."""
    keras.utils.clear_session()
    keras.utils.set_random_seed(0)
    model = build()
    rng = np.random.default_rng(0)
    x = rng.normal(size=(FLAGS.examples, *model.input_shape[1:])).astype("float32")
    start = time.perf_counter()
    report = conservation_report(model, x, np.arange(FLAGS.examples) % model.output_shape[-1])
    seconds = time.perf_counter() - start
    peak_at = max(report, key=lambda name: report[name].peak)
    found = report["input 0"]
    return {
        "total": found.total,
        "least": found.least,
        "greatest": found.greatest,
        "peak": report[peak_at].peak,
        "peak_at": peak_at,
        "seconds": seconds,
    }


if __name__ == "__main__":
    app.run(main)
