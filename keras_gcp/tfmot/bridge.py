"""From a Keras 3 model to a tf_keras model with the same weights, and back."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import keras

from keras_gcp import keras_state
from keras_gcp.errors import UnsupportedModel
from keras_gcp.graph import Call, Graph
from keras_gcp.surgery.model_copy import copy_model
from keras_gcp.tfmot.counterparts import counterpart
from keras_gcp.tfmot.packages import Packages


@dataclass(frozen=True, eq=False)
class Bridge:
    """A Keras 3 model and how its layers are called in tf_keras.

    Attributes:
        source: The Keras 3 model.
        graph: Its calls, those of nested models included: tf_keras gets one flat network.
        names: `id` of a layer or operation to its name in tf_keras.
        packages: The modules.
    """

    source: Any
    graph: Graph
    names: Mapping[int, str]
    packages: Packages

    def weighted(self) -> Iterator[Call]:
        """One call of each layer that has weights."""
        seen: set[int] = set()
        for call in self.graph.calls:
            if id(call.operation) in seen or not call.weights:
                continue
            seen.add(id(call.operation))
            yield call

    def name(self, call: Call) -> str:
        """The name in tf_keras of the layer that is called."""
        return self.names[id(call.operation)]


def bridge(source: Any, graph: Graph, packages: Packages) -> Bridge:
    """Names the layers; nothing is built yet.

    Args:
        source: The Keras 3 model.
        graph: From `refusals.read`.
        packages: The modules.
    """
    names: dict[int, str] = {}
    for call in graph.calls:
        if id(call.operation) not in names:
            names[id(call.operation)] = _free(call.path, [*input_names(source), *names.values()])
    return Bridge(source, graph, names, packages)


def build(over: Bridge) -> Any:
    """A new tf_keras model with the weights of the Keras 3 model.

    Raises:
        UnsupportedModel: a layer has a setting, or weights, that tf_keras does not have.
    """
    k2 = over.packages.tf_keras
    made: dict[int, Any] = {}
    inputs = [
        k2.Input(batch_shape=x.shape, dtype=x.dtype, name=name)
        for x, name in zip(over.graph.inputs, input_names(over.source), strict=True)
    ]
    known = {x.index: symbol for x, symbol in zip(over.graph.inputs, inputs, strict=True)}
    for call in over.graph.calls:
        key = id(call.operation)
        if key not in made:
            made[key] = counterpart(call.operation, over.names[key], k2)
        known[call.outputs[0].index] = made[key](argument(call, known))
    outputs = [known[x.index] for x in over.graph.outputs]
    model = k2.Model(_alone(inputs), _alone(outputs), name=over.source.name)
    for call in over.weighted():
        _copy_weights(call, made[id(call.operation)])
    return model


def argument(call: Call, values: Mapping[int, Any]) -> Any:
    """What a layer of tf_keras is called with."""
    return _alone([values[x.index] for x in call.inputs])


def back(over: Bridge, stripped: Any) -> Any:
    """A copy of the Keras 3 model with the weights of a tf_keras model.

    Args:
        over: How its layers are called there.
        stripped: A model that `build` made, trained since.
    """
    copy = copy_model(over.source)
    twins = keras_state.read_graph(copy).calls
    places = {id(call): at for at, call in enumerate(over.graph.calls)}
    for call in over.weighted():
        weights = stripped.get_layer(over.name(call)).get_weights()
        twins[places[id(call)]].operation.set_weights(weights)
    return copy


def input_names(source: Any) -> list[str]:
    """Names of the inputs in tf_keras."""
    names: list[str] = []
    for symbol in source.inputs:
        names.append(_free(symbol.name, names))
    return names


def _alone(values: Sequence[Any]) -> Any:
    return values[0] if len(values) == 1 else list(values)


def _free(path: str, taken: Sequence[str]) -> str:
    """The name, made of signs that TensorFlow allows in one, and used only once."""
    clean = re.sub(r"[^A-Za-z0-9_.]", "_", path)
    clean = clean if clean[:1].isalnum() else f"x{clean}"
    number, candidate = 1, clean
    while candidate in taken:
        number, candidate = number + 1, f"{clean}_{number}"
    return candidate


def _copy_weights(call: Call, layer: Any) -> None:
    weights = [keras.ops.convert_to_numpy(weight) for weight in call.operation.weights]
    found, expected = [tuple(w.shape) for w in layer.weights], [w.shape for w in weights]
    if found != expected:
        raise UnsupportedModel(
            f"Layer '{call.path}' (class {type(call.operation).__name__}) has weights of shapes "
            f"{expected}, and that of tf_keras {found}. Replace the layer."
        )
    layer.set_weights(weights)
