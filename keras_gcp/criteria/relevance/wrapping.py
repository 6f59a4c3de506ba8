"""Layers around another layer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from keras import layers, ops

from keras_gcp.criteria.relevance import signs
from keras_gcp.criteria.relevance.rules import (
    RelevanceRule,
    RuleKind,
    Step,
    add_rule,
    relevance_rule_for,
)
from keras_gcp.graph import Call, Shape, Tensor


def _time_distributed(call: Call) -> RelevanceRule | None:
    """The rule of the wrapped layer, with the steps of time as examples."""
    if len(call.inputs) != 1 or len(call.outputs) != 1:
        return None
    inside = _call_of_wrapped(call)
    rule = relevance_rule_for(inside)
    if rule is None:
        return None

    def in_time(step: Step, relevance: Sequence[Any]) -> Sequence[Any]:
        steps = step.call.inputs[0].shape[1] or ops.shape(relevance[0])[1]
        folded = [None if x is None else _folded(x) for x in step.inputs]
        negated = None if step.negated is None else ops.repeat(step.negated, steps)
        passed = rule.function(
            replace(step, call=inside, inputs=folded, negated=negated),
            [_folded(r) for r in relevance],
        )
        return [None if r is None else _unfolded(r, steps) for r in passed]

    return replace(
        rule,
        function=in_time,
        nonnegative=lambda call, inputs: rule.nonnegative(_call_of_wrapped(call), inputs),
        keeps_zero=lambda call: rule.keeps_zero(_call_of_wrapped(call)),
    )


def _call_of_wrapped(call: Call) -> Call:
    """The call of the wrapped layer as it would be on its own."""
    x, y = call.inputs[0], call.outputs[0]
    inner = Tensor(x.index, _without_time(x.shape), x.dtype)
    outer = Tensor(y.index, _without_time(y.shape), y.dtype)
    wrapped = call.operation.layer
    return Call(wrapped, f"{call.path}/{wrapped.name}", (inner,), {}, (inner,), (outer,))


def _without_time(shape: Shape) -> Shape:
    return (shape[0], *shape[2:])


def _folded(x: Any) -> Any:
    """Steps of time as examples."""
    return ops.reshape(x, (-1, *ops.shape(x)[2:]))


def _unfolded(x: Any, steps: Any) -> Any:
    return ops.reshape(x, (-1, steps, *ops.shape(x)[1:]))


def _spectral_normalization(call: Call) -> RelevanceRule | None:
    """The rule of the wrapped layer: at inference it is that layer."""
    inside = replace(call, operation=call.operation.layer)
    rule = relevance_rule_for(inside)
    if rule is None:
        return None
    return replace(
        rule,
        function=lambda step, relevance: rule.function(replace(step, call=inside), relevance),
        nonnegative=lambda call, inputs: rule.nonnegative(inside, inputs),
        keeps_zero=lambda call: rule.keeps_zero(inside),
    )


def _into_examples(step: Step, relevance: Sequence[Any]) -> Sequence[Any]:
    """Into a repeated model: from each step of each example to that place of the input."""
    return [ops.reshape(relevance[0], ops.shape(step.inputs[0]))]


def _into_steps(step: Step, relevance: Sequence[Any]) -> Sequence[Any]:
    """Out of a repeated model. The tensor that only tells the number of steps takes nothing."""
    folded = _folded(relevance[0])
    return [folded, *(None for _ in step.call.inputs[1:])]


add_rule(_time_distributed, layers.TimeDistributed)
add_rule(RelevanceRule(RuleKind.COPIES, _into_examples, signs.like_inputs), "ops.StepsAsExamples")
add_rule(
    RelevanceRule(RuleKind.COPIES, _into_steps, signs.like_inputs, reads_inputs=False),
    "ops.ExamplesAsSteps",
)
add_rule(_spectral_normalization, layers.SpectralNormalization)
