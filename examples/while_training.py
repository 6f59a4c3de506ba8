"""What `prune_while_training.py` does with its flags: one `fit`, its files and its report."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import keras
from absl import flags

import keras_gcp
from examples.datasets import Data, load
from examples.outcome import (
    Accuracy,
    Exported,
    accuracy_note,
    export_both,
    file_accuracy,
    latency_note,
    outcome_table,
)
from examples.pruning_flags import budget, compensation, selection
from examples.training import Recipe, Training, compile_for, same_widths_from_scratch, train
from keras_gcp.reporting.html import write_report

Runs = Mapping[str, Training | None]

_SCHEDULES = {
    "linear": keras_gcp.schedules.linear,
    "cubic": keras_gcp.schedules.cubic,
    "cosine": keras_gcp.schedules.cosine,
}

FLAGS = flags.FLAGS


def train_and_prune() -> None:
    """Trains with pruning, exports, reports."""
    data = load(FLAGS.dataset, seed=FLAGS.seed).take(FLAGS.train_size, FLAGS.test_size)
    held_out = None
    if FLAGS.max_drop is not None:  # From all trainings, so that they stay comparable.
        data, held_out = data.hold_out(FLAGS.held_out)
    recipe = Recipe(
        epochs=FLAGS.epochs,
        batch_size=FLAGS.batch_size,
        learning_rate=FLAGS.learning_rate,
        decay=FLAGS.decay,
        seed=FLAGS.seed,
    )
    directory = Path(FLAGS.output_dir or f"savedmodels/{FLAGS.dataset}_{FLAGS.network}")

    dense_model, dense = None, None
    if FLAGS.dense:
        print("Without pruning:")
        dense_model = build_network(data)
        dense = train(dense_model, data, recipe, verbose=FLAGS.verbose)
    print("With pruning:")
    model = build_network(data)
    pruning = pruning_callback(data, held_out)
    pruned = train(model, data, recipe, [pruning], verbose=FLAGS.verbose)
    scratch = None
    if FLAGS.scratch:
        print("The final widths from fresh weights:")
        control = same_widths_from_scratch(model, FLAGS.seed)
        scratch = train(control, data, recipe, verbose=FLAGS.verbose)

    wide = dense_model or build_network(data)
    if dense_model is None:  # A .keras file of a compiled model holds its optimizer, too.
        compile_for(wide, data, recipe)
        wide.optimizer.build(wide.trainable_variables)
    exported = export_both(wide, model, data, FLAGS.formats, directory, FLAGS.network)
    runs = {"pruned": pruned, "dense": dense, "scratch": scratch}
    found = accuracies(wide, model, runs, data, exported)
    report = report_on(pruning, runs, data, found, exported, directory)
    (directory / "plan.json").write_text(pruning.plan.to_json(), encoding="utf-8")
    results = {
        "accuracy": {name: run.accuracy for name, run in runs.items() if run},
        "seconds": {name: round(run.seconds, 1) for name, run in runs.items() if run},
    }
    (directory / "results.json").write_text(json.dumps(results, indent=1), encoding="utf-8")
    print(pruning.plan.explain())
    print()
    print(outcome_table(wide, model, found, exported))
    print("\n".join(notes_on(pruning, runs, data, exported)))
    print(f"Report: {report}")


def build_network(data: Data) -> keras.Model:
    """The network of the flags, with initial weights of the seed."""
    keras.utils.set_random_seed(FLAGS.seed)
    options: dict[str, Any] = {"input_shape": data.input_shape, "classes": data.classes}
    if FLAGS.network.startswith("resnet"):
        options["shortcut"] = FLAGS.shortcut
    return keras_gcp.models.build(FLAGS.network, **options)


def pruning_callback(data: Data, held_out: Any) -> keras_gcp.GradualChannelPruning:
    """The callback of the flags."""
    weight = FLAGS.distill_weight
    return keras_gcp.GradualChannelPruning(
        sample=keras_gcp.Sample((data.x_train, data.y_train), size=FLAGS.sample_size),
        budget=budget(),
        schedule=_SCHEDULES[FLAGS.schedule](FLAGS.begin, FLAGS.until, FLAGS.every),
        criterion=FLAGS.criterion,
        exclude=FLAGS.exclude,
        selection=selection(),
        compensation=compensation(),
        guard=keras_gcp.AccuracyGuard(held_out, FLAGS.max_drop) if held_out else None,
        distillation=keras_gcp.Distillation(weight) if weight else None,
        seed=FLAGS.seed,
        on_failure=FLAGS.on_failure,
        backup_dir=FLAGS.backup_dir,
        verbose=FLAGS.verbose,
    )


def accuracies(
    wide: keras.Model, model: keras.Model, runs: Runs, data: Data, exported: Exported
) -> dict[str, Accuracy]:
    """Of the two networks, and of their int8 files, if these were exported."""
    pruned, dense = runs["pruned"], runs["dense"]
    found = {"test accuracy": Accuracy(dense.accuracy if dense else None, pruned.accuracy)}
    if "tflite_int8" in exported.files:
        before, after = exported.files["tflite_int8"]
        found["accuracy, int8 file"] = Accuracy(
            file_accuracy(wide, before, data) if dense else None, file_accuracy(model, after, data)
        )
    return found


def notes_on(
    pruning: keras_gcp.GradualChannelPruning, runs: Runs, data: Data, exported: Exported
) -> list[str]:
    """What one has to know to judge the numbers."""
    notes = [accuracy_note(data)]
    if runs["dense"] is None:
        notes.append("No run without pruning was made, so there is no accuracy to compare with.")
    if runs["scratch"] is not None:
        notes.append(
            "Control: the final widths trained from fresh weights reach "
            f"{runs['scratch'].accuracy:.2%}."
        )
    if exported.latencies:
        notes.append(latency_note(exported))
    return [*notes, training_note(pruning, runs)]


def training_note(pruning: keras_gcp.GradualChannelPruning, runs: Runs) -> str:
    """How long the trainings took: seconds that were spent, and no verdict from one run of each."""
    seconds = f"{runs['pruned'].seconds:.0f} s with pruning"
    if pruning.savings is not None and pruning.events:
        seconds += (
            f", of which {pruning.savings.events_seconds:.0f} s were events (scores, compensation, "
            "compiling again)"
        )
    if runs["dense"] is not None:
        seconds += f"; {runs['dense'].seconds:.0f} s without"
    return f"Training: {seconds}."


def report_on(
    pruning: keras_gcp.GradualChannelPruning,
    runs: Runs,
    data: Data,
    found: Mapping[str, Accuracy],
    exported: Exported,
    directory: Path,
) -> Path:
    """Writes the report of a run."""
    plan, pruned, dense, scratch = pruning.plan, *(runs[n] for n in ("pruned", "dense", "scratch"))
    summary: dict[str, tuple[float | None, float]] = {
        **{name: (accuracy.dense, accuracy.pruned) for name, accuracy in found.items()},
        "MACs": (plan.before.macs, plan.after.macs),
        "parameters": (plan.before.parameters, plan.after.parameters),
        **{
            resource: (plan.before.further[resource], cost)
            for resource, cost in plan.after.further.items()
        },
    }
    return write_report(
        directory / "report",
        title=f"{FLAGS.network} on {FLAGS.dataset}, pruned while training",
        summary=summary,
        widths_before=plan.original_widths(),
        widths_after=plan.widths(),
        history=pruned.history,
        events=pruning.events,
        files=exported.sizes,
        latencies=exported.medians,
        latency_spreads=exported.spreads,
        prunable=(plan.before.channels, plan.after.channels),
        controls={"test accuracy": {"same widths from scratch": scratch.accuracy}}
        if scratch
        else {},
        test_images=len(data.x_test),
        seeds=[FLAGS.seed],
        notes=[
            f"Network {FLAGS.network}, data {FLAGS.dataset}, seed {FLAGS.seed}.",
            f"Criterion {plan.criterion} on {FLAGS.sample_size} training images; budget "
            f"{budget()}. MACs are the multiply-adds of convolutions and dense layers.",
            *notes_on(pruning, runs, data, exported),
            f"{os.cpu_count()} CPUs ({platform.machine()}), Keras {keras.__version__} on "
            f"{keras.config.backend()}.",
        ],
        dense_history=dense.history if dense else None,
    )
