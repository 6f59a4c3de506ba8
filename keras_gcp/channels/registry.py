"""Which rule says how an operation treats channels."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

from keras_gcp import keras_state
from keras_gcp.channels.channel_ids import ChannelIds
from keras_gcp.channels.declared import declaration_of
from keras_gcp.channels.site import Site
from keras_gcp.errors import InvalidArgument

Rule = Callable[[Site], ChannelIds | Sequence[ChannelIds]]

DECLARED = "keras_gcp.elementwise"
"""Under this name stands the rule of what a user has declared to be elementwise."""

_RULES: dict[type | str, Rule] = {}

Entry = TypeVar("Entry")


def register_rule(*operations: type | str) -> Callable[[Rule], Rule]:
    """Registers a rule for layer classes, or for layers and `keras.ops` operations by name.

    A rule receives a `Site` (one call of one layer), declares what each weight's axes carry, and
    returns the block of channel ids of each output.

    Args:
        operations: Layer classes, or names: `"ops.Add"`, `"package.module.LayerClass"`.

    Returns:
        A decorator that returns the rule unchanged.

    Raises:
        InvalidArgument: an operation is neither a class nor a name.

    Example:

    ```python
    @keras_gcp.register_rule(MyChannelScale)
    def channel_scale(site):
        channels = site.channels(0)
        site.weight(site.layer.scale, carries={0: channels})
        return site.inputs[0]
    ```
    """

    check_operations("register_rule", operations)

    def decorate(rule: Rule) -> Rule:
        for operation in operations:
            _RULES[operation] = rule
        return rule

    return decorate


def check_operations(function: str, operations: Sequence[object]) -> None:
    """Refuses what a function that registers something cannot register it for.

    Raises:
        InvalidArgument: something is neither a class nor a name.
    """
    for operation in operations:
        if not isinstance(operation, type | str):
            raise InvalidArgument(
                f"`keras_gcp.{function}` expects layer classes, or names such as 'ops.Add'. "
                f"Received: {operation!r}."
            )


def rule_for(operation: Any) -> Rule | None:
    """The rule of an operation, or None."""
    if declaration_of(operation) is not None:
        return _RULES[DECLARED]
    return entry_for(operation, _RULES)


def entry_for(operation: Any, table: Mapping[type | str, Entry]) -> Entry | None:
    """An operation's entry in a table by layer class or by name; None if it has none.

    Names are `"ops.Add"` for operations, and `"module.Class"` for layers that cannot be imported
    without need (another library) or not publicly.

    A subclass inherits the entry of its parent only as long as it computes the same: its `call`
    and `build` are the parent's own.
    """
    if not keras_state.is_layer(operation):
        return table.get(f"ops.{type(operation).__name__}")
    kind = type(operation)
    for ancestor in kind.__mro__:
        if ancestor in table:
            same = all(
                getattr(kind, method) is getattr(ancestor, method)
                for method in ("call", "build", "__call__")
            )
            return table[ancestor] if same else None
    return table.get(f"{kind.__module__}.{kind.__qualname__}")


def registered_layers() -> dict[type, Rule]:
    """Every layer class that has a rule."""
    return {key: rule for key, rule in _RULES.items() if isinstance(key, type)}


def registered_names() -> dict[str, Rule]:
    """Everything that has a rule by name: `"ops.Add"`, `"module.Class"`."""
    return {key: rule for key, rule in _RULES.items() if isinstance(key, str) and key != DECLARED}
