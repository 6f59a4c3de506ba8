"""`--help` of every script shows all of its flags, ends with 0, and imports no framework."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

import keras_gcp
from examples import prune_while_training

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
SHARED = "pruning_flags.py"
SCRIPTS = {
    "prune_trained.py": ["prune_trained.py", SHARED],
    "prune_while_training.py": ["prune_while_training.py", SHARED],
    "demo.py": ["prune_while_training.py", SHARED],
}
RUN = """
import runpy, sys
sys.argv = sys.argv[1:]
try:
    runpy.run_path(sys.argv[0], run_name="__main__")
except SystemExit as end:
    print("ended with", end.code)
print("imported", sorted({"keras", "tensorflow", "jax", "torch"} & sys.modules.keys()))
"""


def flags_of(files):
    sources = [(EXAMPLES / file).read_text("utf-8") for file in files]
    return {name for text in sources for name in re.findall(r'DEFINE_\w+\(\s*"(\w+)"', text)}


@pytest.mark.parametrize("script", SCRIPTS)
def test_help_shows_all_flags_ends_with_0_and_imports_no_framework(script):
    done = subprocess.run(
        [sys.executable, "-c", RUN, EXAMPLES / script, "--help"], capture_output=True, text=True
    )
    flags = flags_of(SCRIPTS[script])
    assert len(flags) > 15
    shown = set(re.findall(r"^  --(?:\[no\])?(\w+)", done.stdout, re.MULTILINE))
    assert shown == flags
    assert done.stdout.startswith("T")  # What the script does comes first.
    assert done.stdout.endswith("ended with 0\nimported []\n"), done.stderr


def test_the_networks_in_the_help_are_those_there_are():
    assert keras_gcp.models.names() == prune_while_training.NETWORKS


def test_a_flag_that_cannot_be_read_is_told_without_a_traceback():
    script = EXAMPLES / "prune_trained.py"
    command = [sys.executable, script, "--model=x.keras", "--budget=macs=half"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert "macs=45%" in done.stderr and "Received: 'half'" in done.stderr
