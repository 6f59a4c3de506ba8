"""The table of formats: file name, how to write, how to run, and how equal is equal."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import keras
import numpy as np

from keras_gcp.errors import InvalidArgument, UnsupportedModel
from keras_gcp.exporting import tflite, writers
from keras_gcp.exporting.conversion import KINDS
from keras_gcp.exporting.own_code import loading_of
from keras_gcp.exporting.records import Loading
from keras_gcp.exporting.samples import Examples

Runner = Callable[[keras.Model, Path, Sequence[np.ndarray]], list[np.ndarray]]


def _by_other_programs(path: Path) -> Loading:
    return Loading()


@dataclass(frozen=True)
class Format:
    """One kind of file.

    Args:
        suffix: Appended to the model's name to give the file's.
        run: `(model, path, inputs) -> outputs` from the file on disk.
        tolerance: Default limit of the difference, a share of the model's output.
        measure: What the difference is, a key of `keras_gcp.exporting.comparison.MEASURES`.
        packages: Modules that must be importable, and what to install for them.
        loading: How a file is loaded where its reader knows less than this process.
    """

    suffix: str
    run: Runner
    tolerance: float
    measure: str = "relative maximum"
    packages: tuple[str, ...] = ()
    loading: Callable[[Path], Loading] = _by_other_programs


FORMATS: dict[str, Format] = {
    "keras": Format(".keras", writers.run_keras, 1e-5, loading=loading_of),
    "saved_model": Format("_saved_model", writers.run_saved_model, 1e-5),
    "tflite": Format(".tflite", tflite.run_tflite, 1e-4),
    "tflite_float16": Format("_float16.tflite", tflite.run_tflite, 1e-2, "relative rms"),
    "tflite_dynamic": Format("_dynamic.tflite", tflite.run_tflite, 0.25, "relative rms"),
    "tflite_int8": Format("_int8.tflite", tflite.run_tflite, 0.25, "relative rms"),
    "onnx": Format(".onnx", writers.run_onnx, 1e-4, packages=("tf2onnx", "onnxruntime")),
}


def write(
    format_name: str,
    model: keras.Model,
    path: Path,
    saved_model: Path,
    calibration: Examples | None,
) -> None:
    """Write one file; `saved_model` is where the TFLite formats share their first stage."""
    if format_name in KINDS:
        tflite.write_tflite(model, path, saved_model, format_name, calibration)
    elif format_name == "keras":
        writers.write_keras(model, path)
    elif format_name == "saved_model":
        writers.write_saved_model(model, path)
    else:
        writers.write_onnx(model, path)


def check_formats(formats: Sequence[str], has_sample: bool) -> None:
    """Refuse, before any work, what cannot be written here.

    Raises:
        InvalidArgument: For an unknown or repeated format, a missing package, or int8 without
            real examples to calibrate on.
        UnsupportedModel: For a TensorFlow format under another backend.
    """
    listed = isinstance(formats, list | tuple) and all(isinstance(f, str) for f in formats)
    if not listed or not formats or len(set(formats)) < len(formats):
        raise InvalidArgument(
            f"`formats` must be a list of different formats from {sorted(FORMATS)}. "
            f"Received: formats={formats!r}"
        )
    for name in formats:
        if name not in FORMATS:
            raise InvalidArgument(f"Unknown format '{name}'. Expected one of {sorted(FORMATS)}.")
        _check_backend(name)
        _check_packages(name)
        if name == "tflite_int8" and not has_sample:
            raise InvalidArgument(
                "The format 'tflite_int8' is calibrated on real inputs. Pass some hundred "
                "training examples as `sample=`."
            )


def _check_backend(name: str) -> None:
    needs_tensorflow = name == "saved_model" or name in KINDS
    if needs_tensorflow and keras.backend.backend() != "tensorflow":
        raise UnsupportedModel(
            f"The format '{name}' is written by TensorFlow, but Keras runs on "
            f"'{keras.backend.backend()}'. Export the format 'keras', load that file in a process "
            "with KERAS_BACKEND=tensorflow, and export it there."
        )


def _check_packages(name: str) -> None:
    missing = [p for p in FORMATS[name].packages if importlib.util.find_spec(p) is None]
    if missing:
        raise InvalidArgument(
            f"The format '{name}' needs {' and '.join(missing)}, which cannot be imported. "
            f"Install with `pip install {' '.join(missing)}`."
        )
