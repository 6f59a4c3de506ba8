r"""One cut of a trained network by default settings, no training after it, kept as files.

    python benchmarks/one_cut.py --network=vww --share=0.75 --output_dir=savedmodels/vww_96

Networks are those of `trained_networks.py`. Beside the files stand `plan.json` and `results.json`:
the score before and after, multiply-adds, parameters, and what the same budget costs by L2 norm
without a refit, which is the control.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from absl import app, flags

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # for `import examples`

import keras_gcp
from benchmarks import trained_networks
from benchmarks.records import machine

flags.DEFINE_enum("network", "vww", list(trained_networks.NETWORKS), "Name of the network.")
flags.DEFINE_float("share", 0.75, "Share of the multiply-adds that remains.")
flags.DEFINE_integer("sample_size", 512, "Images of the sample.")
flags.DEFINE_integer("test_images", 1000, "Images that are measured on; 0: all of them.")
flags.DEFINE_integer("seed", 0, "Of the sample.")
flags.DEFINE_list("formats", ["keras", "tflite", "tflite_int8"], "Formats to export.")
flags.DEFINE_string("output_dir", None, "Folder.", required=True)

FLAGS = flags.FLAGS


def main(arguments: Sequence[str]) -> None:
    """Cuts, measures, exports."""
    if len(arguments) > 1:
        raise app.UsageError(f"Unknown arguments: {arguments[1:]}")
    found = trained_networks.NETWORKS[FLAGS.network](FLAGS.test_images or None)
    model = found.build()
    sample = keras_gcp.Sample((found.x_sample, found.y_sample), size=FLAGS.sample_size)
    budget = {"macs": FLAGS.share}
    plan = keras_gcp.plan(model, budget, "auto", sample, seed=FLAGS.seed)
    narrow = keras_gcp.apply(model, plan, sample, seed=FLAGS.seed)
    control = keras_gcp.apply(model, keras_gcp.plan(model, budget, "l2_norm"))
    scores = {
        "before": score(model, model, found),
        "after the cut": score(narrow, model, found),
        "control, by L2 norm, not refitted": score(control, model, found),
    }
    directory = Path(FLAGS.output_dir)
    files = keras_gcp.export(
        narrow, directory, FLAGS.formats, sample=found.x_sample, name=FLAGS.network
    )
    (directory / "plan.json").write_text(plan.to_json(), encoding="utf-8")
    results = {
        "scores": scores,
        "macs": [plan.before.macs, plan.after.macs],
        "parameters": [plan.before.parameters, plan.after.parameters],
        "files": {file.format: file.bytes for file in files},
        "machine": machine(),
    }
    text = json.dumps(results, indent=1)
    (directory / "results.json").write_text(text, encoding="utf-8")
    print(plan.explain(), files, text, sep="\n\n")


def score(model: Any, original: Any, found: trained_networks.Trained) -> float:
    """The first metric of the original, on the test images."""
    if model is not original:
        model.compile(loss=original.loss, metrics=["accuracy"])
    _, value = model.evaluate(found.x_test, found.y_test, batch_size=100, verbose=0)[:2]
    return float(value)


if __name__ == "__main__":
    app.run(main)
