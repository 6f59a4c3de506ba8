"""Reads a `.keras` or `.h5` file: whatever cannot be read is an error that says why."""

from __future__ import annotations

import contextlib
import json
import shutil
import tempfile
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5py
import keras

from keras_gcp.errors import InvalidArgument, KerasGCPError, UnsupportedModel, in_short
from keras_gcp.reading.keras2 import translated

SUFFIXES = (".keras", ".h5", ".hdf5")


def read_model(path: str | Path, *, compiled: bool = True) -> keras.Model:
    """The model in a file.

    A `.keras` file is compiled as it was saved; if its loss, metrics or optimizer cannot be read,
    the model is not compiled, and a warning says so. An `.h5` file is not compiled. One that
    Keras 2 wrote is translated first (`keras_gcp.reading.keras2`); its layers are Keras' own.

    Args:
        path: The file.
        compiled: Whether a `.keras` file is compiled as it was saved.

    Raises:
        InvalidArgument: there is no such file, it is of another kind, or holds weights only.
        UnsupportedModel: Keras cannot make its layers.
    """
    file = Path(path)
    _require_model_file(file)
    try:
        if file.suffix == ".keras":
            return _from_keras(file) if compiled else keras.models.load_model(file, compile=False)
        with _as_keras3(file) as readable, warnings.catch_warnings():
            # Arguments of the file's own layers: nothing that a user could mend.
            warnings.filterwarnings("ignore", "Do not pass an `input_shape`")
            warnings.filterwarnings("ignore", "Argument `alpha` is deprecated")
            return keras.models.load_model(readable, compile=False)
    except (KerasGCPError, MemoryError):
        raise
    except Exception as error:  # Keras raises what it likes: TypeError, ValueError, KeyError ...
        raise UnsupportedModel(
            f"Keras {keras.__version__} cannot read '{file}'. Expected a whole model, all layers "
            "of which are Keras' own, or registered (`keras.saving.register_keras_serializable`) "
            f"by a module that was imported before. The reason given: {in_short(error, 400)}"
        ) from error


def _require_model_file(file: Path) -> None:
    if file.is_dir():
        raise InvalidArgument(
            f"'{file}' is a folder. Expected a model file ({', '.join(SUFFIXES)}): a SavedModel no "
            "longer holds the layers that pruning needs."
        )
    if not file.exists():
        raise InvalidArgument(f"There is no file '{file}'. Expected a model file.")
    if file.suffix not in SUFFIXES:
        raise InvalidArgument(
            f"'{file}' does not end like a model file of Keras. Expected {', '.join(SUFFIXES)}."
        )


def _from_keras(file: Path) -> keras.Model:
    try:
        return keras.models.load_model(file)
    except Exception as error:
        model = keras.models.load_model(file, compile=False)
        warnings.warn(
            f"The model in '{file}' is read without its loss, metrics and optimizer, which cannot "
            f"be made here: {in_short(error)}",
            stacklevel=3,
        )
        return model


@contextlib.contextmanager
def _as_keras3(file: Path) -> Iterator[Path]:
    """The file, or a translated copy of it if Keras 2 wrote it."""
    with h5py.File(file) as content:
        config = _attribute(content, "model_config")
        version = _attribute(content, "keras_version")
    if config is None:
        raise InvalidArgument(
            f"'{file}' holds weights, and no model. Expected a file written by `model.save(...)`, "
            "not by `model.save_weights(...)`."
        )
    if version is not None and int(version.split(".")[0]) >= 3:
        yield file
        return
    text = json.dumps(translated(json.loads(config)))
    with tempfile.TemporaryDirectory(prefix="keras_gcp_") as folder:
        copy = Path(folder) / "model.h5"
        shutil.copyfile(file, copy)  # Without its mode: it may be read-only.
        with h5py.File(copy, "r+") as content:
            content.attrs["model_config"] = text
        yield copy


def _attribute(content: Any, name: str) -> str | None:
    value = content.attrs.get(name)
    return value.decode() if isinstance(value, bytes) else value
