"""The model of a command, read as its options say."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from typing import Any

import keras_gcp
from keras_gcp.cli.console import native_stderr_closed, say
from keras_gcp.cli.options import ModelOptions
from keras_gcp.errors import InvalidArgument


def open_model(path: Path, options: ModelOptions) -> Any:
    """Reads a model file.

    Raises:
        InvalidArgument: there is none, or a module of `--import-module` cannot be imported.
        UnsupportedModel: it cannot be read.
    """
    say(f"reading {path}")
    with native_stderr_closed():  # TensorFlow speaks of itself whatever its settings are.
        from keras_gcp.reading import read_model
    for name in options.import_module:
        _import(name)

    model = read_model(path)
    return keras_gcp.flatten(model) if options.flatten else model


def _import(name: str) -> None:
    if "" not in sys.path:
        sys.path.insert(0, "")  # Modules of the user's own lie where the command is run.
    try:
        importlib.import_module(name)
    except ImportError as error:
        raise InvalidArgument(
            f"`--import-module {name}` failed: {error}. Expected a module that Python finds from "
            "here, by its name with dots."
        ) from error
