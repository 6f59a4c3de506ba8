"""Which batch normalizations become batch whitening, and why others stay."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
from keras import layers

from keras_gcp import keras_state
from keras_gcp.channels.map import ChannelMap
from keras_gcp.criteria.silence import trained_weights, where_read
from keras_gcp.graph import Call

KERNEL_AXES: Mapping[type, tuple[str, int]] = {
    layers.Conv1D: ("kernel", -1),
    layers.Conv2D: ("kernel", -1),
    layers.Conv3D: ("kernel", -1),
    layers.Conv1DTranspose: ("kernel", -2),
    layers.Conv2DTranspose: ("kernel", -2),
    layers.Conv3DTranspose: ("kernel", -2),
    layers.Dense: ("kernel", -1),
    layers.SeparableConv1D: ("pointwise_kernel", -1),
    layers.SeparableConv2D: ("pointwise_kernel", -1),
}
"""Layers that whitening can be folded into: the weight that makes their channels, along which axis.

Only these very classes: one derived from them may compute something else.
"""

DEPTHWISE: tuple[type, ...] = (layers.DepthwiseConv1D, layers.DepthwiseConv2D)
"""Each channel is made of one, so there is nothing to fold a mixture into: groups of one."""


@dataclass(frozen=True, eq=False)
class WhiteningSite:
    """A normalization with a layer of its own in front.

    Attributes:
        call: The call of the normalization, or of the whitening in its place.
        producer: The call of the layer that makes its channels.
        most: Most channels of one group; None: as many as wanted.
    """

    call: Call
    producer: Call
    most: int | None

    @property
    def layer(self) -> Any:
        """The normalization or whitening."""
        return self.call.operation

    def group_size(self, wanted: int) -> int:
        """Most channels of one group: within a group of the convolution there must be whole ones.

        What comes of different groups of a convolution has no common kernel to be folded into.
        """
        if self.most is None:
            return wanted
        return max(size for size in range(1, wanted + 1) if self.most % size == 0)

    def coupled(self, channels: ChannelMap) -> np.ndarray:
        """The coupled channels that it normalises, `(channels,)`."""
        return channels.tensors[self.call.outputs[0].index].reshape(-1)


def normalizations(channels: ChannelMap, kind: type) -> dict[str, list[Call]]:
    """The calls of layers of a class, by path."""
    found: dict[str, list[Call]] = {}
    for call in channels.graph.calls:
        if type(call.operation) is kind:
            found.setdefault(call.path, []).append(call)
    return found


def site_of(calls: Sequence[Call], channels: ChannelMap) -> WhiteningSite | str:
    """Where a layer's calls can be whitened and folded; or the reason why not."""
    call, graph = calls[0], channels.graph
    if len(calls) > 1:
        return "it is called more than once"
    makers = [one for one in graph.calls if call.inputs[0] in one.outputs]
    if not makers or type(makers[0].operation) not in (*KERNEL_AXES, *DEPTHWISE):
        return "it does not follow a convolution or dense layer of its own"
    producer = makers[0]
    layer, name = producer.operation, f"layer '{producer.path}' before it"
    if sum(one.operation is layer for one in graph.calls) > 1:
        return f"{name} is called more than once"
    is_end = any(x.index == call.inputs[0].index for x in graph.outputs)
    if is_end or len(graph.readers[call.inputs[0].index]) > 1:
        return f"{name} is read by others, too"
    if layer.activation not in (None, keras.activations.linear):
        return f"{name} has an activation"
    if getattr(layer, "lora_enabled", False) or getattr(layer, "quantization_mode", None):
        return f"the kernel of {name} is not a plain variable"
    return WhiteningSite(call, producer, _most(layer))


def _most(layer: Any) -> int | None:
    if type(layer) in DEPTHWISE:
        return 1
    groups = getattr(layer, "groups", 1)
    return None if groups == 1 else layer.filters // groups


def find_sites(
    channels: ChannelMap,
) -> tuple[dict[str, WhiteningSite], dict[str, str]]:
    """Normalizations of a plain model that become batch whitening, and why the others stay.

    Returns:
        `(sites, reasons)`, both by path.
    """
    sites: dict[str, WhiteningSite] = {}
    reasons: dict[str, str] = {}
    masked = {x.index for symbol, x in channels.graph.symbols if keras_state.carries_mask(symbol)}
    for path, calls in normalizations(channels, layers.BatchNormalization).items():
        found = site_of(calls, channels)
        if not isinstance(found, str):
            found = _unless(found, channels, masked)
        if isinstance(found, str):
            reasons[path] = found
        else:
            sites[path] = found
    _leave_what_is_heard(sites, reasons, channels)
    return sites, reasons


def _unless(site: WhiteningSite, channels: ChannelMap, masked: set[int]) -> WhiteningSite | str:
    """The site; or what about the normalization, or its channels, is in the way."""
    layer = site.layer
    if layer.synchronized:
        return "it is synchronized over replicas, which batch whitening is not"
    if layer.gamma_constraint or layer.beta_constraint:
        return "its gamma or beta have a constraint"
    if site.call.inputs[0].index in masked or site.call.kwargs.get("mask") is not None:
        return "a mask says which steps count"
    if not _is_channel_axis(site):
        return "it normalises along another axis than the channels"
    coupled = site.coupled(channels)
    stays = coupled[~channels.prunable[coupled]]
    if len(stays):
        reason = channels.reasons.get(int(stays[0]), "nothing produces them")
        return f"its channels stay: {reason}"
    for mixing in channels.mixings:
        if np.isin(coupled, mixing.ids).any():
            return f"layer '{mixing.operation.name}' mixes its channels"
    return site


def _is_channel_axis(site: WhiteningSite) -> bool:
    layer, rank = site.layer, len(site.call.inputs[0].shape)
    first = getattr(site.producer.operation, "data_format", None) == "channels_first"
    return bool(layer.axis % rank == (1 if first else rank - 1))


def _leave_what_is_heard(
    sites: dict[str, WhiteningSite], reasons: dict[str, str], channels: ChannelMap
) -> None:
    """Takes out sites whose closed channels would be read as something else than zero.

    Those tied to them lose their zeros, too, so it is asked again until all are silent. One half
    of the channels is closed at a time: where one set of channels is multiplied with another, each
    has to be silent by itself.
    """
    rng = np.random.default_rng(0)
    weights = trained_weights(channels.model, rng)
    half = rng.random(channels.coupled_count) < 0.5
    while sites:
        heard: dict[int, str] = {}
        for chosen in (half, ~half):
            closed = {id(one.layer): chosen[one.coupled(channels)] for one in sites.values()}
            found = where_read(channels, closed, weights)
            heard.update({c: path for c, path in found.items() if chosen[c]})
        loud = {
            path: next((heard[c] for c in one.coupled(channels).tolist() if c in heard), None)
            for path, one in sites.items()
        }
        leaving = {path: reader for path, reader in loud.items() if reader is not None}
        if not leaving:
            return
        for path, reader in leaving.items():
            reasons[path] = f"what it closes would not be zero where layer '{reader}' reads it"
            del sites[path]


def as_lines(reasons: Mapping[str, str], most: int = 4) -> str:
    """The first of the reasons, a line each."""
    lines = [f"- '{path}': {reason}" for path, reason in list(reasons.items())[:most]]
    rest = len(reasons) - most
    return "\n".join([*lines, *([f"- and {rest} more"] if rest > 0 else [])])
