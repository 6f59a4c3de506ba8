"""What a user has declared to be elementwise: channels pass through."""

from __future__ import annotations

from collections.abc import Sequence

from keras_gcp import keras_state
from keras_gcp.channels.channel_ids import ChannelIds
from keras_gcp.channels.declared import declaration_of
from keras_gcp.channels.registry import DECLARED, register_rule
from keras_gcp.channels.rules.common import varying_axes
from keras_gcp.channels.rules.merging import merged
from keras_gcp.channels.rules.reshaping import with_counts
from keras_gcp.channels.site import Site
from keras_gcp.channels.trying import require_elementwise
from keras_gcp.errors import InvalidArgument


@register_rule(DECLARED)
def declared_elementwise(site: Site) -> ChannelIds | Sequence[ChannelIds]:
    """Channels of several inputs are tied; other weights than those of channels may be there."""
    _require_fitting_shapes(site)
    block = site.inputs[0] if len(site.inputs) == 1 else merged(site)
    declaration = declaration_of(site.layer)
    assert declaration is not None, "the rule is that of declared layers"
    for axis in varying_axes(block):
        require_elementwise(site, declaration, axis - block.ndim - 1)
    for weight in site.call.weights:
        site.weight(weight)
    fixed = keras_state.fixed_output_shape(site.layer)
    if fixed is not None:
        name, sizes = fixed
        site.config(name, with_counts(site, sizes, block), derived=True)
    return block if len(site.output_shapes) == 1 else [block] * len(site.output_shapes)


def _require_fitting_shapes(site: Site) -> None:
    """Refuses a layer that moves channels to another axis, or changes their number."""
    rank = max(len(shape) for shape in site.input_shapes)
    axes = {a - block.ndim - 1 for block in site.inputs for a in varying_axes(block)}
    for shape in site.output_shapes:
        if len(shape) != rank or any(shape[axis] != _size(site, axis) for axis in axes):
            raise InvalidArgument(
                f"`keras_gcp.elementwise` was called for layer '{site.path}' (class "
                f"{type(site.layer).__name__}), but it turns shape {site.input_shapes[0]} into "
                f"{shape}. Expected the same number of axes, and of channels. Leave the "
                "declaration out, or take it back: `keras_gcp.elementwise(..., declared=False)`."
            )


def _size(site: Site, axis: int) -> int:
    return max(shape[axis] or 0 for shape in site.input_shapes if len(shape) >= -axis)
