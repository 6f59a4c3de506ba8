"""The memory that TFLite's own planner gives to a file's tensors, for comparison."""

from __future__ import annotations

import numpy as np


def _reference_interpreter(path):
    """Reference kernels: optimized ones want scratch buffers larger than the tensors."""
    from ai_edge_litert import interpreter as litert

    kind = litert.OpResolverType.BUILTIN_REF
    interpreter = litert.Interpreter(str(path), experimental_op_resolver_type=kind)
    interpreter.allocate_tensors()
    return interpreter


def _computed(interpreter):
    """Indices of the tensors that enter the file or are written by its operations."""
    entering = {details["index"] for details in interpreter.get_input_details()}
    return entering | {int(i) for op in interpreter._get_ops_details() for i in op["outputs"]}


def arena_bytes(path):
    """From the first byte to the last of all tensors that are computed.

    Weights lie in the file, not in the arena.
    """
    interpreter = _reference_interpreter(path)
    begins, ends = [], []
    for index in _computed(interpreter):
        view = interpreter.tensor(index)()
        address = view.__array_interface__["data"][0]
        begins.append(address)
        ends.append(address + view.nbytes)
    return max(ends) - min(begins)


def tensor_bytes(path):
    """Bytes of all tensors of a file, weights too: a number that grows with every width."""
    interpreter = _reference_interpreter(path)
    return sum(
        int(np.prod(details["shape"])) * np.dtype(details["dtype"]).itemsize
        for details in interpreter.get_tensor_details()
    )
