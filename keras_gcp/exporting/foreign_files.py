"""Files that are no Keras models, whoever wrote them: what enters and leaves, and running them.

Functions here are for `in_worker`: interpreters may end their process.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from keras_gcp.exporting import runtime
from keras_gcp.exporting.batches import in_batches
from keras_gcp.exporting.conversion import SIGNATURE, convert
from keras_gcp.exporting.file_graph import FileCosts
from keras_gcp.exporting.onnx_graph import read_onnx
from keras_gcp.exporting.tflite_graph import read_tflite
from keras_gcp.extras import imported


@dataclass(frozen=True)
class End:
    """A tensor that enters or leaves a file.

    Attributes:
        name: What users call it.
        shape: Its shape, batch axis first; None where any size is taken.
        dtype: In which values enter or leave, real numbers where the file quantises them.
    """

    name: str
    shape: tuple[int | None, ...]
    dtype: str


@dataclass(frozen=True)
class Described:
    """What is known of a file without running it.

    Attributes:
        inputs: What enters, in the order in which it is run.
        outputs: What leaves.
        last: What the operation does that the first output comes from, in Keras' words:
            `"softmax"`, `"sigmoid"` or `"linear"`.
        costs: What it costs for one example.
    """

    inputs: tuple[End, ...]
    outputs: tuple[End, ...]
    last: str
    costs: FileCosts


Arrays = Sequence[np.ndarray]

_LAST = {
    "SOFTMAX": "softmax",
    "LOG_SOFTMAX": "softmax",
    "LOGISTIC": "sigmoid",
    "Softmax": "softmax",
    "LogSoftmax": "softmax",
    "Sigmoid": "sigmoid",
}
_PASSING_ON = frozenset({"QUANTIZE", "DEQUANTIZE", "RESHAPE", "Reshape", "Identity", "Cast"})


# ---- .tflite


def describe_tflite(path: str) -> Described:
    """Reads the file, and sees whether an interpreter takes it."""
    graph = read_tflite(path)
    interpreter = runtime.load_interpreter(path)
    inputs, outputs = _tflite_ends(interpreter)
    return Described(
        tuple(_tflite_end(name, details) for name, details in inputs.items()),
        tuple(_tflite_end(name, details) for name, details in outputs.items()),
        _last(graph),
        graph.costs(),
    )


def run_tflite(path: str, arrays: Arrays, threads: int = 1) -> list[np.ndarray]:
    """Outputs for real numbers, in the order in which the file is described."""
    interpreter = runtime.load_interpreter(path, threads)
    inputs, outputs = _tflite_ends(interpreter)
    if interpreter.get_signature_list():
        found = runtime.run_signature(interpreter, dict(zip(inputs, arrays, strict=True)))
        return [found[name] for name in outputs]
    stored = [runtime.to_stored(a, d) for a, d in zip(arrays, inputs.values(), strict=True)]

    def run(parts: Arrays) -> list[np.ndarray]:
        for details, part in zip(inputs.values(), parts, strict=True):
            interpreter.set_tensor(details["index"], part)
        interpreter.invoke()
        return [runtime.to_real(interpreter.get_tensor(d["index"]), d) for d in outputs.values()]

    batch = max(int(details["shape"][0]) for details in inputs.values())
    return in_batches(run, stored, batch)


def _tflite_ends(interpreter: Any) -> tuple[Mapping[str, Any], Mapping[str, Any]]:
    """Inputs and outputs by name: those of the signature, else of the tensors."""
    if interpreter.get_signature_list():
        runner = interpreter.get_signature_runner()
        return runner.get_input_details(), runner.get_output_details()
    ends = interpreter.get_input_details(), interpreter.get_output_details()
    inputs, outputs = ({one["name"]: one for one in end} for end in ends)
    return inputs, outputs


def _tflite_end(name: str, details: Mapping[str, Any]) -> End:
    quantised = details["quantization"][0] != 0
    batch, *sizes = (int(size) for size in details["shape"])
    shape = (None if batch == 1 else batch, *sizes)  # One at a time: any number of them.
    return End(name, shape, "float32" if quantised else np.dtype(details["dtype"]).name)


def _last(graph: Any) -> str:
    writer = {i: call for call in graph.calls for i in call.writes}
    at = graph.outputs[0]
    while at in writer and writer[at].kind in _PASSING_ON:
        at = writer[at].reads[0]
    return _LAST.get(writer[at].kind, "linear") if at in writer else "linear"


# ---- .onnx


def describe_onnx(path: str) -> Described:
    """Reads the file, and sees whether ONNX Runtime takes it."""
    graph = read_onnx(path)
    session = onnx_session(path)
    return Described(
        tuple(map(onnx_end, session.get_inputs())),
        tuple(map(onnx_end, session.get_outputs())),
        _last(graph),
        graph.costs(),
    )


def run_onnx(path: str, arrays: Arrays, threads: int = 1) -> list[np.ndarray]:
    """Outputs in the order in which the file is described."""
    session = onnx_session(path, threads)
    inputs = session.get_inputs()
    names, sizes = [one.name for one in inputs], [one.shape[0] for one in inputs if one.shape]

    def run(parts: Arrays) -> list[np.ndarray]:
        return [np.asarray(y) for y in session.run(None, dict(zip(names, parts, strict=True)))]

    fixed = [size for size in sizes if isinstance(size, int)]
    return in_batches(run, list(arrays), fixed[0] if fixed else None)


def onnx_session(path: str, threads: int = 1) -> Any:
    """An ONNX Runtime on the CPU."""
    onnxruntime = imported("onnxruntime", "Running an .onnx file needs")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def onnx_end(value: Any) -> End:
    """What ONNX Runtime says of an input or output."""
    shape = tuple(size if isinstance(size, int) else None for size in value.shape)
    kind = value.type.removeprefix("tensor(").removesuffix(")")
    return End(value.name, shape, {"float": "float32", "double": "float64"}.get(kind, kind))


# ---- SavedModels


def describe_saved_model(path: str, as_tflite: str) -> Described:
    """Looks at the signature that serves; costs are those of a .tflite file made of it.

    Args:
        path: The folder.
        as_tflite: Where to write that file.

    Raises:
        Exception: of many kinds, if it is not a SavedModel.
    """
    loaded, function = _signature(path)
    inputs, outputs = _saved_model_ends(function)
    parameters = sum(int(variable.shape.num_elements()) for variable in function.variables)
    del loaded  # Until here: its functions do not keep its variables.
    try:
        convert(path, "tflite", None, as_tflite)
        graph = read_tflite(as_tflite)
        last, costs = _last(graph), replace(graph.costs(), parameters=parameters)
    except Exception as error:
        reason = f"it cannot be converted to TFLite ({type(error).__name__})"
        last, costs = "linear", FileCosts(None, parameters, None, reason)
    return Described(
        tuple(End(name, tuple(spec.shape), spec.dtype.name) for name, spec in inputs),
        tuple(End(name, tuple(spec.shape), spec.dtype.name) for name, spec in outputs),
        last,
        costs,
    )


def run_saved_model(path: str, arrays: Arrays) -> list[np.ndarray]:
    """Outputs in the order in which it is described."""
    import tensorflow as tf

    loaded, function = _signature(path)
    inputs, outputs = _saved_model_ends(function)
    names = [name for name, _ in inputs]

    def run(parts: Arrays) -> list[np.ndarray]:
        found = function(**{n: tf.constant(a) for n, a in zip(names, parts, strict=True)})
        return [found[name].numpy() for name, _ in outputs]

    fixed = [spec.shape[0] for _, spec in inputs if spec.shape.rank and spec.shape[0]]
    del loaded  # Until here: its functions do not keep its variables.
    return in_batches(run, list(arrays), fixed[0] if fixed else None)


def _signature(path: str) -> tuple[Any, Any]:
    import tensorflow as tf

    loaded = tf.saved_model.load(path)
    if SIGNATURE not in loaded.signatures:
        raise ValueError(
            f"it has the signatures {sorted(loaded.signatures)}, expected '{SIGNATURE}'"
        )
    return loaded, loaded.signatures[SIGNATURE]


def _saved_model_ends(function: Any) -> tuple[list[tuple[str, Any]], list[tuple[str, Any]]]:
    outputs = function.structured_outputs.items()
    return list(function.structured_input_signature[1].items()), list(outputs)
