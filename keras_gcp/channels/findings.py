"""What the rules have said about a graph, as plain records."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from keras_gcp.channels.channel_ids import ChannelIds, ChannelIdSpace
from keras_gcp.graph import Shape

Restricted = Callable[[np.ndarray], Callable[..., Any]]


@dataclass(frozen=True)
class Count:
    """Stands, in a configuration entry, for the number of kept channels among `ids`."""

    ids: ChannelIds


@dataclass(frozen=True, eq=False)
class WeightSite:
    """A weight, with the channel ids along its axes.

    Attributes:
        variable: The `keras.Variable`.
        path: Path of the layer that owns it.
        axes: Axis to the channel ids of its positions.
        consumed: Axes over which the layer sums: their channels end here.
        produced: Axes whose channels begin here.
    """

    variable: Any
    path: str
    axes: Mapping[int, ChannelIds]
    consumed: tuple[int, ...]
    produced: tuple[int, ...]


@dataclass(frozen=True, eq=False)
class ConfigSite:
    """A configuration entry that depends on a width; `Count` leaves are filled in later.

    Attributes:
        operation: The layer or operation.
        name: Name of the constructor's argument; None if `build` finds it out.
        attribute: Name of the attribute; None if another object holds it.
        value: Its value.
    """

    operation: Any
    name: str | None
    attribute: str | None
    value: Any


@dataclass(frozen=True, eq=False)
class ArgumentSite:
    """An argument of a recorded call that depends on a width, with `Count` leaves.

    Attributes:
        node: Keras' record of the call.
        position: Its place among the positional arguments, or its keyword.
        value: Its value.
    """

    node: Any
    position: int | str
    value: Any


@dataclass(frozen=True, eq=False)
class MixingSite:
    """A layer that computes each output from several channels, without weights between them.

    Attributes:
        operation: The layer or operation.
        ids: The channels that it mixes.
        restricted: `(which of them count, (channels,)) -> call`: what the operation computes from
            those alone; where it has an output for each channel, the others are 0.
    """

    operation: Any
    ids: ChannelIds
    restricted: Restricted


@dataclass(frozen=True, eq=False)
class HeldSite:
    """A layer inside another layer, with what enters it: its channel ids and its shape."""

    layer: Any
    block: ChannelIds
    shape: Shape


@dataclass(frozen=True, eq=False)
class MacsSite:
    """Multiply-adds of one call: positions times kernel entries times widths.

    Attributes:
        path: Path of the layer.
        variable: The kernel; None where activations are multiplied with each other (attention).
        positions: How often; None where height, width or the number of steps are unknown.
        widths: Axes of tensors whose sizes are further factors: a kernel that works along time, for
            instance, is applied to every channel.
    """

    path: str
    variable: Any
    positions: int | None
    widths: tuple[ChannelIds, ...] = ()


@dataclass(frozen=True, eq=False)
class LeastSite:
    """An axis that must keep a number of channels, and why."""

    ids: ChannelIds
    count: int
    reason: str


@dataclass
class Findings:
    """What the rules have said so far, for the whole graph.

    Attributes:
        space: The channel ids, with their ties and anchors.
        weights: Weights with channels, by `id` of the variable.
        configs: Configuration entries that depend on widths.
        arguments: Call arguments that depend on widths.
        macs: Multiply-adds of every call with a kernel, and of attention.
        produced: Producing layer to the channel ids of its output channels.
        refusals: Layer to why its channels could not be followed.
        leasts: Axes that must keep a number of channels.
        pieces: Stretches of an axis of which at least one channel must stay.
        mixings: Layers that mix channels without weights between them, by `id`.
        held: Layers inside other layers.
    """

    space: ChannelIdSpace = field(default_factory=ChannelIdSpace)
    weights: dict[int, WeightSite] = field(default_factory=dict)
    configs: list[ConfigSite] = field(default_factory=list)
    arguments: list[ArgumentSite] = field(default_factory=list)
    macs: list[MacsSite] = field(default_factory=list)
    produced: dict[str, ChannelIds] = field(default_factory=dict)
    refusals: dict[str, str] = field(default_factory=dict)
    leasts: list[LeastSite] = field(default_factory=list)
    pieces: list[ChannelIds] = field(default_factory=list)
    mixings: dict[int, MixingSite] = field(default_factory=dict)
    held: list[HeldSite] = field(default_factory=list)
