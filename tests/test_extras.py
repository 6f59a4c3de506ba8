"""Each extra says what it is for, and whatever needs one that is missing names it."""

from __future__ import annotations

import ast
import importlib.util
import re
import sys
import tomllib
from pathlib import Path

import pytest

from keras_gcp import cli
from keras_gcp.cli.data.images import read_image
from keras_gcp.cli.data.tensorflow_datasets import read_tfds
from keras_gcp.errors import InvalidArgument, MissingPackage
from keras_gcp.evaluation.opened import kind_of
from keras_gcp.exporting.formats import check_formats
from keras_gcp.exporting.runtime import runtime_name
from keras_gcp.extras import EXTRAS, imported, is_installed, require
from keras_gcp.reporting import width_bars, write_report

ROOT = Path(__file__).parents[1]
OPTIONAL = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"][
    "optional-dependencies"
]

LOADED_BEHIND_A_CHECK = {"cyclopts": "cli/", "tensorflow_model_optimization": "tfmot/packages.py"}
LOADED_BEHIND_A_CHECK["tf_keras"] = "tfmot/packages.py"
FRAMEWORKS = {"tensorflow"}
"""Have a contract of their own, in pyproject.toml."""

A_REPORT = {
    "title": "",
    "summary": {"MACs": (2.0, 1.0)},
    "widths_before": {"a": 2},
    "widths_after": {"a": 1},
    "files": {},
    "latencies": {},
}

DISTRIBUTIONS = {"PIL": "pillow", "tf_keras": "tf_keras"}


def without(monkeypatch, *packages):
    """As if they were not installed, although they may be loaded already."""
    for package in packages:
        for name in [*sys.modules]:
            if name == package or name.startswith(f"{package}."):
                monkeypatch.setitem(sys.modules, name, None)
        monkeypatch.setitem(sys.modules, package, None)


def optional_imports(path):
    """Packages of extras that a file imports by a statement, with the line."""
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and not node.level:
            names = [node.module]
        else:
            continue
        for name in names:
            package = name.partition(".")[0]
            if package in EXTRAS and package not in FRAMEWORKS:
                yield package, node.lineno


def test_optional_packages_are_reached_through_the_one_helper():
    package = ROOT / "keras_gcp"
    found = {
        f"{path.relative_to(package).as_posix()}:{line} {name}"
        for path in package.rglob("*.py")
        for name, line in optional_imports(path)
        if not path.relative_to(package).as_posix().startswith(LOADED_BEHIND_A_CHECK.get(name, "?"))
    }
    assert found == set()
    assert set(optional_imports(package / "cli" / "app.py"))  # It can find.


@pytest.mark.parametrize("package", EXTRAS)
def test_the_extra_that_is_named_installs_the_package(package):
    distribution = DISTRIBUTIONS.get(package, package.replace("_", "-"))
    required = [re.split(r"[^\w-]", line)[0] for line in OPTIONAL[EXTRAS[package]]]
    assert distribution in required


def test_all_holds_what_fits_into_one_environment_and_of_this_repository_nothing():
    (line,) = OPTIONAL["all"]
    named = set(re.fullmatch(r"keras-gcp\[(.*)\]", line)[1].split(","))
    # Other backends; packages without wheels; tf_keras fixes TensorFlow.
    left_out = {"all", "jax", "torch", "tfds", "tfmot"}
    assert named == OPTIONAL.keys() - left_out - {"dev", "docs", "examples", "test"}


@pytest.mark.parametrize(
    "missing, extra, use",
    [
        (["matplotlib"], "plot", lambda folder: width_bars({"a": 2}, {"a": 1}, folder / "w.png")),
        (["jinja2"], "report", lambda folder: write_report(folder, **A_REPORT)),
        (["tf2onnx"], "onnx", lambda folder: check_formats(["onnx"], has_sample=False)),
        (["onnx", "onnxruntime"], "onnx", lambda folder: kind_of("a", folder / "a.onnx")),
        (["tensorflow_datasets"], "tfds", lambda folder: read_tfds("mnist", None, 5)),
        (["PIL"], "cli", lambda folder: read_image(folder / "a.onnx", (4, 4, 3))),
        (["ai_edge_litert", "tensorflow"], "export", lambda folder: runtime_name()),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, list) else None,
)
@pytest.mark.needs_tensorflow("some of these formats are TensorFlow's")
def test_whatever_needs_a_package_that_is_missing_names_its_extra(
    missing, extra, use, tmp_path, monkeypatch
):
    (tmp_path / "a.onnx").write_bytes(b"")
    without(monkeypatch, *missing)
    told = (
        rf"{missing[0]}.*cannot be imported\. Install with `pip install \"keras-gcp\[{extra}\]\"`"
    )
    with pytest.raises(MissingPackage, match=told):
        use(tmp_path)


def test_the_command_line_says_so_without_a_traceback(monkeypatch, capsys):
    without(monkeypatch, "cyclopts")
    assert cli.main(["--help"]) == 1
    assert (
        'needs cyclopts, which cannot be imported. Install with `pip install "keras-gcp[cli]"`'
        in (capsys.readouterr().err)
    )


def test_several_that_are_missing_are_named_together_and_the_error_is_of_both_kinds(monkeypatch):
    without(monkeypatch, "onnx", "matplotlib")
    with pytest.raises(
        ImportError, match=r"need onnx and matplotlib, .*\[onnx,plot\]\"`, or wait\."
    ):
        require(["onnx", "numpy", "matplotlib"], "Both need", ", or wait")
    with pytest.raises(InvalidArgument, match="Pictures need matplotlib"):
        imported("matplotlib.figure", "Pictures need")
    assert is_installed("numpy") and not is_installed("onnx")
    assert importlib.util.find_spec("numpy")
