"""Conversion to TFLite: a fixed batch size, built-in operators only, four number formats."""

from __future__ import annotations

import keyword
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np

from keras_gcp import keras_state
from keras_gcp.errors import KerasGCPError, UnsupportedModel
from keras_gcp.exporting import runtime
from keras_gcp.exporting.conversion import convert
from keras_gcp.exporting.loops import death_in_words
from keras_gcp.exporting.precision import in_float32, is_mixed_precision
from keras_gcp.exporting.samples import Examples
from keras_gcp.exporting.structure import call_argument, output_names
from keras_gcp.exporting.worker import WorkerDied, in_words, in_worker
from keras_gcp.graph import Shapes

UNNAMED = r"(keras_tensor|input_layer)(_\d+)?"


def write_tflite(
    model: keras.Model,
    path: Path,
    saved_model: Path,
    kind: str,
    calibration: Examples | None,
    shapes: Shapes | None = None,
) -> None:
    """Converts the model and writes the file.

    Args:
        model: Functional or Sequential, its input shape known but for the batch.
        path: The .tflite file to write.
        saved_model: A folder for the intermediate SavedModel; reused if it exists.
        kind: A key of `conversion.KINDS`.
        calibration: Real examples for `"tflite_int8"`.
        shapes: Sizes of the inputs in the file, if the model leaves them open; None: those of the
            examples.

    Raises:
        UnsupportedModel: If the model needs an operator that TFLite does not have built in, or
            has no fixed input shape.
    """
    sizes = shapes or _sizes(model, calibration)
    _check_input_shapes(model, sizes)
    if not saved_model.exists():
        _write_static_saved_model(model, saved_model, sizes)
    examples = None if calibration is None else _by_name(model, calibration.arrays)
    batch = keras_state.fixed_batch(model) or 1
    try:
        in_worker(convert, str(saved_model), kind, examples, str(path), batch)
    except WorkerDied as error:
        text = death_in_words(model, kind, saved_model, error)
        raise UnsupportedModel(text) from error
    except (KerasGCPError, OSError, MemoryError):
        raise
    except Exception as error:  # the converter raises many types, some of them private
        raise UnsupportedModel(_refusal(model, kind, error)) from error
    _check_builtin(model, path)


def _sizes(model: keras.Model, examples: Examples | None) -> Shapes:
    """The model's own, or those of examples where it leaves them open."""
    own = tuple(tuple(tensor.shape[1:]) for tensor in model.inputs)
    if examples is None or all(None not in size for size in own):
        return own
    return tuple(array.shape[1:] for array in examples.arrays)


def run_tflite(model: keras.Model, path: Path, arrays: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Outputs of the file in the order of `model.outputs`."""
    results = in_worker(runtime.run_file, str(path), _by_name(model, arrays))
    return [results[name] for name in signature_names(model)[1]]


def _by_name(model: keras.Model, arrays: Sequence[np.ndarray]) -> Mapping[str, np.ndarray]:
    return dict(zip(signature_names(model)[0], arrays, strict=True))


def signature_names(model: keras.Model) -> tuple[list[str], list[str]]:
    """Names of inputs and outputs in the file's signature: the model's own, made unique.

    An input that was given no name is called `input`; Keras's `keras_tensor_119` is another
    number in every process and becomes `input_layer_7` when the model is cloned or loaded.
    """
    given = [tensor.name for tensor in model.inputs]
    named = ["input" if re.fullmatch(UNNAMED, name) else name for name in given]
    return _unique(named), _unique(output_names(model))


def _write_static_saved_model(model: keras.Model, folder: Path, sizes: Shapes) -> None:
    """A SavedModel of batch size 1, or the model's own, whose signature carries its names.

    With the batch left open, every Flatten and Reshape becomes a chain of SHAPE,
    STRIDED_SLICE and PACK; with 1 written in, the file holds the layers and nothing else.
    """
    import tensorflow as tf

    names_in, names_out = signature_names(model)
    model = in_float32(model) if is_mixed_precision(model) else model
    specs = [
        tf.TensorSpec((tensor.shape[0] or 1, *size), tensor.dtype, name=name)
        for name, tensor, size in zip(names_in, model.inputs, sizes, strict=True)
    ]

    def serve(*tensors: Any) -> dict[str, Any]:
        outputs = model(call_argument(model, tensors), training=False)
        return dict(zip(names_out, keras.tree.flatten(outputs), strict=True))

    archive = keras.export.ExportArchive()
    archive.track(model)
    archive.add_endpoint("serve", serve, input_signature=specs)
    archive.write_out(str(folder), verbose=False)


def _check_input_shapes(model: keras.Model, sizes: Shapes) -> None:
    for tensor, size in zip(model.inputs, sizes, strict=True):
        if None in size:
            raise UnsupportedModel(
                f"The input '{tensor.name}' of '{model.name}' has shape {tuple(tensor.shape)}. A "
                "TFLite file needs every size but the batch. Pass examples of that size as "
                "`sample=`."
            )


def _check_builtin(model: keras.Model, path: Path) -> None:
    foreign = sorted(set(runtime.operators(path)) - runtime.builtin_names())
    if foreign:
        raise UnsupportedModel(
            f"The TFLite file of '{model.name}' would need the operators {foreign}, which are not "
            "built into TFLite. Replace the layers that use them."
        )


def _refusal(model: keras.Model, kind: str, error: Exception) -> str:
    text = in_words(error)
    needed = sorted(set(re.findall(r"\btf\.([A-Z]\w+)", text)))
    reason = (
        f"It needs the operators {needed}, which TFLite does not have built in"
        if needed and ("custom" in text or "select" in text.lower())
        else f"The converter says: {text[:600]}"
    )
    return (
        f"The model '{model.name}' cannot be converted to {kind} with built-in operators only. "
        f"{reason}. Replace the layers that use them, or export the formats 'keras' and "
        "'saved_model' only."
    )


def _unique(names: Sequence[str]) -> list[str]:
    """Names fit for a signature: letters, digits and underscores, no word of Python, each once."""
    unique: list[str] = []
    for name in names:
        clean = re.sub(r"\W", "_", name, flags=re.ASCII)
        clean = clean if clean[:1].isalpha() and not keyword.iskeyword(clean) else f"x_{clean}"
        number, candidate = 1, clean
        while candidate in unique:
            number, candidate = number + 1, f"{clean}_{number}"
        unique.append(candidate)
    return unique
