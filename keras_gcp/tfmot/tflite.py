"""A .tflite file of a tf_keras model, written aside, run, and compared with the model."""

from __future__ import annotations

import re
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np

from keras_gcp import keras_state
from keras_gcp.errors import ExportMismatch, InvalidArgument, UnsupportedModel
from keras_gcp.exporting import ExportedFile, files
from keras_gcp.exporting.batches import in_batches
from keras_gcp.exporting.comparison import largest_difference
from keras_gcp.exporting.conversion import SIGNATURE, convert
from keras_gcp.exporting.formats import FORMATS
from keras_gcp.exporting.quiet import silenced
from keras_gcp.exporting.runtime import operators, tensor_types
from keras_gcp.exporting.samples import examples_for
from keras_gcp.exporting.tflite import run_tflite, signature_names
from keras_gcp.exporting.worker import in_words, in_worker, prepare
from keras_gcp.tfmot.bridge import Bridge
from keras_gcp.validation import require_path

COMPARED = 32


def write(
    over: Bridge,
    model: Any,
    kind: str,
    like: str,
    directory: Any,
    sample: Any,
    name: str,
) -> ExportedFile:
    """Writes the file.

    Args:
        over: How the model came from Keras 3: names and order of inputs and outputs are from there.
        model: The tf_keras model.
        kind: A key of `conversion.KINDS`.
        like: The format of `keras_gcp.export` that it is held to.
        directory: Where to.
        sample: Examples to compare on, as in `keras_gcp.export`; None: random ones.
        name: Of the file, without `.tflite`.

    Raises:
        ExportMismatch: it does not compute what the model computes.
        UnsupportedModel: the converter refuses the model.
    """
    begin, held = time.perf_counter(), FORMATS[like]
    if not isinstance(name, str) or not re.fullmatch(r"[\w.\- ]+", name) or name.startswith("."):
        raise InvalidArgument(f"`name` expects a name for a file, without folders. Got: {name!r}.")
    prepare()
    examples = examples_for(over.source, sample, COMPARED).spread(COMPARED)
    expected = outputs_of(model, examples.arrays, keras_state.fixed_batch(over.source))
    target = Path(require_path("directory", directory)) / f"{name}.tflite"
    with files.workspace(target.parent) as folder:
        aside = folder / target.name
        with silenced():
            found = _convert_and_run(over, model, kind, folder / "saved", aside, examples.arrays)
        difference = largest_difference(found, expected, held.measure)
        if not difference <= held.tolerance:
            raise ExportMismatch(
                f"The file of '{model.name}' does not compute what the model computes: "
                f"{held.measure} difference {difference:.3g} over {len(examples)} "
                f"{examples.source} examples, allowed {held.tolerance:.3g}. It was removed. Pass "
                "real examples as `sample=`, and train longer if there were few steps."
            )
        if like == "tflite_int8":
            _require_integers(aside)
        files.replace(aside, target)
    return ExportedFile(
        format=like,
        path=target,
        bytes=files.size_of(target),
        max_difference=difference,
        compared_on=examples.source,
        seconds=time.perf_counter() - begin,
        operators=operators(target),
        measure=held.measure,
        tolerance=held.tolerance,
        examples=len(examples),
    )


def outputs_of(model: Any, arrays: Sequence[Any], batch: int | None = None) -> list[np.ndarray]:
    """Outputs of a tf_keras model in inference mode."""

    def run(parts: Sequence[Any]) -> list[np.ndarray]:
        with keras.device("cpu:0"):
            outputs = model(parts[0] if len(parts) == 1 else list(parts), training=False)
        return [np.asarray(x) for x in keras.tree.flatten(outputs)]

    return in_batches(run, [np.asarray(array) for array in arrays], batch)


def _convert_and_run(
    over: Bridge, model: Any, kind: str, saved: Path, path: Path, arrays: Sequence[Any]
) -> list[np.ndarray]:
    batch = keras_state.fixed_batch(over.source) or 1
    try:
        _write_saved_model(over, model, saved, batch)
        in_worker(convert, str(saved), kind, None, str(path), batch)
        return run_tflite(over.source, path, arrays)
    except OSError:
        raise
    except Exception as error:
        raise UnsupportedModel(
            f"Model '{model.name}' cannot be converted to TFLite. The converter says: "
            f"{in_words(error)[:600]}"
        ) from error


def _require_integers(path: Path) -> None:
    if floats := sorted(tensor_types(path) & {"FLOAT32", "FLOAT16", "FLOAT64"}):
        raise UnsupportedModel(
            f"The file '{path.name}' is not all of integers: it has tensors of "
            f"{', '.join(floats)}, since the converter knows no 8-bit form of some layer. It was "
            "removed. Expected layers of which devices compute all in 8 bits."
        )


def _write_saved_model(over: Bridge, model: Any, folder: Path, batch: int) -> None:
    tf = over.packages.tf
    names_in, names_out = signature_names(over.source)
    specs = [
        tf.TensorSpec((batch, *tensor.shape[1:]), tensor.dtype, name=name)
        for name, tensor in zip(names_in, over.source.inputs, strict=True)
    ]

    @tf.function(input_signature=specs, autograph=False)
    def serve(*tensors: Any) -> dict[str, Any]:
        outputs = model(tensors[0] if len(tensors) == 1 else list(tensors), training=False)
        return dict(zip(names_out, keras.tree.flatten(outputs), strict=True))

    holder = tf.Module()
    holder.kept = list(model.variables)  # The model itself would be traced layer by layer.
    tf.saved_model.save(holder, str(folder), signatures={SIGNATURE: serve})
