"""Tries out a declaration: what is elementwise computes of some channels what it does of all."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_gcp import backend
from keras_gcp.backend.calls import as_floats, run_call
from keras_gcp.channels.declared import Declaration
from keras_gcp.channels.site import Site
from keras_gcp.errors import InvalidArgument

_EXAMPLES, _UNKNOWN_SIZE = 2, 4

_TOLERANCE = {"float16": 2e-2, "bfloat16": 2e-1}
"""Relative to the largest value; of other types 1e-4."""

Run = Callable[[Sequence[Any]], list[Any]]


def require_elementwise(site: Site, declaration: Declaration, axis: int) -> None:
    """Refuses a declared layer that computes something else of half of the channels.

    A layer that cannot be run by itself is not refused: the comparison of a cut finds out.

    Args:
        site: A call of the layer.
        declaration: What was declared of it; keeps with what it has been tried.
        axis: The axis of the channels, counted from the end: inputs of a lower rank lack the first.

    Raises:
        InvalidArgument: it is not elementwise.
    """
    case = (tuple(site.input_shapes), axis)
    if case not in declaration.tried:
        _try(_layer(site), _drawn(site), axis, f"layer '{site.path}' ({_kind(site.layer)})")
        declaration.tried.add(case)


def require_elementwise_function(site: Site, declaration: Declaration, function: Any) -> None:
    """The same for the activation function of a layer, on a small tensor."""
    if "function" not in declaration.tried:
        x = np.random.default_rng(0).standard_normal((_EXAMPLES, 3, 6)).astype("float32")
        name = getattr(function, "__name__", str(function))
        who = f"activation '{name}' of layer '{site.path}'"
        _try(lambda tensors: [function(ops.convert_to_tensor(tensors[0]))], [x], -1, who)
        declaration.tried.add("function")


def _try(run: Run, inputs: list[np.ndarray], axis: int, who: str) -> None:
    size = max(x.shape[axis] for x in inputs if x.ndim >= -axis)
    kept = np.arange(0, size, 2) if size > 2 else np.arange(1)

    def taken(x: np.ndarray) -> np.ndarray:
        return np.take(x, kept, axis) if x.ndim >= -axis and x.shape[axis] == size else x

    with keras.StatelessScope(), backend.without_gradients():
        try:
            whole = run(inputs)
        except Exception:  # It may need something that only the whole network gives it.
            return
        try:
            part = run([taken(x) for x in inputs])
        except Exception as error:
            raise _refusal(who, f"raises {type(error).__name__}: {_said(error)}") from error
        if not _same(part, whole, taken):
            if not _same(run(inputs), whole, lambda x: x):
                return  # It draws random numbers.
            raise _refusal(who, "computes something else than of all of them")


def _layer(site: Site) -> Run:
    """Runs the layer; one inside a wrapper by itself."""
    call, layer = site.call, site.layer

    def run(inputs: Sequence[np.ndarray]) -> list[Any]:
        tensors = [
            ops.convert_to_tensor(value, dtype=x.dtype)
            for value, x in zip(inputs, call.inputs, strict=True)
        ]
        if layer is call.operation:
            return run_call(call, dict(zip((x.index for x in call.inputs), tensors, strict=True)))
        trains = "training" in inspect.signature(layer.call).parameters
        return list(keras.tree.flatten(layer(*tensors, **({"training": False} if trains else {}))))

    return run


def _drawn(site: Site) -> list[np.ndarray]:
    """A value for each input; the same for the same tensor."""
    drawn: dict[int, np.ndarray] = {}
    rng = np.random.default_rng(0)
    for x, shape in zip(site.call.inputs, site.input_shapes, strict=True):
        sizes = (_EXAMPLES, *(_UNKNOWN_SIZE if n is None else n for n in shape[1:]))
        if "float" in x.dtype:
            value: np.ndarray = rng.standard_normal(sizes).astype("float32")
        else:
            value = rng.integers(0, 2, sizes)
        drawn.setdefault(x.index, value)
    return [drawn[x.index] for x in site.call.inputs]


def _same(part: list[Any], whole: list[Any], taken: Callable[[np.ndarray], np.ndarray]) -> bool:
    for y, all_of_it in zip(part, whole, strict=True):
        tolerance = _TOLERANCE.get(keras.backend.standardize_dtype(y.dtype), 1e-4)
        expected, actual = taken(as_floats(all_of_it)), as_floats(y)
        if expected.shape != actual.shape:
            return False
        scale = float(np.abs(expected[np.isfinite(expected)]).max(initial=1e-6))
        if not np.allclose(actual, expected, rtol=0, atol=tolerance * scale, equal_nan=True):
            return False
    return True


def _said(error: Exception) -> str:
    """What an error says, without what Keras puts around it."""
    lines = [re.sub(r"\x1b\[\d*m", "", line).strip() for line in str(error).splitlines()]
    said = [line for line in lines if line and not line.startswith("Exception encountered")]
    return said[0][:200].rstrip(".") if said else "no reason given"


def _kind(layer: Any) -> str:
    return f"class {type(layer).__name__}"


def _refusal(who: str, what: str) -> InvalidArgument:
    return InvalidArgument(
        f"`keras_gcp.elementwise` was called for {who}, but of half of its channels it {what}. "
        "Expected something that treats each channel by itself, and all of them alike. Leave the "
        "declaration out, or take it back: `keras_gcp.elementwise(..., declared=False)`; a layer "
        "with weights or settings for each channel needs a rule (`keras_gcp.register_rule`)."
    )
