"""Reads a .tflite file as a `FileGraph`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from keras_gcp.exporting.file_graph import FileCall, FileGraph, FileTensor, product, times
from keras_gcp.exporting.runtime import operator_kinds, schema_of_files

_BYTES = {
    "BOOL": 1,
    "INT4": 1,
    "INT8": 1,
    "UINT8": 1,
    "INT16": 2,
    "UINT16": 2,
    "FLOAT16": 2,
    "BFLOAT16": 2,
    "INT32": 4,
    "UINT32": 4,
    "FLOAT32": 4,
    "INT64": 8,
    "UINT64": 8,
    "FLOAT64": 8,
    "COMPLEX64": 8,
}
_FLOATS = ("FLOAT16", "BFLOAT16", "FLOAT32", "FLOAT64")

_INSIDE_ANOTHER_GRAPH = frozenset({"WHILE", "IF", "CALL", "CUSTOM"})
_RECURRENT = frozenset({"LSTM", "RNN"})


def read_tflite(path: Path | str) -> FileGraph:
    """The operations of the main graph of a file.

    Raises:
        ValueError: it is not a .tflite file.
    """
    data, schema = Path(path).read_bytes(), schema_of_files()
    if not schema.Model.ModelBufferHasIdentifier(data, 0):
        raise ValueError("it does not begin as a .tflite file does")
    model = schema.Model.GetRootAs(data, 0)
    graph = model.Subgraphs(0)
    kinds = operator_kinds(model)
    tensors = {i: _tensor(graph.Tensors(i), model, schema) for i in range(graph.TensorsLength())}
    calls = []
    for i in range(graph.OperatorsLength()):
        operator = graph.Operators(i)
        kind = kinds[operator.OpcodeIndex()]
        reads = tuple(int(n) for n in _numbers(operator, "Inputs") if n >= 0)
        writes = tuple(int(n) for n in _numbers(operator, "Outputs"))
        if kind == "DEQUANTIZE" and all(tensors[n].is_constant for n in reads):
            # Weights in 16 bits: the runtime makes them 32 once, before it runs anything.
            tensors.update((n, replace(tensors[n], is_constant=True)) for n in writes)
        macs = _macs(kind, [tensors[n] for n in reads], [tensors[n] for n in writes])
        calls.append(FileCall(kind, reads, writes, macs))
    inputs, outputs = (tuple(map(int, _numbers(graph, end))) for end in ("Inputs", "Outputs"))
    return FileGraph(tensors, tuple(calls), inputs, outputs)


def _numbers(holder: Any, name: str) -> Sequence[int]:
    """A vector of integers, which is 0 and not an array if it is empty."""
    return getattr(holder, f"{name}AsNumpy")() if getattr(holder, f"{name}Length")() else ()


def _tensor(tensor: Any, model: Any, schema: Any) -> FileTensor:
    kind = {code: name for name, code in vars(schema.TensorType).items()}[tensor.Type()]
    quantization = tensor.Quantization()
    quantised = quantization is not None and quantization.ScaleLength() > 0
    constant = model.Buffers(tensor.Buffer()).DataLength() > 0
    return FileTensor(
        name=tensor.Name().decode(),
        shape=tuple(int(size) for size in _numbers(tensor, "Shape")),
        dtype="float32" if quantised else kind.lower(),
        item_bytes=_BYTES.get(kind, 0),
        is_constant=constant,
        is_weight=constant and (quantised or kind in _FLOATS),
    )


Tensors = Sequence[FileTensor]


def _macs(kind: str, reads: Tensors, writes: Tensors) -> int | None:
    if kind in _INSIDE_ANOTHER_GRAPH or any(word in kind for word in _RECURRENT):
        return None
    count = _COUNTED.get(kind)
    return 0 if count is None else count(reads, writes)


_COUNTED: Mapping[str, Callable[[Tensors, Tensors], int | None]] = {
    # Kernels have the shape (filters, height, width, channels that one filter reads).
    "CONV_2D": lambda reads, writes: times(writes[0].elements, product(reads[1].shape[1:])),
    # (1, height, width, channels)
    "DEPTHWISE_CONV_2D": lambda reads, writes: times(
        writes[0].elements, product(reads[1].shape[1:3])
    ),
    # (filters, height, width, channels); every number that enters goes to all filters.
    "TRANSPOSE_CONV": lambda reads, writes: times(reads[2].elements, product(reads[1].shape[:3])),
    # (depth, height, width, channels, filters)
    "CONV_3D": lambda reads, writes: times(writes[0].elements, product(reads[1].shape[:4])),
    "FULLY_CONNECTED": lambda reads, writes: times(writes[0].elements, reads[1].shape[-1]),
    "BATCH_MATMUL": lambda reads, writes: times(reads[0].elements, writes[0].shape[-1]),
}
