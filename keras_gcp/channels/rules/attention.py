"""Attention: projections with kernels, and products of activations between them."""

from __future__ import annotations

from typing import Any

from keras import layers

from keras_gcp.channels.labels import Labels
from keras_gcp.channels.registry import register_rule
from keras_gcp.channels.site import Site, Unprunable
from keras_gcp.graph import Shape, Tensor

_ARGUMENTS = ("query", "value", "key")

_STAYS = "attention reads its embedding channels as a whole, so they stay"


@register_rule(
    *(
        getattr(layers, name)
        for name in ("GroupQueryAttention", "MultiHeadAttention")
        if hasattr(layers, name)
    )
)
def projected_attention(site: Site) -> Labels:
    """Query, key and value are projected to heads; what they give is projected back.

    Between the projections, every query is multiplied with every key that it attends to, and the
    scores with the values.
    """
    layer = site.layer
    query, value, key = (site.input_shapes[i] for i in _places(site))
    places, sources = query[1:-1], value[1:-1]
    gate = getattr(layer, "_gate_dense", None)
    for dense, shape in (
        (layer._query_dense, places),
        (layer._key_dense, key[1:-1]),
        (layer._value_dense, sources),
        (gate, places),
        (layer._output_dense, places),
    ):
        if dense is not None:
            site.macs(dense.kernel, shape)
    heads, key_dim = layer._query_dense.kernel.shape[-2:]
    value_dim = layer._value_dense.kernel.shape[-1]
    attended = _attended(layer, query, value)
    site.macs(None, [*places, *attended, heads, key_dim + value_dim])
    raise Unprunable(_STAYS)


def _places(site: Site) -> tuple[int, int, int]:
    """Which inputs are query, value and key. Masks may be tensors, too."""
    given = {**dict(zip(_ARGUMENTS, site.call.args, strict=False)), **site.call.kwargs}
    if given.get("key") is None:
        given["key"] = given["value"]
    wanted = [given[name] for name in _ARGUMENTS]
    if not all(isinstance(x, Tensor) for x in wanted):
        raise Unprunable("one of the tensors that it is called on is a constant")
    found = {id(x): i for i, x in enumerate(site.call.inputs)}
    query, value, key = (found[id(x)] for x in wanted)
    return query, value, key


def _attended(layer: Any, query: Shape, value: Shape) -> Shape:
    """Sizes of the axes of `value` over which every place of `query` attends."""
    axes = getattr(layer, "attention_axes", None) or range(1, len(query) - 1)
    return tuple(value[axis] for axis in axes)


@register_rule(layers.Attention)
def attention(site: Site) -> Labels:
    """Without kernels: queries with keys (as a sum, in one mode), and scores with values."""
    query, value = site.input_shapes[:2]
    scores = [*query[1:-1], value[-2]]
    site.macs(None, [*scores, value[-1]])
    if site.layer.score_mode == "dot":
        site.macs(None, [*scores, query[-1]])
    raise Unprunable(_STAYS)


@register_rule(layers.AdditiveAttention)
def additive_attention(site: Site) -> Labels:
    """Without kernels: queries and keys are added, and only scores multiply values."""
    query, value = site.input_shapes[:2]
    site.macs(None, [*query[1:-1], value[-2], value[-1]])
    raise Unprunable(_STAYS)
