"""Models and files of any kind, opened so that all can be counted, run and timed alike."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import keras
import numpy as np

from keras_gcp import keras_state
from keras_gcp.channels.trace import trace_at
from keras_gcp.classification.metrics import Metric, value_of
from keras_gcp.costs.counting import count_map
from keras_gcp.errors import InvalidArgument, KerasGCPError, first_sentence
from keras_gcp.evaluation.foreign import ForeignFile, read, shortly
from keras_gcp.exporting import files
from keras_gcp.extras import require
from keras_gcp.reading import read_model
from keras_gcp.resources import counted
from keras_gcp.resources.tflite_files import write_file
from keras_gcp.sample import DrawnSample
from keras_gcp.sample.input_sizes import has_open_sizes, sizes_of

_BY_SUFFIX = {
    ".keras": "keras",
    ".h5": "h5",
    ".hdf5": "h5",
    ".tflite": "tflite",
    ".lite": "tflite",
    ".onnx": "onnx",
}
_PEAK = "peak_activation_bytes"


@dataclass(frozen=True, eq=False)
class Opened:
    """A model or file that is ready to be measured.

    Attributes:
        name: Its name in the comparison.
        kind: As in `ComparedModel`.
        path: The file; None for a model in memory.
        model: The Keras model; for files of other kinds a stand-in that has their inputs and
            outputs, and computes nothing.
        file: What runs a file of another kind; None: the model is run.
        macs: Multiply-adds for one example, if known.
        parameters: Parameters.
        peak_bytes: Peak memory of activations, if known.
        bytes: Size, if known.
        timed: The file whose latency is measured, if there is one.
        notes: Why something is unknown.
    """

    name: str
    kind: str
    path: Path | None
    model: Any
    file: ForeignFile | None = None
    macs: int | None = None
    parameters: int | None = None
    peak_bytes: int | None = None
    bytes: int | None = None
    timed: Path | None = None
    notes: tuple[str, ...] = ()

    @property
    def called(self) -> str:
        """How messages call it."""
        return f"'{self.name}'" if self.path is None else f"'{self.name}' ({self.path})"

    @property
    def is_keras(self) -> bool:
        """Whether it is a model of Keras, whose layers are known."""
        return self.file is None

    def value(self, metric: Metric, data: DrawnSample) -> float:
        """Its metric on some examples, which fit its model."""
        if self.file is None:
            return value_of(metric, self.model, data)
        outputs = self.file.run(keras_state.ordered_inputs(self.model, data.x))
        given = keras.tree.map_structure(_tensor, (data.x_of_loss, data.y))
        found = [_tensor(output) for output in outputs]
        return metric.measure([(*given, found[0] if len(found) == 1 else found)])

    def in_order_of(self, model: Any) -> Opened:
        """A file with its inputs and outputs in the order of a Keras model, told by their names."""
        if self.file is None or len(self.model.inputs) == len(self.model.outputs) == 1:
            return self
        file = self.file.in_order_of(model)
        return replace(self, file=file, model=file.stand_in())


def kind_of(name: str, given: Any) -> tuple[str, Path | None]:
    """What something is, and where it is on disk, without opening it.

    Raises:
        InvalidArgument: it is neither a model nor a file of a known kind, or there is no file.
    """
    if isinstance(given, keras.Model):
        return "model", None
    if not isinstance(given, str | Path) or not str(given):
        raise InvalidArgument(
            f"'{name}' is of type {type(given).__name__}. Expected a `keras.Model` or the path of "
            f"a file, {_KINDS}."
        )
    path = Path(given)
    if not path.exists():
        raise InvalidArgument(f"'{name}': there is no file '{path}'. Expected {_KINDS}.")
    if path.is_dir():
        if not (path / "saved_model.pb").is_file():
            raise InvalidArgument(
                f"'{name}': the folder '{path}' has no saved_model.pb in it. Expected the folder "
                "of a SavedModel."
            )
        return "saved_model", path
    kind = _BY_SUFFIX.get(path.suffix.lower())
    if kind is None:
        raise InvalidArgument(f"'{name}': '{path}' ends in {path.suffix!r}. Expected {_KINDS}.")
    require(_PACKAGES.get(kind, ()), f"'{name}': reading '{path}' needs")
    return kind, path


def opened(name: str, given: Any, folder: Path) -> Opened:
    """Opens a model or file.

    Args:
        name: What to call it.
        given: What the user passed, of a known kind.
        folder: Where files may be made of it, of its own.

    Raises:
        InvalidArgument: a file cannot be read.
        UnsupportedModel: Keras or a runtime reads it, but cannot run it.
    """
    kind, path = kind_of(name, given)
    if path is None:
        return Opened(name, kind, None, given)
    if kind in ("keras", "h5"):
        model = _loaded(name, path)
        return Opened(name, kind, path, model, bytes=files.size_of(path))
    return _foreign(name, kind, path, folder)


def counted_and_converted(
    one: Opened, sample: DrawnSample | None, folder: Path, to_be_timed: bool
) -> Opened:
    """With the costs of a Keras model, and a file to be timed.

    Args:
        one: What was opened.
        sample: Examples that tell sizes which the model leaves open, or None.
        folder: Where the file is made, of its own.
        to_be_timed: Whether a file is needed though the size is known.
    """
    if not one.is_keras:
        return one
    shapes = sizes_of(one.model, None, sample)
    is_open = shapes is None and has_open_sizes(one.model)
    costs = count_map(trace_at(shapes, one.model, ()), () if is_open else counted([_PEAK]))
    notes = [f"multiply-adds leave out {', '.join(costs.uncounted)}"] if costs.uncounted else []
    timed, reason = None, ""
    if to_be_timed or one.bytes is None:
        timed, reason = _converted(one.model, folder / "model.tflite", shapes, is_open)
    if reason:
        notes.append(f"no TFLite file of it: {reason}")
    size = None if timed is None else files.size_of(timed)
    return replace(
        one,
        macs=costs.macs,
        parameters=costs.parameters,
        peak_bytes=None if is_open else int(costs[_PEAK]),
        bytes=size if one.bytes is None else one.bytes,
        timed=timed,
        notes=tuple(notes),
    )


def _converted(model: Any, path: Path, shapes: Any, is_open: bool) -> tuple[Path | None, str]:
    """The file; or None, and why there is none."""
    if keras.config.backend() != "tensorflow":
        return None, f"TensorFlow writes it, and Keras runs on {keras.config.backend()}"
    if is_open:
        return None, "sizes of its input are open, and data would tell them"
    try:
        write_file(model, path, shapes=shapes)
    except KerasGCPError as error:  # Of layers that TFLite does not have, say.
        return None, first_sentence(error)
    return path, ""


def _loaded(name: str, path: Path) -> Any:
    try:
        return read_model(path, compiled=False)
    except KerasGCPError as error:
        cause = error.__cause__
        raise InvalidArgument(
            f"'{name}': '{path}' cannot be loaded. Expected a file that Keras "
            f"{keras.__version__} reads; one with code of your own is loaded by you, "
            "`keras.models.load_model(path, custom_objects=...)`, and passed as a model. The "
            f"reason given: {shortly(cause if isinstance(cause, Exception) else error)}"
        ) from error


def _foreign(name: str, kind: str, path: Path, folder: Path) -> Opened:
    file = read(name, kind, path, folder / "model.tflite")
    costs = file.described.costs
    return Opened(
        name,
        kind,
        path,
        file.stand_in(),
        file,
        macs=costs.macs,
        parameters=costs.parameters,
        peak_bytes=costs.peak_bytes,
        bytes=files.size_of(path),
        timed=file.timed,
        notes=(costs.unknown,) if costs.unknown else (),
    )


def _tensor(leaf: Any) -> Any:
    if leaf is None:
        return None
    dtype = keras.config.floatx() if getattr(leaf, "dtype", None) == np.float64 else None
    return keras.ops.convert_to_tensor(leaf, dtype=dtype)


_KINDS = ".keras, .h5, .tflite or .onnx, or the folder of a SavedModel"
_PACKAGES = {"onnx": ("onnx", "onnxruntime")}
