"""Recurrent layers: cells that are applied step by step, in one direction or in both."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from keras import layers

from keras_gcp.channels.labels import Labels
from keras_gcp.channels.registry import entry_for, register_rule
from keras_gcp.channels.site import Site, Unprunable

_GATES: Mapping[type | str, int] = {
    layers.SimpleRNNCell: 1,
    layers.GRUCell: 3,
    layers.LSTMCell: 4,
}
"""How many matrices stand side by side in the kernels of a cell."""

_STAYS = "recurrent layers keep their units and read their input as it is"


def cells_of(cell: Any) -> Iterator[Any]:
    """The cells of a recurrent layer, in the order in which a step passes them."""
    if isinstance(cell, layers.StackedRNNCells):
        for one in cell.cells:
            yield from cells_of(one)
    else:
        yield cell


@register_rule(layers.GRU, layers.LSTM, layers.RNN, layers.SimpleRNN)
def recurrent(site: Site) -> Labels:
    """At every step, kernel `(inputs, gates * units)` and `(units, gates * units)`."""
    _count(site, site.layer, site.input_shapes[0][1])
    raise Unprunable(_STAYS)


@register_rule(layers.Bidirectional)
def bidirectional(site: Site) -> Labels:
    """Two recurrent layers with weights of their own, one of them backwards."""
    for layer in (site.layer.forward_layer, site.layer.backward_layer):
        _count(site, layer, site.input_shapes[0][1])
    raise Unprunable(_STAYS)


def _count(site: Site, layer: Any, steps: int | None) -> None:
    for cell in cells_of(getattr(layer, "cell", layer)):
        if entry_for(cell, _GATES) is None:
            raise Unprunable(
                f"its cell '{cell.name}' (class {type(cell).__name__}) is none of Keras', so what "
                "it computes is unknown; its multiply-adds are not counted"
            )
        site.macs(cell.kernel, [steps])
        site.macs(cell.recurrent_kernel, [steps])


@register_rule(layers.ConvLSTM1D, layers.ConvLSTM2D, layers.ConvLSTM3D)
def convolutional_recurrent(site: Site) -> Labels:
    """At every step, convolutions of the input and of the state, both at every output position."""
    layer, shape = site.layer, site.output_shapes[0]
    steps = site.input_shapes[0][1]
    first = 2 if layer.return_sequences else 1
    channels = first if layer.data_format == "channels_first" else len(shape) - 1
    space = [size for axis, size in enumerate(shape) if axis >= first and axis != channels]
    for kernel in (layer.cell.kernel, layer.cell.recurrent_kernel):
        site.macs(kernel, [steps, *space])
    raise Unprunable(_STAYS)
