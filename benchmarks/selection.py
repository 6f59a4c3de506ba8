"""How much score selection keeps of what the budget could buy, and how long it takes.

    python benchmarks/selection.py

First on small random networks (one to six groups, chained, residual or wired at random, one to
three resources), where an exact solver goes through all widths: which share of the largest possible
total score is kept by the ranking by score, by score per cost at the full widths, by marginal
costs in turns, and with the local search that follows (`ranking="score_per_cost"`). Then seconds
of `plan` on reference networks.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras
import numpy as np
from absl import app, flags

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # for `benchmarks`, `tests`

import keras_gcp
from benchmarks.records import Records, Row, machine
from keras_gcp.formatting import table
from keras_gcp.selection import select
from keras_gcp.selection.candidates import Blocks
from keras_gcp.selection.marginal_costs import best_by_marginal_costs, marginal_costs_at
from keras_gcp.selection.ranking import keep_by_rank
from tests.selection.cases import Case, random_case

flags.DEFINE_integer("cases", 5000, "Number of random networks.")
flags.DEFINE_string("output", None, "JSON lines file; default under benchmarks/results.")

FLAGS = flags.FLAGS

METHODS = {
    "ranking by score": "score",
    "score per cost at full widths": "full",
    "marginal costs in turns": "marginal costs",
    "and local search": "score_per_cost",
}
MOST_NETWORKS = 20_000
NETWORKS = {
    "ResNet-20": keras_gcp.models.resnet20,
    "ResNet-110": keras_gcp.models.resnet110,
    "ResNet-50": partial(keras.applications.ResNet50, weights=None),
    "MobileNetV2": partial(keras.applications.MobileNetV2, weights=None),
    "DenseNet-121": partial(keras.applications.DenseNet121, weights=None),
}


def main(arguments: Sequence[str]) -> None:
    """Runs what is missing, then prints the tables."""
    if len(arguments) > 1:
        raise app.UsageError(f"Unknown arguments: {arguments[1:]}")
    output = Path(FLAGS.output or Path(__file__).parent / "results" / "selection.jsonl")
    records = Records(output, ("part", "name", "align"))
    records.get(partial(against_exact, FLAGS.cases), part="score", name=FLAGS.cases, align="")
    for name, build in NETWORKS.items():
        for align in ("auto", 1):
            records.get(partial(seconds, build, align), part="seconds", name=name, align=align)
    rows = records.rows()
    scores = next(r for r in rows if r["part"] == "score" and r["name"] == FLAGS.cases)
    kept = [
        [method, *(f"{scores[method][figure]:.3%}" for figure in ("mean", "least", "below"))]
        for method in METHODS
    ]
    times = [
        [row["name"], str(row["align"]), row["groups"], f"{row['none']:.2f}", f"{row['cost']:.2f}"]
        for row in rows
        if row["part"] == "seconds"
    ]
    text = (
        f"Kept score as a share of the largest possible, {FLAGS.cases:,} random networks; "
        f"{scores['exact']:.2%} of the outcomes with local search are the exact ones.\n"
        + table(["", "mean", "least", "networks below 99 %"], kept)
        + f"\n\nSeconds of `plan` to half of the multiply-adds, tracing included, fastest of 3; "
        f"{rows[0]['machine']}\n"
        + table(["network", "align", "groups", "by score", "per cost"], times)
    )
    print(text)
    output.with_suffix(".txt").write_text(text + "\n", encoding="utf-8")


def against_exact(cases: int) -> Row:
    """Kept shares of the best possible score."""
    shares: dict[str, list[float]] = {method: [] for method in METHODS}
    for number in range(cases):
        case = random_case(number, 6, MOST_NETWORKS)
        best = case.score(case.all_that_fit()).max()
        for method, way in METHODS.items():
            shares[method].append(float(case.score(outcome(case, way)[None])[0] / best))
    row: Row = {
        method: {
            "mean": float(np.mean(found)),
            "least": min(found),
            "below": float(np.mean(np.array(found) < 0.99)),
        }
        for method, found in shares.items()
    }
    exact = float(np.mean(np.array(shares["and local search"]) > 1 - 1e-9))
    return {**row, "exact": exact, "machine": machine()}


def outcome(case: Case, way: str) -> np.ndarray:
    """Kept channels per group, after some part of the method."""
    if way in ("score", "score_per_cost"):
        return select(case.groups, case.cost_model, case.limits, way)
    blocks = Blocks.of(case.groups)
    if way == "marginal costs":
        return best_by_marginal_costs(case.groups, blocks, case.cost_model, case.limits)[0]
    full = case.full()
    marginal = marginal_costs_at(full, case.groups, case.cost_model, case.limits, list(case.limits))
    order = blocks.by(blocks.scores / marginal[blocks.groups])
    return keep_by_rank(blocks, order, full, case.cost_model, case.limits)


def seconds(build: Any, align: str | int) -> Row:
    """Seconds of `plan` for each way."""
    model = build()
    found: Row = {}
    for name, ranking in (("none", "score"), ("cost", "score_per_cost")):
        times = []
        for _ in range(3):
            start = time.perf_counter()
            plan = keras_gcp.plan(
                model, {"macs": 0.5}, selection={"align": align, "ranking": ranking}
            )
            times.append(time.perf_counter() - start)
        found[name] = min(times)
    groups = sum(group.anchored is None for group in plan.groups)
    return {**found, "groups": groups, "machine": machine()}


if __name__ == "__main__":
    app.run(main)
