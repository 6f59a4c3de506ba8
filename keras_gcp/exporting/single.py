"""A .tflite file of one function of tensors: a single layer, to see how long it takes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from keras_gcp.exporting.conversion import convert_graph
from keras_gcp.exporting.quiet import silenced
from keras_gcp.exporting.worker import in_worker


def write_function(
    function: Callable[..., Any],
    shapes: Sequence[tuple[tuple[int, ...], str]],
    path: Path,
) -> None:
    """Converts a function of tensors.

    Args:
        function: Takes as many tensors as there are shapes.
        shapes: Shape and dtype of each, batch axis included.
        path: The .tflite file to write.
    """
    import tensorflow as tf
    from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

    specs = [tf.TensorSpec(shape, dtype) for shape, dtype in shapes]
    with silenced():
        # Once outside of the graph: a layer makes its variables when it is first called.
        function(*(tf.zeros(shape, dtype) for shape, dtype in shapes))
        concrete = tf.function(function, autograph=False).get_concrete_function(*specs)
        # As constants: weights that a file reads from variables are transposed at every call.
        frozen = convert_variables_to_constants_v2(concrete)
        ends = [[x.name for x in tensors] for tensors in (frozen.inputs, frozen.outputs)]
        graph = frozen.graph.as_graph_def().SerializeToString()
        in_worker(convert_graph, graph, *ends, str(path))
