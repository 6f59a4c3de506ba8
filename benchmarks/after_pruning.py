"""tensorflow-model-optimization after pruning: files of a ResNet-8 on CIFAR-10, size and accuracy.

    .venv-tfmot/bin/python -m pip install absl-py scikit-learn
    .venv-tfmot/bin/python benchmarks/after_pruning.py        (10 to 20 minutes on 2 cores)

MLPerf Tiny's trained network is pruned to half its MACs and trained for two epochs. Everything
after that gets the same single epoch more: nothing but training (the control of all others, also
quantised after training), quantization-aware training, zeros, clusters. Accuracies are those of
the files, run by the TFLite interpreter. Every finished row is kept at once.
"""

from __future__ import annotations

import sys
import tempfile
import time
import zlib
from collections.abc import Callable, Sequence
from functools import partial
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
from keras_gcp.exporting import latency, runtime
from keras_gcp.exporting.worker import in_worker
from keras_gcp.formatting import table

flags.DEFINE_integer("train", 10_000, "Training images.")
flags.DEFINE_integer("test", 2_000, "Test images.")
flags.DEFINE_integer("seed", 0, "Of the order of the images, and of the sample.")
flags.DEFINE_string("output", "benchmarks/results/after_pruning.jsonl", "JSON lines file.")

FLAGS = flags.FLAGS
RATE = 1e-3


def main(arguments: Sequence[str]) -> None:
    """Runs what is missing, then prints the table."""
    if len(arguments) > 1:
        raise app.UsageError(f"Unknown arguments: {arguments[1:]}")
    records = Records(Path(FLAGS.output), ("file", "seed"))
    keras.utils.set_random_seed(FLAGS.seed)
    images = cifar10()
    pick = np.random.default_rng(FLAGS.seed).permutation(len(images.x_train))[: FLAGS.train]
    data = images.x_train[pick], images.y_train[pick]
    test = images.x_test[: FLAGS.test], images.y_test[: FLAGS.test]
    with tempfile.TemporaryDirectory() as folder:
        files = Files(Path(folder), data, test, records)
        dense = _compiled(resnet8())
        files.add("dense", lambda: exported(dense, folder, "tflite", data))
        files.add("dense, int8", lambda: exported(dense, folder, "tflite_int8", data))
        pruned = _compiled(keras_gcp.prune(dense, {"macs": 0.5}, sample=data, seed=FLAGS.seed))
        pruned.fit(*data, epochs=2, batch_size=64, verbose=2)
        files.after(pruned, folder)
    columns = ("file", "bytes", "zlib_bytes", "accuracy", "milliseconds", "seconds_of_training")
    print(table(columns, [[row[column] for column in columns] for row in records.rows()]))


class Files:
    """Measures files, and keeps what was measured."""

    def __init__(self, folder: Path, data: Any, test: Any, records: Records) -> None:
        self.folder, self.data, self.test, self.records = folder, data, test, records

    def add(self, name: str, make: Callable[[], Any], seconds: float = 0.0) -> None:
        """A row of the file that `make` writes."""
        self.records.get(
            lambda: {**self._measured(make()), "seconds_of_training": round(seconds, 1)},
            file=name,
            seed=FLAGS.seed,
        )

    def after(self, pruned: Any, folder: str) -> None:
        """All that can follow on pruning, one epoch each."""
        control = _compiled(keras.models.clone_model(pruned))
        control.set_weights(pruned.get_weights())
        seconds = _timed(lambda: control.fit(*self.data, batch_size=64, verbose=2))
        for name, kind in (("pruned", "tflite"), ("pruned, int8 after training", "tflite_int8")):
            self.add(name, lambda kind=kind: exported(control, folder, kind, self.data), seconds)
        for name, make in {
            "pruned, quantization-aware": tfmot.quantize_aware,
            "pruned, 80 % zeros": lambda model: tfmot.sparsify(model, 0.8),
            "pruned, 2:4": lambda model: tfmot.sparsify(model, "2:4"),
            "pruned, 16 clusters": lambda model: tfmot.cluster(model, 16),
        }.items():
            if self.records.find(file=name, seed=FLAGS.seed) is None:
                tuned = make(pruned)
                seconds = _timed(partial(tuned.fit, *self.data, batch_size=64, verbose=2))
                self.add(name, partial(tuned.export, folder, self.data[0]), seconds)

    def _measured(self, file: Any) -> Row:
        found = in_worker(runtime.run_file, str(file.path), {"input_1": self.test[0]})
        (outputs,) = found.values()
        return {
            "bytes": file.bytes,
            "zlib_bytes": len(zlib.compress(file.path.read_bytes(), 9)),
            "accuracy": float(np.mean(outputs.argmax(-1) == self.test[1])),
            "milliseconds": round(latency(file.path).p10, 4),
            "max_difference": file.max_difference,
            "train": FLAGS.train,
            "test": FLAGS.test,
            "machine": machine(),
        }


def exported(model: Any, folder: str, kind: str, data: Any) -> Any:
    """The file of a Keras 3 model."""
    (file,) = keras_gcp.export(model, folder, [kind], data[0])
    return file


def _compiled(model: Any) -> Any:
    model.compile(
        keras.optimizers.SGD(RATE, momentum=0.9),
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
