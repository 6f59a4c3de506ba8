"""What a rule sees and says: one call of one layer."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from keras_gcp.channels.labels import Labels, LabelSpace
from keras_gcp.graph import Call, Shape


class Unprunable(Exception):
    """Raised by a rule that cannot follow the channels here; says why."""


@dataclass(frozen=True)
class Count:
    """Stands, in a configuration entry, for the number of kept channels among `labels`."""

    labels: Labels


@dataclass(frozen=True, eq=False)
class WeightSite:
    """A weight, with the labels along its axes.

    Attributes:
        variable: The `keras.Variable`.
        path: Path of the layer that owns it.
        axes: Axis to the labels of its positions.
        consumed: Axes over which the layer sums: their channels end here.
        produced: Axes whose channels begin here.
    """

    variable: Any
    path: str
    axes: Mapping[int, Labels]
    consumed: tuple[int, ...]
    produced: tuple[int, ...]


@dataclass(frozen=True, eq=False)
class ConfigSite:
    """A configuration entry that depends on a width; `Count` leaves are filled in later."""

    operation: Any
    name: str
    value: Any


@dataclass(frozen=True, eq=False)
class MacsSite:
    """Multiply-adds of one call: positions times the number of kernel entries.

    `positions` is None where height or width are unknown.
    """

    path: str
    variable: Any
    positions: int | None


@dataclass(frozen=True, eq=False)
class LeastSite:
    """An axis that must keep a number of channels, and why."""

    labels: Labels
    count: int
    reason: str


@dataclass
class Findings:
    """What the rules have said so far, for the whole graph."""

    space: LabelSpace = field(default_factory=LabelSpace)
    weights: dict[int, WeightSite] = field(default_factory=dict)
    configs: list[ConfigSite] = field(default_factory=list)
    macs: list[MacsSite] = field(default_factory=list)
    produced: dict[str, Labels] = field(default_factory=dict)
    refusals: dict[str, str] = field(default_factory=dict)
    leasts: list[LeastSite] = field(default_factory=list)


class Site:
    """One call of one layer, as a rule sees it.

    Attributes:
        layer: The layer (or `keras.ops` operation).
        path: Its address in the model.
        inputs: The label block of each input tensor.
        input_shapes: Their shapes, batch axis first.
        output_shapes: Shapes of the outputs.
        args: The call's arguments, with `Tensor` placeholders.
    """

    def __init__(self, call: Call, inputs: Sequence[Labels], findings: Findings) -> None:
        self.layer = call.operation
        self.path = call.path
        self.call = call
        self.inputs = list(inputs)
        self.input_shapes: list[Shape] = [x.shape for x in call.inputs]
        self.output_shapes: list[Shape] = [x.shape for x in call.outputs]
        self._findings = findings

    # ---- where the channels are

    @property
    def channel_axis(self) -> int:
        """The layer's channel axis (batch axis counted), from its `data_format`."""
        rank = len(self.input_shapes[0])
        first = getattr(self.layer, "data_format", "channels_last") == "channels_first"
        return 1 if first else rank - 1

    def channels(self, index: int = 0, axis: int | None = None) -> Labels:
        """The labels along one axis of an input, `(size of the axis,)`.

        Args:
            index: Which input.
            axis: Axis, batch axis counted; the layer's channel axis if None.

        Raises:
            Unprunable: the labels also vary along another axis, or the size is unknown.
        """
        axis = self.channel_axis if axis is None else axis
        axis = axis % len(self.input_shapes[index])
        block, size = self.inputs[index], self.input_shapes[index][axis]
        if size is None:
            raise Unprunable("the size of its channel axis is unknown")
        if any(n > 1 for i, n in enumerate(block.shape) if i != axis - 1):
            raise Unprunable("its channels lie along another axis than the one it works on")
        return np.broadcast_to(block.reshape(-1), (size,))

    def along(self, labels: Labels, axis: int, rank: int) -> Labels:
        """A block of a rank-`rank` tensor whose labels vary along one axis only."""
        shape = [1] * (rank - 1)
        shape[axis % rank - 1] = len(labels)
        return np.asarray(labels).reshape(shape)

    def output_block(self, labels: Labels) -> Labels:
        """A block with the labels on the layer's channel axis of its first output."""
        rank = len(self.output_shapes[0])
        axis = 1 if self.channel_axis == 1 and len(self.input_shapes[0]) > 2 else rank - 1
        return self.along(labels, axis, rank)

    # ---- what happens to them

    def fresh(self, count: int) -> Labels:
        """Labels for `count` channels that begin here."""
        return self._findings.space.fresh(count)

    def tie(self, first: Labels, second: Labels) -> None:
        """Channels at equal positions live or die together."""
        self._findings.space.tie(first, second)

    def anchor(self, labels: Labels, reason: str) -> None:
        """These channels stay, for the reason given."""
        self._findings.space.anchor(labels, reason)

    # ---- what depends on them

    def weight(
        self,
        variable: Any,
        consumes: Mapping[int, Labels] | None = None,
        produces: Mapping[int, Labels] | None = None,
        carries: Mapping[int, Labels] | None = None,
    ) -> None:
        """Declares what the axes of a weight carry; undeclared axes are of fixed size.

        Args:
            variable: The `keras.Variable`; None (no bias, say) is ignored.
            consumes: Axes over which the layer sums, so that a removed channel vanishes if the
                weight is zero there.
            produces: Axes whose channels begin at this layer.
            carries: Axes that belong to channels passing through (scales, depthwise kernels).
        """
        if variable is None:
            return
        groups = [consumes or {}, produces or {}, carries or {}]
        rank = len(variable.shape)
        axes = {axis % rank: labels for group in groups for axis, labels in group.items()}
        for axis, labels in axes.items():
            if len(labels) != variable.shape[axis]:
                raise ValueError(
                    f"Rule of layer '{self.path}' (class {type(self.layer).__name__}) declares "
                    f"{len(labels)} labels for axis {axis} of weight '{variable.name}', whose "
                    f"shape is {tuple(variable.shape)}."
                )
        known = self._findings.weights.get(id(variable))
        if known is not None:  # A shared layer: its calls see the same channels.
            for axis, labels in axes.items():
                self.tie(known.axes[axis], labels)
            return
        self._findings.weights[id(variable)] = WeightSite(
            variable,
            self.path,
            axes,
            tuple(axis % rank for axis in groups[0]),
            tuple(axis % rank for axis in groups[1]),
        )

    def at_least(self, labels: Labels, count: int, reason: str) -> None:
        """An axis that has `count` channels or more must not get narrower than that."""
        if len(labels) >= count:
            self._findings.leasts.append(LeastSite(labels, count, reason))

    def begins(self, labels: Labels) -> None:
        """Names the layer as the producer of these channels: criteria score it."""
        self._findings.produced.setdefault(self.path, labels)

    def config(self, name: str, value: Any) -> None:
        """Declares a configuration entry, with `Count(labels)` where a width stands."""
        self._findings.configs.append(ConfigSite(self.layer, name, value))

    def macs(self, variable: Any, positions: Sequence[int | None]) -> None:
        """Declares multiply-adds: the kernel's entries times the number of positions."""
        total = None if any(size is None for size in positions) else math.prod(positions)  # type: ignore[arg-type]
        self._findings.macs.append(MacsSite(self.path, variable, total))
