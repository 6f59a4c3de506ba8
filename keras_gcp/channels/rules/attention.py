"""Attention: projections with kernels, and products of activations between them."""

from __future__ import annotations

from typing import Any

from keras import layers

from keras_gcp.channels.labels import Labels
from keras_gcp.channels.registry import register_rule
from keras_gcp.channels.rules.common import require_plain_kernel
from keras_gcp.channels.site import Site, Unprunable
from keras_gcp.graph import Shape, Tensor

_ARGUMENTS = ("query", "value", "key")

_STAYS = "attention reads its embedding channels as a whole, so they stay"


_SAME_WIDTH = layers.GroupQueryAttention
"""Query, value and output have equally many channels; Keras takes no other numbers."""


@register_rule(layers.GroupQueryAttention, layers.MultiHeadAttention)
def projected_attention(site: Site) -> Labels | list[Labels]:
    """Query, key and value are projected to heads; what they give is projected back.

    Between the projections, every query is multiplied with every key that it attends to, and the
    scores with the values. Heads stay; what enters them and what leaves may be cut.
    """
    layer, (query, value, key) = site.layer, _places(site)
    places, sources = (site.input_shapes[i][1:-1] for i in (query, value))
    readers = [(layer._query_dense, query), (layer._key_dense, key), (layer._value_dense, value)]
    if getattr(layer, "_gate_dense", None) is not None:
        readers.append((layer._gate_dense, query))
    for dense, source in readers:
        site.macs(dense.kernel, site.input_shapes[source][1:-1])
    site.macs(layer._output_dense.kernel, places)
    heads, key_dim = layer._query_dense.kernel.shape[-2:]
    value_dim = layer._value_dense.kernel.shape[-1]
    attended = _attended(layer, sources)
    site.macs(None, [*places, *attended, heads, key_dim])
    site.macs(None, [*places, *attended, heads, value_dim])
    try:
        incoming = {i: site.channels(i, axis=-1) for i in {query, value, key}}
        for dense in (*(dense for dense, _ in readers), layer._output_dense):
            require_plain_kernel(site.part(dense))
    except Unprunable:
        for dense in (*(dense for dense, _ in readers), layer._output_dense):
            site.weight(dense.bias)
        raise
    for dense, source in readers:
        site.part(dense, site.inputs[source], site.input_shapes[source])
        site.weight(dense.kernel, consumes={0: incoming[source]})
        site.weight(dense.bias)
    read = {id(site.call.inputs[place]) for place in incoming}
    for x, block in zip(site.call.inputs, site.inputs, strict=True):
        if id(x) not in read:
            site.anchor(block, f"tells '{site.path}' what to attend to")
    rest = [site.whole(shape, f"scores of '{site.path}'") for shape in site.output_shapes[1:]]
    output = _projected(site, incoming[query], incoming[value])
    return [output, *rest] if rest else output


def _projected(site: Site, query: Labels, value: Labels) -> Labels:
    """The output, which begins at the last projection."""
    layer, dense, shape = site.layer, site.layer._output_dense, site.output_shapes[0]
    if len(dense.kernel.shape) != 3:
        site.weight(dense.bias)
        return site.whole(shape, f"'{site.path}' gives its output several axes of channels")
    outgoing = site.fresh(dense.kernel.shape[-1])
    if isinstance(layer, _SAME_WIDTH):
        site.tie(outgoing, query)
        site.tie(outgoing, value)
        site.config("feature_dim", site.count(outgoing), derived=True)
    else:
        site.config("output_shape", (site.count(outgoing),), attribute="_output_shape")
    site.weight(dense.kernel, produces={2: outgoing})
    site.weight(dense.bias, carries={0: outgoing})
    sizes = (*dense.partial_output_shape[:-1], site.count(outgoing))
    site.part(dense).config("output_shape", sizes, attribute="partial_output_shape")
    site.begins(outgoing)
    return site.along(outgoing, -1, len(shape))


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


def _attended(layer: Any, sources: Shape) -> Shape:
    """Sizes of the axes over which every place attends."""
    axes = getattr(layer, "attention_axes", None) or range(1, len(sources) + 1)
    return tuple(sources[axis - 1] for axis in axes)


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
