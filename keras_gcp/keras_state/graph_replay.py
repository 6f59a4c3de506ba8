"""What it takes to run a model's graph again on other symbolic tensors."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import keras

from keras_gcp.keras_state.functional import functional_of, require_functional
from keras_gcp.keras_state.graph_reader import is_layer
from keras_gcp.keras_state.inputs import packed_inputs


def all_layers(layer: Any) -> list[Any]:
    """The layer and those that it holds, directly or further inside."""
    return list(layer._flatten_layers())


def sublayers(layer: Any) -> list[Any]:
    """The layers that a layer holds, also in lists and dicts, directly or further inside."""
    return list(layer._flatten_layers(include_self=False))


def innermost(layer: Any) -> Any:
    """The layer inside the wrappers of `keras.layers`; the layer itself if it is not a wrapper."""
    while is_wrapper(layer):
        layer = layer.layer
    return layer


def is_wrapper(layer: Any) -> bool:
    """Whether it is one of the wrappers of `keras.layers`: another layer, called in some way."""
    return isinstance(layer, keras.layers.Wrapper) and shipped_by_keras(layer)


def operations(model: Any) -> list[Any]:
    """The layers of a model at any depth, and the operations between them."""
    layers = [model, *sublayers(model)]
    networks = [functional for layer in layers if (functional := functional_of(layer))]
    return [*layers, *(operation for network in networks for operation in network.operations)]


def shipped_by_keras(layer: Any) -> bool:
    """Whether a layer's class is one of `keras.layers`."""
    return type(layer).__module__.startswith(("keras.src.layers.", "keras.layers."))


def fixed_output_shape(layer: Any) -> tuple[str, tuple[int | None, ...]] | None:
    """The shape, without batch axis, that a `Lambda` was told to have: attribute and value."""
    sizes = layer._output_shape if is_lambda(layer) else None
    if not isinstance(sizes, list | tuple):
        return None
    plain = all(size is None or isinstance(size, int) for size in sizes)
    return ("_output_shape", tuple(sizes)) if plain else None


def is_lambda(operation: Any) -> bool:
    """Whether a layer is a `Lambda`, which may compute anything."""
    return type(operation) is keras.layers.Lambda


def copied_lambda(layer: Any, **settings: Any) -> Any:
    """A `Lambda` of its own with the same function.

    By way of the configuration, Keras would take the function's code out of its module, away from
    the names that it uses, and refuse to do so unless told that it is safe.
    """
    config = {**keras.layers.Layer.get_config(layer), **settings}
    return keras.layers.Lambda(
        layer.function,
        output_shape=layer._output_shape,
        mask=layer.mask,
        arguments=dict(layer.arguments),
        **config,
    )


def own_state(layer: Any) -> list[str]:
    """Names of the weights, random states and metrics that a layer holds itself."""
    weights = [*layer._trainable_variables, *layer._non_trainable_variables]
    return [x.name for x in (*weights, *layer._seed_generators, *layer._metrics)]


def carries_mask(symbol: Any) -> bool:
    """Whether Keras has attached a mask to a tensor."""
    return getattr(symbol, "_keras_mask", None) is not None


def twin(operation: Any) -> Any:
    """Another object for the same layer or operation: same class, settings, variables; no graph.

    A layer has one name, and keeps a record of every graph it was called in. With a twin, a
    second graph can call the layer under another name and leave the first graph as it is. Copying
    by way of the configuration would make new variables instead.
    """
    base = keras.layers.Layer if is_layer(operation) else keras.Operation
    copy = base.__new__(type(operation))
    # These wrap methods of one object, and `__new__` has made them for the copy already.
    bound = ("build", "quantize") if is_layer(operation) else ()
    vars(copy).update({key: value for key, value in vars(operation).items() if key not in bound})
    vars(copy)["_inbound_nodes"], vars(copy)["_outbound_nodes"] = [], []
    return copy


@contextmanager
def layer_calls(handler: Callable[..., Any]) -> Iterator[None]:
    """Inside the context, this thread's layer calls go to `handler(original, layer, args, kwargs)`.

    A layer calls its sublayers from Python code of its own, so there is no graph to read: the
    calls have to be caught.
    """
    original, owner = keras.layers.Layer.__call__, threading.get_ident()

    def caught(layer: Any, *args: Any, **kwargs: Any) -> Any:
        if threading.get_ident() != owner:
            return original(layer, *args, **kwargs)
        return handler(original, layer, args, kwargs)

    keras.layers.Layer.__call__ = caught
    try:
        yield
    finally:
        keras.layers.Layer.__call__ = original


def run_graph(model: Any, inputs: Sequence[Any], call: Callable[..., Any]) -> Any:
    """Runs a functional model's graph, `call(operation, args, kwargs)` for each of its calls.

    Args:
        model: A functional model.
        inputs: One value per input of the model, flattened.
        call: Returns the outputs of a call.

    Returns:
        The outputs, in the structure that the model returns.
    """
    functional = require_functional(model)
    known = {id(symbol): x for symbol, x in zip(functional._inputs, inputs, strict=True)}

    def fill(leaf: Any) -> Any:
        return known[id(leaf)] if isinstance(leaf, keras.KerasTensor) else leaf

    for depth in sorted(functional._nodes_by_depth, reverse=True):
        for node in functional._nodes_by_depth[depth]:
            if node.operation is None or node.is_input:
                continue
            args = keras.tree.map_structure(fill, tuple(node.arguments.args))
            kwargs = keras.tree.map_structure(fill, dict(node.arguments.kwargs))
            outputs = keras.tree.flatten(call(node.operation, args, kwargs))
            known.update({id(s): x for s, x in zip(node.outputs, outputs, strict=True)})
    outputs = [known[id(symbol)] for symbol in functional._outputs]
    packed = keras.tree.pack_sequence_as(functional._outputs_struct, outputs)
    # As a call of the model does.
    return packed[0] if isinstance(packed, list | tuple) and len(packed) == 1 else packed


def input_symbols(model: Any) -> list[Any]:
    """The symbolic inputs of a functional model, flattened."""
    return list(require_functional(model)._inputs)


def new_inputs(model: Any) -> Any:
    """Fresh symbolic inputs with the names, shapes and types of a model's own, in its structure."""
    layers = [symbol._keras_history.operation for symbol in input_symbols(model)]
    symbols = [type(layer).from_config(layer.get_config()).output for layer in layers]
    return packed_inputs(model, symbols)


def calls_between(inputs: Sequence[Any], outputs: Sequence[Any]) -> list[tuple[Any, list[Any]]]:
    """The operations called on the way from symbolic tensors to others, with their arguments.

    Args:
        inputs: Where to stop.
        outputs: Where to start, going backwards.

    Returns:
        Pairs (operation, arguments flattened), last call first.
    """
    seen = {id(symbol) for symbol in inputs}
    nodes: dict[int, Any] = {}
    waiting = list(outputs)
    while waiting:
        symbol = waiting.pop()
        if id(symbol) in seen:
            continue
        seen.add(id(symbol))
        history = symbol._keras_history
        if history.operation is None:
            continue
        node = history.operation._inbound_nodes[history.node_index]
        if id(node) not in nodes and not node.is_input:
            nodes[id(node)] = node
            waiting.extend(node.input_tensors)
    return [
        (node.operation, keras.tree.flatten((node.arguments.args, node.arguments.kwargs)))
        for node in nodes.values()
    ]


def has_unknown_size(operation: Any) -> bool:
    """Whether a `keras.ops` operation was made with a size that is None, such as a reshape's."""
    if is_layer(operation):
        return False
    settings = [value for key, value in vars(operation).items() if not key.startswith("_")]
    return any(
        isinstance(value, list | tuple) and any(size is None for size in value)
        for value in settings
    )
