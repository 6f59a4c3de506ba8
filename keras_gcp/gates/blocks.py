"""Residual branches: what may go as a whole, so that only the shortcut stays."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np

from keras_gcp.channels.map import ChannelMap
from keras_gcp.gates.gate import Gate
from keras_gcp.graph import Call, Graph, Tensor


@dataclass(frozen=True, eq=False)
class Block:
    """An addition of a branch to its shortcut.

    Attributes:
        addition: The call that adds them.
        branch: Which of its two tensors is the branch, 0 or 1.
        inside: The calls of the branch.
    """

    addition: Call
    branch: int
    inside: tuple[Call, ...]


def blocks_of(channels: ChannelMap) -> dict[int, Block]:
    """The residual branches of a network, by the `id` of the addition.

    The branch begins where the shortcut does: at the tensor that is added to it, or at one from
    which that is computed in a chain of layers (a projection). It has more weights than the
    shortcut, and nothing outside reads what is inside.
    """
    graph = channels.graph
    made_by = {y.index: call for call in graph.calls for y in call.outputs}
    times: dict[int, int] = {}
    for call in graph.calls:
        times[id(call.operation)] = times.get(id(call.operation), 0) + 1
    found = {}
    for call in graph.calls:
        if _is_addition(call) and times[id(call.operation)] == 1:
            for branch in (0, 1):
                inside = _branch(graph, made_by, call, branch)
                if inside is not None:
                    found[id(call.operation)] = Block(call, branch, inside)
    return found


def gated_blocks(channels: ChannelMap) -> Iterator[tuple[Block, Call]]:
    """The residual branches that end in a gate of their own, each with the call of the gate."""
    for block in blocks_of(channels).values():
        end = block.addition.inputs[block.branch].index
        for call in block.inside:
            if is_whole_gate(call) and call.outputs[0].index == end:
                yield block, call


def is_whole_gate(call: Call) -> bool:
    """Whether a call is one of a gate on a whole branch."""
    return isinstance(call.operation, Gate) and call.operation.whole


def channels_inside(channels: ChannelMap, block: Block) -> np.ndarray:
    """The coupled channels that only a branch has: no matter what they are if its gate is closed.

    Other living models may read what is inside; where there are any, there are none.
    """
    if channels.neighbours:
        return np.zeros(0, np.int64)
    within = {id(call) for call in block.inside}
    outside = [y for call in channels.graph.calls if id(call) not in within for y in call.outputs]
    outside += channels.graph.inputs
    own = [y for call in block.inside for y in call.outputs]
    return np.setdiff1d(_coupled(channels, own), _coupled(channels, outside))


def _coupled(channels: ChannelMap, tensors: Sequence[Tensor]) -> np.ndarray:
    return np.unique(np.concatenate([channels.tensors[x.index].reshape(-1) for x in tensors]))


def _is_addition(call: Call) -> bool:
    operation = call.operation
    is_layer = isinstance(operation, keras.layers.Layer)
    is_add = isinstance(operation, keras.layers.Add) if is_layer else _name(operation) == "Add"
    return is_add and len(call.inputs) == 2 and call.inputs[0].shape == call.inputs[1].shape


def _name(operation: Any) -> str:
    return type(operation).__name__


def _branch(
    graph: Graph, made_by: dict[int, Call], addition: Call, branch: int
) -> tuple[Call, ...] | None:
    """The calls of a branch, if the other tensor of the addition is its shortcut."""
    end, shortcut = addition.inputs[branch], addition.inputs[1 - branch]
    for length, entry in enumerate(_chain(made_by, shortcut)):
        inside = _between(made_by, entry, end)
        if inside is None:
            continue
        weights = sum(map(_weights, inside))
        chain = _between(made_by, entry, shortcut) if length else []
        if not weights or weights <= sum(map(_weights, chain or [])):
            return None
        return tuple(inside) if _is_closed(graph, inside, addition) else None
    return None


def _chain(made_by: dict[int, Call], x: Tensor) -> Iterator[Tensor]:
    """A tensor, and those before it as long as each is computed from one other."""
    yield x
    while (call := made_by.get(x.index)) is not None and len(call.inputs) == 1:
        x = call.inputs[0]
        yield x


def _between(made_by: dict[int, Call], entry: Tensor, end: Tensor) -> list[Call] | None:
    """The calls that compute a tensor from another one alone; None if it takes more."""
    calls: dict[int, Call] = {}
    waiting = [end]
    while waiting:
        x = waiting.pop()
        if x.index == entry.index:
            continue
        call = made_by.get(x.index)
        if call is None:
            return None
        if id(call) not in calls:
            calls[id(call)] = call
            waiting.extend(call.inputs)
    return list(calls.values())


def _weights(call: Call) -> int:
    return sum(math.prod(variable.shape) for variable in call.weights)


def _is_closed(graph: Graph, inside: Sequence[Call], addition: Call) -> bool:
    """Whether nothing but the addition reads what is computed inside."""
    allowed = {id(call) for call in (*inside, addition)}
    ends = {x.index for x in graph.outputs}
    made = [y for call in inside for y in call.outputs]
    return all(
        y.index not in ends and all(id(r) in allowed for r in graph.readers.get(y.index, []))
        for y in made
    )
