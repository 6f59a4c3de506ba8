"""From a SavedModel to a .tflite file. For `in_worker`: the converter may end its process."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

SIGNATURE = "serving_default"

Calibration = Mapping[str, np.ndarray]
"""Real examples by name of the input in the signature, each `(examples, ...)`."""


def convert(
    saved_model: str, kind: str, calibration: Calibration | None, path: str, batch: int = 1
) -> None:
    """Writes the file.

    Args:
        saved_model: Folder of a SavedModel with the signature `SIGNATURE`.
        kind: A key of `KINDS`.
        calibration: For `"tflite_int8"`.
        path: The .tflite file.
        batch: Its batch size.
    """
    import tensorflow as tf

    converter = tf.lite.TFLiteConverter.from_saved_model(saved_model, signature_keys=[SIGNATURE])
    KINDS[kind](tf, converter, calibration, batch)
    Path(path).write_bytes(converter.convert())


def convert_graph(graph: bytes, inputs: Sequence[str], outputs: Sequence[str], path: str) -> None:
    """Writes the file of a graph of constants: a fifth of the time that a SavedModel takes.

    Args:
        graph: A GraphDef.
        inputs: Names of the tensors that enter it.
        outputs: Names of those that leave it.
        path: The .tflite file.
    """
    import tensorflow as tf

    given = tf.compat.v1.GraphDef.FromString(graph)
    whole = tf.compat.v1.wrap_function(
        lambda: tf.compat.v1.import_graph_def(given, name=""), signature=[]
    )
    function = whole.prune(list(inputs), list(outputs))
    converter = tf.lite.TFLiteConverter.from_concrete_functions([function], tf.Module())
    Path(path).write_bytes(converter.convert())


def _plain(tf: Any, converter: Any, calibration: Calibration | None, batch: int) -> None:
    """32-bit floating point: the converter's defaults."""


def _float16(tf: Any, converter: Any, calibration: Calibration | None, batch: int) -> None:
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.target_spec.supported_types = [tf.float16]


def _dynamic(tf: Any, converter: Any, calibration: Calibration | None, batch: int) -> None:
    converter.optimizations = [tf.lite.Optimize.DEFAULT]


def _int8(tf: Any, converter: Any, calibration: Calibration | None, batch: int) -> None:
    assert calibration is not None, "checked by the caller"
    count = len(next(iter(calibration.values())))

    def representative() -> Iterator[dict[str, np.ndarray]]:
        for i in range(0, count - batch + 1, batch):
            yield {name: array[i : i + batch] for name, array in calibration.items()}

    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.representative_dataset = representative
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
    converter.inference_input_type = tf.int8
    converter.inference_output_type = tf.int8


def _sparse(tf: Any, converter: Any, calibration: Calibration | None, batch: int) -> None:
    converter.optimizations = [tf.lite.Optimize.EXPERIMENTAL_SPARSITY]


def _trained_int8(tf: Any, converter: Any, calibration: Calibration | None, batch: int) -> None:
    """The model knows its ranges: quantization-aware training has found them."""
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.inference_input_type = tf.int8
    converter.inference_output_type = tf.int8


KINDS: dict[str, Callable[[Any, Any, Calibration | None, int], None]] = {
    "tflite": _plain,
    "tflite_float16": _float16,
    "tflite_dynamic": _dynamic,
    "tflite_int8": _int8,
    "tflite_sparse": _sparse,
    "tflite_trained_int8": _trained_int8,
}
