"""Keras, SavedModel and ONNX files: write one, and run it afresh from disk."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import keras
import numpy as np

from keras_gcp import keras_state
from keras_gcp.exporting.batches import in_batches
from keras_gcp.exporting.own_code import load_for_comparison
from keras_gcp.exporting.structure import call_argument
from keras_gcp.exporting.worker import in_worker
from keras_gcp.extras import imported


def run_model(model: keras.Model, arrays: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Outputs of a model in inference mode, in the order of `model.outputs`.

    Recurrent layers that go on where the last batch ended start again, and are put back afterwards.
    """

    def run(parts: Sequence[np.ndarray]) -> list[np.ndarray]:
        with keras_state.states_put_back(model):
            outputs = model(call_argument(model, parts), training=False)
        return [keras.ops.convert_to_numpy(tensor) for tensor in keras.tree.flatten(outputs)]

    return in_batches(run, arrays, keras_state.fixed_batch(model))


def write_keras(model: keras.Model, path: Path, include_optimizer: bool) -> None:
    """Without the optimizer also without losses and metrics: it loads as it is, uncompiled."""
    model.save(path)
    if model.compiled and not include_optimizer:
        # Loaded and saved again, through Keras' own functions: the model itself stays compiled.
        load_for_comparison(model, path).save(path)


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

    def run(parts: Sequence[np.ndarray]) -> list[np.ndarray]:
        outputs = loaded.serve(call_argument(model, [tf.constant(a) for a in parts]))
        return [tensor.numpy() for tensor in keras.tree.flatten(outputs)]

    return in_batches(run, arrays, keras_state.fixed_batch(model))


def write_onnx(model: keras.Model, path: Path) -> None:
    with keras_state.traced_whole():
        model.export(str(path), format="onnx", verbose=False)


def run_onnx(model: keras.Model, path: Path, arrays: Sequence[np.ndarray]) -> list[np.ndarray]:
    batch = keras_state.fixed_batch(model)
    return in_worker(_run_onnx, path, [np.asarray(array) for array in arrays], batch)


def _run_onnx(path: Path, arrays: Sequence[np.ndarray], batch: int | None) -> list[np.ndarray]:
    """For the worker: like all native code, an interpreter may end its process."""
    onnxruntime = imported("onnxruntime", "Running an .onnx file needs")
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    names = [value.name for value in session.get_inputs()]

    def run(parts: Sequence[np.ndarray]) -> list[np.ndarray]:
        return [np.asarray(y) for y in session.run(None, dict(zip(names, parts, strict=True)))]

    return in_batches(run, arrays, batch)
