"""Prunes every network of keras.applications (or of keras-hub) to half of its multiply-adds.

    python benchmarks/zoo.py
    python benchmarks/zoo.py --source=hub
    python benchmarks/zoo.py --networks=ResNet50,VGG16

Each network is built with random weights at its default input size, in a process of its own, and
all that usually starts as 0 or 1 (scales, shifts, statistics, biases) gets random values. It is
traced, planned and applied with default settings. The narrow copy must compute what the wide
network computes without the removed channels (executed call by call, with inputs of consuming
layers multiplied by zeros and ones: not the way the library itself verifies), must cost what the
plan says, and must compute the same after saving and loading.
"""

from __future__ import annotations

import inspect
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"

import keras
import numpy as np
from absl import app, flags

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # for `import benchmarks`
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))  # for `import helpers`

from helpers import flat_outputs, masked_by_hand, randomise_constants

import keras_gcp
from benchmarks.records import Records, Row, machine
from keras_gcp import keras_state
from keras_gcp.channels.map import ChannelMap
from keras_gcp.channels.opaque import opaque_layers
from keras_gcp.costs.counting import build_cost_model, prunable_groups

flags.DEFINE_enum("source", "applications", ["applications", "hub"], "Where networks come from.")
flags.DEFINE_list("networks", [], "Only these; all if empty.")
flags.DEFINE_string("output", None, "JSON lines file; default under benchmarks/results.")
flags.DEFINE_string("one", None, "Runs this network in this very process and prints its row.")

FLAGS = flags.FLAGS

SHARE = 0.5  # of the multiply-adds may remain
# Of the largest logit: what rounding leaves of several hundred layers. Random weights make some
# networks blow up a rounding a thousand times; these are compared in float64 instead.
TOLERANCE = {"float32": 1e-4, "float64": 1e-9}
ROUNDING = 2.0**-22
SIZES = {name: (224, 224, 3) for name in ("MobileNetV3Large", "MobileNetV3Small")}  # no default
LEAST_EFFECT = 1e-2  # so much the removed channels must matter, or the comparison says nothing


class Mismatch(Exception):
    """The narrow network is not what it has to be."""


def main(arguments: Sequence[str]) -> None:
    """Runs what is missing, then writes the table."""
    if len(arguments) > 1:
        raise app.UsageError(f"Unknown arguments: {arguments[1:]}")
    if FLAGS.one:
        print(json.dumps(run(FLAGS.one, builders(FLAGS.source)[FLAGS.one])))
        return
    everything = list(builders(FLAGS.source))
    if unknown := set(FLAGS.networks) - set(everything):
        raise app.UsageError(f"Unknown networks: {sorted(unknown)}. Expected some of {everything}")
    name = {"applications": "zoo.jsonl", "hub": "zoo_hub.jsonl"}[FLAGS.source]
    output = Path(FLAGS.output or Path(__file__).parent / "results" / name)
    records = Records(output, ("network",))
    for network in FLAGS.networks or everything:
        row = records.get(partial(in_process_of_its_own, network), network=network)
        print(f"{network}: {row['outcome']}", flush=True)
    text = report(records.rows(), len(everything))
    print(text)
    output.with_suffix(".md").write_text(text + "\n", encoding="utf-8")


def builders(source: str) -> dict[str, Callable[[], Any]]:
    """Name to builder. For keras.applications: every function there that has `weights`."""
    if source == "hub":
        from benchmarks.hub_networks import NETWORKS

        return NETWORKS
    functions = {
        name: function
        for name, function in vars(keras.applications).items()
        if inspect.isfunction(function) and "weights" in inspect.signature(function).parameters
    }
    # Logits, since a saturated softmax hides differences.
    return {
        name: partial(
            function, weights=None, classifier_activation=None, input_shape=SIZES.get(name)
        )
        for name, function in functions.items()
    }


def in_process_of_its_own(network: str) -> Row:
    """The row of one network; memory is free again afterwards, and a crash costs one row only."""
    command = [sys.executable, __file__, f"--source={FLAGS.source}", f"--one={network}"]
    done = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL)
    if done.returncode == 0:
        return json.loads(done.stdout.splitlines()[-1])
    last = (done.stderr.strip().splitlines() or ["no message"])[-1]
    return {"outcome": f"process ended with {done.returncode}: {last}"}


def run(network: str, build: Callable[[], Any]) -> Row:
    """Everything about one network; what fails is the outcome."""
    keras.utils.set_random_seed(0)
    row: Row = {"source": FLAGS.source, "outcome": "ok", "seconds": {}}
    try:
        check(build, row)
        if row["difference"] > TOLERANCE["float32"]:
            again_in_float64(build, row)
    except Exception as error:
        row["outcome"] = f"{type(error).__name__}: {error}"
    row["peak_gigabytes"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    row["machine"] = machine()
    return row


def again_in_float64(build: Callable[[], Any], row: Row) -> None:
    """Tells a mistake from rounding; figures of the comparison become those in float64."""
    row["difference_float32"] = row["difference"]
    keras.config.set_floatx("float64")
    keras.config.set_dtype_policy("float64")
    keras.utils.set_random_seed(0)
    again: Row = {"seconds": {}}
    check(build, again)
    if not again["difference"] <= TOLERANCE["float64"]:
        raise Mismatch(f"in float64, too, the networks differ by {again['difference']:.2g}")
    row.update({key: again[key] for key in ("difference", "rounding", "effect")})


def check(build: Callable[[], Any], row: Row) -> None:
    """Builds, prunes and compares; fills the row as far as it gets."""
    with timed(row, "build"):
        model = build()
    row["family"] = family_of(build)
    randomise_constants(model)
    closed = opaque_layers(keras_state.read_graph(model))
    if closed:
        with timed(row, "flatten"):
            model = keras_gcp.flatten(model)
        closed = opaque_layers(keras_state.read_graph(model))
    row["left_whole"] = closed
    row["input"] = [list(x.shape[1:]) for x in keras.tree.flatten(model.input)]
    with timed(row, "trace"):
        channels = keras_gcp.trace(model, list(closed))
    row.update(described(model, channels))
    with timed(row, "plan"):
        plan = keras_gcp.plan(model, {"macs": SHARE}, exclude=list(closed))
    with timed(row, "apply"):
        narrow = keras_gcp.apply(model, plan)
    counted = keras_gcp.count(narrow, list(closed))
    row["macs"] = [plan.before.macs, counted.macs]
    row["parameters"] = [plan.before.parameters, counted.parameters]
    predicted = (plan.after.macs, plan.after.parameters)
    if (counted.macs, counted.parameters) != predicted:
        raise Mismatch(f"counted {counted.macs, counted.parameters}, predicted {predicted}")
    if counted.parameters != narrow.count_params() or counted.macs > SHARE * plan.before.macs:
        raise Mismatch(f"{counted.macs} MACs, {narrow.count_params()} parameters")
    inputs = random_image(model)
    with timed(row, "verify"):
        actual = flat_outputs(narrow, inputs)
        nearby = keras.tree.map_structure(lambda x: x * np.float32(1 + ROUNDING), inputs)
        row["rounding"] = difference(flat_outputs(narrow, nearby), actual)
        compare(row, actual, masked_by_hand(model, plan, inputs), flat_outputs(model, inputs))
    with timed(row, "save_and_load"):
        loaded = saved_and_loaded(narrow)
    row["difference_loaded"] = difference(flat_outputs(loaded, inputs), actual)
    if row["difference_loaded"] > 0:
        raise Mismatch(f"the loaded network differs by {row['difference_loaded']:.2g}")


def random_image(model: Any) -> Any:
    """One example of 0 to 255: some networks begin with the scaling of such images."""
    rng = np.random.default_rng(0)
    return keras.tree.map_structure(
        lambda x: rng.uniform(0, 255, (1, *x.shape[1:])).astype(x.dtype), model.input
    )


def described(model: Any, channels: ChannelMap) -> Row:
    """Groups, anchors, and the share of the multiply-adds that pruning can reach.

    The share is 1 - (MACs with every prunable group at its least width: one channel, or what its
    layers need) / (all MACs).
    """
    groups = prunable_groups(channels)
    cost_model = build_cost_model(channels)
    full = np.array([len(group.coupled) for group in groups])
    least = np.array([min(group.least, len(group.coupled)) for group in groups])
    anchored = [group for group in channels.groups if group.anchored]
    return {
        "prunable_share": 1 - cost_model.cost("macs", least) / cost_model.cost("macs", full),
        "calls": len(channels.graph.calls),
        "groups": len(channels.groups),
        "anchored": {group.name: group.anchored for group in anchored},
        "not_followed": dict(channels.refusals),
    }


def compare(
    row: Row, actual: list[np.ndarray], masked: list[np.ndarray], dense: list[np.ndarray]
) -> None:
    """The narrow network against the masked one, and both against the whole one."""
    row["difference"], row["effect"] = difference(actual, masked), difference(masked, dense)
    if not all(np.isfinite(y).all() for y in masked):
        raise Mismatch("the masked network's outputs are not finite")
    if not row["effect"] > LEAST_EFFECT:
        raise Mismatch(f"removing channels changes {row['effect']:.2g}: nothing can be compared")
    if not np.isfinite(row["difference"]):
        raise Mismatch("the narrow network's outputs are not finite")


def difference(actual: list[np.ndarray], expected: list[np.ndarray]) -> float:
    """Largest difference of any output, relative to its largest value."""
    return max(
        float(np.abs(a - b).max() / np.abs(b).max()) for a, b in zip(actual, expected, strict=True)
    )


def saved_and_loaded(model: Any) -> Any:
    """The model after a round trip through a `.keras` file."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "narrow.keras"
        model.save(path)
        return keras.models.load_model(path)


@contextmanager
def timed(row: Row, stage: str) -> Iterator[None]:
    """Notes the wall-clock seconds of a stage."""
    start = time.perf_counter()
    try:
        yield
    finally:
        row["seconds"][stage] = round(time.perf_counter() - start, 3)


def family_of(build: Callable[[], Any]) -> str:
    """The module that defines a builder of keras.applications, or keras_hub."""
    function = build.func if isinstance(build, partial) else build
    return function.__module__.rpartition(".")[2]


# ------------------------------------------------------------------------------- the table

COLUMNS = {
    "network": lambda row: row["network"],
    "input": lambda row: ", ".join("x".join(map(str, shape)) for shape in row["input"]),
    "MACs": lambda row: f"{row['macs'][0] / 1e6:,.0f} M",
    "left": lambda row: f"{row['macs'][1] / row['macs'][0]:.1%}",
    "parameters": lambda row: f"{row['parameters'][0] / 1e6:,.2f} M",
    "left ": lambda row: f"{row['parameters'][1] / row['parameters'][0]:.1%}",
    "prunable": lambda row: f"{row['prunable_share']:.1%}",
    "groups": lambda row: str(row["groups"]),
    "anchored": lambda row: str(len(row["anchored"])),
    "difference": lambda row: (
        f"{row['difference']:.0e}{' *' if 'difference_float32' in row else ''}"
    ),
    "rounding": lambda row: f"{row['rounding']:.0e}",
    "effect": lambda row: f"{row['effect']:.2f}",
    **{
        stage.replace("_and_", " + "): partial(lambda stage, row: f"{row['seconds'][stage]:.1f}", s)
        for s in ("build", "trace", "plan", "apply", "verify", "save_and_load")
        for stage in [s]
    },
    "peak GB": lambda row: f"{row['peak_gigabytes']:.1f}",
    "outcome": lambda row: row["outcome"].replace("|", "/").replace("\n", " "),
}


def report(rows: list[Row], of: int) -> str:
    """The Markdown page."""
    rows = sorted(rows, key=lambda row: (row.get("family", ""), row["network"]))
    passed = sum(row["outcome"] == "ok" for row in rows)
    source = {"applications": "keras.applications", "hub": "keras-hub"}[FLAGS.source]
    lines = [
        f"# {source}: {passed} of {of} networks",
        "",
        f"{passed} of {of} {source} networks, pruned to {SHARE:.0%} of their multiply-adds "
        "(`l2_norm`, default settings): the narrow copy computes what the masked network computes, "
        "costs what the plan says, and is the same after saving and loading.",
        "",
        f"- {next((row['machine'] for row in rows if 'machine' in row), machine())}; each network "
        "once, in a process of its own, on a shared machine: seconds are rough, `plan` traces "
        "again, and the first calls of TensorFlow are in them.",
        "- MACs: of one example at the input size given. Prunable: 1 - MACs with every prunable "
        "group at its least width / all MACs.",
        "- Groups: channels that live or die together; anchored: groups that must stay.",
        "- Difference: of narrow and masked logits, relative to the largest logit; at most "
        f"{TOLERANCE['float32']:g}. Rounding: the change of the narrow network's logits if the "
        "input changes by 2^-22. Effect: of masked and whole logits. Where random weights make a "
        "deep network so unstable that rounding hides everything, the three are those in float64 "
        f"(marked *), and the difference is at most {TOLERANCE['float64']:g}.",
        "- Weights are random, so this says nothing about accuracy.",
        "",
        f"| {' | '.join(name.strip() for name in COLUMNS)} |",
        f"|{'|'.join(['---'] + ['---:'] * (len(COLUMNS) - 2) + ['---'])}|",
        *(f"| {' | '.join(_cell(make, row) for make in COLUMNS.values())} |" for row in rows),
        "",
        "Why groups are anchored (number of groups over all networks; by name in the JSON lines):",
        "",
        *(f"- {count}: {reason}" for reason, count in _reasons(rows).most_common()),
    ]
    return "\n".join(lines)


def _cell(make: Callable[[Row], str], row: Row) -> str:
    """A cell; empty where the network failed before it was known."""
    try:
        return make(row)
    except KeyError:
        return ""


def _reasons(rows: list[Row]) -> Counter[str]:
    return Counter(reason for row in rows for reason in row.get("anchored", {}).values())


if __name__ == "__main__":
    app.run(main)
