"""What one event costs, stage by stage.

    python benchmarks/event_cost.py --networks=resnet20,resnet56

Each network trains a few steps on random CIFAR-sized images with one event half way; every stage is
timed by the callback itself. Retrace: the first step after the event less the usual step.
"""

from __future__ import annotations

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
from keras_gcp.training.event_records import STAGES

flags.DEFINE_list("networks", ["resnet20", "resnet56", "vgg16"], "Reference networks.")
flags.DEFINE_integer("sample_size", 512, "Images on which channels are scored.")
flags.DEFINE_string("output", None, "JSON lines file; default under benchmarks/results.")

FLAGS = flags.FLAGS


def main(arguments: Sequence[str]) -> None:
    """Runs what is missing, then prints the table."""
    if len(arguments) > 1:
        raise app.UsageError(f"Unknown arguments: {arguments[1:]}")
    output = Path(FLAGS.output or Path(__file__).parent / "results" / "event_cost.jsonl")
    records = Records(output, ("network",))
    for network in FLAGS.networks:
        records.get(partial(run, network), network=network)
    rows = records.rows()
    stages = [stage for stage in STAGES if any(row.get(stage, 0) > 0 for row in rows)]
    cells = [
        [row["network"], *(f"{row.get(stage, 0):.2f}" for stage in (*stages, "first_step"))]
        + [f"{row['step']:.3f}"]
        for row in rows
    ]
    columns = ["network", *stages, "first step", "usual step"]
    title = (
        f"Seconds of one event to 50 % of the MACs ({rows[0]['sample_size']} images, batch 128); "
        f"{rows[0]['machine']}"
    )
    text = f"{title}\n{table(columns, cells)}"
    print(text)
    output.with_suffix(".txt").write_text(text + "\n", encoding="utf-8")


class StepSeconds(keras.callbacks.Callback):
    """Seconds of every training step."""

    def __init__(self) -> None:
        super().__init__()
        self.seconds: list[float] = []

    def on_train_batch_begin(self, batch: int, logs: object = None) -> None:
        self._start = time.perf_counter()

    def on_train_batch_end(self, batch: int, logs: object = None) -> None:
        self.seconds.append(time.perf_counter() - self._start)


def run(network: str) -> Row:
    """Two short epochs with one event between them."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(max(640, FLAGS.sample_size), 32, 32, 3)).astype("float32")
    y = rng.integers(0, 10, len(x))
    keras.utils.set_random_seed(0)
    model = keras_gcp.models.build(network)
    model.compile(keras.optimizers.SGD(0.01, momentum=0.9), "sparse_categorical_crossentropy")
    steps = StepSeconds()
    pruning = keras_gcp.GradualChannelPruning(
        keras_gcp.Sample((x, y), size=FLAGS.sample_size),
        {"macs": 0.5},
        keras_gcp.schedules.one_shot(1),
        seed=0,
    )
    model.fit(x[:640], y[:640], batch_size=128, epochs=2, verbose=0, callbacks=[pruning, steps])
    return {
        **{stage: pruning.events[0].seconds[stage] for stage in STAGES},
        "first_step": steps.seconds[0],
        "step": sorted(steps.seconds[1:5])[2],
        "sample_size": FLAGS.sample_size,
        "machine": machine(),
    }


if __name__ == "__main__":
    app.run(main)
