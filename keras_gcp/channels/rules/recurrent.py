"""Recurrent layers: cells that are applied step by step, in one direction or in both.

A unit (of a convolutional cell: a filter) is a channel. It has a column of every gate in the
kernels `(inputs, gates * units)` and `(units, gates * units)`, a row of the second one, which reads
the state of the step before, and an entry of the output and of every state.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from keras import layers

from keras_gcp import keras_state
from keras_gcp.channels.channel_ids import ChannelIds
from keras_gcp.channels.registry import entry_for, register_rule
from keras_gcp.channels.rules.common import apply_activation, is_array, varying_axes
from keras_gcp.channels.rules.convolution import STRIDED_POINTWISE
from keras_gcp.channels.site import Site, Unprunable
from keras_gcp.graph import Shape, Tensor, leaves

_CONVOLUTIONAL = "keras.src.layers.rnn.conv_lstm.ConvLSTMCell"

_GATES: Mapping[type | str, int] = {
    layers.SimpleRNNCell: 1,
    layers.GRUCell: 3,
    layers.LSTMCell: 4,
    _CONVOLUTIONAL: 4,
}
"""How many matrices stand side by side in the kernels of a cell."""

_ARGUMENTS = ("sequences", "initial_state", "mask")


@register_rule(
    layers.ConvLSTM1D,
    layers.ConvLSTM2D,
    layers.ConvLSTM3D,
    layers.GRU,
    layers.LSTM,
    layers.RNN,
    layers.SimpleRNN,
)
def recurrent(site: Site) -> ChannelIds | list[ChannelIds]:
    """One direction; in a stack of cells, the units of the last one are the output."""
    (units,) = _units(site, [site.layer])
    site.begins(units)
    return _outputs(site, [units], [units])


@register_rule(layers.Bidirectional)
def bidirectional(site: Site) -> ChannelIds | list[ChannelIds]:
    """Two layers with weights of their own, one of them backwards.

    Both keep as many units, since Keras takes the output for twice as wide as the forward one; so
    the same positions go.
    """
    layer = site.layer
    directions = [layer.forward_layer, layer.backward_layer]
    joined = layer.merge_mode == "concat"
    if joined and getattr(layer.forward_layer, "data_format", None) == "channels_first":
        _count(site, directions)
        raise Unprunable("it puts both directions side by side along an axis of space")
    forward, backward = _units(site, directions)
    site.tie(forward, backward)
    both = np.concatenate([forward, backward])
    site.begins(both if joined else forward)
    merged = [forward, backward] if layer.merge_mode is None else [both if joined else forward]
    return _outputs(site, merged, [forward, backward])


def _units(site: Site, directions: Sequence[Any]) -> list[ChannelIds]:
    """The units of each direction, with all that is said about its layer."""
    _count(site, directions)
    sequences = site.input_shapes[0]
    try:
        incoming = site.channels(0, _channel_axis(directions[0], sequences, in_time=True))
    except Unprunable:
        _declare_biases(site, directions)
        raise
    found = []
    for layer in directions:
        own = site if layer is site.layer else site.part(layer, site.inputs[0], sequences)
        found.append(_layer(own, incoming, site.inputs[0][0], (sequences[0], *sequences[2:])))
    _tie_initial_states(site, directions, found)
    return found


def cells_of(cell: Any) -> Iterator[Any]:
    """The cells of a recurrent layer, in the order in which a step passes them."""
    if isinstance(cell, layers.StackedRNNCells):
        for one in cell.cells:
            yield from cells_of(one)
    else:
        yield cell


def _gates(cell: Any) -> int:
    """Number of matrices in its kernels; 0 if the cell is not one of Keras'."""
    return entry_for(cell, _GATES) or 0


def _count(site: Site, directions: Sequence[Any]) -> None:
    """Both kernels are applied at every step, and to all places of a map.

    Raises:
        Unprunable: a cell is not one of Keras'.
    """
    shape = site.input_shapes[0]
    unknown = []
    for layer in directions:
        for cell in cells_of(layer.cell):
            if not _gates(cell):
                unknown.append(cell)
                continue
            space = _space(layer, (shape[0], *shape[2:]))
            for kernel in (cell.kernel, cell.recurrent_kernel):
                site.macs(kernel, [shape[1], *space])
    if unknown:
        _declare_biases(site, directions)
        cell = unknown[0]
        raise Unprunable(
            f"its cell '{getattr(cell, 'name', cell)}' (class {type(cell).__name__}) is not one of "
            "Keras', so what it computes is unknown"
        )


def _declare_biases(site: Site, directions: Sequence[Any]) -> None:
    """A GRU's bias has two axes, and is not a matrix that something is multiplied by."""
    for layer in directions:
        for cell in cells_of(layer.cell):
            if _gates(cell):
                site.weight(cell.bias)


def _space(layer: Any, step: Shape) -> list[int | None]:
    """Sizes of the map that a convolutional cell computes; empty for others."""
    if not hasattr(layer.cell, "kernel_size"):
        return []
    shape, _ = layer.cell.compute_output_shape(step)
    channels = _channel_axis(layer, shape, in_time=False)
    return [size for axis, size in enumerate(shape) if axis not in (0, channels)]


def _channel_axis(layer: Any, shape: Shape, in_time: bool) -> int:
    """Where channels lie in a tensor with an axis of time, or in one without."""
    if getattr(layer, "data_format", None) == "channels_first":
        return 2 if in_time else 1
    return len(shape) - 1


def _layer(site: Site, incoming: ChannelIds, block: ChannelIds, step: Shape) -> ChannelIds:
    """What one direction says; returns the channel ids of its units.

    Args:
        site: The site of the layer.
        incoming: Channel ids of the channels that enter.
        block: Those of what enters a step.
        step: The shape of that.
    """
    layer = site.layer
    *before, last = cells_of(layer.cell)
    _hold(site, layer.cell, block, step)
    for cell in before:  # Inside a stack: their units are not channels of a tensor.
        site.weight(cell.bias)
    if before:
        site.weight(before[0].kernel, consumes={-2: incoming})
    units = site.fresh(last.recurrent_kernel.shape[-2])
    stacked = np.tile(units, _gates(last))
    site.weight(last.kernel, {} if before else {-2: incoming}, produces={-1: stacked})
    site.weight(last.recurrent_kernel, consumes={-2: units}, produces={-1: stacked})
    site.weight(last.bias, carries={-1: stacked})
    _configure(site, last, units, incoming)
    for activation in ("activation", "recurrent_activation"):
        apply_activation(site.part(last), units, activation)
    if layer.stateful:
        site.anchor(units, f"'{site.path}' is stateful: its units have numbers beside the weights")
    return units


def _hold(site: Site, cell: Any, block: ChannelIds, step: Shape) -> None:
    """The cell, and the first one of a stack, read what enters a step."""
    site.part(cell, block, step)
    if isinstance(cell, layers.StackedRNNCells):
        _hold(site, cell.cells[0], block, step)


def _configure(site: Site, cell: Any, units: ChannelIds, incoming: ChannelIds) -> None:
    """The width stands in the cell, and layers other than `RNN` hand it out."""
    own, width = site.part(cell), site.count(units)
    convolutional = hasattr(cell, "kernel_size")
    name = "filters" if convolutional else "units"
    own.config(name, width)
    if hasattr(site.layer, name):
        site.config(name, width, attribute=None)
    if convolutional:
        if max(cell.kernel_size) == 1 and max(cell.strides) > 1:
            least = keras_state.least_width_of_strided_pointwise()
            site.at_least(incoming, least, STRIDED_POINTWISE)
        own.config("input_dim", site.count(incoming), derived=True)
        gates = site.count(np.tile(units, _GATES[_CONVOLUTIONAL]))
        shape = (*cell.kernel_size, site.count(incoming), gates)
        own.config("kernel_shape", shape, derived=True)
        return
    own.config("output_size", width, derived=True)
    own.config("state_size", _state_size(cell, width), derived=True)
    sizes = _state_size(site.layer.cell, width)
    site.config("state_size", sizes if isinstance(sizes, list) else [sizes], derived=True)


def _state_size(cell: Any, width: Any) -> Any:
    """The sizes of a cell's states, or of a stack's, whose last cell has this width."""
    if isinstance(cell, layers.StackedRNNCells):
        return [*(one.state_size for one in cell.cells[:-1]), _state_size(cell.cells[-1], width)]
    return [width, width] if isinstance(cell.state_size, list | tuple) else width


def _states(layer: Any, units: ChannelIds) -> Iterator[ChannelIds | None]:
    """The channel ids of each state; None for those of cells inside a stack."""
    *before, last = cells_of(layer.cell)
    for cell in (*before, last):
        for _ in range(2 if _gates(cell) == 4 else 1):
            yield units if cell is last else None


def _tie_initial_states(site: Site, directions: Sequence[Any], units: Sequence[ChannelIds]) -> None:
    """States that are given live or die with the units that they are states of."""
    given = {**dict(zip(_ARGUMENTS, site.call.args, strict=False)), **site.call.kwargs}
    states = [x for x in leaves(given.get("initial_state")) if is_array(x)]
    pairs = zip(directions, units, strict=True)
    wanted = [ids for layer, own in pairs for ids in _states(layer, own)]
    places = {id(x): place for place, x in enumerate(site.call.inputs)}
    followed = {id(site.call.inputs[0])}
    for state, own in zip(states, wanted, strict=False):
        if own is None:
            continue
        if not isinstance(state, Tensor):
            site.anchor(own, f"the initial state of '{site.path}' is a constant")
            continue
        place = places[id(state)]
        axis = _channel_axis(directions[0], site.input_shapes[place], in_time=False)
        if set(varying_axes(site.inputs[place])) <= {axis}:
            site.tie(own, site.channels(place, axis))
            followed.add(id(state))
        else:
            site.anchor(own, f"the initial state of '{site.path}' is not a vector of channels")
    for x, block in zip(site.call.inputs, site.inputs, strict=True):
        if id(x) not in followed:
            site.anchor(block, f"steers the steps of '{site.path}'")


def _outputs(
    site: Site, merged: Sequence[ChannelIds], units: Sequence[ChannelIds]
) -> ChannelIds | list[ChannelIds]:
    """The blocks of all outputs: what is merged, then the states of every direction."""
    layer = site.layer
    directions = [getattr(layer, "forward_layer", layer), getattr(layer, "backward_layer", layer)]
    wanted: list[tuple[ChannelIds | None, bool]] = [(one, layer.return_sequences) for one in merged]
    if layer.return_state:
        for direction, own in zip(directions, units, strict=False):
            wanted.extend((ids, False) for ids in _states(direction, own))
    found = []
    for shape, (ids, in_time) in zip(site.output_shapes, wanted, strict=True):
        if ids is None:
            found.append(site.whole(shape, f"state of a cell inside '{site.path}'"))
        else:
            axis = _channel_axis(directions[0], shape, in_time)
            found.append(site.along(ids, axis, len(shape)))
    return found[0] if len(found) == 1 else found
