"""The figures of docs/how_it_works.md: one network, pruned in one fit, and cut without training.

    python benchmarks/how_it_works.py

ResNet-8 on scikit-learn's digits (16x16), dense and losing more than half of its multiply-adds in
two events. Then the trained dense network is cut once to several sizes, with the removed channels
only left out, and with what reads them refitted. Numbers are kept in
benchmarks/results/how_it_works.jsonl and drawn from there; pictures go to docs/images, one for
light pages and one for dark ones.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import keras
from absl import app, flags

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # for `import examples`

import keras_gcp
from benchmarks.figures import IMAGES, INKS, drawing
from benchmarks.records import Records, Row, machine
from examples.datasets import Data, load
from examples.training import Recipe, train
from keras_gcp import criteria
from keras_gcp.formatting import table
from keras_gcp.reporting.style import BLUE, DENSE, GREEN, ORANGE, VERMILION

flags.DEFINE_string("output", None, "JSON lines file; default under benchmarks/results.")
flags.DEFINE_string("images", None, "Folder of the pictures; default docs/images.")

FLAGS = flags.FLAGS

ROOT = Path(__file__).resolve().parents[1]
RECIPE = Recipe(epochs=15, batch_size=64, seed=0)
BUDGET = {"macs": 0.45}
SHARES = (0.75, 0.5, 0.35)


def main(arguments: Sequence[str]) -> None:
    """Measures what is missing, then prints it and draws."""
    if len(arguments) > 1:
        raise app.UsageError(f"Unknown arguments: {arguments[1:]}")
    output = Path(FLAGS.output or ROOT / "benchmarks" / "results" / "how_it_works.jsonl")
    images = Path(FLAGS.images or IMAGES)
    records = Records(output, ("part",))
    data = load("digits", seed=0)
    dense = network(data)
    fit = records.get(partial(one_fit, data), part="fit")
    cuts = records.get(partial(cuts_of_the_trained, data, dense), part="cuts")
    text = summary(fit, cuts)
    print(text)
    output.with_suffix(".txt").write_text(text + "\n", encoding="utf-8")
    for scheme in INKS:
        draw_fit(fit, scheme, images)
        draw_widths(fit, scheme, images)
        draw_scores(cuts, scheme, images)
        draw_cuts(cuts, scheme, images)


# ----------------------------------------------------------------------------------- measurements


def network(data: Data) -> keras.Model:
    keras.utils.set_random_seed(RECIPE.seed)
    return keras_gcp.models.resnet8(data.input_shape, data.classes)


def one_fit(data: Data) -> Row:
    """Accuracy and multiply-adds of every epoch, dense and pruned."""
    pruning = keras_gcp.GradualChannelPruning(
        (data.x_train, data.y_train),
        BUDGET,
        keras_gcp.schedules.linear(begin=3, end=6, every=3),
        seed=RECIPE.seed,
    )
    dense = train(network(data), data, RECIPE)
    pruned = train(network(data), data, RECIPE, [pruning])
    return {
        "machine": machine(),
        "dense": dense.history["val_accuracy"],
        "pruned": pruned.history["val_accuracy"],
        "macs_left": pruned.history["macs_left"],
        "events": [
            {
                "epoch": event.epoch,
                "removed_channels": event.removed_channels,
                "loss_before": event.loss_before,
                "loss_after": event.loss_after,
            }
            for event in pruning.events
        ],
        "original_widths": pruning.plan.original_widths(),
        "widths": pruning.plan.widths(),
        "explained": pruning.plan.explain(),
    }


class Remembered:
    """The default criterion, which also keeps what it said."""

    def __init__(self) -> None:
        self._criterion = criteria.get("loss_aware")
        self.normalize = self._criterion.normalize
        self.ranking = self._criterion.ranking
        self.scores: dict[str, list[float]] = {}

    def __call__(self, model: Any, channels: Any, sample: Any) -> Any:
        scores = self._criterion(model, channels, sample)
        self.scores = {path: [float(score) for score in scores[path]] for path in scores}
        return scores


def cuts_of_the_trained(data: Data, model: keras.Model) -> Row:
    """Scores of the trained network, and its test loss after one cut to each size."""
    train(model, data, RECIPE)
    sample, test = (data.x_train, data.y_train), (data.x_test, data.y_test)
    remembered = Remembered()
    sizes = {}
    for share in SHARES:
        plan = keras_gcp.plan(model, {"macs": share}, remembered, sample, seed=RECIPE.seed)
        sizes[str(share)] = {
            name: measured(keras_gcp.apply(model, plan, sample, compensation=how), test)
            for name, how in (("left out", None), ("refitted", "least_squares"))
        }
        if share == SHARES[1]:
            kept = {path: plan.kept(path).tolist() for path in plan.widths()}
    return {
        "machine": machine(),
        "dense": measured(model, test),
        "sizes": sizes,
        "scores": remembered.scores,
        "kept": kept,
    }


def measured(model: keras.Model, test: Any) -> dict[str, float]:
    model.compile(loss="sparse_categorical_crossentropy", metrics=["accuracy"])
    return model.evaluate(*test, batch_size=500, verbose=0, return_dict=True)


def summary(fit: Row, cuts: Row) -> str:
    epochs = [
        [
            str(i),
            f"{100 * left:.1f}%",
            *(f"{100 * fit[run][i]:.1f}%" for run in ("dense", "pruned")),
        ]
        for i, left in enumerate(fit["macs_left"])
    ]
    rows = [
        [f"{100 * float(share):.0f}%"]
        + [f"{size[how]['loss']:.3f}" for how in ("left out", "refitted")]
        + [f"{100 * size[how]['accuracy']:.1f}%" for how in ("left out", "refitted")]
        for share, size in cuts["sizes"].items()
    ]
    dense = cuts["dense"]
    return "\n".join(
        [
            "ResNet-8 on scikit-learn digits (16x16), one seed, 500 test images; " + fit["machine"],
            "",
            "One fit: test accuracy after every epoch",
            table(["epoch", "MACs left", "dense", "pruned"], epochs),
            "",
            f"The dense network (loss {dense['loss']:.3f}, {100 * dense['accuracy']:.1f} %), "
            "cut once, no training after it",
            table(
                [
                    *("MACs", "loss: left out", "loss: refitted"),
                    *("accuracy: left out", "accuracy: refitted"),
                ],
                rows,
            ),
        ]
    )


# ---------------------------------------------------------------------------------------- pictures


def draw_fit(fit: Row, scheme: str, folder: Path) -> None:
    epochs = range(1, len(fit["dense"]) + 1)
    with drawing("one_fit", scheme, folder) as figure:
        left, right = figure.subplots(1, 2)
        left.plot(epochs, [100 * v for v in fit["dense"]], color=DENSE, label="dense")
        left.plot(epochs, [100 * v for v in fit["pruned"]], color=VERMILION, label="pruned")
        left.set(xlabel="epoch", ylabel="test accuracy, %", ylim=(0, 102))
        left.legend(loc="lower right")
        right.step(epochs, [100 * v for v in fit["macs_left"]], where="mid", color=VERMILION)
        right.axhline(100 * BUDGET["macs"], color=DENSE, linestyle=(0, (4, 3)))
        right.text(1, 100 * BUDGET["macs"] + 2, "budget", color=DENSE)
        right.set(xlabel="epoch", ylabel="multiply-adds left, %", ylim=(0, 105))


def draw_widths(fit: Row, scheme: str, folder: Path) -> None:
    layers = list(fit["original_widths"])[::-1]
    with drawing("widths", scheme, folder, height=0.6 + 0.33 * len(layers)) as figure:
        axes = figure.subplots()
        whole = [fit["original_widths"][layer] for layer in layers]
        kept = [fit["widths"][layer] for layer in layers]
        axes.barh(layers, whole, color=DENSE, alpha=0.35, label="removed")
        axes.barh(layers, kept, color=BLUE, label="kept")
        for at, (some, all_) in enumerate(zip(kept, whole, strict=True)):
            axes.text(all_ + 0.6, at, f"{some} of {all_}", va="center", fontsize=9)
        axes.set(xlabel="output channels", xlim=(0, max(whole) * 1.15))
        axes.legend(loc="upper right")


def draw_scores(cuts: Row, scheme: str, folder: Path) -> None:
    """The scores of two layers, best channel first."""
    names = [name for name in cuts["scores"] if name.endswith("conv1")][:3:2]
    with drawing("scores", scheme, folder) as figure:
        for axes, name in zip(figure.subplots(1, 2, sharey=True), names, strict=True):
            scores, kept = cuts["scores"][name], set(cuts["kept"][name])
            order = sorted(range(len(scores)), key=lambda channel: -scores[channel])
            colours = [BLUE if channel in kept else ORANGE for channel in order]
            axes.bar(range(len(order)), [scores[channel] for channel in order], color=colours)
            axes.set(title=name, xlabel="channels, best first", yscale="log")
            axes.set_xticks([])
        figure.axes[0].set_ylabel("score: predicted rise of the loss")
        figure.axes[0].bar(0, 0, color=BLUE, label="stay")
        figure.axes[0].bar(0, 0, color=ORANGE, label="leave")
        figure.axes[1].legend(*figure.axes[0].get_legend_handles_labels())


def draw_cuts(cuts: Row, scheme: str, folder: Path) -> None:
    shares = list(cuts["sizes"])
    with drawing("cuts", scheme, folder) as figure:
        axes = figure.subplots()
        for shift, name, colour in ((-0.2, "left out", ORANGE), (0.2, "refitted", GREEN)):
            heights = [100 * cuts["sizes"][share][name]["accuracy"] for share in shares]
            at = [i + shift for i in range(len(shares))]
            bars = axes.bar(at, heights, width=0.36, color=colour, label=name)
            axes.bar_label(bars, fmt="%.1f", padding=2)
        axes.axhline(100 * cuts["dense"]["accuracy"], color=DENSE, linestyle=(0, (4, 3)))
        axes.set_xticks(
            range(len(shares)), [f"{100 * float(share):.0f} % of the MACs" for share in shares]
        )
        axes.set(ylabel="test accuracy, %", ylim=(0, 118))
        axes.legend(loc="upper right", ncols=2)


if __name__ == "__main__":
    app.run(main)
