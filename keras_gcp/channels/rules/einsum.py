"""Dense layers written as an einsum: any axes are summed over, any are kept."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

from keras import layers

from keras_gcp.channels.labels import Labels
from keras_gcp.channels.registry import register_rule
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
def einsum_dense(site: Site) -> Labels:
    """Every kernel entry is applied at every position of the axes that the kernel lacks."""
    equation = read_equation(site.layer.equation, len(site.input_shapes[0]))
    sizes = dict(zip(equation.entering, site.input_shapes[0], strict=True))
    free = [sizes[letter] for letter in equation.entering[1:] if letter not in equation.kernel]
    site.macs(site.layer.kernel, free)
    raise Unprunable("its channels are not followed")
