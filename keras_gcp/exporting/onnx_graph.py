"""Reads an .onnx file as a `FileGraph`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from keras_gcp.exporting.file_graph import FileCall, FileGraph, FileTensor, product, times
from keras_gcp.extras import imported

_INSIDE_ANOTHER_GRAPH = frozenset({"If", "Loop", "Scan"})
_NOT_COUNTED = frozenset({"GRU", "LSTM", "RNN", "Einsum", "Attention", "MultiHeadAttention"})


def read_onnx(path: Path | str) -> FileGraph:
    """The operations of a file, for one example.

    Raises:
        Exception: of the package `onnx`, if it is not an .onnx file.
    """
    onnx = imported("onnx", "Reading an .onnx file needs")
    model = onnx.load(str(path))
    onnx.checker.check_model(model)
    _take_one_example(model.graph)
    graph = onnx.shape_inference.infer_shapes(model, data_prop=True).graph
    return _Reader().read(graph)


def _take_one_example(graph: Any) -> None:
    """Sets an open number of examples to one, so that all other sizes can be inferred."""
    for value in graph.input:
        axes = value.type.tensor_type.shape.dim
        if axes and not axes[0].HasField("dim_value"):
            axes[0].dim_value = 1
    for value in (*graph.output, *graph.value_info):
        value.type.tensor_type.ClearField("shape")


class _Reader:
    """Numbers the tensors, which the format knows by name."""

    def __init__(self) -> None:
        self._numbers: dict[str, int] = {}
        self._tensors: dict[int, FileTensor] = {}

    def read(self, graph: Any) -> FileGraph:
        for value in (*graph.input, *graph.value_info, *graph.output):
            kind = value.type.tensor_type
            self._add(value.name, _shape(kind), _dtype(kind.elem_type), is_constant=False)
        for held in graph.initializer:
            self._add(held.name, tuple(held.dims), _dtype(held.data_type), is_constant=True)
        calls = tuple(self._call(node) for node in graph.node)
        constants = {one.name for one in graph.initializer}
        inputs = tuple(self._of(v.name) for v in graph.input if v.name not in constants)
        outputs = tuple(self._of(value.name) for value in graph.output)
        return FileGraph(self._tensors, calls, inputs, outputs)

    def _call(self, node: Any) -> FileCall:
        if node.op_type == "Constant":
            self._constant(node)
        reads = tuple(self._of(name) for name in node.input if name)
        writes = tuple(self._of(name) for name in node.output if name)
        tensors = self._tensors
        macs = _macs(node.op_type, [tensors[i] for i in reads], [tensors[i] for i in writes])
        return FileCall(node.op_type, reads, writes, macs)

    def _constant(self, node: Any) -> None:
        values = [one.t for one in node.attribute if one.name == "value"]
        if values:
            self._add(node.output[0], tuple(values[0].dims), _dtype(values[0].data_type), True)

    def _of(self, name: str) -> int:
        if name not in self._numbers:  # A tensor whose shape could not be inferred.
            self._add(name, (None,), np.dtype(np.float32), is_constant=False)
        return self._numbers[name]

    def _add(
        self, name: str, shape: tuple[int | None, ...], dtype: np.dtype[Any], is_constant: bool
    ) -> None:
        number = self._numbers.setdefault(name, len(self._numbers))
        is_number = dtype.kind in "fV" or dtype in (np.int8, np.uint8)  # V: bfloat16 and such
        self._tensors[number] = FileTensor(
            name=name,
            shape=shape,
            dtype=str(dtype),
            item_bytes=dtype.itemsize,
            is_constant=is_constant,
            is_weight=is_constant and is_number,
        )


def _dtype(code: int) -> np.dtype[Any]:
    if not code:
        return np.dtype(np.float32)
    helper = imported("onnx.helper", "Reading an .onnx file needs")
    return np.dtype(helper.tensor_dtype_to_np_dtype(code))


def _shape(kind: Any) -> tuple[int | None, ...]:
    if not kind.HasField("shape"):
        return (None,)
    return tuple(d.dim_value if d.HasField("dim_value") else None for d in kind.shape.dim)


Tensors = Sequence[FileTensor]


def _macs(kind: str, reads: Tensors, writes: Tensors) -> int | None:
    if kind in _INSIDE_ANOTHER_GRAPH | _NOT_COUNTED or kind.startswith("QLinear"):
        return None
    count = _COUNTED.get(kind)
    return 0 if count is None else count(reads, writes)


def _inner(reads: Tensors, writes: Tensors) -> int | None:
    """Terms of each sum of a product of a matrix with the second tensor, transposed or not."""
    elements, filters = reads[1].elements, writes[0].shape[-1]
    return None if elements is None or not filters else elements // filters


_COUNTED: Mapping[str, Callable[[Tensors, Tensors], int | None]] = {
    # Kernels have the shape (filters, channels that one filter reads, window ...).
    "Conv": lambda reads, writes: times(writes[0].elements, product(reads[1].shape[1:])),
    "ConvInteger": lambda reads, writes: times(writes[0].elements, product(reads[1].shape[1:])),
    # (channels that enter, filters of a group, window ...)
    "ConvTranspose": lambda reads, writes: times(reads[0].elements, product(reads[1].shape[1:])),
    "Gemm": lambda reads, writes: times(writes[0].elements, _inner(reads, writes)),
    "MatMul": lambda reads, writes: times(reads[0].elements, writes[0].shape[-1]),
    "MatMulInteger": lambda reads, writes: times(reads[0].elements, writes[0].shape[-1]),
}
