"""Which rule says how an operation treats channels."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from keras_gcp import keras_state
from keras_gcp.channels.labels import Labels
from keras_gcp.channels.site import Site

Rule = Callable[[Site], Labels | Sequence[Labels]]

_LAYER_RULES: dict[type, Rule] = {}
_OPERATION_RULES: dict[str, Rule] = {}


def register_rule(*operations: type | str) -> Callable[[Rule], Rule]:
    """Registers a rule for layer classes, or for `keras.ops` operations by class name.

    A rule receives a `Site` (one call of one layer), declares what each weight's axes carry, and
    returns the label block of each output.

    Args:
        operations: Layer classes, or names such as `"ops.Add"`.

    Returns:
        A decorator that returns the rule unchanged.

    Example:

    ```python
    @keras_gcp.register_rule(MyChannelScale)
    def channel_scale(site):
        channels = site.channels(0)
        site.weight(site.layer.scale, carries={0: channels})
        return site.inputs[0]
    ```
    """

    def decorate(rule: Rule) -> Rule:
        for operation in operations:
            if isinstance(operation, str):
                _OPERATION_RULES[operation] = rule
            else:
                _LAYER_RULES[operation] = rule
        return rule

    return decorate


def rule_for(operation: Any) -> Rule | None:
    """The rule of an operation, or None.

    A subclass inherits the rule of a registered class only as long as it computes the same: its
    `call` and `build` are the registered class's own.
    """
    if not keras_state.is_layer(operation):
        return _OPERATION_RULES.get(f"ops.{type(operation).__name__}")
    for ancestor in type(operation).__mro__:
        if ancestor in _LAYER_RULES:
            same = all(
                getattr(type(operation), method) is getattr(ancestor, method)
                for method in ("call", "build", "__call__")
            )
            return _LAYER_RULES[ancestor] if same else None
    return None


def registered_layers() -> dict[type, Rule]:
    """Every layer class that has a rule."""
    return dict(_LAYER_RULES)


def registered_operations() -> dict[str, Rule]:
    """Every `keras.ops` operation that has a rule, as `"ops.Name"`."""
    return dict(_OPERATION_RULES)
