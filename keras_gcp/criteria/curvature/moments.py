"""Second moments of the loss's gradients: at the outputs of readers, and at gates on their inputs.

A zero is added to what a layer computes before its activation (a *tap*), or multiplied with what
enters it (a *gate*); their gradients are those that are wanted, and one derivative gives them all.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_gcp import backend, keras_state
from keras_gcp.backend.calls import run_call
from keras_gcp.channels.map import ChannelMap
from keras_gcp.channels.patches import channel_axis
from keras_gcp.criteria.curvature.likelihood import Likelihood, likelihoods_of, needs_labels
from keras_gcp.criteria.readers import Reader
from keras_gcp.graph import Call
from keras_gcp.sample import DrawnSample
from keras_gcp.sample.digest import digest_of
from keras_gcp.surgery.masking import without_activation


@dataclass(frozen=True, eq=False)
class Moments:
    """Second moments, mean over the examples.

    Attributes:
        outputs: `id` of a call to `(filters, filters)`: of the gradients of what it computes before
            its activation, summed over all places of an example.
        gates: `id` of a reader to the square of what the loss changes by per share of each channel
            that is lost on the way into its call, of the source's block of channels.
    """

    outputs: Mapping[int, np.ndarray]
    gates: Mapping[int, np.ndarray]


def second_moments(
    model: Any,
    channels: ChannelMap,
    tapped: Sequence[Call],
    gated: Sequence[Reader],
    sample: DrawnSample,
    draws: int,
    batch_size: int,
) -> Moments:
    """Second moments of the gradients of labels that the model draws.

    Args:
        model: The model.
        channels: Its channel map.
        tapped: Calls whose output's gradients are wanted.
        gated: Readers whose input's channels are.
        sample: Examples. Labels are looked at only where nothing else tells what an output means.
        draws: How many labels are drawn for every example.
        batch_size: Examples per pass; bounds the memory.
    """
    likelihoods = likelihoods_of(model, channels.graph)
    given = needs_labels(likelihoods)
    shapes = [] if given else _output_shapes(model, sample)
    derivative = _Derivative(model, channels, likelihoods, tapped, gated, given)
    total: list[np.ndarray] | None = None
    rounds = 1 if given else draws
    for number in range(rounds):
        labels = sample.y if given else _noise(likelihoods, shapes, sample, number)
        for moments, share in backend.over_batches(
            derivative, model, sample.x_of_loss if given else sample.x, labels, batch_size
        ):
            parts = [share / rounds * ops.convert_to_numpy(one).astype(float) for one in moments]
            total = parts if total is None else [a + b for a, b in zip(total, parts, strict=True)]
    assert total is not None
    outputs = {id(call): one for call, one in zip(tapped, total, strict=False)}
    gates = {id(reader): one for reader, one in zip(gated, total[len(tapped) :], strict=True)}
    return Moments(outputs, gates)


def _output_shapes(model: Any, sample: DrawnSample) -> list[tuple[int, ...]]:
    """Shapes of the model's outputs for one example."""
    first = keras.tree.map_structure(lambda x: x[:1], sample.x)
    return [tuple(out.shape[1:]) for out in keras.tree.flatten(backend.predict(model, first))]


def _noise(
    likelihoods: Sequence[Likelihood],
    shapes: Sequence[tuple[int, ...]],
    sample: DrawnSample,
    number: int,
) -> list[np.ndarray]:
    """What decides the labels. An example has the same ones wherever it stands in the sample."""
    rows = []
    for at in range(len(sample)):
        digest = digest_of(x[at] for x in keras.tree.flatten(sample.x))
        rng = np.random.default_rng([int(digest[:16], 16), number])
        rows.append([o.noise(s, rng) for o, s in zip(likelihoods, shapes, strict=True)])
    return [np.stack(column).astype(np.float32) for column in zip(*rows, strict=True)]


class _Derivative:
    """A pure function of tensors: one batch to the sums of its second moments.

    Args:
        model: The model.
        channels: Its channel map.
        likelihoods: Of its outputs.
        tapped: Calls whose outputs get taps.
        gated: Readers whose inputs get gates.
        given: Whether the loss is that of the labels.
    """

    def __init__(
        self,
        model: Any,
        channels: ChannelMap,
        likelihoods: Sequence[Likelihood],
        tapped: Sequence[Call],
        gated: Sequence[Reader],
        given: bool,
    ) -> None:
        self._model, self._channels, self._likelihoods = model, channels, likelihoods
        self._tapped, self._gated, self._given = tapped, gated, given

    def __call__(self, weights: Sequence[Any], x: Any, labels: Any) -> list[Any]:
        found: dict[int, Any] = {}
        with backend.with_weights(self._model, weights):
            self._forward(x, {}, {}, found)  # Only shapes are used, so compilers leave it out.
        zeros = [ops.zeros(found[id(call)].shape, found[id(call)].dtype) for call in self._tapped]
        count = len(zeros)
        zeros += [self._closed_gates(found[id(reader)], reader) for reader in self._gated]

        def loss_of(*points: Any) -> Any:
            taps = {id(c): tap for c, tap in zip(self._tapped, points[:count], strict=True)}
            gates = {id(r): gate for r, gate in zip(self._gated, points[count:], strict=True)}
            with backend.with_weights(self._model, weights):
                outputs = self._forward(x, taps, gates, {})
                return self._loss(x, labels, outputs)

        loss, pullback = backend.vjp(loss_of, *zeros)
        gradients = pullback(ops.ones_like(loss))
        examples = float(keras.tree.flatten(x)[0].shape[0])
        moments = [
            _products(call, gradient, examples)
            for call, gradient in zip(self._tapped, gradients[:count], strict=True)
        ]
        return moments + [_squares(gradient, examples) for gradient in gradients[count:]]

    def _forward(
        self, x: Any, taps: Mapping[int, Any], gates: Mapping[int, Any], found: dict[int, Any]
    ) -> list[Any]:
        """Runs the model; notes in `found` what gets taps and gates."""
        graph = self._channels.graph
        inputs = keras_state.ordered_inputs(self._model, x)
        values = {
            tensor.index: ops.convert_to_tensor(value, dtype=tensor.dtype)
            for tensor, value in zip(graph.inputs, inputs, strict=True)
        }
        wanted = {id(call) for call in self._tapped}
        for call in graph.calls:
            entering = values
            for reader in self._gated:
                if reader.call is call and reader.source.index in values:
                    at = reader.source.index
                    found[id(reader)] = entering[at]
                    entering = {**entering, at: _gated(entering[at], gates.get(id(reader)))}
            with without_activation(call.operation if id(call) in wanted else None) as activation:
                outputs = run_call(call, entering)
                if id(call) in wanted:
                    found[id(call)] = outputs[0]
                    tap = taps.get(id(call))
                    outputs = [activation(outputs[0] if tap is None else outputs[0] + tap)]
            values.update({y.index: v for y, v in zip(call.outputs, outputs, strict=True)})
        return [values[y.index] for y in graph.outputs]

    def _closed_gates(self, source: Any, reader: Reader) -> Any:
        """A zero for every row and channel."""
        block = self._channels.tensors[reader.source.index].shape
        return ops.zeros((source.shape[0], *block), source.dtype)

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


def _gated(x: Any, gate: Any) -> Any:
    """What enters, more of it in each channel by a share; only deviations from the mean count."""
    return x if gate is None else x + gate * (x - ops.mean(x, axis=_others(x), keepdims=True))


def _others(x: Any) -> tuple[int, ...]:
    return tuple(range(len(x.shape)))[:-1]


def _products(call: Call, gradient: Any, examples: float) -> Any:
    axis = channel_axis(call.operation, len(gradient.shape))
    rows = ops.moveaxis(ops.cast(gradient, "float32"), axis, -1)
    rows = ops.reshape(rows, (-1, rows.shape[-1]))
    return ops.matmul(ops.transpose(rows), rows) / examples


def _squares(gradient: Any, examples: float) -> Any:
    return ops.sum(ops.square(ops.cast(gradient, "float32")), axis=0) / examples
