"""When to cut within a training: at once, or in several events, and how late.

    python benchmarks/schedules.py --networks=resnet8,digits_vgg --starts=trained --seeds=0,1,2
    python benchmarks/schedules.py --summary

One fit with the default criterion, compensation and selection; only the schedule differs. Test
accuracy after the last epoch. From trained weights: MLPerf Tiny's ResNet-8 on all of CIFAR-10, and
networks on digits, for six epochs. From fresh ones: as in `evenness.py`. A killed run goes on with
its next row.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from itertools import product
from pathlib import Path

from absl import app, flags

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # for `import examples`

from benchmarks import digits_networks, evenness, trained_networks
from benchmarks.data import cifar10
from benchmarks.evenness import Task, trained
from benchmarks.records import Records, Row
from benchmarks.regret import compared
from examples.datasets import Data, load
from examples.training import Recipe
from keras_gcp import schedules
from keras_gcp.formatting import table

DENSE = "dense"
SCHEDULES: Mapping[str, Callable[[int], schedules.Curve]] = {
    "four events": schedules.default,
    "at once": lambda epochs: schedules.one_shot(0),
    "two first epochs": lambda epochs: schedules.cubic(0, 1),
    "first third": lambda epochs: schedules.cubic(0, max(1, epochs // 3)),
    "at half": lambda epochs: schedules.one_shot(epochs // 2),
}
"""Name to the schedule of a training of so many epochs."""


def _digits(seed: int) -> Data:
    return load("digits", seed=0, scale=2)  # The split that they were trained on.


TRAINED: Mapping[str, Task] = {
    "resnet8": Task(
        trained_networks.resnet8, Recipe(6, learning_rate=0.02), lambda seed: cifar10()
    ),
    **{
        name: Task(
            partial(digits_networks.trained, name),
            Recipe(6, batch_size=32, learning_rate=0.01),
            _digits,
        )
        for name in digits_networks.NETWORKS
    },
}
STARTS: Mapping[str, Mapping[str, Task]] = {"trained": TRAINED, "fresh": evenness.TASKS}

flags.DEFINE_list("starts", list(STARTS), f"Weights: {', '.join(STARTS)}.")
flags.DEFINE_list("schedules", list(SCHEDULES), f"Of {', '.join(SCHEDULES)}.")

FLAGS = flags.FLAGS

_KEYS = ("start", "network", "share", "schedule", "seed")


def main(arguments: Sequence[str]) -> None:
    """Runs what is missing, then prints the tables."""
    if len(arguments) > 1:
        raise app.UsageError(f"Unknown arguments: {arguments[1:]}")
    output = Path(FLAGS.output or Path(__file__).parent / "results" / "schedules.jsonl")
    records = Records(output, _KEYS)
    if not FLAGS.summary:
        for key in keys():
            row = records.get(partial(run, key), **key)
            print(*key.values(), f"{row['accuracy']:.2%}", flush=True)
    text = summary(records.rows())
    print(text)
    output.with_suffix(".txt").write_text(text + "\n", encoding="utf-8")


def keys() -> list[Row]:
    """All rows that the flags ask for; those of one seed before those of the next."""
    return [
        {"start": start, "network": network, "share": share, "schedule": schedule, "seed": seed}
        for seed, start, network in product(map(int, FLAGS.seeds), FLAGS.starts, FLAGS.networks)
        if network in STARTS[start]
        for share in ["1", *FLAGS.shares]
        for schedule in ([DENSE] if share == "1" else FLAGS.schedules)
    ]


def run(key: Row) -> Row:
    """One training to its last epoch."""
    task, seed = STARTS[key["start"]][key["network"]], key["seed"]
    if key["schedule"] == DENSE:
        return trained(task, seed)
    schedule = SCHEDULES[key["schedule"]](task.recipe.epochs)
    return trained(task, seed, key["share"], schedule=schedule)


def summary(rows: Sequence[Row]) -> str:
    """A table for every start and share: how far each schedule is from the best one."""
    texts = ["Pruned within one fit, by all defaults but the schedule; test accuracy."]
    texts += sorted({row["machine"] for row in rows})
    for start, share in sorted({(row["start"], row["share"]) for row in rows}, reverse=True):
        own = [row for row in rows if row["start"] == start]
        dense = {row["network"]: row["accuracy"] for row in own if row["schedule"] == DENSE}
        cut = [row for row in own if row["share"] == share != "1"]
        if not cut:
            continue
        settings = [
            {
                **row,
                "setting": row["schedule"],
                "score": row["accuracy"],
                "dense": dense[row["network"]],
            }
            for row in cut
        ]
        comparison = compared(settings)
        title = (
            f"\nFrom {start} weights, {float(share):.0%} of the MACs; in brackets the seeds, "
            "where others have more"
        )
        texts.append(table(comparison.columns, comparison.lines, title=title))
    return "\n".join(texts)


if __name__ == "__main__":
    app.run(main)
