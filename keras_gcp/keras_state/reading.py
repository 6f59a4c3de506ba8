"""A functional model as plain data: `keras_gcp.graph`."""

from __future__ import annotations

import gc
from collections.abc import Sequence
from typing import Any

import keras

from keras_gcp.errors import UnsupportedModel
from keras_gcp.graph import Call, Container, Graph, Shape, Tensor, leaves, map_structure


def functional_of(model: Any) -> Any | None:
    """The functional graph inside a model, or None if there is none (yet)."""
    if isinstance(model, keras.Sequential):
        return model._functional
    return model if hasattr(model, "_nodes_by_depth") else None


def input_structure(model: Any) -> Any:
    """The model's symbolic inputs: one tensor, a list or a dict."""
    structure = require_functional(model)._inputs_struct
    single = isinstance(model, keras.Sequential) and isinstance(structure, list | tuple)
    return structure[0] if single else structure


def pack_inputs(model: Any, x: Any) -> Any:
    """Inputs in the structure that the model was built with.

    A model built with `[input]` warns when it is called with a single tensor.
    """
    structure, flat = input_structure(model), keras.tree.flatten(x)
    if len(keras.tree.flatten(structure)) != len(flat):
        return x  # Calling the model says what is wrong.
    return keras.tree.pack_sequence_as(structure, flat)


def is_layer(operation: Any) -> bool:
    """Whether an operation is a layer (as against a `keras.ops` operation)."""
    return isinstance(operation, keras.layers.Layer)


def read_graph(model: Any) -> Graph:
    """Reads a functional or sequential model, nested models included.

    Raises:
        UnsupportedModel: the model has no functional graph, or was never built.
    """
    functional = require_functional(model)
    reader = _Reader()
    inputs = [reader.new_tensor(symbol.shape, symbol.dtype) for symbol in functional._inputs]
    outputs = reader.run(functional, inputs, prefix="")
    return Graph(
        calls=tuple(reader.calls),
        inputs=tuple(inputs),
        outputs=tuple(outputs),
        symbols=tuple(reader.symbols),
        containers=tuple(reader.containers),
        input_layers=tuple(reader.input_layers),
    )


def require_functional(model: Any) -> Any:
    if not isinstance(model, keras.Model):
        raise UnsupportedModel(
            f"Expected a `keras.Model`. Received: {model!r} (of type {type(model).__name__})."
        )
    functional = functional_of(model)
    if functional is not None:
        return functional
    kind = f"Model '{model.name}' (class {type(model).__name__})"
    if isinstance(model, keras.Sequential):
        raise UnsupportedModel(
            f"{kind} is not built, so its layers have no shapes yet. Put a `keras.Input(shape)` "
            "first, or call `model.build(input_shape)`, before pruning."
        )
    raise UnsupportedModel(
        f"{kind} is a subclassed model: its layers are called by Python code, so there is no "
        "graph to follow the channels through. Expected a `keras.Sequential` or a functional "
        "`keras.Model(inputs, outputs)`. Rebuild the network with the functional API (its layers "
        "and their weights can be reused as they are)."
    )


class _Reader:
    def __init__(self) -> None:
        self.calls: list[Call] = []
        self.symbols: list[tuple[Any, Tensor]] = []
        self.containers: list[Container] = []
        self.input_layers: list[tuple[Any, Tensor]] = []
        self._count = 0

    def new_tensor(self, shape: Shape, dtype: Any) -> Tensor:
        self._count += 1
        return Tensor(self._count - 1, tuple(shape), keras.backend.standardize_dtype(dtype))

    def run(self, functional: Any, inputs: Sequence[Tensor], prefix: str) -> list[Tensor]:
        known = {id(symbol): x for symbol, x in zip(functional._inputs, inputs, strict=True)}
        self.symbols.extend(zip(functional._inputs, inputs, strict=True))
        # A nested model may be called on another spatial size than it was built with.
        resized = any(
            tuple(symbol.shape) != x.shape
            for symbol, x in zip(functional._inputs, inputs, strict=True)
        )
        if prefix:
            self.input_layers.extend(
                (symbol._keras_history.operation, x)
                for symbol, x in zip(functional._inputs, inputs, strict=True)
            )
        for depth in sorted(functional._nodes_by_depth, reverse=True):
            for node in functional._nodes_by_depth[depth]:
                if node.operation is None or node.is_input:
                    continue
                outputs = self._call(node, known, prefix, resized)
                for symbol, x in zip(node.outputs, outputs, strict=True):
                    known[id(symbol)] = x
                    self.symbols.append((symbol, x))
        return [known[id(symbol)] for symbol in functional._outputs]

    def _call(self, node: Any, known: dict[int, Tensor], prefix: str, resized: bool) -> list[Any]:
        operation = node.operation

        def fill(leaf: Any) -> Any:
            return known[id(leaf)] if isinstance(leaf, keras.KerasTensor) else leaf

        args = tuple(map_structure(fill, node.arguments.args))
        kwargs = map_structure(fill, dict(node.arguments.kwargs))
        inputs = tuple(x for x in leaves((args, kwargs)) if isinstance(x, Tensor))
        nested = functional_of(operation)
        if nested is not None:
            entering = [x for x in leaves(args[0] if args else kwargs) if isinstance(x, Tensor)]
            self.containers.append(Container(operation, tuple(entering)))
            return self.run(nested, entering, f"{prefix}{operation.name}/")
        outputs = self._outputs(node, args, kwargs, resized)
        self.calls.append(
            Call(operation, prefix + operation.name, args, kwargs, inputs, tuple(outputs), node)
        )
        return outputs

    def _outputs(self, node: Any, args: Any, kwargs: Any, resized: bool) -> list[Tensor]:
        specs = node.outputs
        if resized:

            def symbolic(leaf: Any) -> Any:
                return (
                    keras.KerasTensor(leaf.shape, leaf.dtype) if isinstance(leaf, Tensor) else leaf
                )

            specs = keras.tree.flatten(
                node.operation.compute_output_spec(
                    *map_structure(symbolic, args), **map_structure(symbolic, kwargs)
                )
            )
        return [self.new_tensor(spec.shape, spec.dtype) for spec in specs]


def models_sharing(model: Any) -> list[Any]:
    """The other models of this process that use weights of a model: submodels, nested ones, twins.

    Keras keeps no record of them (a model knows its layers, a layer none of its models), but
    Python's garbage collector knows every object.
    """
    weights = {id(variable) for variable in model.variables}
    models = [one for one in gc.get_objects() if issubclass(type(one), keras.Model)]
    others = [one for one in models if one is not model]
    return [one for one in others if any(id(v) in weights for v in one.variables)]
