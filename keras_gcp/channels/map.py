"""The channel map of a model: which channels live or die together, and what they touch."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from keras_gcp.channels import map_text
from keras_gcp.channels.channel_ids import Cause
from keras_gcp.channels.findings import (
    ArgumentSite,
    ConfigSite,
    HeldSite,
    MacsSite,
    MixingSite,
)
from keras_gcp.channels.neighbours import outlook
from keras_gcp.graph import Graph, Neighbour, Shapes


@dataclass(frozen=True, eq=False)
class Weight:
    """A weight, with the coupled channels that stand along its axes.

    Attributes:
        variable: The `keras.Variable`.
        path: Path of the layer that owns it.
        axes: Axis to the coupled channels at its positions, `(size of the axis,)`.
        consumed: Axes over which the layer sums.
        produced: Axes whose channels begin at the layer.
    """

    variable: Any
    path: str
    axes: Mapping[int, np.ndarray]
    consumed: tuple[int, ...]
    produced: tuple[int, ...]


@dataclass(frozen=True)
class Member:
    """A layer that produces channels of a group.

    Attributes:
        path: Address of the layer.
        kind: Name of its class.
        multiplicity: How many of its channels stand or fall with one channel of the group.
        width: How many of its channels belong to the group.
    """

    path: str
    kind: str
    multiplicity: int
    width: int


@dataclass(frozen=True, eq=False)
class Group:
    """Channels with the same places everywhere in the network.

    Attributes:
        name: Path of the first layer that produces it (numbered if that produces several).
        coupled: Its coupled channels, `(channels,)`, in the order of that layer.
        members: The layers that produce its channels.
        anchored: Why none of it may be pruned, or None.
        least: Number of channels that it must keep even if the floor is lower.
        least_reason: Why.
    """

    name: str
    coupled: np.ndarray
    members: tuple[Member, ...]
    anchored: str | None
    least: int = 1
    least_reason: str | None = None


@dataclass(frozen=True, eq=False)
class Blocker:
    """What keeps channels from being pruned.

    Attributes:
        cause: What it is.
        coupled: The coupled channels that it keeps, alone or with others.
    """

    cause: Cause
    coupled: np.ndarray

    @property
    def kind(self) -> str:
        """The same for blockers that differ in their names only."""
        return self.cause.text.replace(f"'{self.cause.path}'", "''")


@dataclass(frozen=True, eq=False, repr=False)
class ChannelMap:
    """Everything known about the channels of one model.

    Attributes:
        model: The model, which may have been cut since.
        graph: Its calls.
        coupled_count: Number of sets of coupled channels. An array of coupled channels holds the
            number of such a set at each position.
        reasons: Coupled channels that are anchored, to the reason.
        tensors: Tensor index to its block of coupled channels.
        weights: Weights with channels, by `id` of the variable.
        configs: Configuration entries that depend on widths.
        arguments: Call arguments that depend on widths.
        mixings: Layers that mix channels without weights between them.
        held: Layers inside other layers, with what enters them.
        macs: Multiply-adds of every call with a kernel, and of attention.
        produced: Producing layer to its output channels, as coupled channels.
        kinds: Producing layer to the name of its class.
        refusals: Layer to why its channels could not be followed.
        groups: The groups, in network order.
        uncounted: Layer to why some of its multiply-adds are not among `macs`.
        neighbours: Other living models that are cut along; none for a model that is copied.
        beside: Weights with channels that only the neighbours have, by `id` of the variable.
        blockers: What keeps channels from being pruned, in network order.
        sized: The same calls at the sizes that costs are counted at, where the model leaves its
            sizes open; None where it does not, or none are known.
    """

    model: Any
    graph: Graph
    coupled_count: int
    reasons: Mapping[int, str]
    tensors: Mapping[int, np.ndarray]
    weights: Mapping[int, Weight]
    configs: tuple[ConfigSite, ...]
    arguments: tuple[ArgumentSite, ...]
    mixings: tuple[MixingSite, ...]
    held: tuple[HeldSite, ...]
    macs: tuple[MacsSite, ...]
    produced: Mapping[str, np.ndarray]
    kinds: Mapping[str, str]
    refusals: Mapping[str, str]
    groups: tuple[Group, ...]
    uncounted: Mapping[str, str]
    neighbours: tuple[Neighbour, ...]
    beside: Mapping[int, Weight]
    blockers: tuple[Blocker, ...]
    sized: Graph | None = None

    def __repr__(self) -> str:
        free = int(self.prunable.sum())
        return f"<ChannelMap: {len(self.groups)} groups, {free:,} of {self.coupled_count:,} free>"

    def __str__(self) -> str:
        return self.explain()

    def _repr_html_(self) -> str:
        return map_text.html(self._rows(), self._lines())

    def explain(self) -> str:
        """Text: the groups, what stays, and why, layer by layer."""
        return map_text.text(self._rows(), self._lines())

    def _rows(self) -> list[list[str]]:
        return [
            map_text.group_row(
                one.name,
                len(one.coupled),
                [member.path for member in one.members],
                one.anchored,
                f"keeps at least {one.least}: {one.least_reason}" if one.least_reason else None,
            )
            for one in self.groups
        ]

    def _lines(self) -> list[str]:
        free = int(self.prunable.sum())
        causes = dict.fromkeys(blocker.cause.text for blocker in self.blockers)
        return map_text.below(free, self.coupled_count, self.refusals, causes)

    @property
    def counted(self) -> Graph:
        """The calls with the shapes that costs are counted with. Cuts go by those of `graph`."""
        return self.sized or self.graph

    @property
    def counted_at(self) -> Shapes | None:
        """The sizes of the inputs that costs are counted at; None if they are the model's own."""
        return self.sized.input_sizes if self.sized else None

    @cached_property
    def all_weights(self) -> dict[int, Weight]:
        """The weights with channels of the model and of its neighbours, by `id`."""
        return {**self.weights, **self.beside}

    @cached_property
    def graphs(self) -> tuple[Graph, ...]:
        """The model's graph, and what its neighbours have beside it."""
        return (self.graph, *(neighbour.graph for neighbour in self.neighbours))

    def outlooks(self) -> tuple[str, ...]:
        """What other models have to expect of a cut, a sentence each."""
        told = (outlook(one, self.tensors, self.prunable) for one in self.neighbours)
        return tuple(sentence for sentence in told if sentence)

    @cached_property
    def prunable(self) -> np.ndarray:
        """Whether each set of coupled channels may be pruned, `(coupled_count,)`."""
        free = np.zeros(self.coupled_count, bool)
        for group in self.groups:
            if group.anchored is None:
                free[group.coupled] = True
        return free

    def widths(self) -> dict[str, int]:
        """Producing layer to its number of output channels."""
        return {path: len(coupled) for path, coupled in self.produced.items()}


def taken(value: np.ndarray, axes: Mapping[int, np.ndarray], keep: np.ndarray) -> np.ndarray:
    """The kept part of an array.

    Args:
        value: The array.
        axes: Axis to the coupled channels at its positions.
        keep: `(coupled_count,)` booleans, True = kept.
    """
    for axis, coupled in axes.items():
        value = np.compress(keep[coupled], value, axis)
    return value


def kept_along(block: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
    """The axes of a tensor that lose something, or may, with what is kept along each.

    Args:
        block: Which positions of the tensor are kept; its first axis is that after the batch axis,
            and its size is 1 along axes on which that does not depend.

    Yields:
        `(axis, (size,) booleans)`, the batch axis counted.
    """
    for axis, size in enumerate(block.shape):
        if size > 1:
            yield axis + 1, np.moveaxis(block, axis, 0).reshape(size, -1)[:, 0]


def kept_part(value: np.ndarray, block: np.ndarray) -> np.ndarray:
    """The kept part of a tensor's value, with the batch axis first; `block` as for `kept_along`."""
    for axis, line in kept_along(block):
        value = np.compress(line, value, axis)
    return value
