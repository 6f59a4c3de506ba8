"""What other callbacks of a fit remember: taken into a backup, and given back to them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import keras
import numpy as np

from keras_gcp.errors import InvalidArgument
from keras_gcp.training.backup.saved_state import Saved, SavedMemory
from keras_gcp.validation.plain_data import DoesNotFit, parsed

_COUNT, _FIGURE = int | None, float | None

REMEMBERED: Mapping[type, Mapping[str, Any]] = {
    keras.callbacks.EarlyStopping: {
        "wait": _COUNT,
        "stopped_epoch": _COUNT,
        "best": _FIGURE,
        "best_epoch": _COUNT,
        "best_weights": None,
    },
    keras.callbacks.ReduceLROnPlateau: {
        "wait": _COUNT,
        "cooldown_counter": _COUNT,
        "best": _FIGURE,
    },
    keras.callbacks.ModelCheckpoint: {"best": _FIGURE},
    keras.callbacks.History: {"epoch": list[int], "history": Mapping[str, list[Any]]},
}
"""Of the other callbacks of a fit, the attributes that are put back, and no others; their types."""


def memories_of(
    other_callbacks: Iterable[Any],
) -> tuple[list[dict[str, Any]], dict[str, np.ndarray]]:
    """What the callbacks of a fit remember, as plain data, and arrays by name."""
    memories, arrays = [], dict[str, np.ndarray]()
    for number, callback in enumerate(_remembering(other_callbacks)):
        memory, of_this = _memory_of(callback, f"callback{number}")
        memories.append(memory)
        arrays |= of_this
    return memories, arrays


def memories_for(other_callbacks: Sequence[Any], saved: Saved) -> list[tuple[Any, dict[str, Any]]]:
    """Of every callback that was in the fit before, what it remembered, by attribute.

    Raises:
        InvalidArgument: a callback of that class cannot have remembered it.
    """
    waiting, found = list(_remembering(other_callbacks)), []
    for number, memory in enumerate(saved.state.other_callbacks):
        fitting = [one for one in waiting if _kind(one) == memory.kind]
        if not fitting:
            continue
        callback = fitting[0]
        waiting.remove(callback)
        attributes = _attributes_of(memory, _remembered(callback), saved.source)
        if memory.weights is not None and "best_weights" in _remembered(callback):
            names = [f"callback{number}-{place}" for place in range(memory.weights)]
            attributes["best_weights"] = [saved.arrays[name] for name in names]
        found.append((callback, attributes))
    return found


def _attributes_of(memory: SavedMemory, known: Mapping[str, Any], source: str) -> dict[str, Any]:
    """Known attributes only: a file must not name what is set."""
    hints = {name: hint for name, hint in known.items() if name != "best_weights"}
    where = f"other_callbacks: {memory.kind}"
    try:
        return {
            name: parsed(hint, memory.values[name], f"{where}.{name}")
            for name, hint in hints.items()
        }
    except KeyError as error:
        raise InvalidArgument(f"The backup {source} lacks {where}.{error.args[0]}.") from error
    except DoesNotFit as error:
        raise InvalidArgument(f"The backup {source} does not fit: {error}.") from error


def numbered(name: str, values: Any) -> dict[str, np.ndarray]:
    """Arrays under a name and a number each."""
    return {f"{name}-{number}": np.asarray(value) for number, value in enumerate(values)}


def _memory_of(callback: Any, name: str) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    values = {key: getattr(callback, key, None) for key in _remembered(callback)}
    weights = values.pop("best_weights", None)
    memory: dict[str, Any] = {"kind": _kind(callback), "values": values, "weights": None}
    if weights is None:
        return memory, {}
    memory["weights"] = len(weights)
    return memory, numbered(name, weights)


def _remembering(other_callbacks: Iterable[Any]) -> list[Any]:
    return [one for one in other_callbacks if _remembered(one)]


def _remembered(callback: Any) -> Mapping[str, Any]:
    return next((names for kind, names in REMEMBERED.items() if isinstance(callback, kind)), {})


def _kind(callback: Any) -> str:
    return type(callback).__name__
