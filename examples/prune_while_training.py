r"""Trains a network and prunes it during the one `model.fit`, then exports it and writes a report.

    python examples/prune_while_training.py --dataset=digits --network=resnet20 \
        --budget=macs=45% --epochs=20 --begin=3 --until=9 --every=3 \
        --output_dir=savedmodels/digits_resnet20

The authors' run on CIFAR-10 (200 epochs; take a GPU):

    python examples/prune_while_training.py --dataset=cifar10 --network=resnet110 \
        --epochs=200 --batch_size=256 --decay=steps --begin=21 --until=147 --every=21 \
        --schedule=linear --budget=macs=44% --output_dir=savedmodels/cifar10_resnet110

A file of at most 100 kB as int8, no event that costs more than 1 % of accuracy, and the network as
it was before the first of them as a teacher:

    python examples/prune_while_training.py --budget=tflite_bytes_int8=100000 --max_drop=0.01 \
        --distill_weight=0.5
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

# As `keras_gcp.models.names()`, which imports Keras; help does not.
NETWORKS = ("resnet8", "resnet20", "resnet56", "resnet110", "resnet164", "vgg16", "mobilenet")

flags.DEFINE_enum("dataset", "digits", dataset_names(), "Data set.")
flags.DEFINE_enum("network", "resnet20", NETWORKS, "Reference network.")
flags.DEFINE_enum("shortcut", "projection", ["projection", "pad"], "Shortcuts of ResNets.")
flags.DEFINE_enum("schedule", "cubic", ["cosine", "cubic", "linear"], "Course of the budget.")
flags.DEFINE_integer("epochs", 20, "Epochs.")
flags.DEFINE_integer("begin", 3, "0-based epoch before which the first event takes place.")
flags.DEFINE_integer("until", 9, "Epoch before which the last event takes place.")
flags.DEFINE_integer("every", 3, "Epochs between events.")
flags.DEFINE_float("max_drop", None, "Accuracy that an event may cost; refused if it costs more.")
flags.DEFINE_integer("held_out", 256, "Training images kept back to measure that, with --max_drop.")
flags.DEFINE_float("distill_weight", 0.0, "Weight of the loss against the unpruned network.")
flags.DEFINE_integer("batch_size", 64, "Images per step.")
flags.DEFINE_float("learning_rate", 0.1, "Highest learning rate.")
flags.DEFINE_enum("decay", "one_cycle", ["one_cycle", "steps"], "Course of the learning rate.")
flags.DEFINE_integer("train_size", None, "Use only so many training images.")
flags.DEFINE_integer("test_size", None, "Use only so many test images.")
flags.DEFINE_integer("seed", 0, "Of weights, order, augmentation and sample.")
flags.DEFINE_bool("dense", False, "Also train without pruning, for comparison.")
flags.DEFINE_bool("scratch", False, "Also train the final widths from fresh weights.")
flags.DEFINE_list("formats", ["keras", "saved_model", "tflite"], "Formats to export.")
flags.DEFINE_string("output_dir", None, "Folder; default: savedmodels/<dataset>_<network>.")
flags.DEFINE_string("backup_dir", None, "Folder; a killed training goes on from there.")
flags.DEFINE_enum("on_failure", "raise", ["raise", "skip"], "What a failing event leads to.")
flags.DEFINE_integer("verbose", 1, "0: silent, 1: progress bars and events.")


def main(arguments: Sequence[str]) -> None:
    """Trains with pruning, exports, reports."""
    if len(arguments) > 1:
        raise app.UsageError(f"Unknown arguments: {arguments[1:]}")
    from examples.while_training import train_and_prune  # It imports TensorFlow.

    train_and_prune()


if __name__ == "__main__":
    run(main, __doc__)
