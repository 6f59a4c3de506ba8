"""Layers that treat every element, or every channel, by itself."""

from __future__ import annotations

from keras import layers

from keras_gcp.channels.labels import Labels
from keras_gcp.channels.registry import register_rule
from keras_gcp.channels.rules.common import apply_activation, varying_axes
from keras_gcp.channels.site import Site, Unprunable


@register_rule(
    layers.ReLU,
    layers.LeakyReLU,
    layers.ELU,
    layers.GaussianNoise,
    layers.GaussianDropout,
    layers.ActivityRegularization,
    layers.Identity,
    layers.Rescaling,
    layers.SpatialDropout1D,
    layers.SpatialDropout2D,
    layers.SpatialDropout3D,
    "ops.Relu",
    "ops.Relu6",
    "ops.Sigmoid",
    "ops.Silu",
    "ops.HardSigmoid",
    "ops.HardSilu",
    "ops.Gelu",
    "ops.Tanh",
    "ops.LeakyRelu",
    "ops.Elu",
    "ops.Softplus",
)
def elementwise(site: Site) -> Labels:
    """Channels pass through."""
    for name in ("scale", "offset"):  # Rescaling may hold one number per channel.
        if getattr(getattr(site.layer, name, None), "shape", ()) not in ((), (1,)):
            raise Unprunable(f"its `{name}` is an array; only a single number can be followed")
        if isinstance(getattr(site.layer, name, None), list | tuple):
            raise Unprunable(f"its `{name}` is a list; only a single number can be followed")
    return site.inputs[0]


@register_rule(layers.Activation)
def activation(site: Site) -> Labels:
    """Channels pass through, unless the function mixes them (softmax)."""
    apply_activation(site, site.inputs[0])
    return site.inputs[0]


@register_rule(layers.Softmax)
def softmax(site: Site) -> Labels:
    """Over the channels every output depends on every input; over other axes it does not."""
    axes = site.layer.axis if isinstance(site.layer.axis, list | tuple) else [site.layer.axis]
    rank = len(site.input_shapes[0])
    if set(varying_axes(site.inputs[0])) & {axis % rank for axis in axes}:
        site.anchor(site.inputs[0], f"softmax '{site.path}' mixes channels")
    return site.inputs[0]


@register_rule(layers.Dropout, layers.AlphaDropout)
def dropout(site: Site) -> Labels:
    """Channels pass through."""
    shape = getattr(site.layer, "noise_shape", None)
    if shape is not None and any(size not in (None, 1) for size in shape[1:]):
        raise Unprunable("its `noise_shape` fixes the number of channels")
    return site.inputs[0]


@register_rule(layers.PReLU)
def prelu(site: Site) -> Labels:
    """One slope per element, except along shared axes."""
    block = site.inputs[0]
    if site.layer.alpha is not None:
        shared = set(site.layer.shared_axes or ())
        carried = {
            axis - 1: site.channels(0, axis) for axis in varying_axes(block) if axis not in shared
        }
        site.weight(site.layer.alpha, carries=carried)
    return block
