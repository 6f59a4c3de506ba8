"""tensorflow-model-optimization after pruning: files of a ResNet-8 on CIFAR-10, size and accuracy.

    .venv-tfmot/bin/python -m pip install absl-py pillow scikit-learn
    .venv-tfmot/bin/python benchmarks/after_pruning.py        (10 to 20 minutes on 2 cores)
    .venv/bin/python benchmarks/after_pruning.py --latency    (one minute; nothing else may run)

MLPerf Tiny's trained network is cut to half of its MACs and trained. Everything after that gets
the same epochs more: nothing but training (the control of all others, also quantized after
training), quantization-aware training, zeros, clusters (at a tenth of the learning rate: a value
that many weights share gets the gradients of all of them). The unpruned network stands beside it
as it was, and trained by the same recipe for as many epochs. Accuracies are those of the files.

Every finished row is kept at once, and the files stay in --folder. With --latency nothing is
trained: the files that lie there are timed in turns.
"""

from __future__ import annotations

import sys
import time
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np
from absl import app, flags

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import keras_gcp
from benchmarks.data import cifar10
from benchmarks.records import Records, Row, machine
from benchmarks.trained_networks import resnet8
from keras_gcp import tfmot
from keras_gcp.exporting import compare_latency
from keras_gcp.formatting import percent, table

flags.DEFINE_integer("train", 20_000, "Training images.")
flags.DEFINE_integer("test", 10_000, "Test images.")
flags.DEFINE_integer("epochs", 2, "Epochs after the cut.")
flags.DEFINE_integer("further", 2, "Epochs after these, of everything.")
flags.DEFINE_float("rate", 1e-3, "Learning rate of SGD, momentum 0.9, batches of 64.")
flags.DEFINE_integer("seed", 0, "Of the order of the images, and of the sample.")
flags.DEFINE_bool("latency", False, "Only time the files of --folder again.")
flags.DEFINE_integer("rounds", 60, "How many times each file has its turn.")
flags.DEFINE_string("folder", "runs/after_pruning", "Where the files stay.")
flags.DEFINE_string("output", "benchmarks/results/after_pruning.jsonl", "JSON lines file.")

FLAGS = flags.FLAGS

SETTINGS = ("train", "test", "epochs", "further", "rate", "seed")
KINDS = {"tflite": "float32", "tflite_int8": "int8"}

Tune = Callable[[Any], Any]
CLUSTERED: Tune = lambda model: tfmot.cluster(model, 16)  # noqa: E731
TECHNIQUES: dict[str, tuple[str, Tune]] = {
    "quantization-aware training": ("quantized", tfmot.quantize_aware),
    "80 % zeros": ("zeros", lambda model: tfmot.sparsify(model, 0.8)),
    "zeros, 2 in 4": ("two_in_four", lambda model: tfmot.sparsify(model, "2:4")),
    "16 clusters": ("clusters", CLUSTERED),
}
"""What a row is called, what its file is, and what makes it of the pruned network."""


def main(arguments: Sequence[str]) -> None:
    """Runs what is missing, then prints the table."""
    if len(arguments) > 1:
        raise app.UsageError(f"Unknown arguments: {arguments[1:]}")
    output = Path(FLAGS.output)
    records = Records(output, ("after", "type", *SETTINGS))
    times = output.with_name(f"{output.stem}_latency.jsonl")
    if not FLAGS.latency:
        Networks(records).measure()
    rows = [row for row in records.rows() if all(row[key] == FLAGS[key].value for key in SETTINGS)]
    if FLAGS.latency:
        times.unlink(missing_ok=True)
        time_files(rows, Records(times, ("file",)))
    text = summary(rows, Records(times, ("file",)).rows())
    print(text)
    output.with_suffix(".txt").write_text(text + "\n", encoding="utf-8")


class Networks:
    """Trains what is missing, and measures the files."""

    def __init__(self, records: Records) -> None:
        self.records = records
        self.folder = Path(FLAGS.folder)
        keras.utils.set_random_seed(FLAGS.seed)
        images = cifar10()
        pick = np.random.default_rng(FLAGS.seed).permutation(len(images.x_train))[: FLAGS.train]
        self.data = images.x_train[pick], images.y_train[pick]
        self.test = images.x_test[: FLAGS.test], images.y_test[: FLAGS.test]

    def measure(self) -> None:
        """All rows; each is written as soon as it is known."""
        dense = _compiled(resnet8())
        self._as_it_is("unpruned, as it was", "unpruned", lambda: (dense, 0.0))
        self._as_it_is(
            "unpruned, trained on", "unpruned_trained", lambda: self._trained(dense, FLAGS.epochs)
        )
        pruned = self._pruned(dense)
        self._as_it_is("pruned", "pruned", lambda: self._trained(pruned))
        for after, (name, tune) in TECHNIQUES.items():
            kind = "int8" if tune is tfmot.quantize_aware else "float32"
            self._add(f"pruned, {after}", kind, lambda n=name, t=tune: self._tuned(pruned, n, t))

    def _pruned(self, dense: Any) -> Any:
        """Cut and trained; kept beside the files, as everything else goes on from it."""
        path = self.folder / ("_".join(str(FLAGS[key].value) for key in SETTINGS) + ".keras")
        if not path.exists():
            pruned = _compiled(
                keras_gcp.prune(dense, {"macs": 0.5}, sample=self.data, seed=FLAGS.seed)
            )
            pruned.fit(*self.data, epochs=FLAGS.epochs, batch_size=64, verbose=2)
            path.parent.mkdir(parents=True, exist_ok=True)
            pruned.save(path)
        return _compiled(keras.models.load_model(path, compile=False))

    def _as_it_is(self, after: str, name: str, make: Callable[[], tuple[Any, float]]) -> None:
        """Rows of a Keras 3 model: 32-bit floats, and int8 after training."""
        made: list[tuple[Any, float]] = []

        def write(kind: str) -> tuple[Any, float]:
            if not made:
                made.append(make())
            model, seconds = made[0]
            (file,) = keras_gcp.export(model, self.folder, [kind], self.data[0], name=name)
            return file, seconds

        for kind, stored in KINDS.items():
            self._add(after, stored, lambda kind=kind: write(kind))

    def _trained(self, model: Any, epochs_before: int = 0) -> tuple[Any, float]:
        """A copy, trained for the further epochs and for some before."""
        copy = _compiled(keras.models.clone_model(model))
        copy.set_weights(model.get_weights())
        epochs = epochs_before + FLAGS.further
        return copy, _timed(
            lambda: copy.fit(*self.data, epochs=epochs, batch_size=64, verbose=2)
        ) / epochs

    def _tuned(self, pruned: Any, name: str, tune: Tune) -> tuple[Any, float]:
        tuned = tune(pruned)
        rate = FLAGS.rate / 10 if tune is CLUSTERED else FLAGS.rate
        epochs = FLAGS.further
        seconds = _timed(
            lambda: tuned.fit(
                *self.data, epochs=epochs, batch_size=64, learning_rate=rate, verbose=2
            )
        )
        return tuned.export(self.folder, self.data[0], name=f"pruned_{name}"), seconds / epochs

    def _add(self, after: str, kind: str, make: Callable[[], tuple[Any, float]]) -> None:
        def row() -> Row:
            print(after, kind, flush=True)
            file, seconds = make()
            return {**self._measured(file), "seconds_per_epoch": round(seconds, 1)}

        key = {name: FLAGS[name].value for name in SETTINGS}
        self.records.get(row, after=after, type=kind, **key)

    def _measured(self, file: Any) -> Row:
        (found,) = keras_gcp.compare(
            [file.path], self.test, metric="accuracy", measure_latency=False, verbose=0
        )
        return {
            "file": file.path.name,
            "bytes": file.bytes,
            "zlib_bytes": len(zlib.compress(file.path.read_bytes(), 9)),
            "accuracy": found.value,
            "max_difference": file.max_difference,
            "machine": machine(),
        }


def time_files(rows: Sequence[Row], records: Records) -> None:
    """Times the files of the rows in turns, and writes a row for each.

    Raises:
        FileNotFoundError: the files are not those of the rows.
    """
    folder = Path(FLAGS.folder)
    for row in rows:
        path = folder / row["file"]
        if not path.exists() or path.stat().st_size != row["bytes"]:
            raise FileNotFoundError(
                f"'{path}' is not the file of {row['bytes']} bytes that was measured. "
                "Expected the --folder of the training; run it again, without its rows."
            )
    paths = [folder / row["file"] for row in rows]
    found = compare_latency(paths, rounds=FLAGS.rounds)
    for row, one, speedup in zip(rows, found.latencies, found.speedups, strict=True):
        times = {"milliseconds": one.milliseconds, "ratio": 1 / speedup, "runtime": one.runtime}
        records.get(lambda times=times: {**times, "machine": machine()}, file=row["file"])


def summary(rows: Sequence[Row], times: Sequence[Row]) -> str:
    """One line for each file."""
    if not rows:
        return "Nothing yet."
    timed = {row["file"]: row for row in times}
    lines = []
    for row in rows:
        cells = [row["after"], row["type"], f"{row['bytes']:,}", f"{row['zlib_bytes']:,}"]
        cells += [f"{100 * row['accuracy']:.2f} %"]
        if row["file"] in timed:
            one = timed[row["file"]]
            cells += [f"{one['milliseconds']:.4f}", percent(one["ratio"])]
        else:
            cells += ["", ""]
        lines.append(cells)
    columns = ["network", "type", "bytes", "zlib", "accuracy", "ms", "of the first"]
    one = rows[0]
    title = (
        f"ResNet-8 on CIFAR-10, half of the multiply-adds: {one['train']:,} training images, "
        f"{one['test']:,} test images, {one['epochs']} + {one['further']} epochs, "
        f"SGD {one['rate']:g}, seed {one['seed']}\n{one['machine']}"
    )
    if times:
        title += f"\nTimes: batch 1, one thread, medians in turns; {times[0]['runtime']}"
    return f"{title}\n{table(columns, lines, width=140)}"


def _compiled(model: Any) -> Any:
    model.compile(
        keras.optimizers.SGD(FLAGS.rate, momentum=0.9),
        "sparse_categorical_crossentropy",
        metrics=["accuracy"],
    )
    return model


def _timed(run: Callable[[], Any]) -> float:
    begin = time.perf_counter()
    run()
    return time.perf_counter() - begin


if __name__ == "__main__":
    app.run(main)
