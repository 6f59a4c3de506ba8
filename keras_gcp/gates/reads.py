"""Where layers read channels: the places at which a closed gate is what a cut removes.

A cut is proved against the network in which no layer reads a removed channel. So a gate stands
right before each layer that reads its channels: 0 there is exactly what the cut removes, whatever
activation or normalization the channels have passed, and a factor there is a factor of the
reader's kernel.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np

from keras_gcp import keras_state
from keras_gcp.channels.map import ChannelMap
from keras_gcp.graph import Call, Tensor

MOST_PARTS = 8
"""A group that stands in more places gets no gate: each would be a layer of its own."""


@dataclass(frozen=True)
class Piece:
    """Channels of one gate in a row.

    Attributes:
        part: Name of what has one gate.
        start: Where they begin.
    """

    part: str
    start: int


@dataclass(frozen=True)
class Read:
    """A tensor that a layer reads, with what is gated on its channel axis.

    Attributes:
        place: Which of the tensors among the layer's arguments.
        axis: The channel axis; -1 if it is the last.
        period: After how many positions the channels come again; None if they do not.
        pieces: What is gated.
    """

    place: int
    axis: int
    period: int | None
    pieces: tuple[Piece, ...]


@dataclass(frozen=True, eq=False)
class Part:
    """Channels that get one gate: a group, or a stretch of one that others stand between.

    Attributes:
        channels: How many.
        reader: The layer or operation that reads them first.
    """

    channels: int
    reader: Any


@dataclass(frozen=True, eq=False)
class Reads:
    """What is read where.

    Attributes:
        by_reader: What each layer or operation reads, by `id`.
        parts: What gets a gate, by name, in network order.
        refused: Groups that cannot have a gate, to the reason.
    """

    by_reader: Mapping[int, tuple[Read, ...]]
    parts: Mapping[str, Part]
    refused: Mapping[str, str]


def reads_of(channels: ChannelMap) -> Reads:
    """All reads of channels that may be pruned, and which groups cannot have a gate."""
    finder = _Finder(channels)
    for call in channels.graph.calls:
        finder.look_at(call)
    for mixing in channels.mixings:
        reason = f"layer '{mixing.operation.name}' computes from all of them, without weights"
        finder.refuse(mixing.ids, reason)
    return finder.found()


@dataclass(frozen=True, eq=False)
class _Line:
    """A read, as the coupled channels along the axis, those of one period."""

    place: int
    axis: int
    period: int | None
    coupled: np.ndarray

    def same_as(self, other: _Line) -> bool:
        same = (self.place, self.axis, self.period) == (other.place, other.axis, other.period)
        return same and np.array_equal(self.coupled, other.coupled)


class _Finder:
    def __init__(self, channels: ChannelMap) -> None:
        self._channels = channels
        # A group of one channel never loses it.
        self._groups = [g for g in channels.groups if g.anchored is None and len(g.coupled) > 1]
        self._group_of = np.full(channels.coupled_count, -1)
        self._place_in = np.full(channels.coupled_count, -1)
        for number, group in enumerate(self._groups):
            self._group_of[group.coupled] = number
            self._place_in[group.coupled] = np.arange(len(group.coupled))
        self._lines: dict[int, tuple[Any, list[_Line]]] = {}
        self._refused: dict[str, str] = {}

    def refuse(self, coupled: np.ndarray, reason: str) -> None:
        """No gate for the groups of these channels."""
        for number in np.unique(self._group_of[np.ravel(coupled)]).tolist():
            if number >= 0:
                self._refused.setdefault(self._groups[number].name, reason)

    def look_at(self, call: Call) -> None:
        """Notes what a call reads."""
        consumed = list(_consumed(call, self._channels))
        if not consumed:
            return
        tensors, every = self._channels.tensors, np.concatenate(consumed)
        entering = np.concatenate([np.ravel(tensors[x.index]) for x in call.inputs])
        self.refuse(every[~np.isin(every, entering)], f"layer '{call.path}' reads them inside")
        if any(isinstance(one, keras.layers.RNN) for one in _layers_in(call.operation)):
            for y in call.outputs:
                self.refuse(tensors[y.index], f"layer '{call.path}' reads its own units")
        lines = [
            line
            for place, x in enumerate(call.inputs)
            if np.isin(tensors[x.index], every).any() and (line := self._line(place, x)) is not None
        ]
        known = self._lines.setdefault(id(call.operation), (call.operation, lines))[1]
        if not _all_the_same(known, lines):
            self.refuse(every, f"layer '{call.path}' reads them at other places in another call")

    def _line(self, place: int, x: Tensor) -> _Line | None:
        block = self._channels.tensors[x.index]
        varying = [axis for axis, size in enumerate(block.shape) if size > 1]
        if len(varying) != 1 or (self._group_of[block] < 0).all():
            return None
        axis, coupled = varying[0] + 1, block.reshape(-1)
        period = _period(coupled)
        again = None if period == len(coupled) else period
        return _Line(place, -1 if axis == len(x.shape) - 1 else axis, again, coupled[:period])

    def found(self) -> Reads:
        """The reads of those groups that can have a gate."""
        bounds = self._bounds()
        for number, group in enumerate(self._groups):
            if len(bounds[number]) - 1 > MOST_PARTS:
                reason = f"where they are read, they stand in {len(bounds[number]) - 1} places"
                self._refused.setdefault(group.name, reason)
        by_reader: dict[int, tuple[Read, ...]] = {}
        readers: dict[str, Any] = {}
        for key, (operation, lines) in self._lines.items():
            reads = [
                Read(line.place, line.axis, line.period, pieces)
                for line in lines
                if (pieces := tuple(self._pieces(line, bounds)))
            ]
            if reads:
                by_reader[key] = tuple(reads)
            for piece in (piece for read in reads for piece in read.pieces):
                readers.setdefault(piece.part, operation)
        parts = {}
        for number, group in enumerate(self._groups):
            for name, first, last in self._stretches(number, bounds):
                if name in readers:
                    parts[name] = Part(last - first, readers[name])
                elif group.name not in self._refused:
                    self._refused[group.name] = "no layer with weights reads them"
        return Reads(by_reader, parts, self._refused)

    def _bounds(self) -> list[list[int]]:
        """For each group, where stretches of it begin and end that stand in a row in each read."""
        found = [{0, len(group.coupled)} for group in self._groups]
        for line in (line for _, lines in self._lines.values() for line in lines):
            groups, places = self._group_of[line.coupled], self._place_in[line.coupled]
            goes_on = (groups[1:] == groups[:-1]) & (places[1:] == places[:-1] + 1)
            begins = np.concatenate([[True], ~goes_on])
            for number, place in zip(groups[begins].tolist(), places[begins].tolist(), strict=True):
                if number >= 0:
                    found[number].add(place)
            ends = np.concatenate([~goes_on, [True]])
            for number, place in zip(groups[ends].tolist(), places[ends].tolist(), strict=True):
                if number >= 0:
                    found[number].add(place + 1)
        return [sorted(one) for one in found]

    def _stretches(self, number: int, bounds: list[list[int]]) -> Iterator[tuple[str, int, int]]:
        """`(name, first, one past the last)` of what gets a gate of a group."""
        name, several = self._groups[number].name, len(bounds[number]) > 2
        for part, (first, last) in enumerate(itertools.pairwise(bounds[number])):
            yield f"{name}_{part + 1}" if several else name, first, last

    def _pieces(self, line: _Line, bounds: list[list[int]]) -> Iterator[Piece]:
        beginnings = {
            (number, first): name
            for number in np.unique(self._group_of[line.coupled]).tolist()
            if number >= 0 and self._groups[number].name not in self._refused
            for name, first, _ in self._stretches(number, bounds)
        }
        for position, one in enumerate(line.coupled.tolist()):
            name = beginnings.get((int(self._group_of[one]), int(self._place_in[one])))
            if name is not None:
                yield Piece(name, position)


def _all_the_same(first: Sequence[_Line], second: Sequence[_Line]) -> bool:
    return len(first) == len(second) and all(
        a.same_as(b) for a, b in zip(first, second, strict=True)
    )


def _consumed(call: Call, channels: ChannelMap) -> Iterator[np.ndarray]:
    """The prunable channels that weights of a call sum over."""
    for variable in call.weights:
        weight = channels.weights.get(id(variable))
        for axis in () if weight is None else weight.consumed:
            ids = weight.axes[axis] if weight is not None else np.empty(0, int)
            yield ids[channels.prunable[ids]]


def _layers_in(operation: Any) -> list[Any]:
    return keras_state.all_layers(operation) if keras_state.is_layer(operation) else []


def _period(line: np.ndarray) -> int:
    """The shortest beginning of which all of a line consists, again and again."""
    for period in range(1, len(line) // 2 + 1):
        if len(line) % period == 0 and (line.reshape(-1, period) == line[:period]).all():
            return period
    return len(line)
