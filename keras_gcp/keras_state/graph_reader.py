"""A functional model as plain data: `keras_gcp.graph`."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import keras

from keras_gcp.errors import InvalidArgument, UnsupportedModel
from keras_gcp.graph import Call, Container, Graph, Shape, Shapes, Tensor, leaves, map_structure
from keras_gcp.keras_state.functional import functional_of, require_functional
from keras_gcp.keras_state.inputs import ordered_inputs
from keras_gcp.keras_state.steps import ExamplesAsSteps, StepsAsExamples, is_repeatable

NOTHING: Mapping[int, Tensor] = MappingProxyType({})


def is_layer(operation: Any) -> bool:
    """Whether an operation is a layer (as against a `keras.ops` operation)."""
    return isinstance(operation, keras.layers.Layer)


def read_graph(model: Any, shapes: Shapes | None = None) -> Graph:
    """Reads a functional or sequential model, nested models included.

    Args:
        model: The model.
        shapes: Sizes of its inputs other than those it was built with: the same calls and tensors,
            in the same order, with the shapes that they have then. None: as it was built.

    Raises:
        UnsupportedModel: the model has no functional graph, or was never built.
        InvalidArgument: a layer does not take what enters it at those sizes.
    """
    return Reader().read(require_functional(model), shapes)


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

    def read(self, functional: Any, shapes: Shapes | None = None) -> Graph:
        """The graph of a model, at other sizes than it was built with if `shapes` says so."""
        sizes = shapes or [symbol.shape[1:] for symbol in functional._inputs]
        inputs = [
            self.new_tensor((*symbol.shape[:1], *size), symbol.dtype)
            for symbol, size in zip(functional._inputs, sizes, strict=True)
        ]
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
        repeats: Shape = (),
    ) -> list[Tensor]:
        """The calls of a model on some tensors; what has been `read` gave the tensors `before`."""
        known = dict(before)
        known.update({id(s): x for s, x in zip(functional._inputs, inputs, strict=True)})
        self.symbols.extend(zip(functional._inputs, inputs, strict=True))
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
                outputs = self._call(node, known, prefix, repeats)
                for symbol, x in zip(node.outputs, outputs, strict=True):
                    known[id(symbol)] = x
                    self.symbols.append((symbol, x))
        return [known[id(symbol)] for symbol in functional._outputs]

    def _call(self, node: Any, known: dict[int, Tensor], prefix: str, repeats: Shape) -> list[Any]:
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
            return self.run(nested, entering, f"{prefix}{operation.name}/", repeats=repeats)
        if is_repeatable(operation, node.arguments.args, node.arguments.kwargs):
            return [self._in_steps(operation, inputs[0], prefix, repeats)]
        path = prefix + operation.name
        built_for = [
            tuple(leaf.shape)
            for leaf in leaves((node.arguments.args, dict(node.arguments.kwargs)))
            if isinstance(leaf, keras.KerasTensor)
        ]
        # A nested model may be called on other sizes than it was built with, and so may the whole.
        as_built = built_for == [x.shape for x in inputs]
        specs = node.outputs if as_built else _output_specs(operation, path, args, kwargs)
        outputs = [self.new_tensor(spec.shape, spec.dtype) for spec in specs]
        self.calls.append(
            Call(operation, path, args, kwargs, inputs, tuple(outputs), node, repeats)
        )
        return outputs

    def _in_steps(self, wrapper: Any, x: Tensor, prefix: str, repeats: Shape) -> Tensor:
        """The calls of a model that `TimeDistributed` repeats, with the steps as examples."""
        path, steps = prefix + wrapper.name, x.shape[1]
        inside = (*repeats, steps)
        self.containers.append(Container(wrapper, (x,)))
        one = self.new_tensor((None, *x.shape[2:]), x.dtype)
        self._add(StepsAsExamples(), f"{path}/steps", (x,), one, inside)
        inner = wrapper.layer
        functional = functional_of(inner)
        if functional is None:  # several axes of time
            y = self._in_steps(inner, one, f"{path}/", inside)
        else:
            self.containers.append(Container(inner, (one,)))
            (y,) = self.run(functional, [one], f"{path}/{inner.name}/", repeats=inside)
        output = self.new_tensor((x.shape[0], steps, *y.shape[1:]), y.dtype)
        # Where the number of steps is unknown, it is that of what came in.
        entering = (y, x) if steps is None else (y,)
        self._add(ExamplesAsSteps(steps), path, entering, output, repeats)
        return output

    def _add(
        self, operation: Any, path: str, inputs: tuple[Tensor, ...], output: Tensor, repeats: Shape
    ) -> None:
        self.calls.append(Call(operation, path, inputs, {}, inputs, (output,), repeats=repeats))


def _output_specs(operation: Any, path: str, args: Any, kwargs: Any) -> list[Any]:
    """What a call returns for tensors of other shapes than it was recorded with."""

    def symbolic(leaf: Any) -> Any:
        return keras.KerasTensor(leaf.shape, leaf.dtype) if isinstance(leaf, Tensor) else leaf

    kind = type(operation).__name__
    shapes = [x.shape for x in leaves((args, kwargs)) if isinstance(x, Tensor)]
    entering = f"tensors of shape {', '.join(map(str, shapes))} enter layer '{path}' (class {kind})"
    try:
        specs = operation.compute_output_spec(
            *map_structure(symbolic, args), **map_structure(symbolic, kwargs)
        )
    except Exception as error:  # Whatever the layer raises for a size that it cannot take.
        reason = " ".join(str(error).split())[:200]
        raise InvalidArgument(
            f"{entering}, which raises {type(error).__name__}: {reason}"
        ) from error
    found = keras.tree.flatten(specs)
    if any(size is not None and size < 1 for spec in found for size in spec.shape[1:]):
        raise InvalidArgument(f"{entering}, which leaves {', '.join(str(s.shape) for s in found)}")
    return list(found)


def _entering(model: Any, args: Any, kwargs: Any, prefix: str) -> list[Tensor]:
    """The tensors that enter a nested model, in the order of its inputs."""
    given = args[0] if args else kwargs.get("inputs")
    try:
        return ordered_inputs(model, given)
    except InvalidArgument as error:
        raise UnsupportedModel(
            f"The call of nested model '{prefix}{model.name}': {error}"
        ) from error
