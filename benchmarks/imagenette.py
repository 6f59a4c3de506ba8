"""EfficientNet-Lite0 (ImageNet) pruned while it is tuned for ten classes, down to its int8 file.

    python benchmarks/imagenette.py --runs=dense,pruned,distilled,scratch    half an hour each
    python benchmarks/imagenette.py --runs=files                             nothing else running

Ten of the thousand outputs, all layers trained, 160 pixels, 4,000 images of Imagenette's training
part; measured on the 2,000 of `val` after the last epoch. `distilled` also learns from the network
as it was before the cut; `scratch` has the widths of the pruned network of the same seed, from
fresh weights. `files` exports the trained networks of the other kinds, and compares accuracy, size
and latency of what the files hold. The network has seen all
these photographs when it was trained for ImageNet. A killed run goes on from its last epoch.
"""

from __future__ import annotations

import statistics
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import keras
import numpy as np
from absl import app, flags

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # for `import examples`

import keras_gcp
from benchmarks import trained_networks
from benchmarks.data import imagenette
from benchmarks.intervals import spread_cells
from benchmarks.records import Records, Row, machine
from examples.datasets import Data
from examples.training import Recipe, same_widths_from_scratch, train
from keras_gcp.formatting import file_size, table

RUNS = ("dense", "pruned", "distilled", "scratch", "files")
CALIBRATION = 256
"""Examples that int8 files are calibrated on."""

SCHEDULES = {
    "at_once": lambda epochs: keras_gcp.schedules.one_shot(0),
    "four_events": keras_gcp.schedules.default,
}

flags.DEFINE_list("runs", ["dense", "pruned", "scratch", "files"], f"Of {', '.join(RUNS)}.")
flags.DEFINE_list("seeds", ["0"], "Of sample, order and augmentation.")
flags.DEFINE_float("share", 0.5, "Share of the multiply-adds that remains.")
flags.DEFINE_integer("epochs", 5, "Epochs of each run.")
flags.DEFINE_integer("batch_size", 32, "Images per step.")
flags.DEFINE_float("learning_rate", 0.0003, "Highest learning rate (one cycle).")
flags.DEFINE_boolean("frozen", False, "Whether normalizations keep all that they have learned.")
flags.DEFINE_integer("sample_size", 1024, "Images that criterion and compensation look at.")
flags.DEFINE_enum("schedule", "at_once", list(SCHEDULES), "When it is cut.")
flags.DEFINE_float("scratch_rate", 0.1, "The same for fresh weights.")
flags.DEFINE_integer("images", 4000, "Training images.")
flags.DEFINE_string("folder", None, "Of backups and networks; default build/imagenette.")
flags.DEFINE_string("output", None, "JSON lines file; default under benchmarks/results.")

FLAGS = flags.FLAGS

_KEYS = (
    *("run", "share", "epochs", "learning_rate", "frozen", "sample_size", "schedule"),
    *("images", "seed"),
)


def main(arguments: Sequence[str]) -> None:
    """Runs what is missing, then prints the table."""
    if len(arguments) > 1:
        raise app.UsageError(f"Unknown arguments: {arguments[1:]}")
    output = Path(FLAGS.output or Path(__file__).parent / "results" / "imagenette.jsonl")
    records = Records(output, _KEYS, today)
    data = of_ten_classes()
    for seed in map(int, FLAGS.seeds):
        for kind in FLAGS.runs:
            if kind == "files":
                measure_files(seed, data, records)
            else:
                key = key_of(kind, seed)
                row = records.get(partial(run, key, data), **key)
                print(f"seed {seed}, {kind}: {row['accuracy']:.2%}", flush=True)
    text = summary(records.rows())
    print(text)
    output.with_suffix(".txt").write_text(text + "\n", encoding="utf-8")


def key_of(kind: str, seed: int) -> Row:
    """All settings of a run."""
    fresh = kind.startswith("scratch")
    return {
        "run": kind,
        "share": 1.0 if kind.startswith("dense") else FLAGS.share,
        "epochs": FLAGS.epochs,
        "learning_rate": FLAGS.scratch_rate if fresh else FLAGS.learning_rate,
        "frozen": FLAGS.frozen and not fresh,
        "sample_size": 0 if kind.startswith("dense") else FLAGS.sample_size,
        "schedule": "" if kind.startswith("dense") else FLAGS.schedule,
        "images": FLAGS.images,
        "seed": seed,
    }


def today(row: Row) -> Row:
    """The first rows had a sample of 256, trained normalizations, and were cut at once."""
    is_dense = row["run"].startswith("dense")
    defaults = {
        "frozen": False,
        "sample_size": 0 if is_dense else 256,
        "schedule": "" if is_dense else "at_once",
    }
    return {**defaults, **row}


def of_ten_classes() -> Data:
    """Imagenette at 160 pixels as the network takes it; shifts of a tenth, mirrored."""
    images, (x, y, x_test, y_test) = imagenette(FLAGS.images, 2000)
    x, x_test = images.preprocess(x), images.preprocess(x_test)
    y, y_test = y.astype(np.int32), y_test.astype(np.int32)
    return Data("imagenette", x, y, x_test, y_test, classes=10, pad=16, flip=True)


def network() -> keras.Model:
    """Ten of ImageNet's outputs, with a softmax; not compiled."""
    logits = trained_networks.efficientnet_lite0(10)
    return keras.Model(logits.inputs, keras.layers.Softmax(name="softmax")(logits.outputs[0]))


def run(key: Row, data: Data) -> Row:
    """One training to its last epoch; the network is kept beside its backups."""
    seed, folder = key["seed"], _folder(key)
    keras.utils.set_random_seed(seed)
    model, callback = network(), keras.callbacks.BackupAndRestore(folder / "backup")
    before = keras_gcp.count(model).macs
    for layer in model.layers:
        if key["frozen"] and isinstance(layer, keras.layers.BatchNormalization):
            layer.trainable = False
    if key["run"] in ("pruned", "distilled"):
        callback = keras_gcp.GradualChannelPruning(
            keras_gcp.Sample((data.x_train, data.y_train), size=key["sample_size"]),
            {"macs": key["share"]},
            SCHEDULES[key["schedule"]](key["epochs"]),
            compensation=keras_gcp.Compensation(spare_frozen=False),
            distillation=keras_gcp.Distillation() if key["run"] == "distilled" else None,
            backup_dir=folder / "backup",
            seed=seed,
        )
    if key["run"] == "scratch":
        model = same_widths_from_scratch(_trained("pruned", seed), seed)
    recipe = Recipe(key["epochs"], FLAGS.batch_size, key["learning_rate"], seed=seed)
    training = train(model, data, recipe, [callback])
    model.save(folder / "network.keras")
    counted = keras_gcp.count(model)
    return {
        "accuracy": training.accuracy,
        "macs_share": counted.macs / before,
        "parameters": counted.parameters,
        "seconds": training.seconds,
        "machine": machine(),
    }


def measure_files(seed: int, data: Data, records: Records) -> None:
    """A row for every file, measured in turns with the others."""
    kinds = [kind for kind in ("dense", "pruned", "distilled") if _path(kind, seed).exists()]
    names = [f"{kind}, {file}" for kind in kinds for file in ("float32", "int8")]
    keys = {name: key_of(name, seed) for name in names}
    if all(records.find(**key) for key in keys.values()):
        return
    sample = data.x_train[:CALIBRATION]
    paths: dict[str, Any] = {}
    for kind in kinds:
        folder = _folder(key_of(kind, seed)) / "files"
        files = keras_gcp.export(_trained(kind, seed), folder, ["tflite", "tflite_int8"], sample)
        paths |= {f"{kind}, float32": files[0].path, f"{kind}, int8": files[1].path}
    compared = keras_gcp.compare(paths, (data.x_test, data.y_test), verbose=0)
    for found in compared.rows:
        row = {
            "accuracy": found.value,
            "bytes": found.bytes,
            "milliseconds": found.latency_ms,
            "speedup": found.speedup,
            "machine": machine(),
        }
        records.get(lambda row=row: row, **keys[found.name])


def _path(kind: str, seed: int) -> Path:
    return _folder(key_of(kind, seed)) / "network.keras"


def _trained(kind: str, seed: int) -> Any:
    path = _path(kind, seed)
    if not path.exists():
        raise app.UsageError(f"{path} is not there: --runs={kind} comes first.")
    return keras.models.load_model(path, compile=False)


def _folder(key: Row) -> Path:
    root = Path(FLAGS.folder or Path(__file__).parents[1] / "build" / "imagenette")
    return root / "_".join(str(value) for value in key.values())


# ---- table


def summary(rows: Sequence[Row]) -> str:
    """One line for every kind of run."""
    if not rows:
        return "Nothing yet."
    groups: dict[tuple[Any, ...], list[Row]] = {}
    for row in rows:
        groups.setdefault(tuple(row[name] for name in _KEYS[:-1]), []).append(row)
    columns = [
        "run",
        "epochs",
        "rate",
        "normalizations",
        "sample",
        "cut",
        "MACs",
        "parameters",
        "accuracy",
        "95 %",
        "each seed",
        "file",
        "latency",
        "times as fast",
    ]
    title = (
        "EfficientNet-Lite0 (ImageNet; 96.75 % best of the ten outputs before tuning), 160 pixels, "
        "tuned for Imagenette;\naccuracy on 2,000 images of val after the last epoch\n"
        + "\n".join(sorted({row["machine"] for row in rows}))
    )
    lines = [_line(group) for group in groups.values()]
    return f"{title}\n{table(columns, lines, width=180)}"


def _line(rows: Sequence[Row]) -> list[Any]:
    first, accuracies = rows[0], [row["accuracy"] for row in rows]

    def shown(name: str, write: Any) -> str:
        if name not in first:
            return ""
        return str(write(statistics.mean(row[name] for row in rows)))

    return [
        first["run"],
        first["epochs"],
        f"{first['learning_rate']:g}",
        "kept" if first["frozen"] else "trained",
        first["sample_size"] or "",
        first["schedule"].replace("_", " "),
        shown("macs_share", lambda share: f"{share:.1%}"),
        shown("parameters", lambda count: f"{count:,.0f}"),
        f"{100 * statistics.mean(accuracies):.2f}",
        *spread_cells(accuracies),
        shown("bytes", lambda count: file_size(round(count))),
        shown("milliseconds", lambda time: f"{time:.2f} ms"),
        shown("speedup", lambda times: f"{times:.2f}"),
    ]


if __name__ == "__main__":
    app.run(main)
