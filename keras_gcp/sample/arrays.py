"""What users pass as examples, as NumPy arrays."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from numbers import Number
from typing import Any

import numpy as np
from keras import ops

from keras_gcp.errors import InvalidArgument


def to_arrays(value: Any) -> Any:
    """NumPy arrays in the structure of a user's value.

    Nested lists of numbers (or of texts) are one array. So are arrays of Python objects, if these
    are numbers, texts, or arrays of one shape. Other lists, tuples and dicts are structures. None
    stays.

    Raises:
        InvalidArgument: it holds something else.
    """
    if value is None:
        return None
    if isinstance(value, Mapping):
        # The order of an `OrderedDict` means something to Keras.
        kind = OrderedDict if isinstance(value, OrderedDict) else dict
        return kind((key, to_arrays(part)) for key, part in value.items())
    if hasattr(value, "shape"):
        return _array(value)
    if isinstance(value, list | tuple):
        return _of_sequence(value)
    if isinstance(value, Number | str | bytes):
        return np.asarray(value)
    raise InvalidArgument(
        f"The sample holds an object of type {type(value).__name__} where an array belongs. "
        "Expected NumPy arrays, tensors, or nested lists of numbers."
    )


def are_alike(parts: Sequence[Any]) -> bool:
    """Whether all are arrays of one shape."""
    alike = all(isinstance(part, np.ndarray) for part in parts)
    return bool(parts) and alike and len({part.shape for part in parts}) == 1


def holds_text(array: np.ndarray) -> bool:
    """Whether an array holds texts."""
    return array.dtype.kind in "US"


def nested_numbers(value: Any) -> np.ndarray | None:
    """Nested lists of numbers or of texts as one array; None if they are something else."""
    first = value
    while isinstance(first, list | tuple) and len(first):
        first = first[0]
    if not isinstance(first, Number | str | bytes):
        return None
    try:
        array = np.asarray(value)
    except (TypeError, ValueError):  # Rows of different lengths.
        return None
    return None if array.dtype.kind == "O" else array


def _of_sequence(value: Sequence[Any]) -> Any:
    one = nested_numbers(value)
    if one is not None:
        return one
    parts = [to_arrays(part) for part in value]
    if parts and all(isinstance(part, np.ndarray) and part.ndim == 0 for part in parts):
        return np.stack(parts)
    return parts if isinstance(value, list) else tuple(parts)


def _array(value: Any) -> np.ndarray:
    if not isinstance(value, np.ndarray):
        try:
            value = np.asarray(ops.convert_to_numpy(value))
        except Exception as error:  # Frameworks have many ways to fail here.
            raise InvalidArgument(
                f"The sample holds an object of type {type(value).__name__} that cannot be made a "
                f"NumPy array ({type(error).__name__}). Expected NumPy arrays or dense tensors."
            ) from error
    return _from_objects(value) if value.dtype.kind == "O" else value


def _from_objects(array: np.ndarray) -> np.ndarray:
    """An array of Python objects as an array of numbers or of texts."""
    found = nested_numbers(array.tolist()) if array.size else None
    if found is None and array.size:
        found = _of_equal_shapes(array)
    if found is None:
        kinds = sorted({type(one).__name__ for one in array.ravel()})[:3]
        raise InvalidArgument(
            f"The sample has an array of Python objects ({', '.join(kinds) or 'none'}), of shape "
            f"{array.shape}. Expected one array of numbers: all examples of one shape, joined by "
            "`np.stack`."
        )
    return found


def _of_equal_shapes(array: np.ndarray) -> np.ndarray | None:
    items = [np.asarray(one) for one in array.ravel() if hasattr(one, "shape")]
    if len(items) < array.size or not are_alike(items) or items[0].dtype.kind == "O":
        return None
    return np.stack(items).reshape(array.shape + items[0].shape)
