"""A .tflite file of one function of tensors: a single layer, to see how long it takes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from keras_gcp.exporting.quiet import silenced


def write_function(
    function: Callable[..., Any],
    shapes: Sequence[tuple[tuple[int, ...], str]],
    path: Path,
    owner: Any = None,
) -> None:
    """Converts a function of tensors.

    Args:
        function: Takes as many tensors as there are shapes.
        shapes: Shape and dtype of each, batch axis included.
        path: The .tflite file to write.
        owner: What holds the variables that the function reads, or None.
    """
    import tensorflow as tf

    specs = [tf.TensorSpec(shape, dtype) for shape, dtype in shapes]
    with silenced():
        # Once outside of the graph: a layer makes its variables when it is first called.
        function(*(tf.zeros(shape, dtype) for shape, dtype in shapes))
        concrete = tf.function(function, autograph=False).get_concrete_function(*specs)
        holder = tf.Module() if owner is None else owner
        converter = tf.lite.TFLiteConverter.from_concrete_functions([concrete], holder)
        path.write_bytes(converter.convert())
