"""Keras, SavedModel and ONNX files: write one, and run it afresh from disk."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import keras
import numpy as np

from keras_gcp.exporting.own_code import load_for_comparison
from keras_gcp.exporting.structure import call_argument
from keras_gcp.exporting.worker import in_worker


def run_model(model: keras.Model, arrays: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Outputs of a model in inference mode, in the order of `model.outputs`."""
    outputs = model(call_argument(model, arrays), training=False)
    return [keras.ops.convert_to_numpy(tensor) for tensor in keras.tree.flatten(outputs)]


def write_keras(model: keras.Model, path: Path) -> None:
    model.save(path)


def run_keras(model: keras.Model, path: Path, arrays: Sequence[np.ndarray]) -> list[np.ndarray]:
    return run_model(load_for_comparison(model, path), arrays)


def write_saved_model(model: keras.Model, path: Path) -> None:
    model.export(str(path), format="tf_saved_model", verbose=False)


def run_saved_model(
    model: keras.Model, path: Path, arrays: Sequence[np.ndarray]
) -> list[np.ndarray]:
    """Through the endpoint `serve`, whose arguments have the structure of `model.input`."""
    import tensorflow as tf

    loaded = tf.saved_model.load(str(path))  # kept: its functions do not keep its variables
    outputs = loaded.serve(call_argument(model, [tf.constant(a) for a in arrays]))
    return [tensor.numpy() for tensor in keras.tree.flatten(outputs)]


def write_onnx(model: keras.Model, path: Path) -> None:
    model.export(str(path), format="onnx", verbose=False)


def run_onnx(model: keras.Model, path: Path, arrays: Sequence[np.ndarray]) -> list[np.ndarray]:
    return in_worker(_run_onnx, path, [np.asarray(array) for array in arrays])


def _run_onnx(path: Path, arrays: Sequence[np.ndarray]) -> list[np.ndarray]:
    """For the worker: like all native code, an interpreter may end its process."""
    import onnxruntime

    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    names = [value.name for value in session.get_inputs()]
    results = session.run(None, dict(zip(names, arrays, strict=True)))
    return [np.asarray(result) for result in results]
