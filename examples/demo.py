"""The demonstration of `make demo`: less than three minutes on two cores, no download.

    python examples/demo.py

Trains a residual network on scikit-learn's handwritten digits (16x16) twice: as it is, and losing
more than half of its multiply-adds during the one `model.fit`. Then exports both, in 32 and in 8
bits, measures them, says in one table what was won, and writes a report with pictures to
savedmodels/demo/report/report.html. Further flags are those of `prune_while_training.py`.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # TensorFlow's greetings are not the demo's
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # for `import examples`

from examples import prune_while_training
from examples.command_line import run

SETTINGS = (
    "--dataset=digits",
    "--network=resnet20",
    "--budget=macs=45%",
    "--epochs=10",
    "--schedule=linear",
    "--begin=2",
    "--until=5",
    "--every=3",
    "--dense",
    "--formats=keras,tflite,tflite_int8",
    "--output_dir=savedmodels/demo",
)

if __name__ == "__main__":
    run(prune_while_training.main, __doc__, [sys.argv[0], *SETTINGS, *sys.argv[1:]])
