"""Real TFLite files of a model, to be weighed and timed."""

from __future__ import annotations

import shutil
import tempfile
import weakref
from pathlib import Path
from typing import Any

import keras
import numpy as np

from keras_gcp.errors import UnsupportedModel
from keras_gcp.exporting.quiet import silenced
from keras_gcp.exporting.samples import examples_for
from keras_gcp.exporting.tflite import write_tflite
from keras_gcp.graph import Shapes

CALIBRATION_EXAMPLES = 4
"""For an int8 file that is only weighed: its size does not depend on the ranges found."""


class Workspace:
    """A folder that lives as long as this object."""

    def __init__(self) -> None:
        self.path = Path(tempfile.mkdtemp(prefix="keras_gcp_"))
        weakref.finalize(self, shutil.rmtree, self.path, ignore_errors=True)


def require_tensorflow(resource: str) -> None:
    """Refuses resources that need a TFLite file where none can be written.

    Raises:
        UnsupportedModel: Keras runs on another backend.
    """
    if keras.config.backend() != "tensorflow":
        raise UnsupportedModel(
            f"The resource '{resource}' is counted on a real TFLite file, which TensorFlow writes, "
            "but "
            f"Keras runs on '{keras.config.backend()}'. Set KERAS_BACKEND=tensorflow before Python "
            "starts, or take the resource 'macs', 'parameters' or 'peak_activation_bytes'."
        )


def write_file(model: Any, path: Path, kind: str = "tflite", shapes: Shapes | None = None) -> None:
    """Converts a model as `keras_gcp.export` does, without comparing it.

    Args:
        model: The model.
        path: The file to write.
        kind: The format.
        shapes: Sizes of the inputs in the file, if the model leaves them open.
    """
    examples = None
    if kind == "tflite_int8":
        examples = examples_for(model, None, CALIBRATION_EXAMPLES, shapes)
    with tempfile.TemporaryDirectory() as folder, silenced():
        write_tflite(model, path, Path(folder) / "saved_model", kind, examples, shapes)


def converted_bytes(model: Any, kind: str, shapes: Shapes | None = None) -> int:
    """The size of the file of a model."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.tflite"
        write_file(model, path, kind, shapes)
        return path.stat().st_size


def as_if_trained(model: Any) -> Any:
    """Gives a copy of a model other values where a weight is constant; returns it.

    A file holds equal constants once. The biases of a new network are all zero, so its file would
    be smaller than that of the same network after training. Weights that training has changed stay
    as they are.
    """
    rng = np.random.default_rng(0)
    for variable in model.weights:
        value = keras.ops.convert_to_numpy(variable)
        is_float = "float" in str(variable.dtype)
        if is_float and value.size and (value == value.flat[0]).all():
            variable.assign(value + rng.uniform(0.5, 1.0, value.shape))
    return model
