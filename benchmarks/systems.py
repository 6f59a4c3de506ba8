"""Every criterion, and every system that trains by itself, on one trained network and one budget.

    python benchmarks/systems.py --runs=cut                    one cut, no training after it
    python benchmarks/systems.py --runs=tuned --seeds=0,1,2    the same cut, then three epochs
    python benchmarks/systems.py --runs=scratch                those widths from fresh weights
    python benchmarks/systems.py --runs=training               systems that train from the start
    python benchmarks/systems.py --summary                     tables and figures of what is there

MLPerf Tiny's ResNet-8 (87.19 % on CIFAR-10). `cut` and `tuned` begin with its trained weights;
`training` begins with fresh ones, and every system may spend as many multiply-adds on training as
`--epochs_of_dense` epochs of the dense network take. KERAS_GCP_TRAINED and KERAS_GCP_DATA name the
folders of network and images. Every finished run is a row at once, and is not run again.
"""

from __future__ import annotations

import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import keras
from absl import app, flags

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # for `import examples`

import keras_gcp
from benchmarks import systems_figures, systems_trained, trained_networks
from benchmarks.data import cifar10
from benchmarks.intervals import spread_cells
from benchmarks.records import Records, Row, machine
from examples.datasets import Data
from examples.training import Recipe, same_widths_from_scratch, train
from keras_gcp.criteria import names
from keras_gcp.errors import KerasGCPError
from keras_gcp.exporting import latency
from keras_gcp.formatting import file_size, table
from keras_gcp.selection.plan import Plan

RUNS = ("cut", "tuned", "scratch", "training")
COMPENSATIONS = {"compensated": "least_squares", "not compensated": None}
INT8 = "tflite_bytes_int8"
SIZES = {"tflite": "tflite_bytes", "tflite_int8": INT8}
"""Format to the column with the size of its file."""
CALIBRATION = 256
"""Examples that int8 files are calibrated on."""

flags.DEFINE_list("runs", ["cut"], f"Of {', '.join(RUNS)}.")
flags.DEFINE_list("systems", None, "Names of criteria, or of systems that train; default: all.")
flags.DEFINE_list("shares", ["0.75", "0.5"], "Shares of the multiply-adds that remain.")
flags.DEFINE_list("seeds", ["0"], "Of sample, order and augmentation.")
flags.DEFINE_integer("sample_size", 512, "Examples that criteria and compensation look at.")
flags.DEFINE_integer("epochs", 3, "Epochs of fine-tuning.")
flags.DEFINE_integer("epochs_of_dense", 6, "What a training may cost.")
flags.DEFINE_boolean("summary", False, "Only the tables and figures of what is there.")
flags.DEFINE_string("output", None, "JSON lines file; default under benchmarks/results.")

FLAGS = flags.FLAGS

_KEYS = ("run", "system", "compensation", "share", "epochs", "sample_size", "seed")


def main(arguments: Sequence[str]) -> None:
    """Runs what is missing, then prints the tables."""
    if len(arguments) > 1:
        raise app.UsageError(f"Unknown arguments: {arguments[1:]}")
    unknown = set(FLAGS.runs) - set(RUNS)
    if unknown:
        raise app.UsageError(f"--runs expects some of {', '.join(RUNS)}. Received: {unknown}.")
    output = Path(FLAGS.output or Path(__file__).parent / "results" / "systems.jsonl")
    records = Records(output, _KEYS)
    if not FLAGS.summary:
        data = cifar10()
        for key in keys():
            row = records.get(partial(run, key, data, records), **key)
            print(*key.values(), row.get("accuracy", row.get("error")), flush=True)
    text = summary(records.rows())
    print(text)
    output.with_suffix(".txt").write_text(text + "\n", encoding="utf-8")
    if not FLAGS.output:
        systems_figures.draw([row for row in records.rows() if _is_of_today(row)], share=0.5)


def keys() -> list[Row]:
    """All rows that the flags ask for; those of one seed before those of the next."""
    found = []
    for seed in map(int, FLAGS.seeds):
        for kind in FLAGS.runs:
            for system in FLAGS.systems or _systems(kind):
                for share in map(float, FLAGS.shares):
                    for way in COMPENSATIONS if kind == "cut" else ("compensated",):
                        found.append(_key(kind, system, way, share, seed))
    return found


_NOT_HERE = ("auto", "gate_value")
"""The default is one of the others; gates are not in a plain network."""


def _systems(kind: str) -> Sequence[str]:
    if kind == "training":
        return list(systems_trained.SYSTEMS)
    if kind == "scratch":
        return ["auto"]
    own = [name for name in names() if name not in _NOT_HERE]
    return [*own, "dense"] if kind == "tuned" else own


def _is_of_today(row: Row) -> bool:
    """Whether the system is still there; rows that a default was chosen by stay in the table."""
    return row["run"] != "training" or row["system"] in systems_trained.SYSTEMS


def _key(kind: str, system: str, way: str, share: float, seed: int) -> Row:
    trains = kind == "training"
    return {
        "run": kind,
        "system": system,
        "compensation": "" if trains or system == "dense" else way,
        "share": 1.0 if system == "dense" else share,
        "epochs": {"cut": 0, "training": FLAGS.epochs_of_dense}.get(kind, FLAGS.epochs),
        "sample_size": FLAGS.sample_size,
        "seed": seed,
    }


def run(key: Row, data: Data, records: Records) -> Row:
    """One row: a network that is measured after its last epoch; an error is a row, too."""
    keras.utils.set_random_seed(key["seed"])
    began = time.perf_counter()
    try:
        made = _MAKERS[key["run"]](key, data, records)
    except KerasGCPError as error:
        text = str(error).partition("\n")[0]
        return {"error": f"{type(error).__name__}: {text}", "machine": machine()}
    seconds = time.perf_counter() - began
    return {**made, "seconds": seconds, "machine": machine()}


def _cut(key: Row, data: Data, records: Records) -> Row:
    """One cut of the trained network."""
    plan, narrow = _narrow(key, data)
    kept = {"plan": json.loads(plan.to_json())} if key["system"] in _systems("scratch") else {}
    return {**_measured(narrow, data), **kept}


def _tuned(key: Row, data: Data, records: Records) -> Row:
    """The same cut, and some epochs; or the dense network, trained on."""
    dense = key["system"] == "dense"
    model = trained_networks.resnet8() if dense else _narrow(key, data)[1]
    train(model, data, Recipe(key["epochs"], learning_rate=0.02, seed=key["seed"]))
    return _measured(model, data)


def _scratch(key: Row, data: Data, records: Records) -> Row:
    """The widths of a cut from fresh weights, with the highest rate that suits these."""
    found = records.find(**{**key, "run": "cut", "epochs": 0})
    if found is None:
        raise app.UsageError("The control needs the row of the cut first: --runs=cut,scratch")
    plan = Plan.from_json(json.dumps(found["plan"]))
    narrow = keras_gcp.apply(trained_networks.resnet8(), plan)
    model = same_widths_from_scratch(narrow, key["seed"])
    train(model, data, Recipe(key["epochs"], learning_rate=0.1, seed=key["seed"]))
    return _measured(model, data)


def _training(key: Row, data: Data, records: Records) -> Row:
    """A training from fresh weights, in which a system does what it does."""
    model = same_widths_from_scratch(trained_networks.resnet8(), key["seed"])
    macs = keras_gcp.count(model).macs
    setting = systems_trained.Setting(
        data, macs, key["share"], key["epochs"], key["seed"], key["sample_size"]
    )
    found = systems_trained.SYSTEMS[key["system"]](model, setting)
    row = _measured(found.model, data, list(SIZES) if found.quantizes else ["tflite"])
    return {**row, "epochs_of_dense": found.epochs, **found.measured}


_MAKERS: Mapping[str, Callable[[Row, Data, Records], Row]] = {
    "cut": _cut,
    "tuned": _tuned,
    "scratch": _scratch,
    "training": _training,
}


def _narrow(key: Row, data: Data) -> tuple[Plan, Any]:
    model = trained_networks.resnet8()
    model.compile(loss="sparse_categorical_crossentropy")
    sample = keras_gcp.Sample((data.x_train, data.y_train), size=key["sample_size"])
    limit = {"macs": key["share"]}
    plan = keras_gcp.plan(model, limit, key["system"], sample, seed=key["seed"])
    way = COMPENSATIONS[key["compensation"]]
    return plan, keras_gcp.apply(model, plan, sample, compensation=way, seed=key["seed"])


def _measured(model: Any, data: Data, formats: Sequence[str] = tuple(SIZES)) -> Row:
    """Accuracy on all test images, costs, and what the files weigh and take.

    Machines that call themselves the same differ by two in speed, so latency is a share: of the
    whole network's, timed in the same minute.
    """
    model.compile(loss="sparse_categorical_crossentropy", metrics=["accuracy"])
    accuracy = model.evaluate(data.x_test, data.y_test, batch_size=500, verbose=0)[1]
    whole = trained_networks.resnet8()
    counted, dense = keras_gcp.count(model), keras_gcp.count(whole)
    with tempfile.TemporaryDirectory() as folder, tempfile.TemporaryDirectory() as other:
        files = keras_gcp.export(model, folder, list(formats), data.x_train[:CALIBRATION])
        sizes = {SIZES[name]: file.bytes for name, file in zip(formats, files, strict=True)}
        (beside,) = keras_gcp.export(whole, other, ["tflite"])
        latency_share = latency(files[0].path).p10 / latency(beside.path).p10
    return {
        "accuracy": float(accuracy),
        "macs_share": counted.macs / dense.macs,
        "parameters_share": counted.parameters / dense.parameters,
        **sizes,
        "latency_share": latency_share,
    }


# ---- tables


def summary(rows: Sequence[Row]) -> str:
    """A table for each kind of run and share; the best first."""
    if not rows:
        return "Nothing yet."
    parts = [
        "MLPerf Tiny's ResNet-8 (87.19 % on CIFAR-10): test accuracy in %, all 10,000 images, "
        "after the last epoch\n" + "\n".join(sorted({row["machine"] for row in rows}))
    ]
    for kind, share in sorted({(row["run"], row["share"]) for row in rows}, key=_order):
        own = [row for row in rows if (row["run"], row["share"]) == (kind, share)]
        lines = [_line(rows) for rows in sorted(_groups(own), key=_accuracy, reverse=True)]
        title = f"{_TITLES[kind]}; {share:.0%} of the multiply-adds"
        parts.append(table(_COLUMNS, lines, title=title, width=180))
    return "\n\n".join(parts)


_TITLES = {
    "cut": "One cut, no training after it",
    "tuned": "One cut, then the same fine-tuning",
    "scratch": "The widths of a cut from fresh weights",
    "training": "Trainings from fresh weights, of equal cost",
}
_COLUMNS = [
    "system",
    "compensation",
    "accuracy",
    "95 %",
    "each seed",
    "epochs",
    "MACs",
    "parameters",
    "int8 file",
    "latency",
    "seconds",
]


def _order(kind_and_share: tuple[str, float]) -> tuple[int, float]:
    kind, share = kind_and_share
    return RUNS.index(kind), -share


def _groups(rows: Sequence[Row]) -> list[list[Row]]:
    groups: dict[tuple[Any, ...], list[Row]] = {}
    for row in rows:
        groups.setdefault(tuple(row[name] for name in _KEYS[:-1]), []).append(row)
    return list(groups.values())


def _accuracy(rows: Sequence[Row]) -> float:
    good = [row["accuracy"] for row in rows if "error" not in row]
    return statistics.mean(good) if good else -1.0


def _line(rows: Sequence[Row]) -> list[str]:
    first, good = rows[0], [row for row in rows if "error" not in row]
    if not good:
        return [first["system"], first["compensation"], "", first["error"], *[""] * 7]

    def mean(name: str) -> float:
        return statistics.mean(row[name] for row in good if name in row)

    return [
        first["system"],
        first["compensation"],
        f"{100 * mean('accuracy'):.2f}",
        *spread_cells([row["accuracy"] for row in good]),
        str(first["epochs"]),
        f"{mean('macs_share'):.1%}",
        f"{mean('parameters_share'):.1%}",
        file_size(round(mean(INT8))) if INT8 in first else "",
        f"{mean('latency_share'):.0%}" if any("latency_share" in row for row in good) else "",
        f"{mean('seconds'):.0f}",
    ]


if __name__ == "__main__":
    app.run(main)
