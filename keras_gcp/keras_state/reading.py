"""A functional model as plain data: `keras_gcp.graph`."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import keras

from keras_gcp.errors import InvalidArgument, UnsupportedModel
from keras_gcp.graph import Call, Container, Graph, Shape, Tensor, leaves, map_structure
from keras_gcp.keras_state.functional import functional_of, require_functional
from keras_gcp.keras_state.inputs import ordered_inputs

NOTHING: Mapping[int, Tensor] = MappingProxyType({})


def is_layer(operation: Any) -> bool:
    """Whether an operation is a layer (as against a `keras.ops` operation)."""
    return isinstance(operation, keras.layers.Layer)


def read_graph(model: Any) -> Graph:
    """Reads a functional or sequential model, nested models included.

    Raises:
        UnsupportedModel: the model has no functional graph, or was never built.
    """
    return Reader().read(require_functional(model))


class Reader:
    """Turns functional models into plain data; what it has read before, it does not read again."""

    def __init__(self) -> None:
        self._start_anew()
        self._count = 0
        self._known: dict[int, Tensor] = {}  # id of a symbol -> its tensor in what was read first
        self._read: set[int] = set()  # ids of the nodes of what was read first

    def _start_anew(self) -> None:
        self.calls: list[Call] = []
        self.symbols: list[tuple[Any, Tensor]] = []
        self.containers: list[Container] = []
        self.input_layers: list[tuple[Any, Tensor]] = []
        self.nodes: set[int] = set()

    def read(self, functional: Any) -> Graph:
        """The graph of a model."""
        inputs = [self.new_tensor(symbol.shape, symbol.dtype) for symbol in functional._inputs]
        graph = self._graph(inputs, self.run(functional, inputs, prefix=""))
        self._known, self._read = {id(s): x for s, x in reversed(self.symbols)}, self.nodes
        return graph

    def read_beside(self, functional: Any, prefix: str) -> tuple[Graph, tuple[Tensor, ...]]:
        """The part of another model that `read` has not seen, and those inputs that it has not."""
        self._start_anew()
        inputs, own = [], []
        for symbol in functional._inputs:
            x = self._known.get(id(symbol))
            if x is None:
                x = self.new_tensor(symbol.shape, symbol.dtype)
                own.append(x)
            inputs.append(x)
        outputs = self.run(functional, inputs, prefix, self._known, self._read)
        return self._graph(inputs, outputs), tuple(own)

    def _graph(self, inputs: Sequence[Tensor], outputs: Sequence[Tensor]) -> Graph:
        return Graph(
            calls=tuple(self.calls),
            inputs=tuple(inputs),
            outputs=tuple(outputs),
            symbols=tuple(self.symbols),
            containers=tuple(self.containers),
            input_layers=tuple(self.input_layers),
        )

    def new_tensor(self, shape: Shape, dtype: Any) -> Tensor:
        self._count += 1
        return Tensor(self._count - 1, tuple(shape), keras.backend.standardize_dtype(dtype))

    def run(
        self,
        functional: Any,
        inputs: Sequence[Tensor],
        prefix: str,
        before: Mapping[int, Tensor] = NOTHING,
        read: Collection[int] = (),
    ) -> list[Tensor]:
        """The calls of a model on some tensors; what has been `read` gave the tensors `before`."""
        known = dict(before)
        known.update({id(s): x for s, x in zip(functional._inputs, inputs, strict=True)})
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
                if node.operation is None or node.is_input or id(node) in read:
                    continue
                self.nodes.add(id(node))
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
            entering = _entering(operation, args, kwargs, prefix)
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


def _entering(model: Any, args: Any, kwargs: Any, prefix: str) -> list[Tensor]:
    """The tensors that enter a nested model, in the order of its inputs."""
    given = args[0] if args else kwargs.get("inputs")
    try:
        return ordered_inputs(model, given)
    except InvalidArgument as error:
        raise UnsupportedModel(
            f"The call of nested model '{prefix}{model.name}': {error}"
        ) from error
