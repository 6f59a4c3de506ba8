"""A copy of a network with gates on its channels, or on its residual branches."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import keras

from keras_gcp import keras_state
from keras_gcp.channels.trace import trace
from keras_gcp.errors import InvalidArgument, UnsupportedModel
from keras_gcp.gates.blocks import Block, blocks_of
from keras_gcp.gates.gate import Gate, gates_of
from keras_gcp.gates.reads import Read, Reads, reads_of
from keras_gcp.graph import leaves, map_structure
from keras_gcp.surgery.model_copy import rewired_copy
from keras_gcp.validation import require_flag

Factory = Callable[[int, str], Gate]
"""`(number of channels, name) -> gate`."""


def insert(
    model: Any, gate: Gate | Factory, *, exclude: Sequence[str] = (), blocks: bool = False
) -> Any:
    """A copy of a model with a gate on each group of channels that live or die together.

    Which channels these are says the channel map (`keras_gcp.trace`), across additions and
    concatenations. A gate stands before every layer that reads channels of its group, since there a
    closed gate is exactly what a cut removes. So it is one layer that is called several times. (A
    group that others stand between, as after a shortcut padded with zeros, has a gate for each
    stretch of it.)

    The gated model is an ordinary one: compile it, `fit` it, save it (loading it takes an `import
    keras_gcp`), prune it by `GradualChannelPruning`, with the gates as `criterion="gate_value"`.
    It holds copies of the weights; the given model stays as it is.

    Args:
        model: A built functional or sequential `keras.Model`.
        gate: A gate, of which each group gets one with the same settings; or a function `(number
            of channels, name) -> gate`. `keras_gcp.gates.ScaleGate()`, `ConsensusGate()`, or one
            of your own.
        exclude: Names (or paths) of layers whose outputs, and all that is tied to them, get none.
        blocks: Gates on residual branches instead, one for each (`whole` gates): a closed one
            leaves the shortcut.

    Returns:
        A functional `keras.Model`, not compiled.

    Raises:
        InvalidArgument: an argument is malformed, or the model has gates already.
        UnsupportedModel: there is nothing that a gate can be put on.

    Example:

    ```python
    gated = keras_gcp.gates.insert(model, keras_gcp.gates.ScaleGate())
    gated.compile("adam", "sparse_categorical_crossentropy")
    gated.fit(x, y)
    narrow = keras_gcp.gates.remove(gated)
    ```
    """
    keras_state.require_functional(model)
    _require_gate(gate)
    if found := gates_of(model):
        raise InvalidArgument(
            f"Model '{model.name}' has gates already, such as '{found[0].name}'. Expected one "
            "without: `keras_gcp.gates.remove(model)` gives it."
        )
    channels = trace(model, exclude)
    if require_flag("blocks", blocks):
        return _with_gated_blocks(model, gate, blocks_of(channels))
    reads = reads_of(channels)
    if not reads.parts:
        reasons = "; ".join(f"{name}: {why}" for name, why in reads.refused.items())
        raise UnsupportedModel(
            f"Model '{model.name}' has no channels that a gate can be put on. "
            f"{reasons or '`print(keras_gcp.trace(model))` says why channels stay'}."
        )
    if reads.refused:
        reasons = "; ".join(f"'{name}': {why}" for name, why in reads.refused.items())
        warnings.warn(f"Some groups of channels get no gate. {reasons}.", stacklevel=2)
    return _with_gated_channels(model, gate, reads)


def _require_gate(gate: Any) -> None:
    factory = callable(gate) and not isinstance(gate, type | keras.layers.Layer)
    if not isinstance(gate, Gate) and not factory:
        raise InvalidArgument(
            "`gate` expects a gate, such as `keras_gcp.gates.ScaleGate()`, or a function `(number "
            f"of channels, name) -> gate`. Received: {gate!r} (of type {type(gate).__name__})."
        )


def _made(gate: Gate | Factory, channels: int, name: str, reader: Any, whole: bool) -> Gate:
    """The gate of one group or block."""
    if not isinstance(gate, Gate):
        made = gate(channels, name)
        if not isinstance(made, Gate) or made.whole != whole:
            raise InvalidArgument(
                f"`gate` was called with {channels} channels and the name '{name}'. Expected a "
                f"`keras_gcp.gates.Gate` with `whole={whole}`. Received: {made!r}."
            )
        return made
    settings = {"name": name, "channels": None if whole else channels, "whole": whole}
    if keras_state.is_layer(reader):
        settings["dtype"] = reader.dtype_policy
    return type(gate).from_config({**gate.get_config(), **settings})


def _free_names(model: Any, wanted: Sequence[str]) -> dict[str, str]:
    """A layer's name for each group or block; Keras allows none twice, nor a slash."""
    taken = {one.name for one in keras_state.operations(model)}
    names = {}
    for one in wanted:
        name = f"gate_{one.replace('/', '_').replace('#', '_')}"
        while name in taken:
            name += "_"
        taken.add(name)
        names[one] = name
    return names


def _with_gated_channels(model: Any, gate: Gate | Factory, reads: Reads) -> Any:
    names = _free_names(model, list(reads.parts))
    gates = {
        name: _made(gate, part.channels, names[name], part.reader, whole=False)
        for name, part in reads.parts.items()
    }
    known: dict[Any, tuple[Any, Any]] = {}  # The symbol, too: its id stays its own.

    def gated(x: Any, read: Read) -> Any:
        key = id(x), read.axis, read.period, read.pieces
        if key not in known:
            y = x
            for piece in read.pieces:
                arguments = {"axis": read.axis, "start": piece.start, "period": read.period}
                usual = {"axis": -1, "start": 0, "period": None}
                given = {k: v for k, v in arguments.items() if v != usual[k]}
                y = gates[piece.part](y, **given)
            known[key] = x, y
        return known[key][1]

    def call(operation: Any, copy: Any, args: Any, kwargs: Any) -> Any:
        here = {read.place: read for read in reads.by_reader.get(id(operation), ())}
        places = iter(range(len(leaves((args, kwargs)))))

        def filled(leaf: Any) -> Any:
            if not isinstance(leaf, keras.KerasTensor):
                return leaf
            place = next(places)
            return gated(leaf, here[place]) if place in here else leaf

        args, kwargs = map_structure(filled, (args, kwargs)) if here else (args, kwargs)
        return copy(*args, **kwargs)

    return rewired_copy(model, call)[0]


def _with_gated_blocks(model: Any, gate: Gate | Factory, blocks: Mapping[int, Block]) -> Any:
    if not blocks:
        raise UnsupportedModel(
            f"Model '{model.name}' has no residual branch that could go as a whole: an addition of "
            "two tensors, one of which is computed from the other, or from what it is computed "
            "from, by more layers, and by layers that nothing else reads."
        )
    names = _free_names(model, [block.addition.path for block in blocks.values()])

    def call(operation: Any, copy: Any, args: Any, kwargs: Any) -> Any:
        block = blocks.get(id(operation))
        if block is None:
            return copy(*args, **kwargs)
        symbols = leaves((args, kwargs))
        branch, shortcut = symbols[block.branch], symbols[1 - block.branch]
        layer = _made(gate, 1, names[block.addition.path], operation, whole=True)
        y = layer(branch, seen=shortcut) if layer.reads_input else layer(branch)
        args, kwargs = map_structure(lambda leaf: y if leaf is branch else leaf, (args, kwargs))
        return copy(*args, **kwargs)

    return rewired_copy(model, call)[0]
