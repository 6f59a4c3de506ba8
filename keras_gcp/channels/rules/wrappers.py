"""Layers around other layers."""

from __future__ import annotations

import numpy as np
from keras import layers

from keras_gcp import keras_state
from keras_gcp.channels.channel_ids import ChannelIds
from keras_gcp.channels.declared import advice
from keras_gcp.channels.registry import register_rule, rule_for
from keras_gcp.channels.site import Site, Unprunable


@register_rule(layers.TimeDistributed)
def time_distributed(site: Site) -> ChannelIds:
    """The wrapped layer, repeated over the first axis after the batch axis."""
    return _wrapped(site, leading=1)[None]


@register_rule("ops.StepsAsExamples")
def steps_as_examples(site: Site) -> ChannelIds:
    """Into a model that `TimeDistributed` repeats: the axis of its steps goes."""
    if site.inputs[0].shape[0] > 1:
        raise Unprunable("its channels lie along the axis that it repeats over")
    return site.inputs[0][0]


@register_rule("ops.ExamplesAsSteps")
def examples_as_steps(site: Site) -> ChannelIds:
    """Out of such a model: the axis of its steps comes back."""
    return site.inputs[0][None]


@register_rule(layers.SpectralNormalization)
def spectral_normalization(site: Site) -> ChannelIds:
    """The wrapped layer, whose kernel each training step divides by its largest singular value.

    The kernel is stored divided, so at inference the layer is the wrapped one. `vector_u`, the
    estimate from which the next step starts, has an entry for each position of the kernel's last
    axis, and `kernel_shape` is the shape to which the quotient is brought.
    """
    layer = site.layer
    try:
        output = _wrapped(site, leading=0)
    except Unprunable:
        site.weight(layer.vector_u)
        raise
    axes, sizes = site.ids_of(layer.kernel), tuple(layer.kernel.shape)
    last = len(sizes) - 1
    site.weight(layer.vector_u, carries={1: axes[last]} if last in axes else {})
    shape = tuple(site.count(axes[a]) if a in axes else size for a, size in enumerate(sizes))
    site.config("kernel_shape", shape, derived=True)
    return output


def _wrapped(site: Site, leading: int) -> ChannelIds:
    """What the rule of the wrapped layer says, with the leading axes left out."""
    wrapped = site.layer.layer
    if keras_state.repeated_model(site.layer) is not None and site.call.node is not None:
        arguments = site.call.node.arguments
        why = keras_state.not_repeatable(site.layer, arguments.args, arguments.kwargs)
        raise Unprunable(f"the model that it repeats cannot be followed: {why}")
    rule = rule_for(wrapped)
    if rule is None:
        raise Unprunable(
            f"the layer '{wrapped.name}' (class {type(wrapped).__name__}) that it wraps has no "
            f"rule; {advice(wrapped, f'{site.path}/{wrapped.name}')}"
        )
    output = rule(site.inside(wrapped, leading))
    if not isinstance(output, np.ndarray):
        for block in output:
            site.anchor(block, f"one of several outputs of what '{site.path}' wraps")
        raise Unprunable("the layer that it wraps has several outputs")
    return output
