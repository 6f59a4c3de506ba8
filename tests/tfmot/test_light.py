"""Who does not use tfmot does not notice it; who does keeps Keras 3."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def run(code: str) -> dict:
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.slow  # A process of its own, which imports TensorFlow.
def test_importing_keras_gcp_imports_no_tfmot_and_sets_no_environment_variable():
    seen = run(
        "import json, os, sys, keras\n"
        "before = dict(os.environ)\n"
        "import keras_gcp, keras_gcp.tfmot\n"
        "print(json.dumps({'changed': sorted(set(os.environ.items()) ^ set(before.items())),\n"
        "    'loaded': [m for m in ('tf_keras', 'tensorflow_model_optimization')\n"
        "               if m in sys.modules]}))"
    )
    assert seen == {"changed": [], "loaded": []}


@pytest.mark.slow
@pytest.mark.needs_tfmot
@pytest.mark.parametrize("legacy", [None, "0", "1"])
def test_keras_3_and_the_environment_stay_what_they_were(legacy):
    seen = run(
        "import json, os\n"
        "import numpy as np\n"
        f"legacy = {legacy!r}\n"
        "if legacy: os.environ['TF_USE_LEGACY_KERAS'] = legacy\n"
        "import keras, tensorflow as tf\n"
        "from keras_gcp.tfmot import packages\n"
        "found = packages.load()\n"
        "model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)])\n"
        "model.compile('sgd', 'mse')\n"
        "model.fit(np.ones((4, 3)), np.ones((4, 2)), verbose=0)\n"
        "print(json.dumps({'variable': os.environ.get('TF_USE_LEGACY_KERAS'),\n"
        "    'tf.keras': tf.keras.version()[0] if hasattr(tf.keras, 'version') else '2',\n"
        "    'keras': keras.__version__[0], 'tf_keras': found.tf_keras.__version__[0]}))"
    )
    own = "2" if legacy == "1" else "3"
    assert seen == {"variable": legacy, "tf.keras": own, "keras": "3", "tf_keras": "2"}
