"""A functional model as plain data: the calls of its operations, in order.

Nested models are opened up, so one flat list of calls describes the whole network. Every call
has tensors of its own (static single assignment): a layer or a nested model that is called
twice appears twice, each time with other tensors.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

Shape = tuple[int | None, ...]

Shapes = tuple[tuple[int, ...], ...]
"""Sizes of a model's inputs, flattened, without their batch axes."""


@dataclass(frozen=True)
class Tensor:
    """One tensor of the graph.

    Attributes:
        index: Position in the order in which tensors come to exist.
        shape: Shape with the batch axis first; `None` where unknown.
        dtype: Name of the data type.
    """

    index: int
    shape: Shape
    dtype: str


@dataclass(frozen=True, eq=False)
class Call:
    """One call of one operation.

    Attributes:
        operation: The layer, or the `keras.ops` operation.
        path: The operation's address: its name, after the names of the nested models around it.
        args: Positional arguments, with a `Tensor` wherever the model has a symbolic tensor.
        kwargs: Keyword arguments, likewise.
        inputs: The tensors among the arguments, in order.
        outputs: The tensors that the call returns, flattened.
        node: Keras' own record of the call; surgery rewrites sizes among its arguments.
        repeats: Sizes of the axes that its outputs have in the batch axis: the steps over which
            `TimeDistributed` repeats the model around it. None where unknown.
    """

    operation: Any
    path: str
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    node: Any = None
    repeats: Shape = ()

    @property
    def weights(self) -> Sequence[Any]:
        """The variables of the layer, those that do not train too; an operation has none."""
        found: Sequence[Any] = getattr(self.operation, "weights", ())
        return found


@dataclass(frozen=True, eq=False)
class Container:
    """A nested model, with the tensors that enter one call of it."""

    model: Any
    inputs: tuple[Tensor, ...]


@dataclass(frozen=True, eq=False)
class Graph:
    """A whole functional model.

    Attributes:
        calls: Every call, in an order in which they can be executed.
        inputs: The model's input tensors, flattened.
        outputs: The model's output tensors, flattened.
        symbols: Pairs (symbolic Keras tensor, tensor): which of Keras' own objects stand for
            which tensor. Surgery updates their shapes.
        containers: The calls of nested models.
        input_layers: Pairs (input layer of a nested model, tensor that enters there).
    """

    calls: tuple[Call, ...]
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    symbols: tuple[tuple[Any, Tensor], ...]
    containers: tuple[Container, ...]
    input_layers: tuple[tuple[Any, Tensor], ...]

    @cached_property
    def readers(self) -> dict[int, list[Call]]:
        """Tensor index to the calls that read it, in order; nothing for what none reads."""
        found: dict[int, list[Call]] = {}
        for call in self.calls:
            for x in call.inputs:
                found.setdefault(x.index, []).append(call)
        return found

    @property
    def input_sizes(self) -> tuple[Any, ...]:
        """The sizes of the model's inputs, without their batch axes."""
        return tuple(x.shape[1:] for x in self.inputs)


@dataclass(frozen=True, eq=False)
class Neighbour:
    """Another living model that holds weights of the one that is looked at, beside its graph.

    Attributes:
        model: The other model.
        graph: Its inputs and outputs, and those of its calls that are not calls of the first model.
            Tensors that both have are the same objects.
        own_inputs: Those of its inputs that are not tensors of the first model.
        held: Variables that its Python code may use in any way, so that they have to stay.
    """

    model: Any
    graph: Graph
    own_inputs: tuple[Tensor, ...] = ()
    held: tuple[Any, ...] = ()


def map_structure(function: Callable[[Any], Any], structure: Any) -> Any:
    """Applies `function` to the leaves of nested lists, tuples, dicts and slices."""
    if isinstance(structure, dict):
        return {key: map_structure(function, value) for key, value in structure.items()}
    if isinstance(structure, tuple) and hasattr(structure, "_fields"):
        return type(structure)(*(map_structure(function, value) for value in structure))
    if isinstance(structure, list | tuple):
        return type(structure)(map_structure(function, value) for value in structure)
    if isinstance(structure, slice):
        parts = (structure.start, structure.stop, structure.step)
        return slice(*(map_structure(function, part) for part in parts))
    return function(structure)


def leaves(structure: Any) -> list[Any]:
    """The leaves of nested lists, tuples, dicts and slices, in order."""
    found: list[Any] = []
    map_structure(found.append, structure)
    return found
