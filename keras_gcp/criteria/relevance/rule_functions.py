"""The rules themselves: what each kind of operation does with relevance."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from keras import ops

from keras_gcp.backend import vjp
from keras_gcp.channels.rules.einsum import read_equation
from keras_gcp.criteria.relevance.alpha_beta import ALPHA, ALPHA_DEPTHWISE, LinearMap, alpha_beta
from keras_gcp.criteria.relevance.rules import Step
from keras_gcp.graph import Call, Tensor, map_structure

EPSILON = 1e-9
"""Keeps sums away from 0 where one divides by them."""


def unchanged(step: Step, relevance: Sequence[Any]) -> Sequence[Any]:
    """Activations, normalisation, dropout: relevance passes as it is."""
    return relevance


def copies(step: Step, relevance: Sequence[Any]) -> Sequence[Any]:
    """Every output is a copy of one input (or a constant), which takes all its relevance.

    For the maximum that means: winner takes all.
    """
    outputs, pullback = vjp(_function(step.call), *step.inputs)
    return pullback(_like(outputs, relevance))


def selected(step: Step, relevance: Sequence[Any]) -> Sequence[Any]:
    """`ops.where`: every output is a copy of one alternative; what chooses takes none."""
    condition, *values = step.inputs
    chooses = ops.cast(condition, "bool")
    function = _function(step.call)
    _, pullback = vjp(lambda *values: function(chooses, *values), *values)
    return [None, *pullback(relevance[0])]


def first_half(step: Step, relevance: Sequence[Any]) -> Sequence[Any]:
    """`ops.glu`: the first half of an axis is the map, the second half its gate."""
    axis = step.call.operation.axis
    return [ops.concatenate([relevance[0], ops.zeros_like(relevance[0])], axis=axis)]


def proportional(step: Step, relevance: Sequence[Any]) -> Sequence[Any]:
    """Every output is a weighted sum: `R_in = x * VJP(R / z)`, in proportion to the summands.

    Where z can be near 0 while R is not, the magnitudes of the summands take their place:
    `R_in = |x| * VJP(R / z(|x|))`. Both conserve the sum of the relevance.
    """
    magnitudes = [ops.abs(x) for x in step.inputs] if step.absolute else step.inputs
    return _in_proportion(step.call, magnitudes, relevance)


def difference(step: Step, relevance: Sequence[Any]) -> Sequence[Any]:
    """`a - b` is the sum of `a` and `-b`."""
    a, b = step.inputs
    if step.absolute:
        a, b = ops.abs(a), -ops.abs(b)
    return _in_proportion(step.call, [a, b], relevance)


def _in_proportion(call: Call, inputs: Sequence[Any], relevance: Sequence[Any]) -> list[Any]:
    outputs, pullback = vjp(_function(call), *inputs)
    leaves = list(outputs) if isinstance(outputs, list | tuple) else [outputs]
    quotients = [r / away_from_zero(z) for z, r in zip(leaves, relevance, strict=True)]
    gradients = pullback(_like(outputs, quotients))
    return [x * gradient for x, gradient in zip(inputs, gradients, strict=True)]


def gated(step: Step, relevance: Sequence[Any]) -> Sequence[Any]:
    """A product of a map and its gates: the map takes all the relevance.

    A gate is credited with the relevance that it lets through, for the sake of the layers that
    compute it; the route ends this relevance where the gate's branch begins.
    """
    (passed,) = relevance
    result = []
    for position, x in enumerate(step.inputs):
        if position in step.gates:
            _, pullback = vjp(lambda gate: ops.broadcast_to(gate, ops.shape(passed)), x)
            result.append(pullback(passed)[0])
        else:
            result.append(passed)
    return result


def linear(step: Step, relevance: Sequence[Any]) -> Sequence[Any]:
    """Dense layers and convolutions of every kind: the alpha-beta rule."""
    layer = step.call.operation
    kernel = _float32(layer.kernel)
    if is_depthwise(step.call):
        groups = step.call.operation.groups
        kernel = ops.reshape(kernel, (*kernel.shape[:-2], groups, kernel.shape[-1] // groups))
    function = step.compiled(alpha_beta, linear=linear_map(step.call), signed=step.signed[0])
    return [function(step.inputs[0], kernel, relevance[0], *_negated(step))]


def separable(step: Step, relevance: Sequence[Any]) -> Sequence[Any]:
    """A depthwise convolution followed by a pointwise one: the alpha-beta rule, twice."""
    layer, x = step.call.operation, step.inputs[0]
    options = _options(layer)
    axis = _channel_axis(step.call)
    depthwise = LinearMap("depthwise", axis, -1, tuple(options.items()), alpha=ALPHA_DEPTHWISE)
    plain = {"strides": 1, "padding": "valid", "data_format": layer.data_format}
    pointwise = LinearMap("conv", axis, -1, tuple(plain.items()))
    kernel = _float32(layer.depthwise_kernel)
    between = depthwise(x, kernel)
    second = step.compiled(alpha_beta, linear=pointwise, signed=True)
    first = step.compiled(alpha_beta, linear=depthwise, signed=step.signed[0])
    passed = second(between, _float32(layer.pointwise_kernel), relevance[0], *_negated(step))
    return [first(x, kernel, passed)]


def _negated(step: Step) -> tuple[Any, ...]:
    return () if step.negated is None else (step.negated,)


def away_from_zero(z: Any) -> Any:
    """Adds a tiny number of the same sign."""
    return z + ops.cast(ops.where(z >= 0, EPSILON, -EPSILON), z.dtype)  # not of type floatx


def linear_map(call: Call) -> LinearMap:
    """The linear map of a dense layer, an einsum or a convolution."""
    layer = call.operation
    if hasattr(layer, "equation"):
        equation = read_equation(layer.equation, len(call.inputs[0].shape))
        letter = equation.new_letters()[-1]
        places = equation.leaving.index(letter), equation.kernel.index(letter)
        return LinearMap("einsum", *places, (("equation", layer.equation),))
    if not hasattr(layer, "kernel_size"):
        return LinearMap("dense", len(call.outputs[0].shape) - 1, -1)
    options = _options(layer)
    axis = _channel_axis(call)
    if hasattr(layer, "output_padding"):
        options["output_padding"] = layer.output_padding
        return LinearMap("transposed", axis, -2, tuple(options.items()))
    causal = 0
    if layer.padding == "causal":
        options["padding"] = "valid"
        causal = layer.dilation_rate[0] * (layer.kernel_size[0] - 1)
    depthwise = hasattr(layer, "depth_multiplier") or is_depthwise(call)
    kind = "depthwise" if depthwise else "conv"
    alpha = ALPHA_DEPTHWISE if depthwise or _has_a_group_per_channel(layer) else ALPHA
    return LinearMap(kind, axis, -1, tuple(options.items()), causal, alpha)


def is_depthwise(call: Call) -> bool:
    """Whether an ordinary convolution has a group for every channel, so that it can be computed as
    a depthwise one: TensorFlow compiles convolutions with groups for every call, for minutes in
    all.
    """
    layer = call.operation
    return (
        _has_a_group_per_channel(layer)
        and layer.rank < 3  # there is no depthwise convolution of volumes
        and len(set(layer.strides)) == 1
    )


def _has_a_group_per_channel(layer: Any) -> bool:
    return getattr(layer, "groups", 1) > 1 and layer.kernel.shape[-2] == 1


def _options(layer: Any) -> dict[str, Any]:
    return {
        "strides": layer.strides,
        "padding": layer.padding,
        "dilation_rate": layer.dilation_rate,
        "data_format": layer.data_format,
    }


def _channel_axis(call: Call) -> int:
    rank = len(call.outputs[0].shape)
    return 1 if call.operation.data_format == "channels_first" else rank - 1


def _float32(variable: Any) -> Any:
    return ops.cast(ops.convert_to_tensor(variable), "float32")


def _like(outputs: Any, parts: Sequence[Any]) -> Any:
    """The parts, structured like the outputs of the call."""
    return list(parts) if isinstance(outputs, list | tuple) else parts[0]


def _function(call: Call) -> Any:
    """The call as a function of its tensors alone.

    It enters by `call`, not `__call__`, so that a layer of a mixed-precision model computes in
    the float32 of the relevance.
    """
    kwargs = {name: value for name, value in call.kwargs.items() if name != "training"}

    def function(*values: Any) -> Any:
        remaining = iter(values)

        def fill(leaf: Any) -> Any:
            return next(remaining) if isinstance(leaf, Tensor) else leaf

        args, filled = map_structure(fill, (call.args, kwargs))
        return call.operation.call(*args, **filled)

    return function
