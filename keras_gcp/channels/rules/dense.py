"""Dense layers and embeddings."""

from __future__ import annotations

from keras import layers

from keras_gcp.channels.channel_ids import ChannelIds
from keras_gcp.channels.registry import register_rule
from keras_gcp.channels.rules.common import apply_activation, require_plain_kernel
from keras_gcp.channels.site import Site


@register_rule(layers.Dense)
def dense(site: Site) -> ChannelIds:
    """Kernel `(channels_in, units)`, applied along the last axis at every other position."""
    site.macs(site.layer.kernel, site.output_shapes[0][1:-1])
    require_plain_kernel(site)
    layer = site.layer
    incoming = site.channels(0, axis=-1)
    outgoing = site.fresh(layer.units)
    site.weight(layer.kernel, consumes={0: incoming}, produces={1: outgoing})
    site.weight(layer.bias, carries={0: outgoing})
    site.begins(outgoing)
    site.config("units", site.count(outgoing))
    apply_activation(site, outgoing)
    return site.along(outgoing, -1, len(site.output_shapes[0]))


@register_rule(layers.Embedding)
def embedding(site: Site) -> ChannelIds:
    """Table `(tokens, output_dim)`: its columns are channels of the looked-up vectors."""
    require_plain_kernel(site)
    outgoing = site.fresh(site.layer.output_dim)
    site.weight(site.layer.embeddings, produces={1: outgoing})
    site.begins(outgoing)
    site.config("output_dim", site.count(outgoing))
    return site.along(outgoing, -1, len(site.output_shapes[0]))
