"""A whole training with pruning against the same training without: seconds, and where they go.

    python benchmarks/training_time.py --networks=resnet20,resnet56,vgg16

On a machine that others use too, two trainings minutes apart say little. Here both run in one
process and take turns, epoch by epoch (never at the same time), and ratios are taken of epochs that
stand next to each other. Both have trained two steps before ("warm"): the first compilation, which
both need, does not count; those after events do.

A machine may stand still for many seconds. "As run" is the ratio of all seconds as the clock showed
them. The other ratio takes the median step of every epoch times its steps, and adds all of the
events (compiling again included) as the clock showed them.

Where the difference to the ideal goes, in shares of the dense training:

- ideal: every step costs what its multiply-adds do;
- fixed: what a step costs at any widths (many small operations, data, Python), measured
  with the network at its least widths;
- widths: the rest of the step, layers that run slower than their multiply-adds promise;
- events: scores, surgery, proof, and compiling again.
"""

from __future__ import annotations

import statistics
import sys
import threading
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
from keras_gcp.training.event_records import STAGES, Event

flags.DEFINE_list("networks", ["resnet20", "resnet56", "vgg16"], "Reference networks.")
flags.DEFINE_float("budget_macs", 0.45, "Share of the multiply-adds that remains in the end.")
flags.DEFINE_integer("epochs", 15, "Epochs; the three events are in the first third.")
flags.DEFINE_integer("images", 4096, "Images of an epoch (random ones: only time is measured).")
flags.DEFINE_integer("batch_size", 128, "Images per step.")
flags.DEFINE_string("output", None, "JSON lines file; default under benchmarks/results.")

FLAGS = flags.FLAGS

_WARM_STEPS = 2
_FIXED_STEPS = 12


def main(arguments: Sequence[str]) -> None:
    """Runs what is missing, then prints the tables."""
    if len(arguments) > 1:
        raise app.UsageError(f"Unknown arguments: {arguments[1:]}")
    output = Path(FLAGS.output or Path(__file__).parent / "results" / "training_time.jsonl")
    records = Records(output, ("network", "epochs", "images"))
    for network in FLAGS.networks:
        records.get(
            partial(run, network), network=network, epochs=FLAGS.epochs, images=FLAGS.images
        )
    text = "\n\n".join([_ratios(records.rows()), _losses(records.rows()), _events(records.rows())])
    print(text)
    output.with_suffix(".txt").write_text(text + "\n", encoding="utf-8")


# ---- measuring


class TakeTurns(keras.callbacks.Callback):
    """Lets two trainings in two threads run one epoch each, in turns, and times the epochs.

    It stands first in the list, so events at the beginning of an epoch are in its time.
    """

    def __init__(self, mine: threading.Semaphore, other: threading.Semaphore) -> None:
        super().__init__()
        self._mine, self._other = mine, other
        self.seconds: list[float] = []

    def on_epoch_begin(self, epoch: int, logs: object = None) -> None:
        self._mine.acquire()
        self._began = time.perf_counter()

    def on_epoch_end(self, epoch: int, logs: object = None) -> None:
        self.seconds.append(time.perf_counter() - self._began)
        self._other.release()

    def on_train_end(self, logs: object = None) -> None:
        self._other.release()


class StepSeconds(keras.callbacks.Callback):
    """The median seconds of a step, by epoch."""

    def __init__(self) -> None:
        super().__init__()
        self.medians: list[float] = []

    def on_epoch_begin(self, epoch: int, logs: object = None) -> None:
        self._seconds: list[float] = []

    def on_train_batch_begin(self, batch: int, logs: object = None) -> None:
        self._began = time.perf_counter()

    def on_train_batch_end(self, batch: int, logs: object = None) -> None:
        self._seconds.append(time.perf_counter() - self._began)

    def on_epoch_end(self, epoch: int, logs: object = None) -> None:
        self.medians.append(statistics.median(self._seconds[1:]))


def run(network: str) -> Row:
    """Both trainings in turns."""
    print(network)
    rng = np.random.default_rng(0)
    x = rng.normal(size=(FLAGS.images, 32, 32, 3)).astype("float32")
    y = rng.integers(0, 10, len(x))
    dense, pruned = _warm(_build(network), x, y), _warm(_build(network), x, y)
    schedule = keras_gcp.schedules.linear(1, FLAGS.epochs // 3, max(1, FLAGS.epochs // 6))
    pruning = keras_gcp.GradualChannelPruning((x, y), {"macs": FLAGS.budget_macs}, schedule, seed=0)
    turns = [threading.Semaphore(1), threading.Semaphore(0)]
    steps = [StepSeconds(), StepSeconds()]
    clocks = [TakeTurns(turns[0], turns[1]), TakeTurns(turns[1], turns[0])]
    trainings = [
        threading.Thread(target=_fit, args=(dense, x, y, [clocks[0], steps[0]])),
        threading.Thread(target=_fit, args=(pruned, x, y, [clocks[1], pruning, steps[1]])),
    ]
    for training in trainings:
        training.start()
    for training in trainings:
        training.join()
    settled = slice(max(schedule.events()), None)
    pairs = zip(steps[0].medians[settled], steps[1].medians[settled], strict=True)
    ratios = [after / before for before, after in pairs]
    macs = [event.macs_after for event in pruning.events]
    total = keras_gcp.count(_build(network)).macs
    return {
        "macs_share": macs[-1] / total,
        "widths": pruning.plan.widths(),
        "dense_epochs": clocks[0].seconds,
        "pruned_epochs": clocks[1].seconds,
        "dense_steps": steps[0].medians,
        "pruned_steps": steps[1].medians,
        "dense_step": statistics.median(steps[0].medians[settled]),
        "pruned_step": statistics.median(steps[1].medians[settled]),
        "step_ratio": statistics.median(ratios),
        "step_ratios": ratios,
        "events": [event.to_dict() for event in pruning.events],
        "events_seconds": pruning.savings.events_seconds,
        "fixed_share": _fixed_share(network, x, y),
        "macs_by_epoch": _macs_by_epoch(pruning.events, total),
        "total_macs": total,
        "batch_size": FLAGS.batch_size,
        "machine": machine(),
    }


def _build(network: str) -> keras.Model:
    keras.utils.set_random_seed(0)
    return keras_gcp.models.build(network)


def _warm(model: keras.Model, x: np.ndarray, y: np.ndarray) -> keras.Model:
    model.compile(keras.optimizers.SGD(0.01, momentum=0.9), "sparse_categorical_crossentropy")
    few = _WARM_STEPS * FLAGS.batch_size
    model.fit(x[:few], y[:few], batch_size=FLAGS.batch_size, verbose=0)
    return model


def _fit(model: keras.Model, x: np.ndarray, y: np.ndarray, callbacks: list[object]) -> None:
    model.fit(
        x, y, batch_size=FLAGS.batch_size, epochs=FLAGS.epochs, callbacks=callbacks, verbose=0
    )


def _macs_by_epoch(events: Sequence[Event], total: int) -> list[int]:
    now, macs = total, []
    after = {event.epoch: event.macs_after for event in events}
    for epoch in range(FLAGS.epochs):
        now = after.get(epoch, now)
        macs.append(now)
    return macs


def _fixed_share(network: str, x: np.ndarray, y: np.ndarray) -> float:
    """The part of a dense step that does not go with the multiply-adds.

    From the network at (nearly) its least widths, in turns with the dense one; a straight line
    through both points.
    """
    dense = _build(network)
    least = keras_gcp.prune(dense, {"macs": 0.15}, selection={"align": 1})
    share = keras_gcp.count(least).macs / keras_gcp.count(dense).macs
    few = _FIXED_STEPS * FLAGS.batch_size
    seconds: list[list[float]] = [[], []]
    models = [_warm(dense, x, y), _warm(least, x, y)]
    for _ in range(3):
        for model, found in zip(models, seconds, strict=True):
            steps = StepSeconds()
            model.fit(x[:few], y[:few], batch_size=FLAGS.batch_size, verbose=0, callbacks=[steps])
            found.append(steps.medians[0])
    ratio = statistics.median(b / a for a, b in zip(*seconds, strict=True))
    return (ratio - share) / (1 - share)


# ---- tables


def _ratios(rows: Sequence[Row]) -> str:
    cells = [
        [
            row["network"],
            f"{row['macs_share']:.1%}",
            f"{1000 * row['dense_step']:.0f}",
            f"{1000 * row['pruned_step']:.0f}",
            f"{row['step_ratio']:.2f}",
            f"{_dense(row):.0f}",
            f"{sum(_pruned_epochs(row)):.0f}",
            f"{_whole(row):.2f}",
            f"{sum(row['pruned_epochs']) / sum(row['dense_epochs']):.2f}",
            f"{_ideal(row):.2f}",
            _break_even(row),
        ]
        for row in rows
    ]
    columns = ["network", "MACs left", "dense ms", "pruned ms", "ratio"]
    columns += ["dense s", "pruned s", "run ratio", "as run", "ideal", "even after"]
    first = rows[0]
    title = (
        f"{first['epochs']} epochs of {first['images']:,} images of 32x32, batch "
        f"{first['batch_size']}, warm, epochs in turns; steps after the last event, medians; "
        f"{first['machine']}"
    )
    return f"{title}\n{table(columns, cells)}"


def _losses(rows: Sequence[Row]) -> str:
    cells = []
    for row in rows:
        parts = _parts(row)
        cells.append([row["network"], *(f"{parts[name]:+.3f}" for name in parts)])
    title = "Where the run's ratio comes from (shares of the dense training)"
    return f"{title}\n{table(['network', *_parts(rows[0])], cells)}"


def _events(rows: Sequence[Row]) -> str:
    cells = [
        [
            row["network"],
            len(row["events"]),
            *(
                f"{sum(e['seconds'].get(stage, 0.0) for e in row['events']):.2f}"
                for stage in STAGES
            ),
            f"{row['events_seconds']:.2f}",
        ]
        for row in rows
    ]
    return f"Seconds of all events\n{table(['network', 'events', *STAGES, 'in all'], cells)}"


def _dense_epochs(row: Row) -> list[float]:
    return [seconds * _step_count(row) for seconds in row["dense_steps"]]


def _pruned_epochs(row: Row) -> list[float]:
    """Steps, and the events before them."""
    steps = [seconds * _step_count(row) for seconds in row["pruned_steps"]]
    missing = row["events_seconds"] - sum(sum(e["seconds"].values()) for e in row["events"])
    for event in row["events"]:  # What no stage accounts for is spread evenly.
        steps[event["epoch"]] += sum(event["seconds"].values()) + missing / len(row["events"])
    return steps


def _step_count(row: Row) -> int:
    return -(-row["images"] // row["batch_size"])


def _dense(row: Row) -> float:
    return sum(_dense_epochs(row))


def _whole(row: Row) -> float:
    return sum(_pruned_epochs(row)) / _dense(row)


def _ideal(row: Row) -> float:
    """The run's ratio if every step cost what its multiply-adds do."""
    return statistics.mean(row["macs_by_epoch"]) / row["total_macs"]


def _parts(row: Row) -> dict[str, float]:
    ideal, whole = _ideal(row), _whole(row)
    fixed = row["fixed_share"] * (1 - ideal)
    events = row["events_seconds"] / _dense(row)
    return {
        "ideal": ideal,
        "fixed": fixed,
        "widths": whole - events - fixed - ideal,
        "events": events,
        "run": whole,
    }


def _break_even(row: Row) -> str:
    """The epoch after which the pruned training is ahead for good."""
    lead = np.cumsum(_dense_epochs(row)) - np.cumsum(_pruned_epochs(row))
    behind = np.flatnonzero(lead < 0)
    if not len(behind):
        return "epoch 0"
    return f"epoch {behind[-1] + 1}" if behind[-1] + 1 < len(lead) else "never"


if __name__ == "__main__":
    app.run(main)
