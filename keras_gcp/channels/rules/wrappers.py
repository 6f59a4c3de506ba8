"""Layers around other layers."""

from __future__ import annotations

import numpy as np
from keras import layers

from keras_gcp.channels.labels import Labels
from keras_gcp.channels.registry import register_rule, rule_for
from keras_gcp.channels.site import Site, Unprunable


@register_rule(layers.TimeDistributed)
def time_distributed(site: Site) -> Labels:
    """The wrapped layer, repeated over the first axis behind the batch axis."""
    wrapped = site.layer.layer
    rule = rule_for(wrapped)
    if rule is None:
        raise Unprunable(
            f"the layer '{wrapped.name}' (class {type(wrapped).__name__}) that it wraps has no rule"
        )
    output = rule(site.inside(wrapped))
    if not isinstance(output, np.ndarray):
        raise Unprunable("the layer that it wraps has several outputs")
    return output[None]
