"""Which criterion, way of comparing layers, ranking and number of rounds to take by default.

    python benchmarks/defaults.py --networks=resnet8,lite0_10 --settings=loss_aware,l2_norm/rank
    python benchmarks/defaults.py --summary

One cut of trained networks of several kinds, no training after it. A setting is
`criterion[/normalize[/ranking[/rounds]]]`; what is left out is the criterion's own. Criteria in
`--bare` see no sample, and nothing is compensated. Every row is written at once.
"""

from __future__ import annotations

import statistics
import sys
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from functools import cache, partial
from pathlib import Path
from typing import Any

from absl import app, flags

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # for `import examples`

import keras_gcp
from benchmarks import trained_networks
from benchmarks.records import Records, Row, machine
from keras_gcp.formatting import table

flags.DEFINE_list("networks", list(trained_networks.NETWORKS), "Names of trained networks.")
flags.DEFINE_list("settings", ["loss_aware", "feature_relevance", "l2_norm"], "See above.")
flags.DEFINE_list("shares", ["0.75", "0.5", "0.35"], "Shares of the multiply-adds that remain.")
flags.DEFINE_list("seeds", ["0"], "Seeds of the sample.")
flags.DEFINE_integer("sample_size", 512, "Images of the sample.")
flags.DEFINE_integer("test_images", 2000, "Images that are measured on; 0: all of them.")
flags.DEFINE_boolean("bare", False, "Without a sample.")
flags.DEFINE_boolean("summary", False, "Only print the table of what is there.")
flags.DEFINE_string("output", None, "JSON lines file; default under benchmarks/results.")

FLAGS = flags.FLAGS
_KEYS = ("network", "setting", "share", "seed", "sample_size", "test_images")


def main(arguments: Sequence[str]) -> None:
    """Runs what is missing, then prints the tables."""
    if len(arguments) > 1:
        raise app.UsageError(f"Unknown arguments: {arguments[1:]}")
    output = Path(FLAGS.output or Path(__file__).parent / "results" / "defaults.jsonl")
    records = Records(output, _KEYS)
    if not FLAGS.summary:
        for network in FLAGS.networks:
            _run_all(network, records)
            _load.cache_clear()
    text = summary(records.rows())
    print(text)
    output.with_suffix(".txt").write_text(text + "\n", encoding="utf-8")


def _run_all(network: str, records: Records) -> None:
    size = 0 if FLAGS.bare else FLAGS.sample_size
    for setting in FLAGS.settings:
        for share in map(float, FLAGS.shares):
            for seed in map(int, FLAGS.seeds):
                row = records.get(
                    partial(run, network, setting, share, seed, size),
                    network=network,
                    setting=setting,
                    share=share,
                    seed=seed,
                    sample_size=size,
                    test_images=FLAGS.test_images,
                )
                print(network, setting, share, seed, row.get("score", row.get("error")), flush=True)


@cache
def _load(network: str) -> tuple[trained_networks.Trained, Any, float, float]:
    found = trained_networks.NETWORKS[network](FLAGS.test_images or None)
    model = found.build()
    return found, model, *_measured(model, found)


def run(network: str, setting: str, share: float, seed: int, size: int) -> Row:
    """One cut, and what is left of the accuracy; an error is a row, too."""
    found, model, dense_loss, dense = _load(network)
    criterion, selection, rounds = parsed(setting)
    sample = keras_gcp.Sample((found.x_sample, found.y_sample), size=size) if size else None
    began = time.perf_counter()
    try:
        plan = keras_gcp.plan(
            model,
            {"macs": share},
            criterion,
            sample,
            selection=selection,
            rounds=rounds,
            seed=seed,
        )
        narrow = keras_gcp.apply(model, plan, sample, seed=seed)
    except keras_gcp.KerasGCPError as error:
        return {"error": f"{type(error).__name__}: {str(error).splitlines()[0]}"}
    seconds = time.perf_counter() - began
    narrow.compile(loss=model.loss, metrics=["accuracy"])
    loss, score = _measured(narrow, found)
    return {
        "score": score,
        "dense": dense,
        "loss_rise": loss - dense_loss,
        "predicted_loss": plan.predicted_loss,
        "macs_share": plan.after.macs / plan.before.macs,
        "parameters_share": plan.after.parameters / plan.before.parameters,
        "widths": list(plan.widths().values()),
        "seconds": seconds,
        "machine": machine(),
    }


def parsed(setting: str) -> tuple[str, dict[str, str], int]:
    """Criterion, selection and rounds of a setting."""
    criterion, *rest = setting.split("/")
    named = dict(zip(("normalize", "ranking", "rounds"), rest, strict=False))
    rounds = int(named.pop("rounds", 1))
    return criterion, {name: value for name, value in named.items() if value}, rounds


def _measured(model: Any, found: trained_networks.Trained) -> tuple[float, float]:
    loss, score = model.evaluate(found.x_test, found.y_test, batch_size=100, verbose=0)[:2]
    return float(loss), float(score)


def summary(rows: Sequence[Row]) -> str:
    """A table for every share, with and without a sample; the smallest worst regret first."""
    parts = [f"One cut, no training after it; {rows[0]['machine']}" if rows else "Nothing yet."]
    for sampled in (True, False):
        for share in sorted({row["share"] for row in rows}, reverse=True):
            own = [r for r in rows if r["share"] == share and bool(r["sample_size"]) == sampled]
            if own:
                parts.append(_table(own, share, sampled))
    return "\n\n".join(parts)


def _table(rows: Sequence[Row], share: float, sampled: bool) -> str:
    scores: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    dense: dict[str, float] = {}
    for row in rows:
        scores[row["setting"]][row["network"]].append(100 * row.get("score", 0.0))
        dense[row["network"]] = max(dense.get(row["network"], 0.0), 100 * row.get("dense", 0.0))
    means = {
        setting: {network: statistics.mean(found) for network, found in by_network.items()}
        for setting, by_network in scores.items()
    }
    regrets = {setting: _regrets(one, means) for setting, one in means.items()}
    lines = [
        [
            setting,
            *(f"{means[setting][n]:.1f}" if n in means[setting] else "" for n in dense),
            f"{max(regrets[setting]):.1f}",
            f"{statistics.mean(regrets[setting]):.1f}",
        ]
        for setting in sorted(means, key=lambda s: (-len(means[s]), max(regrets[s])))
    ]
    lines.insert(0, ["dense", *(f"{one:.1f}" for one in dense.values()), "", ""])
    words = "with a sample, compensated" if sampled else "without a sample"
    title = f"{share:.0%} of the MACs, {words}"
    return table(["setting", *dense, "worst", "mean regret"], lines, title=title, width=160)


def _regrets(own: Mapping[str, float], means: Mapping[str, Mapping[str, float]]) -> list[float]:
    """By network: how many points behind the best setting there."""
    return [
        max(m[network] for m in means.values() if network in m) - own[network] for network in own
    ]


if __name__ == "__main__":
    app.run(main)
