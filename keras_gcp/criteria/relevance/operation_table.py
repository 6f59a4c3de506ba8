"""The table of relevance rules for `keras.ops` operations. Pure data.

Missing on purpose: quotients of two tensors and products of two plain maps, whose relevance could
be any of their factors'; products of matrices, whose factors are both features; and tests, counts
and norms, which are not sums or selections of their inputs.
"""

from __future__ import annotations

from collections.abc import Callable

from keras_gcp.criteria.relevance import signs
from keras_gcp.criteria.relevance.layer_table import (
    ADDITION,
    DIFFERENCE,
    GATE,
    SHIFTED,
    SIGNED,
    SOURCE,
    UNCHANGED,
    copying,
    interpolation,
    summing,
    unchanging,
)
from keras_gcp.criteria.relevance.rule_functions import copies, first_half, selected
from keras_gcp.criteria.relevance.rules import (
    RelevanceRule,
    RuleKind,
    add_rule,
    no_zero,
)
from keras_gcp.graph import Call, Tensor

Select = Callable[[Call], RelevanceRule | None]


def _register(rule: RelevanceRule | Select, names: str) -> None:
    add_rule(rule, *(f"ops.{name}" for name in names.split()))


def _with_constant(rule: RelevanceRule | None, with_constant: RelevanceRule | None) -> Select:
    """Between two tensors one rule; between a tensor and a constant (a bias, say) another."""
    return lambda call: rule if len(call.inputs) > 1 else with_constant


def _division(call: Call) -> RelevanceRule | None:
    """Only by a constant: a scaling."""
    return SIGNED if len(call.inputs) == 1 and call.args[:1] == call.inputs else None


def _choice(call: Call) -> RelevanceRule | None:
    """Only if condition and alternatives are all tensors."""
    tensors = len(call.args) == 3 and all(isinstance(x, Tensor) for x in call.args)
    return RelevanceRule(RuleKind.COPIES, selected) if tensors else None


def _taking(call: Call) -> RelevanceRule | None:
    """Positions by constant numbers are copies; by computed ones it is a table that is read."""
    return copying() if len(call.inputs) == 1 and call.args[:1] == call.inputs else None


# Functions of one number. What is never negative if its argument is not:
_register(
    UNCHANGED,
    "Arcsin Arcsinh Arctan Arctanh Cast Cbrt Ceil ConvertToTensor Copy Deg2rad Erf Erfinv Expm1 "
    "Floor HardShrink HardTanh Log1p NanToNum Rad2deg Round SaturateCast Sign Sinh SoftShrink "
    "Softsign StopGradient TanhShrink Trunc",
)
_register(SIGNED, "Celu Elu Gelu HardSilu LeakyRelu Negative Selu Silu Sin Tan Tanh")
_register(SHIFTED, "Arccos Arccosh Clip Cos Log Log10 Log2 LogSigmoid LogSoftmax Sinc Threshold")
_register(unchanging(signs.by_slope), "ReLU")  # `keras.activations.relu` on symbolic tensors
_register(unchanging(signs.always), "Abs Absolute Fabs Relu Relu6 Sqrt Square")
_register(
    unchanging(signs.always, no_zero),
    "Cosh Erfc Exp Exp2 HardSigmoid Sigmoid Softmax Softplus SparsePlus SparseSigmoid Sparsemax "
    "Squareplus",
)
_register(_with_constant(None, SHIFTED), "Power")
_register(SIGNED, "Normalize")
_register(SOURCE, "OnesLike ZerosLike")

# Data movement, and choices among values.
_register(
    copying(),
    "AdaptiveMaxPool Amax Amin BroadcastTo Concatenate CropImages DepthToSpace ExpandDims Flip "
    "GetItem Max MaxPool Min Moveaxis PadImages Repeat Reshape Roll SpaceToDepth Split Squeeze "
    "Stack Swapaxes Tile Transpose Unstack",
)
_register(copying(signs.by_padding), "Pad")
_register(_taking, "Take")
_register(_choice, "Where")
_register(_with_constant(copying(signs.like_any_input), SHIFTED), "Fmax Maximum")
_register(_with_constant(copying(), SHIFTED), "Fmin Minimum")
_register(RelevanceRule(RuleKind.COPIES, first_half, signs.like_inputs, reads_inputs=False), "Glu")
# Its derivative is a softmax: every summand takes its share of the exponentials.
_register(RelevanceRule(RuleKind.COPIES, copies), "Logsumexp")

# Sums.
_register(_with_constant(ADDITION, SHIFTED), "Add")
_register(_with_constant(DIFFERENCE, SHIFTED), "Subtract")
_register(summing(), "AdaptiveAveragePool AveragePool Mean Sum")
_register(_with_constant(None, summing()), "Average")
_register(interpolation, "Resize")

# Products.
_register(_with_constant(GATE, SIGNED), "Multiply")
_register(_division, "Divide DivideNoNan TrueDivide")
