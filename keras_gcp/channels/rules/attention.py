"""Attention: every place of one sequence looks at all places of another.

Heads stay. What enters the projections, and what leaves the last one, may be cut.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from keras import layers, ops

from keras_gcp import keras_state
from keras_gcp.channels.channel_ids import ChannelIds
from keras_gcp.channels.registry import register_rule
from keras_gcp.channels.rules.common import require_plain_kernel
from keras_gcp.channels.site import Site, Unprunable
from keras_gcp.graph import Call, Shape, Tensor, leaves

_SAME_WIDTH = layers.GroupQueryAttention
"""Query, value and output have equally many channels; Keras takes no other numbers."""


@register_rule(layers.GroupQueryAttention, layers.MultiHeadAttention)
def projected_attention(site: Site) -> ChannelIds | list[ChannelIds]:
    """Query, key and value are projected to heads; what they give is projected back."""
    inside = keras_state.projections(site.layer)
    places = _places(site, sources_of(site.call))
    _count(site, inside, places)
    every = [*(dense for dense, _ in inside.entering()), inside.output]
    try:
        incoming = {name: site.channels(place, axis=-1) for name, place in places.items()}
        for dense in every:
            require_plain_kernel(site.part(dense))
    except Unprunable:
        for dense in every:  # No matrices, though they may have two axes.
            site.weight(dense.bias)
        raise
    for dense, name in inside.entering():
        site.part(dense, site.inputs[places[name]], site.input_shapes[places[name]])
        site.weight(dense.kernel, consumes={0: incoming[name]})
        site.weight(dense.bias)
    _anchor_others(site, places)
    return _with_scores(site, _projected(site, inside.output, incoming))


def _count(site: Site, inside: keras_state.Projections, places: Mapping[str, int]) -> None:
    """The projections; queries with keys, and the scores with values, head by head."""
    spaces = {name: site.input_shapes[place][1:-1] for name, place in places.items()}
    for dense, name in inside.entering():
        site.macs(dense.kernel, spaces[name])
    site.macs(inside.output.kernel, spaces["query"])
    scores = [*spaces["query"], *_attended(site.layer, spaces["value"])]
    heads = inside.query.kernel.shape[-2]  # Keys and values may have fewer, which are repeated.
    for dense in (inside.query, inside.value):
        site.macs(None, [*scores, heads, dense.kernel.shape[-1]])


def _attended(layer: Any, space: Shape) -> Shape:
    """Sizes of the axes over which every place attends."""
    axes = getattr(layer, "attention_axes", None) or range(1, len(space) + 1)
    return tuple(space[axis - 1] for axis in axes)


def _projected(site: Site, dense: Any, incoming: Mapping[str, ChannelIds]) -> ChannelIds:
    """The output, whose channels begin at the last projection."""
    shape = site.output_shapes[0]
    if len(dense.kernel.shape) != 3:
        site.weight(dense.bias)
        return site.whole(shape, f"'{site.path}' gives its output several axes of channels")
    outgoing = site.fresh(dense.kernel.shape[-1])
    width = site.count(outgoing)
    if isinstance(site.layer, _SAME_WIDTH):
        site.tie(outgoing, incoming["query"])
        site.tie(outgoing, incoming["value"])
        site.config("feature_dim", width, derived=True)
    else:
        site.config("output_shape", (width,), attribute=keras_state.OUTPUT_SHAPE)
    site.weight(dense.kernel, produces={2: outgoing})
    site.weight(dense.bias, carries={0: outgoing})
    sizes = (*dense.partial_output_shape[:-1], width)
    site.part(dense).config("output_shape", sizes, attribute="partial_output_shape")
    site.begins(outgoing)
    return site.along(outgoing, -1, len(shape))


def sources_of(call: Call) -> dict[str, Any]:
    """What a call of projected attention is given as query, value and key."""
    given = {**dict(zip(("query", "value", "key"), call.args, strict=False)), **call.kwargs}
    key = given.get("key")
    return {
        "query": given["query"],
        "value": given["value"],
        "key": given["value"] if key is None else key,
    }


def _places(site: Site, sources: Mapping[str, Any]) -> dict[str, int]:
    """Which inputs are query, value and key; masks may be tensors, too."""
    if not all(isinstance(x, Tensor) for x in sources.values()):
        raise Unprunable("one of the tensors that it is called on is a constant")
    found = {id(x): place for place, x in enumerate(site.call.inputs)}
    return {name: found[id(x)] for name, x in sources.items()}


def _anchor_others(site: Site, places: Mapping[str, int]) -> None:
    read = {id(site.call.inputs[place]) for place in places.values()}
    for x, block in zip(site.call.inputs, site.inputs, strict=True):
        if id(x) not in read:
            site.anchor(block, f"tells '{site.path}' what to attend to")


def _with_scores(site: Site, output: ChannelIds) -> ChannelIds | list[ChannelIds]:
    rest = [site.whole(shape, f"scores of '{site.path}'") for shape in site.output_shapes[1:]]
    return [output, *rest] if rest else output


@register_rule(layers.AdditiveAttention, layers.Attention)
def attention(site: Site) -> ChannelIds | list[ChannelIds]:
    """Without projections: scores sum over the channels of query and key, outputs are values."""
    layer, given = site.layer, leaves(site.call.args[:1] or site.call.kwargs["inputs"])
    sources = dict(zip(("query", "value", "key"), [*given, *given[1:2]], strict=False))
    places = _places(site, sources)
    query, value = (site.input_shapes[places[name]] for name in ("query", "value"))
    scores = [*query[1:-1], value[-2]]
    # Other scores than dot products are sums of sums.
    dot = layer.score_mode == "dot" and not isinstance(layer, layers.AdditiveAttention)
    multiplied = ["value", "query"] if dot else ["value"]
    try:
        incoming = {name: site.channels(place, axis=-1) for name, place in places.items()}
    except Unprunable:
        for name in multiplied:
            site.macs(None, [*scores, site.input_shapes[places[name]][-1]])
        raise
    for name in multiplied:
        site.macs(None, scores, [incoming[name]])
    site.tie(incoming["query"], incoming["key"])
    if isinstance(layer, layers.AdditiveAttention):
        site.weight(layer.scale, carries={0: incoming["query"]})
    site.mixes(incoming["query"], _over_kept(layer))
    _anchor_others(site, places)
    return _with_scores(site, site.along(incoming["value"], -1, len(site.output_shapes[0])))


def _over_kept(layer: Any) -> Callable[[np.ndarray], Callable[..., Any]]:
    """Scores from the kept channels: where query and key are 0, a channel adds 0 to them.

    The key is the last input, and the value, too, if there are two.
    """

    def restricted(keep: np.ndarray) -> Callable[..., Any]:
        def call(inputs: Any, *args: Any, **kwargs: Any) -> Any:
            query, *value, key = inputs
            query, key = (x * ops.cast(keep, x.dtype) for x in (query, key))
            return type(layer).call(layer, [query, *value, key], *args, **kwargs)

        return call

    return restricted
