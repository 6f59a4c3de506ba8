"""Running a .tflite file: the interpreter, its operators, and one array in, one array out."""

from __future__ import annotations

import importlib.metadata
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from keras_gcp.errors import InvalidArgument, MissingPackage
from keras_gcp.exporting.batches import in_batches
from keras_gcp.extras import imported, is_installed, missing_text


def runtime_name() -> str:
    """The runtime that `load_interpreter` takes, with its version."""
    if is_installed("ai_edge_litert"):
        return f"ai-edge-litert {importlib.metadata.version('ai-edge-litert')}"
    if is_installed("tensorflow"):
        import tensorflow as tf

        return f"tf.lite {tf.__version__}"
    raise MissingPackage(missing_text(["ai_edge_litert"], "Running a .tflite file needs"))


def require_file(path: Path | str) -> None:
    """Refuses a path at which there is no file."""
    if not Path(path).is_file():
        raise InvalidArgument(f"There is no file '{path}'. Expected the path of a .tflite file.")


def load_interpreter(path: Path | str, threads: int = 1) -> Any:
    """An interpreter of the file, tensors allocated: ai-edge-litert, else TensorFlow's own."""
    require_file(path)
    if runtime_name().startswith("ai-edge-litert"):
        needing = "Running a .tflite file needs"
        Interpreter = imported("ai_edge_litert.interpreter", needing).Interpreter
    else:
        import tensorflow as tf

        Interpreter = tf.lite.Interpreter
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*tf.lite.Interpreter is deprecated.*")
        interpreter = Interpreter(model_path=str(path), num_threads=threads)
    interpreter.allocate_tensors()
    return interpreter


def run_file(path: str, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """`run_signature` of a file. For `in_worker`: interpreters may end their process."""
    return run_signature(load_interpreter(path), inputs)


def run_signature(interpreter: Any, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Runs a file on several examples, batch by batch, in real numbers for all of its types.

    TFLite sorts inputs and outputs as it likes; the names in the file's signature are the only
    safe way to tell them apart.

    Args:
        interpreter: From `load_interpreter`; the file has one signature, of a fixed batch size.
        inputs: By signature name, each `(examples, ...)`; quantised here where the file wants it.

    Returns:
        By signature name, each `(examples, ...)`, quantised outputs turned back into reals.
    """
    runner = interpreter.get_signature_runner()
    details_in, details_out = runner.get_input_details(), runner.get_output_details()
    stored = {name: to_stored(values, details_in[name]) for name, values in inputs.items()}
    batch = max(int(details_in[name]["shape"][0]) for name in stored)

    def run(parts: Sequence[np.ndarray]) -> list[np.ndarray]:
        found = runner(**dict(zip(stored, parts, strict=True)))
        return [to_real(found[name], details_out[name]) for name in details_out]

    outputs = in_batches(run, list(stored.values()), batch)
    return dict(zip(details_out, outputs, strict=True))


def to_stored(values: np.ndarray, details: Mapping[str, Any]) -> np.ndarray:
    """Real values as the tensor stores them: rounded to its scale and zero point, if it has."""
    scale, zero_point = details["quantization"]
    dtype = np.dtype(details["dtype"])
    if scale == 0:
        return values.astype(dtype)
    limits = np.iinfo(dtype)
    return np.clip(np.round(values / scale + zero_point), limits.min, limits.max).astype(dtype)


def to_real(values: np.ndarray, details: Mapping[str, Any]) -> np.ndarray:
    """Stored values as real numbers."""
    scale, zero_point = details["quantization"]
    if scale == 0:
        return values
    return (values.astype(np.float64) - zero_point) * scale


def operators(path: Path | str) -> tuple[str, ...]:
    """Distinct operators of a .tflite file, sorted; those not built in by their own names.

    Read from the file's operator table, not from an interpreter, which shows what a delegate
    made of it.
    """
    model = schema_of_files().Model.GetRootAs(Path(path).read_bytes(), 0)
    return tuple(sorted(set(operator_kinds(model))))


def operator_kinds(model: Any) -> list[str]:
    """Names of the operators in a file's table, in its order.

    Args:
        model: The file, read with `schema_of_files`.
    """
    schema = schema_of_files()
    names = {code: name for name, code in vars(schema.BuiltinOperator).items() if name[0] != "_"}
    codes = [model.OperatorCodes(i) for i in range(model.OperatorCodesLength())]
    return [_operator_name(code, names, schema) for code in codes]


def tensor_types(path: Path | str) -> frozenset[str]:
    """Types of number of all tensors in a .tflite file, such as `INT8`, weights included."""
    schema = schema_of_files()
    names = {code: name for name, code in vars(schema.TensorType).items() if name[0] != "_"}
    model = schema.Model.GetRootAs(Path(path).read_bytes(), 0)
    graphs = [model.Subgraphs(i) for i in range(model.SubgraphsLength())]
    return frozenset(
        names[graph.Tensors(i).Type()] for graph in graphs for i in range(graph.TensorsLength())
    )


def builtin_names() -> frozenset[str]:
    """Names of the operators that every TFLite runtime has."""
    names = {name for name in vars(schema_of_files().BuiltinOperator) if not name.startswith("_")}
    return frozenset(names - {"CUSTOM"})


def _operator_name(code: Any, names: Mapping[int, str], schema: Any) -> str:
    # Codes above 127 came later: the old one-byte field then holds a placeholder.
    number = max(code.BuiltinCode(), code.DeprecatedBuiltinCode())
    if number == schema.BuiltinOperator.CUSTOM:
        return str(code.CustomCode().decode())
    return names[number]


def schema_of_files() -> Any:
    """The generated reader of the file format, from whichever package has it."""
    if is_installed("ai_edge_litert"):
        return imported("ai_edge_litert.schema_py_generated", "Reading a .tflite file needs")
    from tensorflow.lite.python import schema_py_generated as schema

    return schema
