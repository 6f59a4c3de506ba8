"""Packages of the extras: imported when something needs them, and by what to install if missing."""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Mapping, Sequence
from typing import Any

from keras_gcp.errors import MissingPackage

EXTRAS: Mapping[str, str] = {
    "ai_edge_litert": "export",
    "cyclopts": "cli",
    "jinja2": "report",
    "matplotlib": "plot",
    "onnx": "onnx",
    "onnxruntime": "onnx",
    "PIL": "cli",
    "tensorflow": "tensorflow",
    "tensorflow_datasets": "tfds",
    "tensorflow_model_optimization": "tfmot",
    "tf2onnx": "onnx",
    "tf_keras": "tfmot",
}
"""Name of a package, as one imports it, to the extra of keras-gcp that installs it."""


def imported(module: str, needing: str) -> Any:
    """A module of a package that an extra installs.

    Args:
        module: Its full name.
        needing: What needs it, with the verb, as the message begins: "Pictures need".

    Raises:
        MissingPackage: it cannot be imported.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise MissingPackage(missing_text([module.partition(".")[0]], needing)) from error


def require(packages: Sequence[str], needing: str, else_what: str = "") -> None:
    """Refuses what cannot be done here, before any work and before anything is imported.

    Args:
        packages: What has to be there.
        needing: What needs it, with the verb, as the message begins.
        else_what: What else one may do; follows the command that installs.

    Raises:
        MissingPackage: one of them is not installed.
    """
    missing = [package for package in packages if not is_installed(package)]
    if missing:
        raise MissingPackage(missing_text(missing, needing, else_what))


def is_installed(package: str) -> bool:
    """Whether a package can be found. It is not imported."""
    return importlib.util.find_spec(package) is not None


def missing_text(packages: Sequence[str], needing: str, else_what: str = "") -> str:
    """What is missing, and the command that installs it."""
    extras = ",".join(sorted({EXTRAS[package] for package in packages}))
    return (
        f"{needing} {' and '.join(packages)}, which cannot be imported. Install with "
        f'`pip install "keras-gcp[{extras}]"`{else_what}.'
    )
