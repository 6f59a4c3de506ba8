"""The way of relevance through a graph, found out before any number is computed.

Relevance starts at the logits. It reaches a tensor on the *main* way, or, if the tensor only
serves to compute a gate (squeeze-and-excitation), on the way of that *gate*. Where a gate's branch
begins at a tensor of the main way, its relevance ends, so that none is counted twice.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from keras_gcp import keras_state
from keras_gcp.criteria.relevance.gates import find_gates
from keras_gcp.criteria.relevance.rules import RelevanceRule, RuleKind, relevance_rule_for
from keras_gcp.errors import UnsupportedModel
from keras_gcp.graph import Call, Graph

MAIN, GATE = "main", "gate"
_WEIGHTED = frozenset({RuleKind.LINEAR, RuleKind.DEPTHWISE, RuleKind.SEPARABLE})
_FOLLOWING = frozenset({RuleKind.COPIES, RuleKind.GATE, RuleKind.UNCHANGED})
_OF_FEW = frozenset({RuleKind.DEPTHWISE, RuleKind.SEPARABLE})


@dataclass(frozen=True, eq=False)
class BackwardStep:
    """One call on the way back.

    Attributes:
        call: The call.
        rule: Its rule; None if relevance ends here.
        targets: Positions of the inputs that relevance goes on to.
        gates: Positions of the inputs that are gates.
        signed: For each input, whether it may be negative.
        absolute: Whether the outputs can be near 0 where their relevance is not.
        sources: Positions of the outputs whose relevance counts here.
        last: Whether it is a weighted layer with none after it: the logits are its outputs, only
            moved, summed or squashed since.
    """

    call: Call
    rule: RelevanceRule | None
    targets: tuple[int, ...]
    gates: tuple[int, ...]
    signed: tuple[bool, ...]
    absolute: bool
    sources: tuple[int, ...]
    last: bool


@dataclass(frozen=True, eq=False)
class BackwardRoute:
    """The whole way.

    Attributes:
        graph: The calls of the model.
        steps: One per call, in the order of execution.
        reached: Tensor to the way it is reached on, `"main"` or `"gate"`.
        kept: Tensors whose values the way back needs.
        last_use: Tensor to the position of the last call that reads it.
    """

    graph: Graph
    steps: tuple[BackwardStep, ...]
    reached: Mapping[int, str]
    kept: frozenset[int]
    last_use: Mapping[int, int]


def find_route(graph: Graph, wanted: Collection[int]) -> BackwardRoute:
    """Finds the way to the tensors whose relevance is wanted, and not further.

    Args:
        graph: The calls of the model.
        wanted: Indices of tensors.

    Raises:
        UnsupportedModel: an operation on the way has no rule, or a product has no gate.
    """
    rules = [relevance_rule_for(call) for call in graph.calls]
    needed = _needed(graph, wanted)
    gates = find_gates(graph, rules, needed)
    reached = _reach(graph, rules, gates)
    signed = _signed(graph, rules)
    vanishing = _vanishing(graph, rules, gates)
    last = _last_weighted(graph, rules, reached)
    steps = tuple(
        _backward_step(
            call,
            rule,
            gates.get(position, ()),
            reached,
            needed,
            signed,
            vanishing,
            position in last,
        )
        for position, (call, rule) in enumerate(zip(graph.calls, rules, strict=True))
    )
    kept = {
        x.index
        for step in steps
        if step.rule is not None and step.rule.reads_inputs
        for x in step.call.inputs
    }
    last_use = {x.index: position for position, call in enumerate(graph.calls) for x in call.inputs}
    return BackwardRoute(graph, steps, reached, frozenset(kept), last_use)


def _needed(graph: Graph, wanted: Collection[int]) -> set[int]:
    """Tensors whose relevance is wanted, or leads to a tensor where it is."""
    needed = set(wanted)
    for call in graph.calls:
        if any(x.index in needed for x in call.inputs):
            needed.update(x.index for x in call.outputs)
    return needed


def _reach(
    graph: Graph, rules: list[RelevanceRule | None], gates: Mapping[int, tuple[int, ...]]
) -> dict[int, str]:
    backwards = [
        (position, call)
        for position, (call, rule) in enumerate(zip(graph.calls, rules, strict=True))
        if rule is None or rule.kind is not RuleKind.SOURCE
    ][::-1]
    reached = {x.index: MAIN for x in graph.outputs}
    waiting: set[int] = set()
    for position, call in backwards:
        if any(reached.get(y.index) == MAIN for y in call.outputs):
            for place, x in enumerate(call.inputs):
                if place in gates.get(position, ()):
                    waiting.add(x.index)
                else:
                    reached[x.index] = MAIN
    reached.update({index: GATE for index in waiting if index not in reached})
    for _, call in backwards:
        if any(reached.get(y.index) == GATE for y in call.outputs):
            for x in call.inputs:
                reached.setdefault(x.index, GATE)
    return reached


def _signed(graph: Graph, rules: list[RelevanceRule | None]) -> dict[int, bool]:
    """Whether each tensor may hold negative numbers; the model's inputs may."""
    signed = {x.index: True for x in graph.inputs}
    for call, rule in zip(graph.calls, rules, strict=True):
        inputs = [not signed[x.index] for x in call.inputs]
        nonnegative = rule is not None and rule.nonnegative(call, inputs)
        signed.update({y.index: not nonnegative for y in call.outputs})
    return signed


def _vanishing(
    graph: Graph, rules: list[RelevanceRule | None], gates: Mapping[int, tuple[int, ...]]
) -> set[int]:
    """Tensors whose relevance is small where they are small.

    So it is if their relevance comes from layers that mix many channels: those multiply by their
    inputs. A normalisation in between breaks that, since it shifts zeros; so does a depthwise
    convolution, where a single small input can be most of a sum.
    """
    fails = {x.index for x in graph.outputs}
    for position in reversed(range(len(graph.calls))):
        call, rule = graph.calls[position], rules[position]
        if rule is None:
            continue  # No relevance comes from there.
        follows = rule.kind in _FOLLOWING
        if (
            rule.kind in _OF_FEW
            or (rule.kind is RuleKind.UNCHANGED and not rule.keeps_zero(call))
            or (follows and any(y.index in fails for y in call.outputs))
        ):
            fails.update(x.index for x in call.inputs)
        fails.update(call.inputs[place].index for place in gates.get(position, ()))
    return {y.index for call in graph.calls for y in call.outputs} - fails


def _last_weighted(
    graph: Graph, rules: list[RelevanceRule | None], reached: Mapping[int, str]
) -> set[int]:
    """Positions of the weighted layers from which all relevance that arrives is that of the logits.

    After these layers their outputs are only moved, summed or squashed, so minus the logits is
    minus their outputs: for the class that a negative logit stands for, their kernels are negated.
    """
    mixed: set[int] = set()  # tensors that a weighted layer passes relevance to
    last = set()
    for position in reversed(range(len(graph.calls))):
        call, rule = graph.calls[position], rules[position]
        if rule is None or all(reached.get(y.index) != MAIN for y in call.outputs):
            continue
        weighted = rule.kind in _WEIGHTED
        if weighted and not any(y.index in mixed for y in call.outputs):
            last.add(position)
        if weighted or any(y.index in mixed for y in call.outputs):
            mixed.update(x.index for x in call.inputs)
    return last


def _backward_step(
    call: Call,
    rule: RelevanceRule | None,
    gates: tuple[int, ...],
    reached: Mapping[int, str],
    needed: Collection[int],
    signed: Mapping[int, bool],
    vanishing: Collection[int],
    last: bool,
) -> BackwardStep:
    ways = [reached.get(y.index) for y in call.outputs]
    way = MAIN if MAIN in ways else GATE if GATE in ways else None
    targets = (
        ()
        if way is None
        else tuple(
            place
            for place, x in enumerate(call.inputs)
            if x.index in needed and _may_enter(way, reached.get(x.index), place in gates)
        )
    )
    if targets:
        _require_rule(call, rule)
    return BackwardStep(
        call,
        rule if targets else None,
        targets,
        gates,
        tuple(signed[x.index] for x in call.inputs),
        any(signed[x.index] for x in call.inputs)
        and any(y.index not in vanishing for y in call.outputs),
        tuple(place for place, other in enumerate(ways) if other == way and way is not None),
        last,
    )


def _may_enter(way: str, destination: str | None, is_gate: bool) -> bool:
    if destination == MAIN:
        return way == MAIN and not is_gate
    return destination == GATE and (way == GATE or is_gate)


def _remedy(call: Call) -> str:
    """A rule for its class, unless that stands for anything at all."""
    if keras_state.is_lambda(call.operation):
        if len(call.inputs) > 1:
            return "Write it with operations of `keras.ops`"
        return (
            "If it treats every element by itself, declare it: "
            f"`keras_gcp.elementwise({call.path!r})`"
        )
    return "Register one with `keras_gcp.register_relevance_rule`"


def _require_rule(call: Call, rule: RelevanceRule | None) -> None:
    kind = type(call.operation).__name__
    if rule is None:
        raise UnsupportedModel(
            f"Layer '{call.path}' (class {kind}) has no relevance rule, so feature relevance "
            f"cannot be followed through it. {_remedy(call)}, or take another criterion: 'taylor', "
            "'l2_norm', 'l1_norm' or 'bn_scale'."
        )
    if rule.kind is RuleKind.UNCHANGED and call.inputs[0].shape != call.outputs[0].shape:
        raise UnsupportedModel(
            f"Layer '{call.path}' (class {kind}) turns shape {call.inputs[0].shape} into "
            f"{call.outputs[0].shape}; feature relevance passes activations and normalisations "
            "only where they keep the shape. Take another criterion: 'taylor', 'l2_norm', "
            "'l1_norm' or 'bn_scale'."
        )
