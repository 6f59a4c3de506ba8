"""Takes a trained model file, plans, prunes, fine-tunes, and compares before and after.

    python examples/prune_trained.py --model=resnet8.h5 --dataset=cifar10 --nostandardise \
        --budget=macs=50% --epochs=4 --learning_rate=0.01 --output_dir=savedmodels/resnet8
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path

# Before TensorFlow is imported: on CPUs without AVX-512 it leaves oneDNN off unless it is told.
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")

import keras
import numpy as np
from absl import app, flags

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # for `import examples`

import keras_gcp
from examples.datasets import Data, load
from examples.datasets import names as dataset_names
from examples.pruning_flags import budget, compensation, selection
from examples.training import Recipe, compile_for, train
from keras_gcp.formatting import table

flags.DEFINE_string("model", None, "A .keras or .h5 file of a classifier.", required=True)
flags.DEFINE_enum("dataset", "cifar10", dataset_names(), "Data set it was trained on.")
flags.DEFINE_bool("standardise", True, "Whether it wants standardised pixels, or 0 to 255.")
flags.DEFINE_integer("epochs", 4, "Epochs of fine-tuning.")
flags.DEFINE_integer("batch_size", 128, "Images per step.")
flags.DEFINE_float("learning_rate", 0.01, "Highest learning rate of fine-tuning.")
flags.DEFINE_integer("train_size", None, "Use only so many training images.")
flags.DEFINE_integer("test_size", None, "Use only so many test images.")
flags.DEFINE_integer("seed", 0, "Of sample, order and augmentation.")
flags.DEFINE_string("output_dir", "savedmodels/pruned", "Folder.")
flags.DEFINE_integer("verbose", 1, "0: silent, 1: progress bars.")

FLAGS = flags.FLAGS


def main(arguments: Sequence[str]) -> None:
    """Loads, prunes, fine-tunes, compares."""
    if len(arguments) > 1:
        raise app.UsageError(f"Unknown arguments: {arguments[1:]}")
    data = load(FLAGS.dataset, seed=FLAGS.seed, standardise=FLAGS.standardise)
    data = data.take(FLAGS.train_size, FLAGS.test_size)
    recipe = Recipe(
        epochs=FLAGS.epochs,
        batch_size=FLAGS.batch_size,
        learning_rate=FLAGS.learning_rate,
        seed=FLAGS.seed,
    )
    model = keras.models.load_model(FLAGS.model, compile=False)
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
    files = keras_gcp.export(narrow, directory, sample=data.x_test[:64], name="pruned")
    counts = [keras_gcp.count(m) for m in (model, narrow)]
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
    for file in files:
        print(f"{file.format}: {file.path} ({file.bytes:,} bytes)")
    (directory / "plan.json").write_text(plan.to_json(), encoding="utf-8")
    results = {"before": before, "after_cut": cut, "fine_tuned": tuned}
    (directory / "results.json").write_text(json.dumps(results, indent=1), encoding="utf-8")


def accuracy(model: keras.Model, data: Data, recipe: Recipe) -> float:
    """Test accuracy."""
    compile_for(model, data, recipe)
    result = model.evaluate(data.x_test, data.y_test, 500, verbose=0, return_dict=True)
    return float(result["accuracy"])


if __name__ == "__main__":
    app.run(main)
