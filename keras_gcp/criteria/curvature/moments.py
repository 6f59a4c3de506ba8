"""Second moments of the loss's gradients: at what layers compute, and at gates on weights.

A zero is added to what a layer computes before its activation (a *tap*); a weight is multiplied
with one and a zero for each position along an axis (a *gate*). The gradients of these zeros are
those that are wanted, and one derivative gives them all.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_gcp import backend, keras_state
from keras_gcp.backend.calls import run_call, without_activation
from keras_gcp.channels.map import ChannelMap
from keras_gcp.channels.patches import channel_axis
from keras_gcp.criteria.curvature.likelihood import Likelihood, likelihoods_of, needs_labels
from keras_gcp.graph import Call
from keras_gcp.sample import DrawnSample
from keras_gcp.sample.digest import digest_of


@dataclass(frozen=True, eq=False)
class Gate:
    """Where weights are multiplied by a number for each position along one axis."""

    variable: Any
    axis: int

    @property
    def key(self) -> tuple[int, int]:
        """The same for the same weight and axis."""
        return id(self.variable), self.axis

    def applied(self, value: Any, opening: Any) -> Any:
        """The weight's value, more of it by a share at each position."""
        shape = [1] * len(value.shape)
        shape[self.axis] = value.shape[self.axis]
        return value * (1 + ops.reshape(opening, shape))


@dataclass(frozen=True, eq=False)
class Moments:
    """Second moments, mean over the examples.

    Attributes:
        outputs: `id` of a call to `(filters, filters)`: of the gradients of what it computes before
            its activation, summed over all places of an example.
        gates: `key` of a gate to `(positions,)`: the square of what the loss changes by, per share
            of the weights at each position.
    """

    outputs: Mapping[int, np.ndarray]
    gates: Mapping[tuple[int, int], np.ndarray]


def second_moments(
    channels: ChannelMap,
    tapped: Sequence[Call],
    gates: Sequence[Gate],
    sample: DrawnSample,
    draws: int,
    batch_size: int,
) -> Moments:
    """Second moments of the gradients of labels that the model draws.

    Gradients of examples drawn independently have no covariance, so that the square of a batch's
    gradient is on average the sum of their squares; those of gates are taken so.

    Args:
        channels: The model's channel map.
        tapped: Calls whose output's gradients are wanted.
        gates: Weights whose gradients are wanted.
        sample: Examples. Labels are looked at only where nothing else tells what an output means.
        draws: How many labels are drawn for every example.
        batch_size: Examples per pass; bounds the memory.
    """
    model = channels.model
    likelihoods = likelihoods_of(model, channels.graph)
    given = needs_labels(likelihoods)
    shapes = [] if given else _output_shapes(model, sample)
    derivative = _Derivative(channels, likelihoods, tapped, gates, given)
    if given:
        x, labels = sample.x_of_loss, sample.y
    else:  # One after the other in one pass: nothing is compiled twice.
        x = keras.tree.map_structure(lambda part: np.concatenate([part] * draws), sample.x)
        labels = _noise(likelihoods, shapes, sample, draws)
    total = [np.zeros(1) for _ in [*tapped, *gates]]
    for moments, share in backend.over_batches(derivative, model, x, labels, batch_size):
        for at, one in enumerate(moments):
            total[at] = total[at] + share * ops.convert_to_numpy(one).astype(float)
    count = len(tapped)
    outputs = {id(call): one for call, one in zip(tapped, total[:count], strict=True)}
    return Moments(outputs, {gate.key: one for gate, one in zip(gates, total[count:], strict=True)})


def _output_shapes(model: Any, sample: DrawnSample) -> list[tuple[int, ...]]:
    """Shapes of the model's outputs for one example."""
    first = keras.tree.map_structure(lambda x: x[:1], sample.x)
    return [tuple(out.shape[1:]) for out in keras.tree.flatten(backend.predict(model, first))]


def _noise(
    likelihoods: Sequence[Likelihood],
    shapes: Sequence[tuple[int, ...]],
    sample: DrawnSample,
    draws: int,
) -> list[np.ndarray]:
    """What decides the labels. An example has the same ones wherever it stands in the sample."""
    seeds = [
        int(digest_of(x[at] for x in keras.tree.flatten(sample.x))[:16], 16)
        for at in range(len(sample))
    ]
    rngs = [np.random.default_rng([seed, number]) for number in range(draws) for seed in seeds]
    rows = [[o.noise(s, rng) for o, s in zip(likelihoods, shapes, strict=True)] for rng in rngs]
    return [np.stack(column) for column in zip(*rows, strict=True)]


class _OtherShape(Exception):
    """A layer computes something else than the graph says of it: rows of examples, for one."""


class _Derivative:
    """A pure function of tensors: one batch to its second moments.

    Args:
        channels: The model's channel map.
        likelihoods: Of its outputs.
        tapped: Calls whose outputs get taps.
        gates: Gates on weights.
        given: Whether the loss is that of the labels.
    """

    def __init__(
        self,
        channels: ChannelMap,
        likelihoods: Sequence[Likelihood],
        tapped: Sequence[Call],
        gates: Sequence[Gate],
        given: bool,
    ) -> None:
        self._model, self._graph = channels.model, channels.graph
        self._likelihoods, self._given = likelihoods, given
        self._tapped, self._gates = tapped, gates
        places = {id(variable): at for at, variable in enumerate(self._model.weights)}
        self._places = [places[id(gate.variable)] for gate in gates]

    def __call__(self, weights: Sequence[Any], x: Any, labels: Any) -> list[Any]:
        examples = keras.tree.flatten(x)[0].shape[0]
        try:
            gradients = self._gradients(weights, x, labels, self._expected(examples))
        except _OtherShape:
            gradients = self._gradients(weights, x, labels, self._seen(weights, x))
        count = len(self._tapped)
        moments = [
            _products(call, gradient) / float(examples)
            for call, gradient in zip(self._tapped, gradients[:count], strict=True)
        ]
        return moments + [ops.square(gradient) / float(examples) for gradient in gradients[count:]]

    def _expected(self, examples: int) -> list[Any]:
        """Zeros as large as the graph says; running the model only to see that takes its time."""
        outputs = [call.outputs[0] for call in self._tapped]
        if any(None in output.shape[1:] for output in outputs):
            raise _OtherShape
        return [ops.zeros((examples, *output.shape[1:]), output.dtype) for output in outputs]

    def _seen(self, weights: Sequence[Any], x: Any) -> list[Any]:
        """Zeros as large as what the tapped calls compute; compilers leave the rest out."""
        before: dict[int, Any] = {}
        with backend.with_weights(self._model, weights):
            self._forward(x, {}, before)
        return [ops.zeros_like(before[id(call)]) for call in self._tapped]

    def _gradients(
        self, weights: Sequence[Any], x: Any, labels: Any, zeros: Sequence[Any]
    ) -> list[Any]:
        """Of a batch's loss: at taps, then at gates."""
        count = len(zeros)
        openings = [ops.zeros(gate.variable.shape[gate.axis]) for gate in self._gates]

        def loss_of(*points: Any) -> Any:
            taps = {id(c): tap for c, tap in zip(self._tapped, points[:count], strict=True)}
            with backend.with_weights(self._model, self._opened(weights, points[count:])):
                return self._loss(x, labels, self._forward(x, taps, {}))

        loss, pullback = backend.vjp(loss_of, *zeros, *openings)
        return list(pullback(ops.ones_like(loss)))

    def _opened(self, weights: Sequence[Any], openings: Sequence[Any]) -> list[Any]:
        """The weights with their gates."""
        values = list(weights)
        for gate, at, opening in zip(self._gates, self._places, openings, strict=True):
            values[at] = gate.applied(values[at], ops.cast(opening, values[at].dtype))
        return values

    def _forward(self, x: Any, taps: Mapping[int, Any], before: dict[int, Any]) -> list[Any]:
        """Runs the model; puts into `before` what tapped calls compute before their activation."""
        inputs = keras_state.ordered_inputs(self._model, x)
        values = {
            tensor.index: ops.convert_to_tensor(value, dtype=tensor.dtype)
            for tensor, value in zip(self._graph.inputs, inputs, strict=True)
        }
        tapped = {id(call) for call in self._tapped}
        for call in self._graph.calls:
            if id(call) not in tapped:
                outputs = run_call(call, values)
            else:
                with without_activation(call.operation) as activation:
                    (output,) = run_call(call, values)
                before[id(call)] = output
                outputs = [activation(_tapped(output, taps.get(id(call))))]
            values.update({y.index: v for y, v in zip(call.outputs, outputs, strict=True)})
        return [values[y.index] for y in self._graph.outputs]

    def _loss(self, x: Any, labels: Any, outputs: list[Any]) -> Any:
        """The sum of the losses of a batch."""
        if self._given:
            structure = keras.tree.pack_sequence_as(self._model.output, outputs)
            mean = backend.loss_of_outputs(self._model, x, labels, structure)
            return ops.cast(mean, "float32") * float(keras.tree.flatten(x)[0].shape[0])
        parts = [
            one.surprise(output, noise)
            for one, output, noise in zip(self._likelihoods, outputs, labels, strict=True)
            if one.weight
        ]
        return sum(parts[1:], parts[0])


def _tapped(output: Any, tap: Any) -> Any:
    """What a call computes, with the zero that is added to it."""
    if tap is None:
        return output
    if tuple(tap.shape) != tuple(output.shape) or tap.dtype != output.dtype:
        raise _OtherShape
    return output + tap


def _products(call: Call, gradient: Any) -> Any:
    """`(filters, filters)`, the sum over rows and places."""
    axis = channel_axis(call.operation, len(gradient.shape))
    rows = ops.moveaxis(ops.cast(gradient, "float32"), axis, -1)
    rows = ops.reshape(rows, (-1, rows.shape[-1]))
    return ops.matmul(ops.transpose(rows), rows)
