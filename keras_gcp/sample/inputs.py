"""The inputs of a sample, fitted to those of the model: order, shapes, kinds of numbers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from keras_gcp import keras_state
from keras_gcp.errors import InvalidArgument
from keras_gcp.sample.arrays import holds_text


def fitted_inputs(x: Any, model: Any, exact: bool = False) -> list[np.ndarray]:
    """Arrays in the order of `model.inputs`, each with the rank of its input.

    As `fit` does, a last axis of size 1 is added or taken away where the model has it or not.

    Args:
        x: Arrays in the structure in which `fit` gets them.
        model: The model.
        exact: Whether the ranks must fit as they are.

    Raises:
        InvalidArgument: structure, shapes or kinds do not fit.
    """
    ordered = keras_state.ordered_inputs(model, x)
    return [
        _fitted(symbol, array, model, exact)
        for symbol, array in zip(model.inputs, ordered, strict=True)
    ]


def fits(x: Any, model: Any, exact: bool = False) -> bool:
    """Whether arrays are inputs of the model."""
    try:
        fitted_inputs(x, model, exact)
    except InvalidArgument:
        return False
    return True


def as_argument(ordered: Sequence[np.ndarray], model: Any) -> Any:
    """Arrays in the order of `model.inputs`, as the one form in which a `DrawnSample` holds them.

    That is an array where the model has one input, else the structure that it was built with.
    """
    return ordered[0] if len(ordered) == 1 else keras_state.packed_inputs(model, ordered)


def check_values(ordered: Sequence[np.ndarray], model: Any) -> None:
    """Refuses numbers that a model cannot compute with.

    Raises:
        InvalidArgument: some are not finite, or not whole where the model wants whole ones.
    """
    for symbol, array in zip(model.inputs, ordered, strict=True):
        if not np.issubdtype(array.dtype, np.inexact):
            continue
        if not np.isfinite(array).all():
            bad = int((~np.isfinite(array.reshape(len(array), -1)).all(axis=1)).sum())
            raise InvalidArgument(
                f"The sample has NaN or infinite values in {bad} of {len(array)} examples of input "
                f"'{symbol.name}'. Expected finite numbers; remove those examples."
            )
        if not _is_floating(symbol) and (array != np.trunc(array)).any():
            raise InvalidArgument(
                f"Input '{symbol.name}' of model '{model.name}' takes whole numbers "
                f"({symbol.dtype}), and the sample has fractions for it (dtype {array.dtype}). "
                "Expected integers. Are the inputs in the order of the model's?"
            )


def shown_shape(shape: Any) -> str:
    """A shape with the number of examples left open."""
    return f"({', '.join(['examples', *map(str, shape[1:])])})" if len(shape) else "()"


def _fitted(symbol: Any, array: Any, model: Any, exact: bool) -> np.ndarray:
    expected = tuple(symbol.shape)
    if not isinstance(array, np.ndarray):
        raise InvalidArgument(
            f"The sample has {'nothing' if array is None else type(array).__name__} for input "
            f"'{symbol.name}' of model '{model.name}'. Expected an array of shape "
            f"{shown_shape(expected)}."
        )
    _check_kind(symbol, array, model)
    array = array if exact else _with_rank(array, expected)
    fitting = array.ndim == len(expected) and all(
        size is None or size == given
        for size, given in zip(expected[1:], array.shape[1:], strict=True)
    )
    if not fitting:
        raise InvalidArgument(
            f"The sample does not fit model '{model.name}': input '{symbol.name}' expects shape "
            f"{shown_shape(expected)}. Received an array of shape {shown_shape(array.shape)}."
        )
    return array


def _with_rank(array: np.ndarray, expected: Sequence[int | None]) -> np.ndarray:
    if array.ndim == len(expected) - 1 and array.ndim and expected[-1] == 1:
        return array[..., None]
    if array.ndim == len(expected) + 1 and array.shape[-1] == 1:
        return array[..., 0]
    return array


def _check_kind(symbol: Any, array: np.ndarray, model: Any) -> None:
    if symbol.dtype == "string":
        fitting, wanted = holds_text(array), "texts"
    else:
        kinds = "biufcV" if "complex" in symbol.dtype else "biufV"  # V: bfloat16 and the like
        fitting = array.dtype.kind in kinds and array.dtype.names is None
        wanted = f"numbers ({symbol.dtype})"
    if not fitting:
        raise InvalidArgument(
            f"Input '{symbol.name}' of model '{model.name}' takes {wanted}. Received an array of "
            f"dtype {array.dtype}."
        )


def _is_floating(symbol: Any) -> bool:
    return "float" in symbol.dtype or "complex" in symbol.dtype
