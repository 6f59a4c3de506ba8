"""How much memory a process grows by, per event and per training.

    python benchmarks/memory.py --cases=feature_relevance,l2_norm,retrace,retrace_released

Each case is a process of its own. `retrace` is the control: the same fit without pruning, its
training function compiled again as often. `retrace_released` also drops what TensorFlow keeps of
the old one. `trainings` and `trainings_control` train several new models, one after the other.
Memory is read at the end of every epoch, after a collection: as the system sees it ("resident"),
and what glibc's malloc has handed out ("allocated"; Python's small objects are not in it). Growth
of the first without the second is fragmentation. Needs Linux with glibc 2.33 or newer.
"""

from __future__ import annotations

import ctypes
import gc
import multiprocessing
import os
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras
import numpy as np
from absl import app, flags

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # for `import examples`

import keras_gcp
from benchmarks.records import Records, Row, machine
from keras_gcp import backend
from keras_gcp.formatting import table

CONTROLS = ("retrace", "retrace_released", "trainings_control")
EVENTS_OF_A_TRAINING = 3
FIRST = 10
"""Events before this one are left out: pools and caches are still filling."""

flags.DEFINE_list(
    "cases",
    ["retrace", "retrace_released", "l2_norm", "feature_relevance", "taylor"],
    f"Criteria, or {', '.join(CONTROLS)}, trainings.",
)
flags.DEFINE_string("network", "resnet8", "Reference network.")
flags.DEFINE_integer("events", 50, "Events in one fit, one before each epoch but the first.")
flags.DEFINE_integer("trainings", 5, "New models in one process, for the trainings cases.")
flags.DEFINE_integer("sample_size", 256, "Images on which channels are scored.")
flags.DEFINE_string("output", None, "JSON lines file; default under benchmarks/results.")

FLAGS = flags.FLAGS


@dataclass(frozen=True)
class Settings:
    """What a case needs to know of the command line."""

    network: str
    events: int
    trainings: int
    sample_size: int


def main(arguments: Sequence[str]) -> None:
    """Runs what is missing, then prints the table."""
    if len(arguments) > 1:
        raise app.UsageError(f"Unknown arguments: {arguments[1:]}")
    output = Path(FLAGS.output or Path(__file__).parent / "results" / "memory.jsonl")
    records = Records(output, ("case",))
    settings = Settings(FLAGS.network, FLAGS.events, FLAGS.trainings, FLAGS.sample_size)
    for case in FLAGS.cases:
        records.get(partial(in_own_process, case, settings), case=case)
    rows = records.rows()
    cells = [
        [
            row["case"],
            str(row["count"]),
            *(
                f"{row[kind][figure]:.2f}"
                for kind in ("resident", "allocated")
                for figure in ("slope", "median")
            ),
            f"{row['resident']['series'][0]:.0f} to {row['resident']['series'][-1]:.0f}",
            f"{row['collection']:.2f}",
        ]
        for row in rows
    ]
    columns = ["case", "number", "resident: slope", "median", "allocated: slope", "median"]
    columns += ["resident MB", "collection s"]
    title = (
        f"MB that a process grows by, per event from the {FIRST}th on (or per training from the "
        f"second on), {rows[0]['network']}, {rows[0]['sample_size']} images; least "
        f"squares and median of the differences; "
        f"{rows[0]['machine']}"
    )
    text = f"{title}\n{table(columns, cells)}"
    print(text)
    output.with_suffix(".txt").write_text(text + "\n", encoding="utf-8")


def in_own_process(case: str, settings: Settings) -> Row:
    """Runs a case where nothing has been allocated yet."""
    print(case, flush=True)
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        return pool.submit(run, case, settings).result()


def run(case: str, settings: Settings) -> Row:
    """One case."""
    memory = Memory()
    if case.startswith("trainings"):
        for _ in range(settings.trainings):
            _train(settings, EVENTS_OF_A_TRAINING, _callbacks(case, settings, EVENTS_OF_A_TRAINING))
            keras.utils.clear_session()
            memory.read()
        first = 1
    else:
        callbacks = [*_callbacks(case, settings, settings.events), memory]
        _train(settings, settings.events, callbacks)
        first = FIRST
    return {
        "network": settings.network,
        "sample_size": settings.sample_size,
        "count": len(memory.resident) - (0 if case.startswith("trainings") else 1),
        "resident": _growth(memory.resident, first),
        "allocated": _growth(memory.allocated, first),
        "collection": float(np.median(memory.seconds)),
        "machine": machine(),
    }


def _train(settings: Settings, events: int, callbacks: list[Any]) -> None:
    x, y = _images(max(64, settings.sample_size))
    model = keras_gcp.models.build(settings.network, input_shape=(16, 16, 3))
    optimizer = keras.optimizers.SGD(0.01, momentum=0.9)
    model.compile(optimizer, "sparse_categorical_crossentropy", metrics=["accuracy"])
    model.fit(x[:64], y[:64], batch_size=32, epochs=events + 1, verbose=0, callbacks=callbacks)


def _callbacks(case: str, settings: Settings, events: int) -> list[Any]:
    if case in CONTROLS:
        return [Retrace(released=case == "retrace_released")]
    criterion = "feature_relevance" if case == "trainings" else case
    return [
        keras_gcp.GradualChannelPruning(
            keras_gcp.Sample(_images(settings.sample_size), size=settings.sample_size),
            {"channels": 0.3},
            keras_gcp.schedules.linear(1, events),
            criterion=criterion,
            selection={"align": 1},
            seed=0,
            verbose=0,
        ),
        EveryEvent(),
    ]


def _images(count: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    return rng.normal(size=(count, 16, 16, 3)).astype("float32"), rng.integers(0, 10, count)


def _growth(series: list[float], first: int) -> dict[str, Any]:
    counted = np.array(series[first:])
    return {
        "slope": float(np.polyfit(np.arange(len(counted)), counted, 1)[0]),
        "median": float(np.median(np.diff(counted))),
        "series": [round(value, 1) for value in series],
    }


class Retrace(keras.callbacks.Callback):
    """Compiles the training step again before every epoch but the first; prunes nothing."""

    def __init__(self, released: bool) -> None:
        super().__init__()
        self._released = released

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        if epoch == 0:
            return
        if self._released:
            backend.forget_gradients(self.model.train_function)
        self.model.make_train_function(force=True)


class EveryEvent(keras.callbacks.Callback):
    """Makes sure that every epoch but the first has had an event that removed channels."""

    def __init__(self) -> None:
        super().__init__()
        self._before = 1.0

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        left = (logs or {})["channels_left"]
        if epoch and left >= self._before:
            raise RuntimeError(f"The event before epoch {epoch} removed nothing: fewer events fit.")
        self._before = left


class Memory(keras.callbacks.Callback):
    """Reads the memory of the process at the end of every epoch, in MB (Linux)."""

    def __init__(self) -> None:
        super().__init__()
        self.resident: list[float] = []
        self.allocated: list[float] = []
        self.seconds: list[float] = []

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        self.read()

    def read(self) -> None:
        """One reading."""
        self.seconds.append(_seconds_of_collection())
        self.resident.append(_resident())
        self.allocated.append(_allocated())


def _seconds_of_collection() -> float:
    start = time.perf_counter()
    gc.collect()
    return time.perf_counter() - start


def _resident() -> float:
    pages = int(Path("/proc/self/statm").read_text("ascii").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


class _MallInfo(ctypes.Structure):
    """The C library's `struct mallinfo2`: `hblkhd` + `uordblks` are the bytes handed out."""

    # arena, ordblks, smblks, hblks, hblkhd, usmblks, fsmblks, uordblks, fordblks, keepcost
    _fields_: ClassVar = [(f"field_{i}", ctypes.c_size_t) for i in range(10)]


def _allocated() -> float:
    mallinfo2 = ctypes.CDLL("libc.so.6").mallinfo2
    mallinfo2.restype = _MallInfo
    info = mallinfo2()
    return (info.field_7 + info.field_4) / 2**20


if __name__ == "__main__":
    app.run(main)
