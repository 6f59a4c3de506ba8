"""Batches of a fixed size, and what recurrent layers keep from one batch to the next."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import keras


def fixed_batch(model: Any) -> int | None:
    """The number of examples that a model takes at a time; None if it takes any number."""
    sizes = {symbol.shape[0] for symbol in getattr(model, "inputs", None) or ()} - {None}
    return max(sizes) if sizes else None


def whole_batches(model: Any, count: int) -> int:
    """The largest number of examples up to `count` that makes whole batches; one batch at least."""
    batch = fixed_batch(model)
    return count if batch is None else max(1, count // batch) * batch


def stateful_layers(layer: Any) -> list[Any]:
    """The recurrent layers in a layer, itself included, that go on where the last batch ended."""
    return [one for one in layer._flatten_layers() if getattr(one, "stateful", False)]


def fresh_states(layer: Any) -> list[tuple[Any, Any]]:
    """Pairs (variable, zeros): the states from which recurrent layers begin a sequence.

    They are not weights of a model, so code that runs it with other weights has to pass them, too.
    """
    return [(v, keras.ops.zeros_like(v.value)) for v in _states(layer)]


@contextmanager
def states_put_back(layer: Any) -> Iterator[None]:
    """Inside the context, recurrent layers start again; afterwards they go on where they were."""
    before = [(v, keras.ops.copy(v.value)) for v in _states(layer)]
    for variable, _ in before:
        variable.assign(keras.ops.zeros_like(variable.value))
    try:
        yield
    finally:
        for variable, value in before:
            variable.assign(value)


def _states(layer: Any) -> Sequence[Any]:
    found = {
        id(state): state
        for one in stateful_layers(layer)
        for state in keras.tree.flatten(getattr(one, "states", None))
        if isinstance(state, keras.Variable)
    }
    return list(found.values())
