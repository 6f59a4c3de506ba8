"""A copy of a network whose gates take their parameters from outside."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import keras
import numpy as np
from keras import ops

from keras_gcp import backend, gates, keras_state
from keras_gcp.channels.map import ChannelMap
from keras_gcp.channels.trace import trace_as_planned
from keras_gcp.gates.gate import gated_channels

_BATCH = 64
"""Examples that are looked at at once."""


class TaskGate(gates.BetaBernoulli):
    """A gate that can listen: it then lets everything through, and notes what comes."""

    heard: list[Any] | None = None

    def dynamic(self, seen: Any, training: Any) -> Any:
        if self.heard is None:
            return super().dynamic(seen, training)
        self.heard.append(seen)
        return ops.ones_like(seen)


class State(NamedTuple):
    """Values of the variables of a gated copy, but the gates' parameters.

    Attributes:
        trainable: Of what is trained.
        fixed: Of other weights.
        noise: What chance goes on from.
    """

    trainable: Sequence[Any]
    fixed: Sequence[Any]
    noise: Sequence[Any]


class GatedCopy:
    """A network with gates, run with any values of weights and gates. No variable changes.

    Args:
        model: The network; it stays as it is.
        exclude: Names of layers whose channels get no gate.
        temperature: Of the gates.
        compile: Whether it is worth compiling what runs it.

    Attributes:
        model: The gated copy.
        channels: Its channel map.
        gates: Its gates; the one that is called last stands last.
        sizes: How many channels each of them has.
        coupled: `(gated channels,)`, coupled channel of each.
    """

    def __init__(
        self, model: Any, exclude: Sequence[str], temperature: float, compile: bool = False
    ) -> None:
        def gate(channels: int, name: str) -> TaskGate:
            return TaskGate(channels, temperature=temperature, kl_weight=0.0, speed=1.0, name=name)

        self.model = gates.insert(model, gate, exclude=exclude)
        self.channels: ChannelMap = trace_as_planned(self.model)
        last = {
            id(call.operation): call
            for call in self.channels.graph.calls
            if isinstance(call.operation, TaskGate)
        }
        calls = sorted(last.values(), key=self.channels.graph.calls.index)
        self.gates = [call.operation for call in calls]
        self.sizes = [gate.channels for gate in self.gates]
        self.coupled = np.concatenate([gated_channels(self.channels, call) for call in calls])
        own = {id(gate.shape_parameters) for gate in self.gates}
        weights = {id(v) for v in self.model.weights}
        others = [v for v in self.model.variables if id(v) not in own]
        self.trainable = [v for v in others if v.trainable]
        self.fixed = [v for v in others if not v.trainable and id(v) in weights]
        self.noise = [v for v in others if id(v) not in weights]
        self.compile = compile or not backend.runs_eagerly(self.model)
        self._listen = self.compiled(self._responses)

    @property
    def widths(self) -> dict[str, int]:
        """Gate to its number of channels: the same for copies of networks of the same shape."""
        return {gate.name: gate.channels for gate in self.gates}

    def compiled(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """A function that runs the copy, compiled if that is worth its time."""
        return backend.compiled(function, self.model) if self.compile else function

    def values(self) -> State:
        """The present values of everything but the gates' parameters."""
        return State(
            *(
                [ops.convert_to_tensor(v) for v in variables]
                for variables in (self.trainable, self.fixed, self.noise)
            )
        )

    def run(self, parameters: Any, state: State, inputs: Any) -> tuple[Any, list[Any]]:
        """Runs the gated network as in training; differentiable.

        Moving statistics stay as they are: they play no part in training.

        Args:
            parameters: `(gated channels, 2)`, of the gates.
            state: Values of all other variables.
            inputs: Input tensors, in order.

        Returns:
            `(outputs, noise)`, the latter for the next run.
        """
        mapping = [*self._pairs(state), *self._gate_pairs(parameters)]
        with keras.StatelessScope(state_mapping=mapping) as scope:
            outputs = self.model(keras_state.pack_inputs(self.model, inputs), training=True)
        after = [scope.get_current_value(variable) for variable in self.noise]
        return outputs, [b if a is None else a for a, b in zip(after, state.noise, strict=True)]

    def responses(self, x: Any) -> np.ndarray:
        """`(examples, gated channels)`: means over all positions, with all gates open."""
        arrays = keras_state.ordered_inputs(self.model, x)
        size = keras_state.fixed_batch(self.model) or _BATCH
        state, parts = self.values(), []
        for start in range(0, len(arrays[0]), size):
            rows = np.minimum(np.arange(start, start + size), len(arrays[0]) - 1)
            tensors = [ops.convert_to_tensor(np.asarray(array)[rows]) for array in arrays]
            found = ops.convert_to_numpy(self._listen(*state, tensors))
            parts.append(found[: len(arrays[0]) - start])
        return np.concatenate(parts)

    def _responses(self, trainable: Any, fixed: Any, noise: Any, inputs: Any) -> Any:
        for gate in self.gates:
            gate.heard = []
        try:
            with (
                keras.StatelessScope(state_mapping=self._pairs(State(trainable, fixed, noise))),
                backend.without_gradients(),
            ):
                self.model(keras_state.pack_inputs(self.model, inputs), training=False)
            # Where several layers read the channels, before or after an activation, all count.
            means = [sum(gate.heard) / len(gate.heard) for gate in self.gates]
        finally:
            for gate in self.gates:
                gate.heard = None
        return ops.concatenate([ops.cast(one, "float32") for one in means], axis=-1)

    def by_layer(self, values: np.ndarray, own: ChannelMap) -> dict[str, np.ndarray]:
        """A number for each channel of the producing layers of the network; 1 without a gate.

        Args:
            values: `(gated channels,)`.
            own: The channel map of the network itself.
        """
        every = np.ones(self.channels.coupled_count)
        every[self.coupled] = values
        return {path: every[self.channels.produced[path]] for path in own.produced}

    def _pairs(self, state: State) -> list[tuple[Any, Any]]:
        variables = (self.trainable, self.fixed, self.noise)
        return [
            pair
            for some, values in zip(variables, state, strict=True)
            for pair in zip(some, values, strict=True)
        ]

    def by_gate(self, values: Any) -> list[Any]:
        """A tensor `(..., gated channels)` in parts, one for each gate."""
        ends = np.cumsum(self.sizes).tolist()
        return [values[..., end - n : end] for end, n in zip(ends, self.sizes, strict=True)]

    def _gate_pairs(self, parameters: Any) -> list[tuple[Any, Any]]:
        variables = [gate.shape_parameters for gate in self.gates]
        parts = self.by_gate(ops.transpose(parameters))
        return [(v, ops.cast(part, v.dtype)) for v, part in zip(variables, parts, strict=True)]


def same_channels(first: Mapping[str, int], second: Mapping[str, int]) -> bool:
    """Whether gates of two copies stand for each other, in the same order."""
    return list(first.items()) == list(second.items())
