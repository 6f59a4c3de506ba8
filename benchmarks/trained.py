"""A trained network pruned inside one short `fit`, beside the same recipe without pruning.

    python benchmarks/trained.py --seeds=0,1,2
    python benchmarks/trained.py --seeds=0,1,2 --schedule=gradual4 --criterion=loss_aware --distill

MLPerf Tiny's ResNet-8 (87.19 % on CIFAR-10) goes down to a share of its multiply-adds. Beside it
stand, trained on by the same recipe, the dense network and what Torch-Pruning cut (`--runs=peer
--peer=FILE`), and the widths of the pruned one (of the same seed) from fresh weights.
KERAS_GCP_TRAINED names the folder that the network lies in. Every finished run is a row at once;
one that was killed goes on from its last epoch.
"""

from __future__ import annotations

import json
import re
import statistics
import sys
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import keras
from absl import app, flags

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # for `import examples`

import keras_gcp
from benchmarks import trained_networks
from benchmarks.data import cifar10
from benchmarks.intervals import difference, spread_cells
from benchmarks.records import Records, Row, machine
from examples.datasets import Data
from examples.training import Recipe, same_widths_from_scratch, train
from keras_gcp.formatting import table
from keras_gcp.selection.plan import Plan

COMPENSATIONS = {"auto": "auto", "none": None, "least_squares": "least_squares", "fold": "fold"}

flags.DEFINE_list("seeds", ["0"], "Of sample, order and augmentation.")
flags.DEFINE_list(
    "runs", ["dense", "pruned", "scratch"], "Scratch needs pruned; peer a cut network, see --peer."
)
flags.DEFINE_string("peer", None, "What Torch-Pruning cut: a file of `beside_torch_pruning.py`.")
flags.DEFINE_string("criterion", "auto", "Name of the criterion.")
flags.DEFINE_string("normalize", "auto", "How layers are compared.")
flags.DEFINE_string("ranking", "auto", "How channels of different costs are compared.")
flags.DEFINE_string("align", "auto", "Widths are multiples of it.")
flags.DEFINE_string("schedule", "at_once", "at_once; or gradual4: 4 cuts before the first epochs.")
flags.DEFINE_enum("compensation", "auto", list(COMPENSATIONS), "Of every cut.")
flags.DEFINE_boolean("distill", False, "Whether it also learns from itself as it was.")
flags.DEFINE_float("share", 0.5, "Share of the multiply-adds that remains.")
flags.DEFINE_integer("epochs", 6, "Epochs of each run.")
flags.DEFINE_integer("batch_size", 128, "Images per step.")
flags.DEFINE_float("learning_rate", 0.02, "Highest learning rate (one cycle).")
flags.DEFINE_float("scratch_rate", 0.1, "The same for fresh weights.")
flags.DEFINE_integer("images", 0, "Only the first training and test images; 0: all of them.")
flags.DEFINE_string("backups", None, "Folder of backups; default build/backups.")
flags.DEFINE_string("output", None, "JSON lines file; default under benchmarks/results.")

FLAGS = flags.FLAGS

_RECIPE = ("epochs", "batch_size", "learning_rate", "images")
_PRUNING = (
    "criterion",
    "normalize",
    "ranking",
    "align",
    "schedule",
    "compensation",
    "distill",
    "share",
)
_KEYS = ("run", *_PRUNING, *_RECIPE, "seed")
_PEER = {
    "criterion": "Torch-Pruning by L2 norm",
    "normalize": "",
    "ranking": "",
    "compensation": "",
}
_NOT_PRUNED = {**dict.fromkeys(_PRUNING, ""), "distill": False, "share": 1.0}


def main(arguments: Sequence[str]) -> None:
    """Runs what is missing, then prints the table."""
    if len(arguments) > 1:
        raise app.UsageError(f"Unknown arguments: {arguments[1:]}")
    output = Path(FLAGS.output or Path(__file__).parent / "results" / "trained.jsonl")
    records = Records(output, _KEYS, today)
    data = cifar10().take(FLAGS.images or None, FLAGS.images or None)
    for seed in map(int, FLAGS.seeds):
        for kind in FLAGS.runs:
            key = key_of(kind, seed)
            row = records.get(partial(run, key, data, records), **key)
            print(f"seed {seed}, {kind}: {row['accuracy']:.2%}", flush=True)
    text = summary(records.rows())
    print(text)
    output.with_suffix(".txt").write_text(text + "\n", encoding="utf-8")


def key_of(kind: str, seed: int) -> Row:
    """All settings of a run; those of pruning are empty for the dense one."""
    pruning = _NOT_PRUNED if kind == "dense" else {name: FLAGS[name].value for name in _PRUNING}
    if kind == "peer":
        pruning |= _PEER
    recipe = {name: FLAGS[name].value for name in _RECIPE}
    if kind == "scratch":
        recipe["learning_rate"] = FLAGS.scratch_rate
    return {"run": kind, **pruning, **recipe, "seed": seed}


def today(row: Row) -> Row:
    """Rows of the first version had the settings in one text, and no name of the criterion.

    They get a name that no run of today has, so that means do not mix versions.
    """
    row = {"batch_size": 128, "align": "" if row["run"] == "dense" else "auto", **row}
    if "criterion" in row:
        return row
    kind, rest = row["run"], {name: value for name, value in row.items() if name != "run"}
    # Of the network; the first version did not keep shares.
    rest |= {"macs_share": row["macs"] / 12_501_632, "images": 0}
    if kind == "dense":
        return {**rest, "run": "dense", **_NOT_PRUNED}
    if kind == "scratch":
        rest["learning_rate"] = 0.1
    return {
        "run": "scratch" if kind == "scratch" else "pruned",
        "criterion": "relevance, first version",
        "normalize": "norm",
        "ranking": "score",
        "schedule": "gradual3" if "gradually" in kind else "at_once",
        "compensation": "least_squares" if "compensated" in kind else "none",
        "distill": "distilled" in kind,
        **rest,
    }


def run(key: Row, data: Data, records: Records) -> Row:
    """One training from the trained weights (or fresh ones) to its last epoch."""
    seed = key["seed"]
    keras.utils.set_random_seed(seed)
    model, folder = trained_networks.resnet8(), _backups(key)
    before, pruning = keras_gcp.count(model).macs, None
    if key["run"] == "pruned":
        callback = pruning = _pruning(key, data, folder)
    else:
        callback = keras.callbacks.BackupAndRestore(folder)
    if key["run"] == "scratch":
        narrow = keras_gcp.apply(model, _plan_of_pruned(records, seed))
        model = same_widths_from_scratch(narrow, seed)
    if key["run"] == "peer":
        model = keras.models.load_model(FLAGS.peer, compile=False)
    recipe = Recipe(key["epochs"], key["batch_size"], key["learning_rate"], seed=seed)
    training = train(model, data, recipe, [callback])
    counted = keras_gcp.count(model)
    row = {
        "accuracy": training.accuracy,
        "macs": counted.macs,
        "macs_share": counted.macs / before,
        "parameters": counted.parameters,
        "machine": machine(),
    }
    return row if pruning is None else {**row, "plan": json.loads(pruning.plan.to_json())}


def _pruning(key: Row, data: Data, folder: Path) -> keras_gcp.GradualChannelPruning:
    align = key["align"] if key["align"] == "auto" else int(key["align"])
    return keras_gcp.GradualChannelPruning(
        (data.x_train, data.y_train),
        {"macs": key["share"]},
        scheduled(key["schedule"]),
        key["criterion"],
        selection={"normalize": key["normalize"], "ranking": key["ranking"], "align": align},
        compensation=COMPENSATIONS[key["compensation"]],
        distillation=keras_gcp.Distillation() if key["distill"] else None,
        backup_dir=folder,
        seed=key["seed"],
    )


def scheduled(name: str) -> keras_gcp.schedules.Curve:
    """`at_once`, or `gradualN`: N cubic cuts, before each of the first N epochs."""
    if name == "at_once":
        return keras_gcp.schedules.one_shot(0)
    found = re.fullmatch(r"gradual([1-9]\d*)", name)
    if found is None:
        raise app.UsageError(f"--schedule expects at_once or gradual4. Received: {name!r}.")
    return keras_gcp.schedules.cubic(0, int(found[1]) - 1, 1)


def _plan_of_pruned(records: Records, seed: int) -> Plan:
    pruned = records.find(**key_of("pruned", seed))
    if pruned is None:
        raise app.UsageError("The control needs the pruned run of the same seed first.")
    return Plan.from_json(json.dumps(pruned["plan"]))


def _backups(key: Row) -> Path:
    """A folder of this run's own."""
    root = Path(FLAGS.backups or Path(__file__).parents[1] / "build" / "backups")
    return root / "_".join(re.sub(r"[^\w.]", "-", str(value)) or "-" for value in key.values())


# ---- table


def summary(rows: Sequence[Row]) -> str:
    """One line for every way, and the paired differences of what is pruned from its controls."""
    groups: dict[tuple[Any, ...], dict[int, Row]] = {}
    for row in rows:
        groups.setdefault(tuple(row[name] for name in _KEYS[:-1]), {})[row["seed"]] = row
    columns = ["run", "settings", "epochs", "batch", "rate", "MACs"]
    columns += ["accuracy", "95 %", "each seed"]
    title = (
        "Trained ResNet-8 (87.19 % on CIFAR-10), fine-tuned (one cycle up to the rate), beside the "
        "same widths from fresh weights; test accuracy after the last epoch\n"
        + "\n".join(sorted({row["machine"] for row in rows}))
    )
    lines = [_line(list(found.values())) for found in groups.values()]
    return "\n".join([title, table(columns, lines, width=180), *_differences(groups)])


def _line(rows: Sequence[Row]) -> list[Any]:
    first, accuracies = rows[0], [row["accuracy"] for row in rows]
    return [
        first["run"],
        _settings(first),
        first["epochs"],
        first["batch_size"],
        f"{first['learning_rate']:g}",
        f"{statistics.mean(row['macs_share'] for row in rows):.1%}",
        f"{statistics.mean(accuracies):.2%}",
        *spread_cells(accuracies),
    ]


def _settings(row: Row) -> str:
    if row["run"] == "dense":
        return _images(row).strip()
    way = "/".join(filter(None, (row[name] for name in ("criterion", "normalize", "ranking"))))
    way += "" if row["align"] == "auto" else f", multiples of {row['align']}"
    parts = [f"{row['share']:.0%}", way, row["schedule"]]
    parts += [f"compensation {row['compensation']}"] if row["compensation"] else []
    return ", ".join([*parts, *(["distilled"] if row["distill"] else [])]) + _images(row)


def _images(row: Row) -> str:
    return f" ({row['images']} images)" if row["images"] else ""


def _differences(groups: Mapping[tuple[Any, ...], Mapping[int, Row]]) -> list[str]:
    """Pruned minus each control, over the seeds that both have."""
    lines = []
    for key, pruned in groups.items():
        own = dict(zip(_KEYS, key, strict=False))
        if own["run"] != "pruned":
            continue
        for control in ("dense", "scratch", "peer"):
            others = _controls(control, own, groups)
            seeds = [seed for seed in pruned if seed in others]
            if seeds:
                name = f"pruned ({_settings(own)}) - {control}"
                values = [pruned[seed]["accuracy"] - others[seed]["accuracy"] for seed in seeds]
                lines.append(difference(name, values, "seed"))
    return lines


def _controls(
    control: str, own: Row, groups: Mapping[tuple[Any, ...], Mapping[int, Row]]
) -> dict[int, Row]:
    """By seed; the dense one has the same recipe, the one from scratch the same pruning."""
    alike = {
        "dense": _RECIPE,
        "scratch": (*_PRUNING, "epochs", "batch_size", "images"),
        "peer": (*_RECIPE, "align", "share", "schedule", "distill"),
    }[control]
    found: dict[int, Row] = {}
    for key, rows in groups.items():
        other = dict(zip(_KEYS, key, strict=False))
        if other["run"] == control and all(other[name] == own[name] for name in alike):
            found.update(rows)
    return found


if __name__ == "__main__":
    app.run(main)
