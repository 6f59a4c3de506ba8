"""One cut of a trained ResNet-8 on CIFAR-10, without and with compensation, before any training.

    python benchmarks/one_shot.py                 all criteria and ways of compensation
    python benchmarks/one_shot.py --finetune      then one epoch for the best two, and uncompensated

The network is MLPerf Tiny's (87.19 % on the test set); KERAS_GCP_TRAINED names the folder it lies
in. Accuracies are on all 10,000 test images; the sample is drawn from the training images. Criteria
that look at the sample, and compensation, run with three samples.
"""

from __future__ import annotations

import statistics
import sys
import time
from collections import defaultdict
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import keras
from absl import app, flags

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # for `import examples`

import keras_gcp
from benchmarks import trained_networks
from benchmarks.data import cifar10
from benchmarks.records import Records, Row, machine
from examples.datasets import Data
from keras_gcp import criteria
from keras_gcp.formatting import table

COMPENSATIONS: dict[str, tuple[str | None, bool]] = {
    "none": (None, False),
    "fold": ("fold", False),
    "fold + BN": ("fold", True),
    "least squares": ("least_squares", False),
    "least squares + BN": ("least_squares", True),
}

flags.DEFINE_list("criteria", list(criteria.names()), "Names of criteria.")
flags.DEFINE_list("shares", ["0.75", "0.5", "0.35"], "Shares of the multiply-adds that remain.")
flags.DEFINE_list("seeds", ["0", "1", "2"], "Seeds of the sample (and of the random criterion).")
flags.DEFINE_integer("sample_size", 512, "Images of the sample.")
flags.DEFINE_boolean("finetune", False, "One epoch of training for the best two per share.")
flags.DEFINE_string("output", None, "JSON lines file; default under benchmarks/results.")

FLAGS = flags.FLAGS


def main(arguments: Sequence[str]) -> None:
    """Runs what is missing, then prints the tables."""
    if len(arguments) > 1:
        raise app.UsageError(f"Unknown arguments: {arguments[1:]}")
    output = Path(FLAGS.output or Path(__file__).parent / "results" / "one_shot.jsonl")
    keys = ("criterion", "compensation", "share", "seed", "epochs", "sample_size")
    records = Records(output, keys)
    data = cifar10()
    for share in map(float, FLAGS.shares):
        for seed in map(int, FLAGS.seeds):
            for criterion in FLAGS.criteria:
                for compensation in COMPENSATIONS:
                    _get(records, data, criterion, compensation, share, seed, 0)
    if FLAGS.finetune:
        for share in map(float, FLAGS.shares):
            for criterion, compensation in _chosen(records.rows(), share):
                for seed in map(int, FLAGS.seeds):
                    _get(records, data, criterion, compensation, share, seed, 1)
    text = summary(records.rows())
    print(text)
    output.with_suffix(".txt").write_text(text + "\n", encoding="utf-8")


def _get(
    records: Records,
    data: Data,
    criterion: str,
    compensation: str,
    share: float,
    seed: int,
    epochs: int,
) -> None:
    arguments = (data, criterion, compensation, share, seed, epochs)
    records.get(
        partial(run, *arguments),
        criterion=criterion,
        compensation=compensation,
        share=share,
        seed=seed if _chance(criterion, compensation, epochs) else 0,
        epochs=epochs,
        sample_size=FLAGS.sample_size,
    )


def _chance(criterion: str, compensation: str, epochs: int) -> bool:
    """Whether anything depends on the seed."""
    looks = criteria.needs_sample(criteria.get(criterion)) or criterion == "random"
    return looks or compensation != "none" or epochs > 0


def run(data: Data, criterion: str, compensation: str, share: float, seed: int, epochs: int) -> Row:
    """One cut, and the accuracy on the test images."""
    keras.utils.set_random_seed(seed)
    model = _trained()
    method, recalibrate = COMPENSATIONS[compensation]
    began = time.perf_counter()
    narrow = keras_gcp.prune(
        model,
        {"macs": share},
        criterion,
        keras_gcp.Sample((data.x_train, data.y_train), size=FLAGS.sample_size),
        seed=seed,
        compensation=keras_gcp.Compensation(method, recalibrate),
    )
    seconds = time.perf_counter() - began
    _compile(narrow)
    if epochs:
        # At a constant rate the accuracy of the next step is ten points higher or lower.
        steps = epochs * -(-len(data.x_train) // 128)
        _compile(narrow, keras.optimizers.schedules.CosineDecay(0.01, steps))
        narrow.fit(data.x_train, data.y_train, batch_size=128, epochs=epochs, verbose=0)
    accuracy = narrow.evaluate(data.x_test, data.y_test, batch_size=500, verbose=0)[1]
    counted, before = keras_gcp.count(narrow), keras_gcp.count(model)
    row = {
        "accuracy": accuracy,
        "macs_share": counted.macs / before.macs,
        "parameters_share": counted.parameters / before.parameters,
        "seconds": seconds,
        "machine": machine(),
    }
    print(f"{share:.0%} {criterion}, {compensation}, seed {seed}, {epochs} epochs: {accuracy:.2%}")
    return row


def _trained() -> keras.Model:
    model = trained_networks.resnet8()
    _compile(model)
    return model


def _compile(model: keras.Model, learning_rate: Any = 0.01) -> None:
    optimizer = keras.optimizers.SGD(learning_rate, momentum=0.9)
    model.compile(optimizer, "sparse_categorical_crossentropy", metrics=["accuracy"])


def _chosen(rows: Sequence[Row], share: float) -> list[tuple[str, str]]:
    """The best two pairs without training; the same, and the best, without compensation."""
    means = _means(rows, share, 0)
    ranked = sorted(means, key=lambda pair: -means[pair][0])
    plain = [(criterion, "none") for criterion, _ in ranked[:2]]
    best_plain = next(pair for pair in ranked if pair[1] == "none")
    return list(dict.fromkeys([*ranked[:2], *plain, best_plain]))


def _means(
    rows: Sequence[Row], share: float, epochs: int
) -> dict[tuple[str, str], tuple[float, float]]:
    """(criterion, compensation) to mean accuracy and its range."""
    found: dict[tuple[str, str], list[float]] = defaultdict(list)
    for row in rows:
        if (row["share"], row["epochs"]) == (share, epochs):
            found[row["criterion"], row["compensation"]].append(row["accuracy"])
    return {pair: (statistics.mean(a), max(a) - min(a)) for pair, a in found.items()}


def summary(rows: Sequence[Row]) -> str:
    """One table per share, and one of the trained ones."""
    first: dict[str, Any] = rows[0]
    parts = [
        "Trained ResNet-8 (MLPerf Tiny, 87.19 % on CIFAR-10), one cut, no training after "
        f"it: accuracy in % (range over seeds); sample of {first['sample_size']} training images; "
        f"{first['machine']}"
    ]
    for share in sorted({row["share"] for row in rows}, reverse=True):
        means = _means(rows, share, 0)
        cells = [
            [name, *(_cell(means.get((name, compensation))) for compensation in COMPENSATIONS)]
            for name in dict.fromkeys(pair[0] for pair in means)
        ]
        parts.append(table(["criterion", *COMPENSATIONS], cells, title=f"{share:.0%} of the MACs"))
        trained = _means(rows, share, 1)
        if trained:
            cells = [[*pair, _cell(found)] for pair, found in trained.items()]
            title = f"{share:.0%} of the MACs, after one epoch (rate 0.01 to 0)"
            parts.append(table(["criterion", "compensation", "accuracy"], cells, title=title))
    return "\n\n".join(parts)


def _cell(found: tuple[float, float] | None) -> str:
    if found is None:
        return ""
    mean, spread = found
    return f"{100 * mean:.2f}" + (f" ({100 * spread:.2f})" if spread else "")


if __name__ == "__main__":
    app.run(main)
