"""Recurrent layers, step by step, with the states of removed units zeroed before every step."""

from __future__ import annotations

import keras
import numpy as np
from keras import layers, ops


def is_recurrent(layer):
    return isinstance(layer, layers.RNN | layers.Bidirectional)


def recurrent_by_hand(layer, x, kept, states=None, mask=None):
    """What a recurrent layer computes if no step reads a removed unit; outputs in a list.

    Args:
        layer: The layer, or a `Bidirectional` one.
        x: The sequences.
        kept: Which channels of its output are kept, True = kept.
        states: Initial states, flattened, or None.
        mask: `(batch, steps)` booleans, or None.
    """
    if not isinstance(layer, layers.Bidirectional):
        return _one_direction(layer, x, kept, states, mask)
    directions = [layer.forward_layer, layer.backward_layer]
    joined = layer.merge_mode == "concat"
    halves = np.split(kept, 2) if joined else [kept, kept]
    given = [None, None] if states is None else np.split(np.arange(len(states)), 2)
    results = [
        _one_direction(one, x, half, None if states is None else [states[i] for i in which], mask)
        for one, half, which in zip(directions, halves, given, strict=True)
    ]
    (first, *forward), (second, *backward) = results
    if layer.return_sequences:
        second = ops.flip(second, axis=1)
    merged = {
        "concat": lambda: [ops.concatenate([first, second], axis=-1)],
        "sum": lambda: [first + second],
        "ave": lambda: [(first + second) / 2],
        "mul": lambda: [first * second],
        None: lambda: [first, second],
    }[layer.merge_mode]()
    return [*merged, *forward, *backward]


def _one_direction(layer, x, kept, given, mask):
    cell = layer.cell
    states = layer.get_initial_state(x.shape[0])
    if given is not None:
        states = keras.tree.pack_sequence_as(states, given)
    first = getattr(layer, "data_format", None) == "channels_first"
    output, outputs = None, []
    for step in reversed(range(x.shape[1])) if layer.go_backwards else range(x.shape[1]):
        read = _kept(cell, states, kept, first)
        new, following = cell(x[:, step], read)
        # A stack of one cell leaves lists out.
        following = keras.tree.pack_sequence_as(states, keras.tree.flatten(following))
        if mask is not None:
            here = ops.expand_dims(mask[:, step], -1)
            before = ops.zeros_like(new) if output is None or layer.zero_output_for_mask else output
            new = ops.where(here, new, before)
            following = keras.tree.map_structure(
                lambda a, b, here=here: ops.where(here, a, b), list(following), list(states)
            )
        output, states = new, following
        outputs.append(output)
    result = ops.stack(outputs, axis=1) if layer.return_sequences else output
    return [result, *(keras.tree.flatten(states) if layer.return_state else [])]


def _kept(cell, states, kept, channels_first):
    """The states without those of removed units, which are units of the last cell of a stack."""
    if isinstance(cell, layers.StackedRNNCells):
        return [*states[:-1], _kept(cell.cells[-1], states[-1], kept, channels_first)]

    def zeroed(x):
        shape = [1] * len(x.shape)
        shape[1 if channels_first else -1] = len(kept)
        return x * ops.cast(np.reshape(kept, shape), x.dtype)

    return keras.tree.map_structure(zeroed, states)
