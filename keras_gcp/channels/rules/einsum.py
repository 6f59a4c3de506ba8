"""Dense layers written as an einsum: any axes are summed over, any are kept."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

from keras import layers

from keras_gcp.channels.channel_ids import ChannelIds
from keras_gcp.channels.registry import register_rule
from keras_gcp.channels.rules.common import apply_activation, require_plain_kernel, varying_axes
from keras_gcp.channels.site import Site, Unprunable


@dataclass(frozen=True)
class Equation:
    """An einsum of an input and a kernel, with one letter per axis of each.

    Attributes:
        entering: Of the input, batch axis first.
        kernel: Of the kernel.
        leaving: Of the output, batch axis first.
    """

    entering: tuple[str, ...]
    kernel: tuple[str, ...]
    leaving: tuple[str, ...]

    def new_letters(self) -> list[str]:
        """Axes of the output that the input does not have."""
        return [letter for letter in self.leaving if letter not in self.entering]


def read_equation(text: str, rank: int) -> Equation:
    """Reads the equation of a layer; axes that `...` stands for get digits for letters.

    Args:
        text: As the layer has it.
        rank: Number of axes of the input.
    """
    operands, leaving = text.replace(" ", "").split("->")
    entering, kernel = operands.split(",")
    elided = rank - len(entering.replace("...", ""))
    digits = tuple(itertools.islice(map(str, itertools.count()), elided))

    def letters(part: str) -> tuple[str, ...]:
        before, dots, after = part.partition("...")
        return (*before, *(digits if dots else ()), *after)

    return Equation(letters(entering), letters(kernel), letters(leaving))


@register_rule(layers.EinsumDense)
def einsum_dense(site: Site) -> ChannelIds:
    """Every kernel entry is applied at every position of the axes that the kernel lacks.

    Channels that the kernel sums over end here, and those of the last new axis begin. Channels
    along another axis pass through: the kernel lacks that axis, or has entries for each.
    """
    layer, shape = site.layer, site.input_shapes[0]
    equation = read_equation(layer.equation, len(shape))
    varying = varying_axes(site.inputs[0])
    axis = varying[0] if varying else len(shape) - 1
    along_one = len(varying) <= 1 and shape[axis] is not None
    free = [a for a, letter in enumerate(equation.entering) if a and letter not in equation.kernel]
    widths = [site.channels(0, axis)] if along_one and axis in free else []
    site.macs(layer.kernel, [shape[a] for a in free if not (widths and a == axis)], widths)
    try:
        require_plain_kernel(site)
        if not along_one:
            raise Unprunable("its channels lie along several axes, or their number is unknown")
        return _followed(site, equation, axis)
    except Unprunable:
        site.weight(layer.bias)
        raise


def _followed(site: Site, equation: Equation, axis: int) -> ChannelIds:
    layer, channels, letter = site.layer, site.channels(0, axis), equation.entering[axis]
    if letter not in equation.kernel and letter not in equation.leaving:
        raise Unprunable("it sums over its channels without a kernel")
    if equation.leaving[0] != equation.entering[0]:
        raise Unprunable("it moves the batch axis")
    read = {equation.kernel.index(letter): channels} if letter in equation.kernel else {}
    if letter in equation.leaving:  # The channels pass.
        site.weight(layer.kernel, carries=read)
        return _leaving(site, equation, letter, channels)
    new = equation.new_letters()
    if not new:
        raise Unprunable("it gives no channels of its own")
    place = equation.kernel.index(new[-1])
    outgoing = site.fresh(layer.kernel.shape[place])
    site.weight(layer.kernel, consumes=read, produces={place: outgoing})
    site.begins(outgoing)
    return _leaving(site, equation, new[-1], outgoing)


def _leaving(site: Site, equation: Equation, letter: str, ids: ChannelIds) -> ChannelIds:
    """The output, with its ids along the axis of one letter; and what is said about that."""
    layer, rank = site.layer, len(equation.leaving)
    axis = equation.leaving.index(letter)
    if layer.bias is not None:
        place = axis - rank + len(layer.bias.shape)  # A bias lacks axes in front.
        along = place >= 0 and layer.bias.shape[place] == len(ids)
        site.weight(layer.bias, carries={place: ids} if along else {})
        if not along:
            _keep_apart(site, ids, layer.bias.shape)
    sizes = list(layer.partial_output_shape)
    first = rank - len(sizes) if layer.equation.startswith("...") else 1
    if axis - first < len(sizes) and sizes[axis - first] is not None:
        sizes[axis - first] = site.count(ids)
    site.config("output_shape", tuple(sizes), attribute="partial_output_shape")
    apply_activation(site, ids)
    return site.along(ids, axis, rank)


def _keep_apart(site: Site, ids: ChannelIds, shape: Sequence[int]) -> None:
    """A bias along another axis must not be as long as there are channels.

    Keras adds a bias of shape `(7, 1)` along the last axis if that has 7 entries (TensorFlow
    backend, `keras.ops.add`), so at that width the layer would compute something else.
    """
    sizes = [size for size in shape if size > 1]
    if len(sizes) != 1 or sizes[0] > len(ids):
        return
    reason = f"with {sizes[0]} channels, '{site.path}' would add its bias along another axis"
    if sizes[0] == len(ids):
        site.anchor(ids, f"with fewer channels, '{site.path}' would add its bias elsewhere")
    site.at_least(ids, sizes[0] + 1, reason)
