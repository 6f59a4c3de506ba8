"""Sizes of a network that leaves them open, such as `keras.Input((None, None, 3))`.

Its channels need no sizes, nor do parameters; multiply-adds, memory and time do, and so does every
run of it. They are what the user says, else those of the sample. The network stays as it is.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from keras_gcp import keras_state
from keras_gcp.errors import InvalidArgument
from keras_gcp.graph import Shape, Shapes
from keras_gcp.sample import DrawnSample
from keras_gcp.validation import integer


def sizes_of(model: Any, input_shape: Any = None, *samples: DrawnSample | None) -> Shapes | None:
    """The sizes at which a model of unknown sizes is counted and run.

    Args:
        model: A functional or sequential model.
        input_shape: What the user says: a tuple without the batch axis; for several inputs a list
            of tuples in the order of `model.inputs`, or a dict by their names. None: nothing.
        *samples: Examples; the first that is not None tells the sizes if the user does not.

    Returns:
        One tuple for each input; None if the model has fixed sizes, or nothing tells them.

    Raises:
        InvalidArgument: `input_shape` is malformed, or does not fit the model.
    """
    given = None if input_shape is None else _parsed(model, input_shape)
    if not has_open_sizes(model):
        return None
    if given is not None:
        _require_accepted(model, given, f"`input_shape={input_shape!r}`")
        return given
    for sample in samples:
        if sample is not None:
            found = sizes_in(model, sample)
            _require_accepted(model, found, f"the sample, whose inputs are of shape {shown(found)}")
            return found
    return None


def sizes_in(model: Any, sample: DrawnSample) -> Shapes:
    """The sizes of a sample's inputs."""
    return tuple(array.shape[1:] for array in keras_state.ordered_inputs(model, sample.x))


def has_open_sizes(model: Any) -> bool:
    """Whether an input's size other than the batch is unknown."""
    return any(None in symbol.shape[1:] for symbol in _inputs(model))


def shown(shapes: tuple[Shape, ...]) -> str:
    """Sizes in words: one tuple, or one for each input."""
    return ", ".join(str(tuple(shape)) for shape in shapes)


def _inputs(model: Any) -> list[Any]:
    keras_state.require_functional(model)
    return list(model.inputs)


def _parsed(model: Any, input_shape: Any) -> Shapes:
    """One tuple for each input, checked."""
    symbols = _inputs(model)
    names = [symbol.name for symbol in symbols]
    if isinstance(input_shape, Mapping):
        given = _by_name(model, input_shape)
    else:
        given = [input_shape] if _is_shape(input_shape) else input_shape
    if not isinstance(given, list | tuple) or len(given) != len(symbols):
        raise InvalidArgument(
            f"`input_shape` expects {_wanted(names)}, without the batch axis. Received: "
            f"{input_shape!r}."
        )
    for symbol, shape in zip(symbols, given, strict=True):
        _check_shape(symbol, shape)
    return tuple(tuple(int(size) for size in shape) for shape in given)


def _by_name(model: Any, input_shape: Mapping[Any, Any]) -> list[Any]:
    """The entries of a dict in the order of the inputs, as a call of the model assigns them."""
    leaves = {key: _Entry(shape) for key, shape in input_shape.items()}
    try:
        return [entry.shape for entry in keras_state.ordered_inputs(model, leaves)]
    except InvalidArgument as error:
        raise InvalidArgument(f"`input_shape`: {error}") from error


@dataclass(frozen=True, eq=False)
class _Entry:
    """Keeps a tuple of sizes from being taken for a structure of inputs."""

    shape: Any


def _is_shape(value: Any) -> bool:
    sequence = isinstance(value, list | tuple)
    return sequence and all(one is None or integer(one) is not None for one in value)


def _wanted(names: list[str]) -> str:
    if len(names) == 1:
        return "a tuple of sizes such as (224, 224, 3)"
    return f"a list of {len(names)} tuples of sizes in the order of the inputs {names}, or a dict"


def _check_shape(symbol: Any, shape: Any) -> None:
    wanted = tuple(symbol.shape[1:])
    fits = (
        _is_shape(shape)
        and len(shape) == len(wanted)
        and all((integer(one) or 0) >= 1 for one in shape)
        and all(size in (None, one) for size, one in zip(wanted, shape, strict=True))
    )
    if not fits:
        raise InvalidArgument(
            f"`input_shape` for the input '{symbol.name}' expects positive whole numbers that fit "
            f"{wanted}, its shape without the batch axis. Received: {shape!r}."
        )


def _require_accepted(model: Any, shapes: Shapes, source: str) -> None:
    try:
        keras_state.read_graph(model, shapes)
    except InvalidArgument as error:
        raise InvalidArgument(
            f"Model '{model.name}' does not take {source}: {error}. Expected sizes that all of its "
            "layers take."
        ) from error
