"""Layers, operations and functions that a user has declared to be elementwise, one by one.

The declaration is an attribute of the object itself: nothing else holds on to it, copies of the
object carry it along, and another layer of the same class is not concerned.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, TypeVar

import keras

from keras_gcp import keras_state
from keras_gcp.errors import InvalidArgument
from keras_gcp.graph import Graph
from keras_gcp.validation import require_flag

_MARK = "_keras_gcp_elementwise"

_NAMES: set[str] = set()

Target = TypeVar("Target")


@dataclass(eq=False)
class Declaration:
    """That an object is elementwise.

    Attributes:
        name: The name by which it was declared; None if it was itself.
        tried: With what it has been tried out (`keras_gcp.channels.trying`).
    """

    name: str | None = None
    tried: set[Any] = field(default_factory=set)

    @property
    def holds(self) -> bool:
        """Whether it has not been taken back."""
        return self.name is None or self.name in _NAMES


def elementwise(target: Target, declared: bool = True) -> Target:
    """Declares that one layer, operation or activation function is elementwise.

    Channels are followed through layers that have a rule. A `Lambda`, a layer of your own or an
    operation of `keras.ops` may have none, and stops them: the channels tied to it stay. If
    every element that it computes depends only on the element at the same place (of each input, if
    it has several), channels pass through it. This says so of one layer, not of its class.

    More exactly: every channel of the output has to depend on the same channel of the inputs alone,
    and in the same way for each. So a `Lambda` that resizes maps is all right, too. One that has a
    number of its own for each channel is not, since those would have to be cut: a layer with such
    weights needs a rule (`keras_gcp.register_rule`).

    The declaration is tried out when a model is traced: of half of the channels the layer has to
    compute what it computes of these among all. Where it cannot be run by itself, the verification
    that follows each cut finds out.

    Args:
        target: A layer (an instance); an operation of a functional model; an activation function
            (this may be its decorator); or the name, or path (`"model/layer"`), of a layer or
            operation in any model of this session. Copies that keras_gcp makes of a declared layer
            (`apply`, `flatten`) are declared, too. A model that is loaded from a file has new
            layers, which only a name finds.
        declared: False takes a declaration back.

    Returns:
        `target`, so that a layer can be called right away.

    Raises:
        InvalidArgument: it is not one of these. Later, when a model is traced: it is not
            elementwise.

    Example:

    ```python
    inputs = keras.Input((32, 32, 3))
    x = keras.layers.Conv2D(16, 3)(inputs)
    x = keras_gcp.elementwise(keras.layers.Lambda(lambda x: 0.5 * x, name="half"))(x)
    model = keras.Model(inputs, keras.layers.Dense(10)(keras.layers.Flatten()(x)))

    keras_gcp.elementwise("half")  # The same by name: also where the model is loaded from a file.
    ```
    """
    declared = require_flag("declared", declared)
    if isinstance(target, str):
        (_NAMES.add if declared else _NAMES.discard)(target)
    else:
        _require_target(target)
        if declared:
            _mark(target, None)
        else:
            vars(target).pop(_MARK, None)
    return target


def _require_target(target: Any) -> None:
    known = isinstance(target, keras.Operation) or callable(target)
    if not known or isinstance(target, type | keras.Model):
        raise InvalidArgument(
            "`elementwise` expects one layer (an instance), an operation of a functional model, an "
            "activation function, or a name. For a whole class of layers register a rule, "
            "`@keras_gcp.register_rule(...)`; a model is followed layer by layer. Received: "
            f"{target!r} (of type {type(target).__name__})."
        )


def _mark(target: Any, name: str | None) -> None:
    if declaration_of(target) is not None:
        return
    try:
        vars(target)[_MARK] = Declaration(name)
    except TypeError as error:  # A function that is not written in Python has no attributes.
        raise InvalidArgument(
            f"{target!r} cannot be declared, since it takes no attributes. Expected a function "
            "written in Python: `def activation(x): return ...`, around it."
        ) from error


def declaration_of(target: Any) -> Declaration | None:
    """What was declared of an object; None if nothing was."""
    found = getattr(target, "__dict__", {}).get(_MARK)
    return found if found is not None and found.holds else None


def carry_over(original: Any, copy: Any) -> None:
    """A copy of a layer or operation is declared where the original is."""
    found = declaration_of(original)
    if found is not None:
        _mark(copy, found.name)


def find_names(graph: Graph) -> None:
    """Marks the layers and operations of a graph that were declared by name."""
    for call in graph.calls if _NAMES else ():
        operation, inner = call.operation, keras_state.innermost(call.operation)
        places = {operation.name: operation, call.path: operation}
        if inner is not operation:
            places |= {inner.name: inner, f"{call.path}/{inner.name}": inner}
        for name in _NAMES & places.keys():
            _mark(places[name], name)


def advice(operation: Any, path: str) -> str:
    """What to do about a layer or operation without a rule, as the end of a sentence."""
    declare = f"keras_gcp.elementwise({path!r})"
    if keras_state.is_layer(operation) and not keras_state.is_lambda(operation):
        kind = type(operation).__name__
        return (
            f"register a rule: @keras_gcp.register_rule({kind}); or, if this layer treats every "
            f"element by itself, as an activation does, declare it: {declare}"
        )
    return f"declare it, if it treats every element by itself, as an activation does: {declare}"
