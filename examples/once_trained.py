"""What `prune_trained.py` does with its flags: a model file, pruned and fine-tuned."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import keras
import numpy as np
from absl import flags

import keras_gcp
from examples.datasets import Data, load
from examples.pruning_flags import budget, compensation, selection
from examples.training import Recipe, compile_for, same_widths_from_scratch, train
from keras_gcp.formatting import table
from keras_gcp.reading import read_model

FLAGS = flags.FLAGS


def prune_the_file() -> None:
    """Loads, prunes, fine-tunes, compares."""
    data = load(FLAGS.dataset, seed=FLAGS.seed, standardise=FLAGS.standardise)
    data = data.take(FLAGS.train_size, FLAGS.test_size)
    recipe = Recipe(
        epochs=FLAGS.epochs,
        batch_size=FLAGS.batch_size,
        learning_rate=FLAGS.learning_rate,
        seed=FLAGS.seed,
    )
    model = read_model(FLAGS.model)
    before = accuracy(model, data, recipe)
    chosen = np.random.default_rng(FLAGS.seed).permutation(len(data.x_train))[: FLAGS.sample_size]
    sample = keras_gcp.Sample((data.x_train[chosen], data.y_train[chosen]), size=None)
    plan = keras_gcp.plan(
        model,
        budget(),
        FLAGS.criterion,
        sample,
        exclude=FLAGS.exclude,
        selection=selection(),
        seed=FLAGS.seed,
    )
    print(plan.explain())
    narrow = keras_gcp.apply(model, plan, sample, compensation=compensation())
    cut = accuracy(narrow, data, recipe)
    tuned = train(narrow, data, recipe, verbose=FLAGS.verbose).accuracy

    directory = Path(FLAGS.output_dir)
    files = keras_gcp.export(
        narrow, directory, FLAGS.formats, sample=data.x_train[chosen], name="pruned"
    )
    (directory / "plan.json").write_text(plan.to_json(), encoding="utf-8")
    counts = [keras_gcp.count(m) for m in (model, narrow)]
    controls = controls_of(model, narrow, data, recipe)
    rows = [
        ["MACs", *(c.macs for c in counts), f"{counts[1].macs / counts[0].macs:.1%}"],
        [
            "parameters",
            *(c.parameters for c in counts),
            f"{counts[1].parameters / counts[0].parameters:.1%}",
        ],
        ["test accuracy", f"{before:.2%}", f"{tuned:.2%}", f"{100 * (tuned - before):+.2f} points"],
        ["right after the cut", "", f"{cut:.2%}", ""],
    ]
    print(table(["", "before", "after", "change"], rows))
    for name, reached in controls.items():
        print(f"Control, {name}: {reached:.2%}, {100 * (tuned - reached):+.2f} points from there.")
    for file in files:
        print(f"{file.format}: {file.path} ({file.bytes:,} bytes)")
    results = {"before": before, "after_cut": cut, "fine_tuned": tuned, "controls": controls}
    (directory / "results.json").write_text(json.dumps(results, indent=1), encoding="utf-8")


def controls_of(
    model: keras.Model, narrow: keras.Model, data: Data, recipe: Recipe
) -> dict[str, float]:
    """Test accuracies of what pruning has to stand beside, as the flags ask; `model` trains on."""
    found = {}
    if FLAGS.scratch:
        fresh = same_widths_from_scratch(narrow, FLAGS.seed)
        higher = replace(recipe, learning_rate=FLAGS.scratch_rate)
        found["the same widths from fresh weights"] = train(
            fresh, data, higher, verbose=FLAGS.verbose
        ).accuracy
    if FLAGS.dense:
        found["the unpruned network, trained on"] = train(
            model, data, recipe, verbose=FLAGS.verbose
        ).accuracy
    return found


def accuracy(model: keras.Model, data: Data, recipe: Recipe) -> float:
    """Test accuracy."""
    compile_for(model, data, recipe)
    result = model.evaluate(data.x_test, data.y_test, 500, verbose=0, return_dict=True)
    return float(result["accuracy"])
