"""Sums of products of tensors, such as matrix products: counted, their channels left whole.

Operations of `keras.ops` and `Dot` have no weights: they multiply what the network computes, or
multiply it by constants, which belong to the Python code and are not cut.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NoReturn

from keras import layers

from keras_gcp.channels.channel_ids import ChannelIds
from keras_gcp.channels.registry import register_rule
from keras_gcp.channels.site import Site, Unprunable
from keras_gcp.graph import Shape, Tensor, leaves


def _operands(site: Site) -> list[Any]:
    """The tensors and constants that it is called on, in order."""
    given = leaves((site.call.args, site.call.kwargs))
    return [x for x in given if hasattr(x, "shape")]


def _leave_whole(site: Site, *products: Sequence[int | None]) -> NoReturn:
    """Counts a multiply-add for each combination of positions along axes of given sizes."""
    for sizes in products:
        site.macs(None, sizes)
    raise Unprunable("channels are not followed through products of tensors")


@register_rule("ops.Matmul", "ops.Dot", "ops.Inner")
def matrix_product(site: Site) -> ChannelIds:
    """Every output sums over the last axis of the first operand."""
    first, _ = _operands(site)
    _leave_whole(site, [*site.output_shapes[0][1:], *first.shape[-1:]])


@register_rule(layers.Dot)
def dot(site: Site) -> ChannelIds:
    """A matrix product along axes of choice."""
    axes = site.layer.axes
    axis = axes if isinstance(axes, int) else axes[0]
    _leave_whole(site, [*site.output_shapes[0][1:], site.input_shapes[0][axis]])


@register_rule("ops.Tensordot")
def tensordot(site: Site) -> ChannelIds:
    """Sums over any axes of both operands."""
    first, _ = _operands(site)
    axes = site.layer.axes
    if isinstance(axes, int):
        summed = list(range(len(first.shape) - axes, len(first.shape)))
    else:
        summed = [axes[0]] if isinstance(axes[0], int) else list(axes[0])
    _leave_whole(site, [*site.output_shapes[0][1:], *(first.shape[axis] for axis in summed)])


@register_rule("ops.Einsum")
def einsum(site: Site) -> ChannelIds:
    """A multiply-add for every combination of the letters, that of the batch excepted."""
    operands = _operands(site)
    if len(operands) != 2:
        raise Unprunable("it multiplies more than two tensors, in an order that is not known")
    parts = site.layer.subscripts.replace(" ", "").split("->")[0].split(",")
    letters = [_letters(part, x.shape) for part, x in zip(parts, operands, strict=True)]
    sizes: dict[str, int | None] = {}
    for names, x in zip(letters, operands, strict=True):
        for name, size in zip(names, x.shape, strict=True):
            sizes[name] = size if sizes.get(name, 1) == 1 else sizes[name]
    batch = next(names[0] for names, x in zip(letters, operands, strict=True) if _computed(x))
    _leave_whole(site, [size for name, size in sizes.items() if name != batch])


def _letters(part: str, shape: Shape) -> list[str]:
    """A name for each axis; those that `...` stands for are numbered from the end."""
    before, dots, after = part.partition("...")
    elided = len(shape) - len(before) - len(after) if dots else 0
    return [*before, *(str(place) for place in range(elided, 0, -1)), *after]


def _computed(x: Any) -> bool:
    return isinstance(x, Tensor)


@register_rule("ops.DotProductAttention")
def dot_product_attention(site: Site) -> ChannelIds:
    """Every query with every key, and the scores with the values; `(batch, places, heads, dim)`."""
    query, key, value = (x.shape for x in _operands(site)[:3])
    scores = [query[1], query[2], key[1]]
    _leave_whole(site, [*scores, query[3]], [*scores, value[3]])


@register_rule("ops.Conv", "ops.DepthwiseConv", "ops.ConvTranspose", "ops.SeparableConv")
def convolution_by_constants(site: Site) -> ChannelIds:
    """Kernels that are not weights: constants, or computed by the network."""
    x, *kernels = _operands(site)
    transposed = type(site.layer).__name__ == "ConvTranspose"
    shape = x.shape if transposed else site.output_shapes[0]
    _leave_whole(site, *([*_places(site, shape), *kernel.shape] for kernel in kernels))


def _places(site: Site, shape: Shape) -> list[int | None]:
    return [size for axis, size in enumerate(shape) if axis not in (0, site.channel_axis)]
