"""A gated network without its gates: factors in kernels, closed channels and branches gone."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np

from keras_gcp import keras_state
from keras_gcp.backend.comparison import example_count, random_inputs
from keras_gcp.backend.sizes_to_run import sizes_to_run
from keras_gcp.channels.map import ChannelMap, Weight
from keras_gcp.channels.trace import trace_as_planned
from keras_gcp.errors import InvalidArgument, UnsupportedModel
from keras_gcp.gates.blocks import gated_blocks, is_whole_gate
from keras_gcp.gates.floors import with_floors
from keras_gcp.gates.gate import Gate, gated_channels, gates_of
from keras_gcp.graph import Call, leaves
from keras_gcp.keras_state import Transaction
from keras_gcp.surgery.cut import Cut, cut_in_place
from keras_gcp.surgery.model_copy import rewired_copy
from keras_gcp.surgery.verify import outputs_of


def remove(model: Any) -> Any:
    """The plain narrow network that a gated one computes once its gates are frozen.

    Factors of open channels go into the kernels that read them; closed channels, and residual
    branches whose gate is closed, are cut out. The result is compared with the gated model, gates
    frozen, on random inputs. It has the layers of the original under their names, and loads without
    keras_gcp. A group all of whose channels are closed keeps one, with factor 0: no layer can do
    without any.

    Args:
        model: A model with gates, from `keras_gcp.gates.insert`. It stays as it is.

    Returns:
        A functional `keras.Model`, not compiled.

    Raises:
        InvalidArgument: the model has no gates.
        UnsupportedModel: a factor that is neither 0 nor 1 cannot go into any weights.
        VerificationFailed: the result computes something else than the frozen gated model; so it
            is where gates stand otherwise than `insert` puts them.

    Example:

    ```python
    narrow = keras_gcp.gates.remove(gated)
    narrow.save("narrow.keras")
    ```
    """
    keras_state.require_functional(model)
    channels = trace_as_planned(model)
    gates = [call for call in channels.graph.calls if isinstance(call.operation, Gate)]
    if not gates:
        raise InvalidArgument(
            f"Model '{model.name}' has no gates to remove. Expected one from "
            "`keras_gcp.gates.insert(model, gate)`."
        )
    found = _Factors.of(channels, gates)
    shapes = sizes_to_run(model, None)
    inputs = random_inputs(model, example_count(model, shapes), shapes=shapes)
    with all_frozen(model):
        expected = outputs_of(model, channels.graph, inputs)
    plain, copies = rewired_copy(model, found.call)
    for variable, value in found.folded(channels, copies):
        variable.assign(value)
    own = trace_as_planned(plain, shapes=shapes)
    cut = Cut(own, found.keep(channels, own), {})
    with Transaction() as transaction:
        cut_in_place(cut, transaction, inputs=inputs, expected=expected)
    return plain


@contextmanager
def all_frozen(model: Any) -> Iterator[None]:
    """Inside the context, all gates of a model are frozen."""
    gates = gates_of(model)
    before = [gate.frozen for gate in gates]
    try:
        for gate in gates:
            gate.frozen = True
        yield
    finally:
        for gate, frozen in zip(gates, before, strict=True):
            gate.frozen = frozen


@dataclass(frozen=True, eq=False)
class _Factors:
    """What frozen gates multiply by.

    Attributes:
        of_channels: `(coupled_count,)`, 1 where there is no gate.
        values: How open channels are, likewise.
        of_blocks: Addition to (place of its branch, its calls, factor), by `id`.
    """

    of_channels: np.ndarray
    values: np.ndarray
    of_blocks: Mapping[int, tuple[int, Sequence[Call], float]]

    @classmethod
    def of(cls, channels: ChannelMap, gates: Sequence[Call]) -> _Factors:
        factors, values = np.ones((2, channels.coupled_count))
        for call in gates:
            if not call.operation.whole:
                ids = gated_channels(channels, call)
                factors[ids] = keras.ops.convert_to_numpy(call.operation.factors())
                values[ids] = keras.ops.convert_to_numpy(call.operation.values())
        blocks = {}
        for block, last in gated_blocks(channels):
            (factor,) = keras.ops.convert_to_numpy(last.operation.factors())
            blocks[id(block.addition.operation)] = block.branch, block.inside, float(factor)
        return cls(factors, values, blocks)

    def call(self, operation: Any, copy: Any, args: Any, kwargs: Any) -> Any:
        """A call of the plain model: gates hand through, closed branches are left out."""
        if isinstance(operation, Gate):
            return args[0]
        branch, _, factor = self.of_blocks.get(id(operation), (0, (), 1.0))
        return leaves((args, kwargs))[1 - branch] if factor == 0 else copy(*args, **kwargs)

    def folded(
        self, channels: ChannelMap, copies: Mapping[int, Any]
    ) -> Iterator[tuple[Any, np.ndarray]]:
        """Weights of the plain model, with the factors of what they read or make."""
        for call in {id(call.operation): call for call in channels.graph.calls}.values():
            if isinstance(call.operation, Gate) or not keras_state.is_layer(call.operation):
                continue
            for variable, own in _pairs(call.operation, copies):
                weight = channels.weights.get(id(variable))
                line = None if weight is None else self._along(weight)
                if line is not None:
                    yield own, keras.ops.convert_to_numpy(own) * line
        for _, inside, factor in self.of_blocks.values():
            if factor not in (0.0, 1.0):
                yield from _scaled_branch(inside, factor, copies)

    def _along(self, weight: Weight) -> np.ndarray | None:
        """What a weight is to be multiplied by; None if it is 1."""
        factor = np.ones([1] * len(weight.variable.shape))
        for axis in weight.consumed:
            shape = [-1 if a == axis else 1 for a in range(factor.ndim)]
            factor = factor * self.of_channels[weight.axes[axis]].reshape(shape)
        return None if (factor == 1).all() else factor

    def keep(self, channels: ChannelMap, own: ChannelMap) -> np.ndarray:
        """Which channels of the plain model stay, `(its coupled_count,)`."""
        keep, values = np.ones(own.coupled_count, bool), np.ones(own.coupled_count)
        for path, coupled in own.produced.items():
            keep[coupled] = self.of_channels[channels.produced[path]] != 0
            values[coupled] = self.values[channels.produced[path]]
        return with_floors(own, keep, values)


def _pairs(layer: Any, copies: Mapping[int, Any]) -> list[tuple[Any, Any]]:
    copy = copies.get(id(layer))
    if copy is None or not copy.built:
        return []
    return list(zip(layer.weights, copy.weights, strict=True))


_LINEAR = (
    keras.layers.Conv1D,
    keras.layers.Conv2D,
    keras.layers.Conv3D,
    keras.layers.Dense,
    keras.layers.EinsumDense,
)


def _scaled_branch(
    inside: Sequence[Call], factor: float, copies: Mapping[int, Any]
) -> Iterator[tuple[Any, np.ndarray]]:
    """The last weights of a branch, times a factor."""
    gate = next(call for call in inside if is_whole_gate(call))
    last = next(c for c in inside if c.outputs[0].index == gate.inputs[0].index)
    layer = last.operation
    if isinstance(layer, keras.layers.BatchNormalization) and layer.gamma is not None:
        names = ("gamma", "beta")
    elif isinstance(layer, _LINEAR) and layer.activation is keras.activations.linear:
        names = ("kernel", "bias")
    else:
        raise UnsupportedModel(
            f"Gate '{gate.operation.name}' multiplies a residual branch by {factor:.3g}, and the "
            f"branch ends in layer '{last.path}' (class {type(layer).__name__}), whose weights "
            "cannot take that factor. Expected a batch normalization with a scale, a convolution "
            "or a dense layer without activation, or a gate whose factors are 0 and 1."
        )
    copy = copies[id(layer)]
    for variable in (getattr(copy, name) for name in names):
        if variable is not None:
            yield variable, keras.ops.convert_to_numpy(variable) * factor
