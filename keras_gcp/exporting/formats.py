"""The table of formats: file name, how to write, how to run, and how equal is equal."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import keras
import numpy as np

from keras_gcp.errors import InvalidArgument, UnsupportedModel
from keras_gcp.exporting import tflite, writers
from keras_gcp.exporting.own_code import loading_of
from keras_gcp.exporting.records import Loading
from keras_gcp.exporting.samples import Examples
from keras_gcp.extras import require


@dataclass(frozen=True)
class Materials:
    """What some files are made from besides the model.

    Attributes:
        saved_model: Where the TFLite formats share their first stage.
        calibration: Examples for `"tflite_int8"`, and sizes of inputs that the model leaves open.
        include_optimizer: Whether `"keras"` is to go on training as this model would.
    """

    saved_model: Path
    calibration: Examples | None
    include_optimizer: bool = False


Writer = Callable[[keras.Model, Path, Materials], None]
Runner = Callable[[keras.Model, Path, Sequence[np.ndarray]], list[np.ndarray]]


def _by_other_programs(path: Path) -> Loading:
    return Loading()


@dataclass(frozen=True)
class Format:
    """One kind of file.

    Args:
        suffix: Appended to the model's name to give the file's.
        write: `(model, path, materials)`, to the file on disk.
        run: `(model, path, inputs) -> outputs` from the file on disk.
        tolerance: Default limit of the difference, a share of the model's output.
        measure: What the difference is, a key of `keras_gcp.exporting.comparison.MEASURES`.
        packages: Names in `keras_gcp.extras` of packages that it needs.
        loading: How a file is loaded where its reader knows less than this process.
        by_tensorflow: Whether TensorFlow writes it, and Keras must run on that.
        is_tflite: Whether it is made in a process of its own, and has a list of operators.
        needs_sample: Whether it is calibrated on real examples.
    """

    suffix: str
    write: Writer
    run: Runner
    tolerance: float
    measure: str = "relative maximum"
    packages: tuple[str, ...] = ()
    loading: Callable[[Path], Loading] = _by_other_programs
    by_tensorflow: bool = False
    is_tflite: bool = False
    needs_sample: bool = False


def _from_model_alone(write: Callable[[keras.Model, Path], None]) -> Writer:
    return lambda model, path, materials: write(model, path)


def _write_keras(model: keras.Model, path: Path, materials: Materials) -> None:
    writers.write_keras(model, path, materials.include_optimizer)


def _tflite(kind: str, tolerance: float, measure: str, needs_sample: bool = False) -> Format:
    """A format of `keras_gcp.exporting.conversion.KINDS`, which also ends the file's name."""

    def write(model: keras.Model, path: Path, materials: Materials) -> None:
        tflite.write_tflite(model, path, materials.saved_model, kind, materials.calibration)

    return Format(
        kind.removeprefix("tflite") + ".tflite",
        write,
        tflite.run_tflite,
        tolerance,
        measure,
        by_tensorflow=True,
        is_tflite=True,
        needs_sample=needs_sample,
    )


FORMATS: dict[str, Format] = {
    "keras": Format(
        ".keras",
        _write_keras,
        writers.run_keras,
        tolerance=1e-5,
        loading=loading_of,
    ),
    "saved_model": Format(
        "_saved_model",
        _from_model_alone(writers.write_saved_model),
        writers.run_saved_model,
        tolerance=1e-5,
        by_tensorflow=True,
    ),
    "tflite": _tflite("tflite", 1e-4, "relative maximum"),
    "tflite_float16": _tflite("tflite_float16", 1e-2, "relative rms"),
    "tflite_dynamic": _tflite("tflite_dynamic", 0.25, "relative rms"),
    "tflite_int8": _tflite("tflite_int8", 0.25, "relative rms", needs_sample=True),
    "onnx": Format(
        ".onnx",
        _from_model_alone(writers.write_onnx),
        writers.run_onnx,
        tolerance=1e-4,
        packages=("tf2onnx", "onnxruntime"),
        by_tensorflow=True,
    ),
}


def check_formats(formats: Sequence[str], has_sample: bool) -> None:
    """Refuses, before any work, what cannot be written here.

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
        require(FORMATS[name].packages, f"The format '{name}' needs")
        if FORMATS[name].needs_sample and not has_sample:
            raise InvalidArgument(
                f"The format '{name}' is calibrated on real inputs. Pass some hundred "
                "training examples as `sample=`."
            )


def _check_backend(name: str) -> None:
    if FORMATS[name].by_tensorflow and keras.backend.backend() != "tensorflow":
        raise UnsupportedModel(
            f"The format '{name}' is written by TensorFlow, but Keras runs on "
            f"'{keras.backend.backend()}'. Export the format 'keras', load that file in a process "
            "with KERAS_BACKEND=tensorflow, and export it there."
        )
