"""What a model is called with: which of several inputs each array, tensor or symbol is for."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras

from keras_gcp.errors import InvalidArgument
from keras_gcp.keras_state.functional import input_structure


def ordered_inputs(model: Any, x: Any) -> list[Any]:
    """The parts of a model's argument in the order of `model.inputs`, as a call assigns them.

    A dict goes by key: the names of the inputs or, where the model was built with a dict, the keys
    of that. Anything else goes by place.

    Args:
        model: A functional or sequential model.
        x: What it is called with: arrays, tensors or symbols, one or a nested structure.

    Raises:
        InvalidArgument: `x` has another structure, or Keras would hand its parts to the wrong
            inputs.
    """
    structure = input_structure(model)
    if isinstance(x, dict) and not isinstance(structure, dict):
        return _by_name(model, structure, x)
    found: dict[int, Any] = {}
    if _pair(structure, x, found):
        ordered = [found[id(symbol)] for symbol in model.inputs]
        _check_order_of_keras(model, x, ordered)
        return ordered
    flat = keras.tree.flatten(x)
    unsorted = isinstance(structure, dict) and list(structure) != sorted(structure)
    if len(flat) != len(model.inputs) or unsorted or _has_dict(x):
        raise InvalidArgument(_mismatch(model, structure, x, len(flat)))
    return flat


def packed_inputs(model: Any, ordered: Sequence[Any]) -> Any:
    """Parts in the order of `model.inputs`, in the structure that the model was built with.

    A model built with `[input]` warns when it is called with a single tensor.
    """
    return keras.tree.pack_sequence_as(input_structure(model), list(ordered))


def pack_inputs(model: Any, x: Any) -> Any:
    """What `fit` would call a model with, in the structure that the model was built with."""
    return packed_inputs(model, ordered_inputs(model, x))


def _by_name(model: Any, structure: Any, x: dict[Any, Any]) -> list[Any]:
    flat = [structure] if isinstance(structure, keras.KerasTensor) else list(structure)
    if not all(isinstance(symbol, keras.KerasTensor) for symbol in flat):
        raise InvalidArgument(_mismatch(model, structure, x, len(x)))
    missing = [symbol.name for symbol in flat if symbol.name not in x]
    if missing:
        raise InvalidArgument(_missing(model, x, [symbol.name for symbol in flat], missing))
    return [x[symbol.name] for symbol in flat]


def _pair(structure: Any, x: Any, found: dict[int, Any]) -> bool:
    """Notes what `x` has for each symbolic input; whether it has the model's structure."""
    if isinstance(structure, dict):
        fits = isinstance(x, dict) and all(key in x for key in structure)
        return fits and all(_pair(part, x[key], found) for key, part in structure.items())
    if isinstance(structure, list | tuple):
        fits = isinstance(x, list | tuple) and len(x) == len(structure)
        return fits and all(_pair(*pair, found) for pair in zip(structure, x, strict=True))
    if isinstance(x, dict | list | tuple):
        return False
    found[id(structure)] = x
    return True


def _check_order_of_keras(model: Any, x: Any, ordered: list[Any]) -> None:
    """Where a model was built with a dict, Keras takes a dict's values in turn, not by key.

    So a further key, or an `OrderedDict` in another order, gives inputs the values of others.
    """
    taken = keras.tree.flatten(x)[: len(ordered)]
    if any(own is not theirs for own, theirs in zip(ordered, taken, strict=True)):
        raise InvalidArgument(
            f"Model '{model.name}' was built with a dict of inputs, and Keras hands the values of "
            f"a dict with the keys {_keys(x)} to other inputs than the keys say: it goes by their "
            f"order. Expected {_names_in(input_structure(model))} and no other keys, in `fit`, too."
        )


def _has_dict(x: Any) -> bool:
    if isinstance(x, list | tuple):
        return any(_has_dict(part) for part in x)
    return isinstance(x, dict)


def _mismatch(model: Any, structure: Any, x: Any, count: int) -> str:
    names = ", ".join(symbol.name for symbol in model.inputs)
    number = len(model.inputs)
    if isinstance(structure, dict) and isinstance(x, dict):
        missing = [key for key in structure if key not in x]
        if missing:
            return _missing(model, x, list(structure), missing)
    plain = isinstance(structure, list | tuple) and not _has_dict(structure)
    expected = (
        "one array"
        if isinstance(structure, keras.KerasTensor)
        else "a list of arrays in this order, or a dict by name"
        if plain
        else f"the structure that the model was built with: {_names_in(structure)}"
    )
    received = "a dict" if isinstance(x, dict) else f"{count} array{'' if count == 1 else 's'}"
    return (
        f"Model '{model.name}' has {number} input{'' if number == 1 else 's'} ({names}). Received "
        f"{received}. Expected {expected}."
    )


def _missing(model: Any, x: dict[Any, Any], expected: list[Any], missing: list[Any]) -> str:
    return (
        f"The inputs are a dict with the keys {_keys(x)}. Model '{model.name}' expects "
        f"{_keys(expected)}; missing: {_keys(missing)}."
    )


def _names_in(structure: Any) -> str:
    return str(keras.tree.map_structure(lambda symbol: symbol.name, structure))


def _keys(keys: Any) -> list[str]:
    return [str(key) for key in keys]
