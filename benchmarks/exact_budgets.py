"""Is each budget met exactly? Counted on the narrow network and its real files, block by block.

    python benchmarks/exact_budgets.py --networks=resnet8_cifar10,vww_96,mobilenet_v2

Every network is planned under each resource alone and under all of them together. Then it is cut
for real and counted again; and for every group that lost channels it is cut once more with the next
block of that group put back, which has to break the budget (the last two columns). The two trained
networks lie in the folder that KERAS_GCP_TRAINED names; the others have random weights.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import keras
import numpy as np
from absl import app, flags

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # for `import benchmarks`
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))  # for `import helpers`

from helpers import load_trained

import keras_gcp
from benchmarks import deployed, trained_networks
from benchmarks.records import Records, Row, machine
from keras_gcp import resources
from keras_gcp.channels.trace import trace
from keras_gcp.costs.budget import Budget
from keras_gcp.costs.counting import build_cost_model, count_map, prunable_groups
from keras_gcp.errors import ImpossibleBudget
from keras_gcp.formatting import table
from keras_gcp.resources.tflite_files import as_if_trained, converted_bytes
from keras_gcp.selection import Selection
from keras_gcp.selection.planning import candidates_of, keep_of, plan_of
from keras_gcp.surgery.model_copy import copy_model

TRAINED = ("resnet8_cifar10", "vww_96")
FILES = {"tflite_bytes": "tflite", "tflite_bytes_int8": "tflite_int8"}
SHARES: Mapping[str, float] = {
    "macs": 0.5,
    "parameters": 0.5,
    "channels": 0.7,
    "tflite_bytes": 0.5,
    "tflite_bytes_int8": 0.6,
    "peak_activation_bytes": 0.75,
    "peak_activation_bytes_int8": 0.75,
}
BUDGETS: Mapping[str, Mapping[str, float]] = {
    **{resource: {resource: share} for resource, share in SHARES.items()},
    "all of them": SHARES,
}

flags.DEFINE_list("networks", [*TRAINED, "mobilenet_v2"], "Networks.")
flags.DEFINE_list("budgets", list(BUDGETS), "Resources, or 'all of them'.")
flags.DEFINE_string("output", None, "JSON lines file; default under benchmarks/results.")

FLAGS = flags.FLAGS


def main(arguments: Sequence[str]) -> None:
    """Runs what is missing, then prints the table."""
    if len(arguments) > 1:
        raise app.UsageError(f"Unknown arguments: {arguments[1:]}")
    output = Path(FLAGS.output or Path(__file__).parent / "results" / "exact_budgets.jsonl")
    records = Records(output, ("network", "budget"))
    for network in FLAGS.networks:
        for budget in FLAGS.budgets:
            make = partial(run, network, budget, records)
            records.get(make, network=network, budget=budget)
    text = summary(records.rows())
    print(text)
    output.with_suffix(".txt").write_text(text + "\n", encoding="utf-8")


def build(name: str) -> Any:
    """A network by name."""
    if name in TRAINED:
        return load_trained(trained_networks.FOLDER / f"{name}.h5")
    keras.utils.set_random_seed(0)
    return deployed.build(name)


def run(network: str, budget: str, records: Records) -> Row:
    """Plans, cuts, counts; and with every block put back, counts again."""
    model, shares = build(network), dict(BUDGETS[budget])
    for row in records.rows():
        if row["network"] == network and row.get("refused"):
            shares.pop(row["budget"], None)  # Out of reach alone, and so with others.
    original = counted(model, shares)
    limits = Budget.parse(shares).limits_at(original)
    began = time.perf_counter()
    try:
        plan = keras_gcp.plan(model, shares)
    except ImpossibleBudget as error:
        print(f"{network}, {budget}: refused", flush=True)
        return {"limits": limits, "refused": str(error), "machine": machine()}
    seconds = time.perf_counter() - began
    reached = counted(keras_gcp.apply(model, plan), shares)
    breaking = [
        any(counted(wider, limits)[resource] > limit for resource, limit in limits.items())
        for wider in with_next_block(plan, model)
    ]
    print(f"{network}, {budget}: {sum(breaking)} of {len(breaking)} blocks", flush=True)
    return {
        "limits": limits,
        "reached": reached,
        "holds": all(reached[resource] <= limit for resource, limit in limits.items()),
        "blocks": len(breaking),
        "breaking": sum(breaking),
        "seconds": seconds,
        "machine": machine(),
    }


def counted(model: Any, names: Mapping[str, float]) -> dict[str, float]:
    """Costs of a network as it is: from its graph, and from files that are really written."""
    found = count_map(trace(model), resources.counted(names))
    costs = {"macs": found.macs, "parameters": found.parameters, "channels": found.channels}
    costs.update(found.further)
    for resource in FILES.keys() & names:
        costs[resource] = converted_bytes(as_if_trained(copy_model(model)), FILES[resource])
    return {resource: float(costs[resource]) for resource in names}


def with_next_block(plan: Any, model: Any) -> Iterator[Any]:
    """For every group that lost channels: the network with the next block of it put back."""
    channels = trace(model)
    cost_model, keep = build_cost_model(channels), keep_of(plan, channels)
    allowed = candidates_of(channels, np.zeros(channels.coupled_count), Selection())
    for group, candidates in zip(prunable_groups(channels), allowed, strict=True):
        removed = group.coupled[~keep[group.coupled]]
        if len(removed):
            kept = len(group.coupled) - len(removed)
            wider = min(width for width in candidates.widths if width > kept)
            more = keep.copy()
            more[removed[: wider - kept]] = True
            yield keras_gcp.apply(model, plan_of(channels, more, cost_model))


def summary(rows: Sequence[Row]) -> str:
    """One line for every resource of every budget."""
    cells = [
        [
            row["network"],
            row["budget"],
            resource if row["budget"] == "all of them" else "",
            f"{limit:,.0f}",
            *_outcome(row, resource, limit),
        ]
        for row in rows
        for resource, limit in row["limits"].items()
    ]
    columns = ["network", "budget", "resource", "at most", "reached", "left", "met"]
    columns += ["blocks that would break it", "s"]
    title = (
        "Budgets, counted on the narrow networks and their files (default alignment and floors); "
        f"s: the plan, conversions included; {rows[0]['machine']}"
    )
    return f"{title}\n{table(columns, cells, width=170)}"


def _outcome(row: Row, resource: str, limit: float) -> list[str]:
    if "refused" in row:
        return ["refused", "", "", "", ""]
    reached = row["reached"][resource]
    return [
        f"{reached:,.0f}",
        f"{1 - reached / limit:.2%}",
        "yes" if row["holds"] else "NO",
        f"{row['breaking']} of {row['blocks']}",
        f"{row['seconds']:.1f}",
    ]


if __name__ == "__main__":
    app.run(main)
