"""What a user's `sample` means: x, (x, y), the inputs of a model, or batches of these.

Tuples are pairs, as in `fit`, wherever their first part fits the model's inputs. What a list means
is told by the number, the shapes and the kinds of the inputs; a list that could mean two things is
refused.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import keras
import numpy as np

from keras_gcp.errors import InvalidArgument
from keras_gcp.sample.arrays import are_alike, nested_numbers, to_arrays
from keras_gcp.sample.inputs import fits, fitted_inputs

_MOST_SHOWN = 6
"""Lengths that an error message lists."""

_PAIR, _INPUTS, _BATCHES, _EXAMPLES = "(x, y)", "the model's inputs", "batches", "examples"

Readings = dict[str, Callable[[], tuple[Any, Any]]]
"""What a list or a tuple may mean, and what returns its `(x, y)` then."""


def held_in_memory(source: Any, model: Any) -> tuple[Any, Any] | None:
    """`(x, y)` of a source that is not a data set, as NumPy arrays; None if it is one.

    Raises:
        InvalidArgument: it does not fit the model's inputs, or may be read in two ways.
    """
    if isinstance(source, Mapping) or hasattr(source, "shape"):
        return to_arrays(source), None
    if isinstance(source, list | tuple):
        return _of_sequence(source, model)
    return None


def element(value: Any, model: Any) -> tuple[Any, Any]:
    """`(x, y)` of an element of a data set, which is a batch or a single example.

    Raises:
        InvalidArgument: it does not fit the model's inputs.
    """
    parts = [to_arrays(part) for part in value] if isinstance(value, list | tuple) else None
    whole = to_arrays(value) if parts is None else parts
    readings = [] if parts is None or not 1 <= len(parts) <= 3 else [(parts[0], _second(parts))]
    if parts is None or len(model.inputs) > 1:
        readings.append((whole, None))
    for x, y in readings:
        for exact in (True, False):
            if fits(x, model, exact):
                return x, y
            alone = _as_batch_of_one(x)
            if fits(alone, model, exact):
                return alone, _as_batch_of_one(y)
    if not readings:
        raise InvalidArgument(
            "An element of the sample must be x, (x, y) or (x, y, weight), as for `fit`. Received "
            f"{len(value)} parts."
        )
    fitted_inputs(readings[0][0], model)
    raise AssertionError("what fits has been returned")


def joined(pieces: Sequence[tuple[Any, Any]], size: int | None = None) -> tuple[Any, Any]:
    """Batches `(x, y)` as one, cut off at a number of examples.

    Raises:
        InvalidArgument: they are of different structures or sizes.
    """

    def join(*leaves: Any) -> Any:
        return None if leaves[0] is None else np.concatenate(leaves)[:size]

    try:
        return keras.tree.map_structure(join, *pieces)
    except (TypeError, ValueError) as error:
        shapes = {str(keras.tree.map_structure(_shape_of_one, piece)) for piece in pieces}
        raise InvalidArgument(
            "The batches of the sample cannot be put together. Their examples (x, y) have the "
            f"shapes {'; '.join(sorted(shapes)[:3])}. Expected one structure and one shape: draw "
            "fewer examples (`sample_size`), or resize or pad them alike."
        ) from error


def check_lengths(x: Any, y: Any) -> None:
    """Refuses inputs and labels of different numbers of examples."""
    lengths = dict(_lengths(x, y))
    if len(set(lengths.values())) > 1 or None in lengths.values():
        shown = [f"{name}: {length}" for name, length in lengths.items()]
        more = ", ..." if len(shown) > _MOST_SHOWN else ""
        raise InvalidArgument(
            "Inputs and labels of the sample must have the same number of examples. "
            f"Received {', '.join(shown[:_MOST_SHOWN])}{more}."
        )


def _lengths(x: Any, y: Any) -> Iterator[tuple[str, int | None]]:
    for name, part in (("x", x), ("y", y)):
        leaves = keras.tree.flatten(part)
        for i, leaf in enumerate(leaves):
            if leaf is not None:
                place = "" if len(leaves) == 1 else f"[{i}]"
                yield f"{name}{place}", len(leaf) if np.ndim(leaf) else None


# ---------------------------------------------------------------------------------- sequences


def _of_sequence(source: Sequence[Any], model: Any) -> tuple[Any, Any]:
    parts = [to_arrays(part) for part in source]
    readings = _readings(source, parts, model)
    if isinstance(source, tuple):
        readings = _of_tuple(readings, parts, model)
    if len(readings) > 1:
        raise InvalidArgument(
            f"The sample, a {type(source).__name__} of {len(parts)}, may be "
            f"{' or '.join(readings)}: all of it fits the inputs of model '{model.name}'. Write "
            "sample=(x, y), a tuple, for inputs with labels, and one array for examples alone "
            "(`np.concatenate` joins batches)."
        )
    for read in readings.values():
        return read()
    raise InvalidArgument(_refusal(parts, model))


def _readings(source: Sequence[Any], parts: list[Any], model: Any) -> Readings:
    found: Readings = {}
    second = _second(parts)
    if 1 <= len(parts) <= 3 and fits(parts[0], model) and _same_length(parts[0], second):
        found[_PAIR] = lambda: (parts[0], second)
        if len(parts) == 1:
            return found
    if len(model.inputs) > 1 and fits(parts, model):
        found[_INPUTS] = lambda: (parts, None)
        return found
    one = nested_numbers(source)
    if one is not None and fits(one, model):
        found[_EXAMPLES] = lambda: (one, None)
    elif are_alike(parts) and fits(np.broadcast_to(parts[0], _stacked_shape(parts)), model):
        found[_EXAMPLES] = lambda: (np.stack(parts), None)
    elif parts and all(_is_element(part, model) for part in source):
        found[_BATCHES] = lambda: joined([element(part, model) for part in source])
    return found


def _of_tuple(readings: Readings, parts: list[Any], model: Any) -> Readings:
    """The one reading of a tuple; both where its second part is not likely to be labels."""
    if _PAIR in readings:
        labels = len(keras.tree.flatten(_second(parts)))
        unlikely = _BATCHES in readings and labels not in (1, len(model.outputs))
        chosen = (_PAIR, _BATCHES) if unlikely else (_PAIR,)
        return {name: readings[name] for name in chosen}
    if _BATCHES in readings and isinstance(parts[0], np.ndarray):
        return {}  # Two arrays of different lengths are a pair that went wrong.
    return readings


def _refusal(parts: list[Any], model: Any) -> str:
    """Why no reading of a list or a tuple fits."""
    inputs = len(model.inputs)
    if not parts:
        return "The sample is empty. Expected x, (x, y), or batches of these."
    if len(parts) == inputs > 1 and all(isinstance(part, np.ndarray) for part in parts):
        return f"{_reason(parts, model)} If this is (x, y): x alone has all {inputs} inputs."
    if len(parts) <= 3:
        reason = _reason(parts[0], model)
        if reason is None:
            check_lengths(parts[0], _second(parts))
        return reason or "The sample does not fit the model. Expected x or (x, y)."
    return (
        f"The sample is a list of {len(parts)}. For the first of them: {_reason(parts[0], model)}"
    )


def _reason(x: Any, model: Any) -> str | None:
    try:
        fitted_inputs(x, model)
    except InvalidArgument as error:
        return str(error)
    return None


def _is_element(part: Any, model: Any) -> bool:
    try:
        element(part, model)
    except InvalidArgument:
        return False
    return True


def _second(parts: Sequence[Any]) -> Any:
    return parts[1] if len(parts) > 1 else None


def _same_length(x: Any, y: Any) -> bool:
    return len({length for _, length in _lengths(x, y)}) == 1


def _as_batch_of_one(structure: Any) -> Any:
    return keras.tree.map_structure(lambda leaf: None if leaf is None else leaf[None], structure)


def _stacked_shape(parts: Sequence[np.ndarray]) -> tuple[int, ...]:
    return (len(parts), *parts[0].shape)


def _shape_of_one(leaf: Any) -> Any:
    return None if leaf is None else str(leaf.shape[1:])
