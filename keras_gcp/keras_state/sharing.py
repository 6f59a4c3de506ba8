"""Other models of this process that hold weights of a model."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Iterator
from typing import Any

import keras

from keras_gcp.graph import Graph, Neighbour
from keras_gcp.keras_state.functional import functional_of, require_functional
from keras_gcp.keras_state.graph_reader import Reader
from keras_gcp.keras_state.graph_replay import sublayers
from keras_gcp.keras_state.transaction import retrack_torch_parameters

# Models that were flattened, by the flat model: their Python code calls what the flat one calls.
_FLATTENED: weakref.WeakKeyDictionary[Any, weakref.ref[Any]] = weakref.WeakKeyDictionary()


def models_sharing(model: Any) -> list[Any]:
    """The other models of this process that use weights of a model: submodels, nested ones, twins.

    Keras keeps no record of them (a model knows its layers, a layer none of its models), but
    Python's garbage collector knows every object.
    """
    weights = {id(variable) for variable in model.variables}
    others = [one for one in _living_models() if one is not model]
    return [one for one in others if any(id(v) in weights for v in one.variables)]


def _living_models() -> list[Any]:
    kinds = set(_with_subclasses(keras.Model))  # Few classes, but some 400,000 objects.
    return [one for one in gc.get_objects() if type(one) in kinds]


def _with_subclasses(kind: type[Any]) -> Iterator[type[Any]]:
    yield kind
    below: list[type[Any]] = kind.__subclasses__()
    for one in below:
        yield from _with_subclasses(one)


def retrack_torch_family(model: Any) -> None:
    """`retrack_torch_parameters` for a model and all that share weights with it."""
    if keras.config.backend() == "torch":  # On others nobody needs to be looked for.
        for one in [model, *models_sharing(model)]:
            retrack_torch_parameters(one)


def supersede(model: Any, flat: Any) -> None:
    """Notes that a flat model stands for another one, which need not follow its cuts."""
    _FLATTENED[flat] = weakref.ref(model)


def superseded_by(flat: Any) -> Any | None:
    """The model that a flat one stands for, if it is still there."""
    known = _FLATTENED.get(flat)
    return None if known is None else known()


def read_with_neighbours(model: Any) -> tuple[Graph, tuple[Neighbour, ...]]:
    """A model's graph, and what other living models do with its weights beside it.

    Submodels and nested models have no calls of their own, so they are not among these. Neither is
    the model that was flattened.
    """
    graph, neighbours = _read(model)
    if neighbours:
        del graph, neighbours
        gc.collect()  # A sequential model that grows leaves one for every layer.
        graph, neighbours = _read(model)
    return graph, neighbours


def _read(model: Any) -> tuple[Graph, tuple[Neighbour, ...]]:
    reader = Reader()
    graph = reader.read(require_functional(model))
    flattened = superseded_by(model)
    passed_over = set() if flattened is None else {id(flattened), *map(id, sublayers(flattened))}
    weights = {id(variable) for variable in model.weights}
    others = models_sharing(model)
    # A sequential model has a functional one inside.
    passed_over |= {id(inner) for one in others if (inner := functional_of(one)) is not one}
    passed_over |= {id(part) for one in (model, *others) for part in _outgrown(one)}
    found = []
    for other in others:
        if id(other) in passed_over:
            continue
        functional = functional_of(other)
        if functional is not None:
            beside, own_inputs = reader.read_beside(functional, f"{other.name}/")
            if beside.calls:
                found.append(Neighbour(other, beside, own_inputs))
        elif held := tuple(v for v in _held(other) if id(v) in weights):
            found.append(Neighbour(other, Graph((), (), (), (), (), ()), held=held))
    return graph, tuple(found)


def _outgrown(model: Any) -> list[Any]:
    """What a sequential model was before its last layers were added; it holds on to that."""
    if not isinstance(model, keras.Sequential):
        return []
    _, tracked = model._tracker.config["layers"]
    return [one for one in tracked if all(one is not layer for layer in model.layers)]


def _held(layer: Any) -> Iterator[Any]:
    """Variables of the layers that a subclassed model may call, less those in functional models.

    Those have a graph, so what they do with the weights is known.
    """
    yield from (*layer._trainable_variables, *layer._non_trainable_variables)
    for child in layer._layers:
        if functional_of(child) is None:
            yield from _held(child)
