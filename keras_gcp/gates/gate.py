"""What a gate is: a layer with one factor for each channel that it lets through."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
from keras import ops

from keras_gcp import keras_state
from keras_gcp.channels.channel_ids import ChannelIds
from keras_gcp.channels.map import ChannelMap
from keras_gcp.channels.registry import register_rule
from keras_gcp.channels.site import Site
from keras_gcp.errors import InvalidArgument
from keras_gcp.graph import Call
from keras_gcp.validation import between, require_flag, require_integer


@keras.saving.register_keras_serializable("keras_gcp")
class Gate(keras.layers.Layer):
    """Base class of gates: multiplies each channel by a factor in [0, 1].

    A gate of one's own is a subclass, registered as serialisable, that says how open it is. It
    overrides neither `call` nor `build`, so that the rule of `Gate` (how its weights follow the
    channels when the model is cut) holds for it, too. It has

    - `build_gate(units, seen)`: makes its weights;
    - `values()`: how open each channel is, over all inputs, `(units,)` in [0, 1];
    - `dynamic(seen, training)`: the factors while the gate is not frozen, `(units,)`, or
      `(batch, units)` if they depend on the input (then it sets `reads_input = True`);
    - `per_channel()` and `summed()`: which axes of its weights belong to channels;
    - `factors()`, if a frozen gate multiplies open channels by something else than 1.

    Args:
        channels: The number of channels that have a factor. None: all that enter.
        whole: One factor for all that enters, as for a residual branch that goes as a whole.
        threshold: A channel is open if its value is larger than this; in [0, 1).

    Attributes:
        frozen: Whether the gate multiplies by `factors()`, which no longer depend on inputs or
            chance. May be set at any time; compiled code follows.

    Raises:
        InvalidArgument: an argument is out of its range.

    Example:

    ```python
    @keras.saving.register_keras_serializable("mine")
    class Tilted(keras_gcp.gates.Gate):
        def build_gate(self, units, seen):
            self.tilt = self.add_weight((units,), initializer="ones", name="tilt", autocast=False)

        def values(self):
            return keras.ops.sigmoid(self.tilt)

        def dynamic(self, seen, training):
            return self.values()

        def per_channel(self):
            return [(self.tilt, 0)]
    ```
    """

    reads_input = False

    def __init__(
        self,
        channels: int | None = None,
        *,
        whole: bool = False,
        threshold: float = 0.5,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        found = between(threshold, 0.0, 1.0)
        if found is None or found == 1:
            raise InvalidArgument(
                f"`threshold` of {type(self).__name__} expects a number in [0, 1). "
                f"Received: {threshold!r}."
            )
        self.channels = None if channels is None else require_integer("channels", channels, least=1)
        self.whole = require_flag("whole", whole)
        self.threshold = found
        self.supports_masking = True
        self._starts_frozen = False
        self._frozen: Any = None

    # ---- what a gate of one's own says

    def build_gate(self, units: int, seen: int) -> None:
        """Makes the weights.

        Args:
            units: The number of factors.
            seen: The number of channels that `dynamic` sees, if it does.
        """
        raise NotImplementedError(f"Gate {type(self).__name__} has no `build_gate`.")

    def values(self) -> Any:
        """How open each channel is, over all inputs: a tensor `(units,)` of numbers in [0, 1]."""
        raise NotImplementedError(f"Gate {type(self).__name__} has no `values`.")

    def dynamic(self, seen: Any, training: Any) -> Any:
        """The factors while the gate is not frozen.

        Args:
            seen: Means over all positions of what the gate looks at, `(batch, channels)`; None
                unless `reads_input`.
            training: Whether the model trains.

        Returns:
            A tensor `(units,)` or `(batch, units)`.
        """
        raise NotImplementedError(f"Gate {type(self).__name__} has no `dynamic`.")

    def per_channel(self) -> list[tuple[Any, int]]:
        """Weights with a number for each channel, each with the axis of the channels."""
        return []

    def summed(self) -> list[tuple[Any, int]]:
        """Weights that sum over the channels that the gate sees, each with their axis."""
        return []

    def factors(self) -> Any:
        """What a frozen gate multiplies by: a tensor `(units,)`, 0 for closed channels."""
        return ops.cast(self.values() > self.threshold, self.variable_dtype)

    # ---- what all gates have in common

    def hard(self) -> np.ndarray:
        """Which channels are open, `(units,)` booleans."""
        return np.asarray(ops.convert_to_numpy(self.values())) > self.threshold

    @property
    def frozen(self) -> bool:
        """Whether the gate multiplies by `factors()`."""
        if self._frozen is None:
            return self._starts_frozen
        return bool(ops.convert_to_numpy(self._frozen) > 0)

    @frozen.setter
    def frozen(self, value: bool) -> None:
        self._starts_frozen = require_flag("frozen", value)
        if self._frozen is not None:
            self._frozen.assign(float(self._starts_frozen))

    def if_frozen(self, then: Any, otherwise: Any) -> Any:
        """One tensor while the gate is frozen, another one while it is not."""
        return ops.where(self._frozen > 0, then, otherwise)

    def build(self, x_shape: Any, seen_shape: Any = None) -> None:
        if self.channels is None and not self.whole:
            self.channels = int(x_shape[-1])
        units = 1 if self.whole else int(self.channels or 1)
        seen = int((seen_shape or x_shape)[-1]) if self.whole else units
        # A weight, not an attribute: what was compiled before it changes goes by it, too.
        self._frozen = self.add_weight(
            (),
            initializer=keras.initializers.Constant(float(self._starts_frozen)),
            trainable=False,
            autocast=False,
            name="frozen",
        )
        self.build_gate(units, seen)

    def call(
        self,
        x: Any,
        seen: Any = None,
        axis: int = -1,
        start: int = 0,
        period: int | None = None,
        training: Any = None,
    ) -> Any:
        """Multiplies channels by their factors.

        Args:
            x: A tensor `(batch, ...)`.
            seen: What the gate looks at, `(batch, ..., channels)`; None: `x`.
            axis: The axis of `x` with the channels.
            start: Where the gate's channels begin on it; others pass as they are.
            period: After how many positions the channels come again, as after `Flatten`; None:
                they do not.
            training: Whether the model trains.
        """
        axis = axis % len(x.shape)
        width = x.shape[axis]
        period = width if period is None else period
        looked_at = self._looked_at(x, seen, axis, start, period) if self.reads_input else None
        dynamic = self.dynamic(looked_at, training)
        static = ops.broadcast_to(self.factors(), ops.shape(dynamic))
        factors = self.if_frozen(static, dynamic)
        factors = factors if len(factors.shape) == 2 else factors[None]
        if not self.whole:
            factors = _along(factors, start, period, width)
        shape = [-1 if a == 0 else (width if a == axis else 1) for a in range(len(x.shape))]
        if self.whole:
            shape[axis] = 1
        return x * ops.cast(ops.reshape(factors, shape), x.dtype)

    def _looked_at(self, x: Any, seen: Any, axis: int, start: int, period: int) -> Any:
        """`(batch, channels)`: means over all positions."""
        if seen is not None:
            x, axis, start, period = seen, len(seen.shape) - 1, 0, seen.shape[-1]
        others = [a for a in range(1, len(x.shape)) if a != axis]
        means = ops.cast(x, self.variable_dtype)
        means = ops.mean(means, axis=others) if others else means
        if self.whole:
            return means
        if period != means.shape[-1]:
            means = ops.mean(ops.reshape(means, (-1, means.shape[-1] // period, period)), axis=1)
        return means[:, start : start + (self.channels or 0)]

    def compute_output_shape(self, x_shape: Any, seen_shape: Any = None) -> Any:
        return tuple(x_shape)

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "channels": self.channels,
            "whole": self.whole,
            "threshold": self.threshold,
        }


def _along(factors: Any, start: int, period: int, width: int) -> Any:
    """Factors `(examples, channels)` for all positions of an axis: 1 where others stand."""
    after = period - start - factors.shape[-1]
    if start or after:
        factors = ops.pad(factors, ((0, 0), (start, after)), constant_values=1.0)
    return ops.tile(factors, (1, width // period)) if period != width else factors


@register_rule(Gate)
def gate(site: Site) -> ChannelIds:
    """Channels pass through; weights of the gate follow those that it has factors for."""
    layer, arguments = site.layer, site.call.kwargs
    seen = None if len(site.inputs) < 2 else site.channels(1, -1)
    if layer.whole:
        ids = None
        seen = site.channels(0, arguments.get("axis", -1)) if seen is None else seen
    else:
        line = site.channels(0, arguments.get("axis", -1))
        start, period = arguments.get("start", 0), arguments.get("period") or len(line)
        ids = line[start : start + layer.channels]
        for again in line.reshape(-1, period)[1:]:
            site.tie(line[:period], again)
        if "start" in arguments:
            site.argument("start", site.count(line[:start]) if start else 0)
        if arguments.get("period") is not None:
            site.argument("period", site.count(line[:period]))
        site.config("channels", site.count(ids))
        seen = ids if seen is None else seen
    for variable, axis in layer.summed():
        kept = {} if ids is None else _carried(layer, variable, ids)
        site.weight(variable, consumes={axis: seen}, carries=kept)
    summed = {id(variable) for variable, _ in layer.summed()}
    for variable, axis in layer.per_channel():
        if id(variable) not in summed:
            site.weight(variable, carries={} if ids is None else {axis: ids})
    declared = {id(v) for v, _ in (*layer.summed(), *layer.per_channel())}
    for variable in layer.weights:
        if id(variable) not in declared:
            site.weight(variable)
    return site.inputs[0]


def _carried(layer: Gate, variable: Any, ids: ChannelIds) -> dict[int, ChannelIds]:
    return {axis: ids for one, axis in layer.per_channel() if one is variable}


def gates_of(model: Any) -> list[Gate]:
    """The gates of a model, nested models included, in the order of its layers."""
    found = {id(one): one for one in keras_state.all_layers(model) if isinstance(one, Gate)}
    return list(found.values())


def gated_channels(channels: ChannelMap, call: Call) -> np.ndarray:
    """The coupled channels that a call of a gate has factors for, `(channels,)`."""
    x = call.inputs[0]
    block = channels.tensors[x.index]
    size = x.shape[call.kwargs.get("axis", -1)]
    line = np.broadcast_to(block.reshape(-1), (size,))
    start = call.kwargs.get("start", 0)
    return np.asarray(line[start : start + call.operation.channels])
