r"""Takes a trained model file, plans, prunes, fine-tunes, and compares before and after.

    python examples/prune_trained.py --model=resnet8.h5 --dataset=cifar10 --nostandardise \
        --budget=macs=50% --epochs=4 --learning_rate=0.01 --output_dir=savedmodels/resnet8
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path

# Before TensorFlow is imported: on CPUs without AVX-512 it leaves oneDNN off unless it is told.
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")

from absl import app, flags

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # for `import examples`

from examples import pruning_flags  # noqa: F401  (defines flags)
from examples.command_line import run
from examples.sources import names as dataset_names

flags.DEFINE_string("model", None, "A .keras or .h5 file of a classifier.", required=True)
flags.DEFINE_enum("dataset", "cifar10", dataset_names(), "Data set it was trained on.")
flags.DEFINE_bool("standardise", True, "Whether it wants standardised pixels, or 0 to 255.")
flags.DEFINE_integer("epochs", 4, "Epochs of fine-tuning.")
flags.DEFINE_integer("batch_size", 128, "Images per step.")
flags.DEFINE_float("learning_rate", 0.01, "Highest learning rate of fine-tuning.")
flags.DEFINE_integer("train_size", None, "Use only so many training images.")
flags.DEFINE_integer("test_size", None, "Use only so many test images.")
flags.DEFINE_integer("seed", 0, "Of sample, order and augmentation.")
flags.DEFINE_bool("dense", False, "Also train the unpruned network on, by the same recipe.")
flags.DEFINE_bool("scratch", False, "Also train the final widths from fresh weights.")
flags.DEFINE_float("scratch_rate", 0.1, "Highest learning rate of these.")
flags.DEFINE_list("formats", ["keras", "saved_model", "tflite"], "Formats to export.")
flags.DEFINE_string("output_dir", "savedmodels/pruned", "Folder.")
flags.DEFINE_integer("verbose", 1, "0: silent, 1: progress bars.")


def main(arguments: Sequence[str]) -> None:
    """Loads, prunes, fine-tunes, compares."""
    if len(arguments) > 1:
        raise app.UsageError(f"Unknown arguments: {arguments[1:]}")
    from examples.once_trained import prune_the_file  # It imports TensorFlow.

    prune_the_file()


if __name__ == "__main__":
    run(main, __doc__)
