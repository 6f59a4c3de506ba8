"""Whether a network has learned anything yet."""

from __future__ import annotations

from typing import Any

from keras import ops

from keras_gcp import keras_state

ZEROS_AT_FIRST = ("bias", "beta", "moving_mean")
"""Weights that layers of Keras begin with as zeros, and that the first step of a training moves."""


def is_fresh(model: Any) -> bool:
    """Whether weights are as they were drawn: some begin as zeros, and all of these still are.

    A network with other initializers is taken for a trained one.
    """
    begin = _zeros_at_first(model)
    return bool(begin) and not any(map(_has_moved, begin))


def has_learned(model: Any) -> bool:
    """Whether all layers have learned something: no weight that begins as zeros is as it was.

    A trained network with a new head has not. A bias that a normalization takes away again says
    nothing: no step moves it.

    Raises:
        UnsupportedModel: the model has no functional graph.
    """
    begin, idle = _zeros_at_first(model), _biases_before_normalizations(model)
    told = [variable for variable in begin if id(variable) not in idle]
    return bool(told) and all(map(_has_moved, told))


def _zeros_at_first(model: Any) -> list[Any]:
    return [variable for variable in model.variables if variable.name in ZEROS_AT_FIRST]


def _has_moved(variable: Any) -> bool:
    return bool(ops.convert_to_numpy(variable).any())


def _biases_before_normalizations(model: Any) -> set[int]:
    """`id` of biases of what only normalizations with statistics read."""
    graph = keras_state.read_graph(model)
    found = set()
    for call in graph.calls:
        readers = graph.readers.get(call.outputs[0].index, [])
        if readers and all(hasattr(reader.operation, "moving_mean") for reader in readers):
            found.add(id(getattr(call.operation, "bias", None)))
    return found
