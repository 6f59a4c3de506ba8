"""One batch: the model forwards, then relevance backwards along the route."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import keras
from keras import ops

from keras_gcp import backend
from keras_gcp.backend.calls import run_call
from keras_gcp.criteria.relevance.backward_route import BackwardRoute, BackwardStep
from keras_gcp.criteria.relevance.rules import Compiler, Step
from keras_gcp.graph import Shape


@dataclass(frozen=True)
class Probe:
    """A tensor whose relevance is wanted, per channel.

    Attributes:
        tensor: Its index.
        axis: Its channel axis, batch axis counted.
        channels: Its number of channels.
        in_steps: Whether its batch axis holds steps of time, too: those of a repeated model.
    """

    tensor: int
    axis: int
    channels: int
    in_steps: bool = False


@dataclass(frozen=True, eq=False)
class BackwardPass:
    """Runs a route on one batch: a pure function of tensors, to be compiled as a whole.

    Attributes:
        route: The route.
        probes: What to measure.
        variables: The model's variables, whose values are passed in.
        compiler: Compiles the heavy rules, if the whole is not.
        states: Pairs (variable, value) of recurrent layers that start again with every batch.
    """

    route: BackwardRoute
    probes: Sequence[Probe]
    variables: Sequence[Any]
    compiler: Compiler = field(default_factory=Compiler)
    states: Sequence[tuple[Any, Any]] = ()

    def __call__(
        self,
        weights: Sequence[Any],
        inputs: Sequence[Any],
        start: Callable[[Any], Any],
        negated: Any = None,
    ) -> tuple[Any, Any]:
        """Relevance per example and channel.

        Args:
            weights: The value of each variable.
            inputs: The model's input tensors, flattened.
            start: From the model's output to its relevance, of its shape.
            negated: `(examples,)` booleans, for which of them the relevance is that of minus the
                output; None for none.

        Returns:
            `(relevance, outputs)`: the mean over space at each probe, probes side by side,
            `(examples, channels of all probes)`; and what the model predicts.
        """
        found, outputs = self.tensors(weights, inputs, start, negated)
        examples = ops.shape(outputs)[0]
        rows = [
            _mean_over_space(found[probe.tensor], probe, examples)
            if probe.tensor in found
            else ops.zeros((examples, probe.channels))
            for probe in self.probes
        ]
        return ops.concatenate(rows, axis=1), outputs

    def tensors(
        self,
        weights: Sequence[Any],
        inputs: Sequence[Any],
        start: Callable[[Any], Any],
        negated: Any = None,
    ) -> tuple[dict[int, Any], Any]:
        """Relevance of whole tensors; arguments as above.

        Returns:
            `(relevance, outputs)`: probed tensor to its relevance, of its shape; tensors that none
            reaches are missing.
        """
        # In this scope variables are read from `weights`, and none of them can be changed.
        mapping = [*zip(self.variables, weights, strict=True), *self.states]
        with keras.StatelessScope(state_mapping=mapping), backend.without_gradients():
            values, outputs = forward(self.route, inputs)
            return self._backward(values, start(outputs), negated), outputs

    def _backward(self, values: dict[int, Any], start: Any, negated: Any) -> dict[int, Any]:
        """Relevance at the probes; what is not wanted any more is freed on the way."""
        probed = {probe.tensor for probe in self.probes}
        (logits,) = self.route.graph.outputs
        relevance = {logits.index: start}
        found: dict[int, Any] = {}
        for step in reversed(self.route.steps):
            arrived = [
                relevance.pop(y.index, None) if place in step.sources else None
                for place, y in enumerate(step.call.outputs)
            ]
            for y, r in zip(step.call.outputs, arrived, strict=True):
                if y.index in probed and r is not None:
                    found[y.index] = r
            if step.rule is None or all(r is None for r in arrived):
                continue
            for index, r in self._passed_on(step, arrived, values, negated):
                relevance[index] = relevance[index] + r if index in relevance else r
        at_inputs = {x.index for x in self.route.graph.inputs} & probed
        found.update((index, relevance[index]) for index in at_inputs if index in relevance)
        return found

    def _passed_on(
        self, step: BackwardStep, arrived: Sequence[Any], values: Mapping[int, Any], negated: Any
    ) -> list[tuple[int, Any]]:
        assert step.rule is not None
        call = step.call
        if len(arrived) > 1:
            some = ops.shape(next(r for r in arrived if r is not None))
            arrived = [
                ops.zeros(_known_shape(y.shape, some)) if r is None else r
                for y, r in zip(call.outputs, arrived, strict=True)
            ]
        reads = step.rule.reads_inputs
        inputs = [ops.cast(values[x.index], "float32") if reads else None for x in call.inputs]
        of = negated if step.last else None
        if of is not None and call.repeats:
            of = _for_each_step(of, next(r for r in arrived if r is not None))
        seen = Step(call, inputs, step.signed, step.absolute, step.gates, self.compiler, of)
        passed = step.rule.function(seen, arrived)
        return [
            (call.inputs[place].index, passed[place])
            for place in step.targets
            if passed[place] is not None
        ]


def forward(route: BackwardRoute, inputs: Sequence[Any]) -> tuple[dict[int, Any], Any]:
    """Runs the model in inference mode.

    Returns:
        `(values, outputs)`: the tensors that the way back needs, and the model's output.
    """
    values = {x.index: value for x, value in zip(route.graph.inputs, inputs, strict=True)}
    (logits,) = route.graph.outputs
    for position, call in enumerate(route.graph.calls):
        outputs = run_call(call, values)
        values.update({y.index: value for y, value in zip(call.outputs, outputs, strict=True)})
        for x in call.inputs:
            if route.last_use[x.index] == position and x.index not in route.kept:
                values.pop(x.index, None)
    outputs = values[logits.index]
    return {index: value for index, value in values.items() if index in route.kept}, outputs


def _known_shape(shape: Shape, some: Sequence[Any]) -> tuple[Any, ...]:
    """An output's shape; sizes that the model leaves open are those of another output."""
    pairs = zip(shape, some, strict=True)
    return tuple(other if size is None else size for size, other in pairs)


def _mean_over_space(relevance: Any, probe: Probe, examples: Any) -> Any:
    """`(examples, ..., channels, ...)` to `(examples, channels)`, over steps of time, too."""
    space = tuple(a for a in range(1, len(relevance.shape)) if a != probe.axis)
    mean = ops.mean(relevance, axis=space) if space else relevance
    if not probe.in_steps:
        return mean
    return ops.mean(ops.reshape(mean, (examples, -1, probe.channels)), axis=1)


def _for_each_step(negated: Any, relevance: Any) -> Any:
    """What is said of each example, for all the rows that it has in a tensor."""
    examples = ops.shape(negated)[0]
    rows = ops.shape(relevance)[0]
    apart = ops.broadcast_to(ops.expand_dims(negated, 1), (examples, rows // examples))
    return ops.reshape(apart, (-1,))
