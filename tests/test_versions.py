"""Versions of Keras: which are let in, and what the others are told."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import keras
import pytest

from keras_gcp import versions
from keras_gcp.errors import UnsupportedKeras

ROOT = Path(__file__).resolve().parents[1]

OWN = {
    # Of the classes in keras_state itself
    *("_add", "_call", "_count", "_graph", "_in_steps", "_known", "_read", "_replaced"),
    *("_set_input_spec", "_start_anew", "_undo", "_when_final"),
    # Of TensorFlow's variables and strategies
    *("_Default", "_distribute_strategy"),
}
OF_ONE_BACKEND = {
    "_map_aggregation": "tensorflow",
    "_map_synchronization": "tensorflow",
    "_jax_state": "jax",
    "_torch_params": "torch",
    "_track_variables": "torch",
}
LATER = {
    *("_direction", "_exclude_from_weight_decay_cache", "_gate_dense", "_var_to_optimizer_idx"),
}
"""Newer than the oldest version: used where they are there."""


def private_names(source):
    """Attributes and strings in a program that begin with one underscore."""
    for node in ast.walk(ast.parse(source)):
        name = node.attr if isinstance(node, ast.Attribute) else getattr(node, "value", "")
        if isinstance(name, str) and name.isidentifier() and name[0] == "_" and name[1:2].isalpha():
            yield name


def test_all_private_state_that_is_touched_is_looked_for():
    files = (ROOT / "keras_gcp" / "keras_state").glob("*.py")
    found = {name for file in files for name in private_names(file.read_text("utf-8"))}
    looked_for = {n for names in versions.PRIVATE_STATE.values() for n in names.split()}
    used = found - OWN - set(OF_ONE_BACKEND) - LATER
    assert used == {name for name in looked_for if name.startswith("_")}


def test_the_installed_keras_has_it_all():
    assert list(versions.missing_state()) == []


def test_what_belongs_to_one_backend_is_there_on_that_backend():
    needed = {
        address: " ".join(name for name, b in OF_ONE_BACKEND.items() if b == backend)
        for address, backend in (
            ("keras.Variable", "tensorflow"),
            ("keras.Model", "jax"),
            ("keras.layers.Layer", "torch"),
        )
        if backend == keras.config.backend()
    }
    assert list(versions.missing_state(needed)) == []


def test_what_is_missing_is_named():
    needed = {
        "keras.Variable": "_value _worth",
        "keras.src.ops.node.Knot": "operation",
        "keras.src.operations.node.Node": "operation",
    }
    assert list(versions.missing_state(needed)) == [
        "keras.Variable._worth",
        "keras.src.ops.node.Knot",
        "keras.src.operations.node.Node",
    ]


@pytest.mark.parametrize("version", ["2.15.0", "3.8.0", "3.11.3"])
def test_a_version_that_is_too_old_is_refused_with_what_to_do(monkeypatch, version):
    monkeypatch.setattr(keras, "__version__", version)
    with pytest.raises(UnsupportedKeras, match=f"Found: Keras {version}.*pip install") as caught:
        versions.check_keras()
    assert isinstance(caught.value, ImportError)
    assert f'"keras>={versions.OLDEST[0]}.{versions.OLDEST[1]}"' in str(caught.value)


def test_a_newer_version_with_the_same_state_is_let_in_with_a_warning(monkeypatch):
    monkeypatch.setattr(keras, "__version__", "3.99.0.dev2026")
    with pytest.warns(UserWarning, match=r"3\.99\.0\.dev2026 is newer") as caught:
        versions.check_keras()
    assert len(caught) == 1


def test_a_newer_version_with_other_state_is_refused_with_what_is_missing(monkeypatch):
    monkeypatch.setattr(keras, "__version__", "4.0.0")
    monkeypatch.setattr(versions, "missing_state", lambda: iter(["keras.Variable._value"]))
    message = r"Keras 4\.0\.0 .*Expected, but not found: keras\.Variable\._value.*pip install"
    with pytest.raises(UnsupportedKeras, match=message):
        versions.check_keras()


def test_a_version_that_pip_does_not_know_is_looked_at_before_private_state_is(tmp_path):
    (tmp_path / "keras").mkdir()
    (tmp_path / "keras" / "__init__.py").write_text('__version__ = "3.8.0"\n')
    code = (
        "import sys; sys.path[:0] = sys.argv[1:]; from importlib import metadata\n"
        "def unknown(name): raise metadata.PackageNotFoundError(name)\n"
        "metadata.distribution = unknown\n"
        "import keras_gcp; keras_gcp.keras_state"
    )
    done = subprocess.run(
        [sys.executable, "-I", "-c", code, tmp_path, ROOT], capture_output=True, text=True
    )
    assert "keras_gcp.errors.UnsupportedKeras: " in done.stderr and "Keras 3.8.0" in done.stderr


def test_no_version_at_all_is_refused():
    with pytest.raises(UnsupportedKeras, match="'nightly'"):
        versions.minor_version("nightly")


@pytest.mark.parametrize(
    "module", ["keras_gcp", "keras_gcp.training.callback", "keras_gcp.keras_state"]
)
def test_the_refusal_comes_before_anything_else_is_imported(module, tmp_path):
    """A Keras that has nothing but a version: whatever is used of it would fail in another way."""
    (tmp_path / "keras").mkdir()
    (tmp_path / "keras" / "__init__.py").write_text('__version__ = "3.8.0"\n')
    (tmp_path / "keras-3.8.0.dist-info").mkdir()
    facts = "Metadata-Version: 2.1\nName: keras\nVersion: 3.8.0\n"
    (tmp_path / "keras-3.8.0.dist-info" / "METADATA").write_text(facts)
    code = f"import sys; sys.path[:0] = sys.argv[1:]; import {module}"
    done = subprocess.run(
        [sys.executable, "-I", "-c", code, tmp_path, ROOT], capture_output=True, text=True
    )
    assert done.returncode == 1
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("keras_gcp.errors.UnsupportedKeras: ") and "Found: Keras 3.8.0" in last
