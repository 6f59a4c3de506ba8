"""Which rule says how relevance passes an operation, from its outputs back to its inputs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from functools import partial
from typing import Any

from keras_gcp import backend
from keras_gcp.channels.declared import declaration_of
from keras_gcp.channels.registry import check_operations, entry_for
from keras_gcp.errors import InvalidArgument
from keras_gcp.graph import Call
from keras_gcp.validation import require_one_of


class Compiler:
    """Compiles the heavy rules, once per rule, setting and shape; lives as long as one scoring.

    Only pure functions of tensors are compiled, never a layer or a model, so that nothing keeps
    a model alive.

    Args:
        wanted: Whether to compile at all. Where everything is compiled as one function, parts of it
            that are compiled by themselves save no time, and TensorFlow keeps the gradients of
            such inner functions, with their graphs, until the process ends.
    """

    def __init__(self, wanted: bool = True) -> None:
        self._wanted = wanted
        self._functions: dict[Any, Callable[..., Any]] = {}

    def __call__(self, function: Callable[..., Any], **settings: Any) -> Callable[..., Any]:
        """The function with hashable `settings` bound, compiled."""
        if not self._wanted:
            return partial(function, **settings)
        bound = partial(function, **settings)

        def run(*tensors: Any) -> Any:
            # A function for every shape: TensorFlow warns of one that is compiled again and again.
            shapes = tuple(tuple(x.shape) for x in tensors)
            key = (function, tuple(sorted(settings.items())), shapes)
            if key not in self._functions:
                self._functions[key] = backend.compiled(bound)
            return self._functions[key](*tensors)

        return run


@dataclass(frozen=True, eq=False)
class Step:
    """One call during the backward pass, as a rule sees it.

    Attributes:
        call: The call.
        inputs: Values of its input tensors in float32; None if the rule does not read them.
        signed: For each input, whether it may hold negative numbers.
        absolute: For sums: whether to divide by the sum of magnitudes instead of the sum.
        gates: For products: positions of the inputs that are gates.
        compiled: Compiles pure functions.
        negated: `(examples,)` booleans: for which examples it is minus the output whose relevance
            comes in, as for class 0 of a binary head; None where that makes no difference.
    """

    call: Call
    inputs: Sequence[Any]
    signed: tuple[bool, ...]
    absolute: bool
    gates: tuple[int, ...]
    compiled: Compiler
    negated: Any = None


RuleFunction = Callable[[Step, Sequence[Any]], Sequence[Any]]
"""`(step, relevance of each output) -> relevance of each input`; None where there is none."""


def never(call: Call, inputs: Sequence[bool]) -> bool:
    """Outputs may be negative, for any inputs."""
    return False


def no_zero(call: Call) -> bool:
    """Where an input is 0, the output may be something else."""
    return False


class RuleKind(StrEnum):
    """What an operation does with the values that it gets, as far as the way back asks."""

    LINEAR = "linear"
    """A layer with weights that mixes all channels."""
    DEPTHWISE = "depthwise"
    """One that treats every channel by itself."""
    SEPARABLE = "separable"
    """One of both after another."""
    ADDITION = "addition"
    """The sum of tensors of one shape."""
    PROPORTIONAL = "proportional"
    """Any other sum."""
    COPIES = "copies"
    """Values are moved, repeated or selected."""
    GATE = "gate"
    """A product: all factors but one say how much of that one passes."""
    UNCHANGED = "unchanged"
    """A function of each element; the relevance of its value is that of its argument."""
    SOURCE = "source"
    """Relevance ends here."""


@dataclass(frozen=True)
class RelevanceRule:
    """How relevance passes one kind of operation.

    Attributes:
        kind: A `RuleKind` or its value: `"linear"`, `"depthwise"` or `"separable"` for weighted
            layers, `"addition"`, `"proportional"` for other sums, `"copies"`, `"gate"` for
            products, `"unchanged"`, `"source"`.
        function: The rule itself.
        nonnegative: `(call, whether each input is never negative) -> whether no output is`.
        keeps_zero: For `"unchanged"`: `call -> whether the function maps 0 to 0`.
        reads_inputs: Whether the rule needs the values of the inputs.
    """

    kind: RuleKind | str
    function: RuleFunction
    nonnegative: Callable[[Call, Sequence[bool]], bool] = field(default=never)
    keeps_zero: Callable[[Call], bool] = field(default=no_zero)
    reads_inputs: bool = True

    def __post_init__(self) -> None:
        require_one_of("RelevanceRule.kind", self.kind, [kind.value for kind in RuleKind])
        object.__setattr__(self, "kind", RuleKind(self.kind))


def _as_it_is(step: Step, relevance: Sequence[Any]) -> Sequence[Any]:
    return relevance


_ELEMENTWISE = RelevanceRule(RuleKind.UNCHANGED, _as_it_is, reads_inputs=False)
"""A declared function of one element: nothing is known of its sign, or of what it makes of 0."""

Selector = Callable[[Call], RelevanceRule | None]
"""Picks the rule for a call where that depends on its arguments; None: not covered."""

_RULES: dict[type | str, RelevanceRule | Selector] = {}


def register_relevance_rule(
    *operations: type | str,
    kind: RuleKind | str = RuleKind.UNCHANGED,
    nonnegative: Callable[[Call, Sequence[bool]], bool] = never,
    keeps_zero: Callable[[Call], bool] = no_zero,
    reads_inputs: bool = False,
) -> Callable[[RuleFunction], RuleFunction]:
    """Registers how relevance passes layer classes, or operations by name.

    A rule receives a `Step` (one call on the way back) and the relevance of each output, and
    returns the relevance of each input.

    Args:
        operations: Layer classes, or names: `"ops.Add"`, `"package.module.LayerClass"`.
        kind: What the operation does with the values that it gets; see `RuleKind`.
        nonnegative: `(call, whether each input is never negative) -> whether no output is`.
        keeps_zero: For `"unchanged"`: `call -> whether the function maps 0 to 0`.
        reads_inputs: Whether the rule needs the values of the inputs, `step.inputs`.

    Returns:
        A decorator that returns the rule unchanged.

    Raises:
        InvalidArgument: an operation is neither a class nor a name, or the kind is unknown.

    Example:

    ```python
    @keras_gcp.register_relevance_rule(MyChannelScale)
    def channel_scale(step, relevance):
        return relevance  # Every channel by itself.
    ```
    """
    check_operations("register_relevance_rule", operations)

    def decorate(function: RuleFunction) -> RuleFunction:
        if isinstance(function, type) or not callable(function):
            raise InvalidArgument(
                "`keras_gcp.register_relevance_rule(...)` decorates a function (step, relevance) "
                f"-> relevance of each input. Received: {function!r}."
            )
        rule = RelevanceRule(kind, function, nonnegative, keeps_zero, reads_inputs)
        add_rule(rule, *operations)
        return function

    return decorate


def add_rule(rule: RelevanceRule | Selector, *operations: type | str) -> None:
    """Adds a rule, or what picks one for a call, to the table."""
    for operation in operations:
        _RULES[operation] = rule


def relevance_rule_for(call: Call) -> RelevanceRule | None:
    """The rule for one call, or None."""
    entry = entry_for(call.operation, _RULES)
    if entry is None and len(call.inputs) == 1 and declaration_of(call.operation) is not None:
        return _ELEMENTWISE
    return entry if entry is None or isinstance(entry, RelevanceRule) else entry(call)


def registered_relevance_rules() -> dict[type | str, RelevanceRule | Selector]:
    """The whole table."""
    return dict(_RULES)
