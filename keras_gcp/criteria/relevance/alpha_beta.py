"""The alpha-beta rule for layers that are linear but for bias and activation.

With z+ and z- the layer's output for the positive and for the negative part of the kernel,

    R_in = x * (alpha * VJP+(R / z+) - beta * VJP-(R / z-)),   alpha = 2, beta = alpha - 1,

where VJP+ and VJP- are the transposed linear maps (Bach et al., "On pixel-wise explanations for
non-linear classifier decisions by layer-wise relevance propagation", 2015, equation 60). Bias and
fused activation are left out. Since alpha - beta = 1, the sum of the relevance is conserved; where
an output has contributions of one sign only, they take the relevance as it is.

That form holds for inputs that are never negative. In general a contribution x*w is positive if
both factors are, or neither: the positive part of the output is then x+ w+ + x- w-, the negative
part x+ w- + x- w+. Both forms agree where x is not negative; the second one takes twice the time.

Depthwise convolutions have alpha = 1, beta = 0 (the z+ rule; Montavon et al., "Layer-wise relevance
propagation: an overview", 2019). With alpha = 2 the magnitudes may grow threefold in every layer.
In an ordinary convolution the many channels that share an input even that out; in a depthwise one
there is nobody to share with, and in a trained MobileNet of 27 layers single elements grew to 6,000
times the relevance that started, with it to 6.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from keras import ops

from keras_gcp.backend import vjp

ALPHA = 2.0
ALPHA_DEPTHWISE = 1.0
LEAST_SHARE = 1e-5
"""A sign whose share of all contributions is below this is rounding: fast convolutions have errors
of some 1e-7 of the greatest values."""

TINY = 1e-30
"""No input is active, or all weights are 0: nothing to pass relevance on to."""


@dataclass(frozen=True)
class LinearMap:
    """What a layer does with a kernel, without bias and activation.

    Attributes:
        kind: `"conv"`, `"depthwise"`, `"transposed"`, `"dense"` or `"einsum"`.
        channel_axis: Axis of the output's channels, batch axis counted.
        kernel_axis: Axis of the kernel that can be lengthened to have more output channels.
        options: Keyword arguments of the `keras.ops` function; the equation of an einsum.
        causal: Zeros put before the first step of a sequence.
        alpha: How often positive contributions take the relevance.
    """

    kind: str
    channel_axis: int
    kernel_axis: int
    options: tuple[tuple[str, Any], ...] = ()
    causal: int = 0
    alpha: float = ALPHA

    def __call__(self, x: Any, kernel: Any) -> Any:
        if self.kind == "dense":
            return ops.matmul(x, kernel)
        if self.kind == "einsum":
            return ops.einsum(dict(self.options)["equation"], x, kernel)
        if self.causal:
            time = 1 if self.channel_axis == 2 else 2
            padding = [(self.causal, 0) if axis == time else (0, 0) for axis in range(3)]
            x = ops.pad(x, padding)
        functions = {
            "conv": ops.conv,
            "depthwise": ops.depthwise_conv,
            "transposed": ops.conv_transpose,
        }
        return functions[self.kind](x, kernel, **dict(self.options))


def alpha_beta(
    x: Any,
    kernel: Any,
    relevance: Any,
    negated: Any = None,
    *,
    linear: LinearMap,
    signed: bool,
) -> Any:
    """Relevance of the inputs of a linear map.

    Args:
        x: Inputs, float32.
        kernel: Kernel, float32.
        relevance: Relevance of the outputs, of their shape.
        negated: `(examples,)` booleans: for which examples it is the relevance of minus the output,
            computed with minus the kernel; None for none of them.
        linear: The map.
        signed: Whether inputs may be negative.

    Returns:
        Relevance of the inputs, of their shape.
    """
    positive = ops.maximum(kernel, 0.0)
    negative = ops.minimum(kernel, 0.0)
    both = _interleaved(positive, negative, linear.kernel_axis)
    if not signed:
        z, pullback = vjp(lambda x: linear(x, both), x)
        (gradient,) = pullback(_cotangent(z, relevance, linear, negated))
        return x * gradient
    swapped = _interleaved(negative, positive, linear.kernel_axis)
    above, below = ops.maximum(x, 0.0), ops.minimum(x, 0.0)
    z, pullback = vjp(lambda a, b: linear(a, both) + linear(b, swapped), above, below)
    gradients = pullback(_cotangent(z, relevance, linear, negated))
    return above * gradients[0] + below * gradients[1]


def _interleaved(first: Any, second: Any, axis: int) -> Any:
    """A kernel with two output channels for each one: one pass instead of two.

    Interleaved rather than side by side, so that the channels stay in their groups.
    """
    shape = list(first.shape)
    axis %= len(shape)
    shape[axis] *= 2
    return ops.reshape(ops.stack([first, second], axis + 1), shape)


def _cotangent(z: Any, relevance: Any, linear: LinearMap, negated: Any) -> Any:
    """`alpha * R / z+` and `-beta * R / z-`, interleaved like the channels of `z`."""
    axis, alpha, beta = linear.channel_axis, linear.alpha, linear.alpha - 1.0
    shape = list(ops.shape(relevance))  # Compiled, a layer that reads strings forgets the batch.
    pairs = ops.reshape(z, [*shape[: axis + 1], 2, *shape[axis + 1 :]])
    positive, negative = ops.unstack(pairs, 2, axis + 1)
    least = LEAST_SHARE * (ops.abs(positive) + ops.abs(negative)) + TINY
    has_positive, has_negative = positive > least, negative < -least
    # Of relevance's type: two Python numbers would make `where` return type `floatx`.
    share, counter = (ops.cast(number, relevance.dtype) for number in (alpha, -beta))
    of_positive, of_negative = share, counter
    if negated is not None:  # With minus the kernel the two parts change places.
        negated = ops.reshape(negated, (-1, *(1 for _ in shape[1:])))
        of_positive = ops.where(negated, counter, share)
        of_negative = ops.where(negated, share, counter)
    parts = [
        _share(has_positive, ops.where(has_negative, of_positive, 1.0) * relevance, positive),
        _share(has_negative, ops.where(has_positive, of_negative, 1.0) * relevance, negative),
    ]
    return ops.reshape(ops.stack(parts, axis + 1), ops.shape(z))


def _share(present: Any, relevance: Any, z: Any) -> Any:
    """`relevance / z` where there is anything, 0 elsewhere; never a division by 0."""
    return ops.where(present, relevance / ops.where(present, z, 1.0), 0.0)
