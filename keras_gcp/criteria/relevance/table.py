"""The table of relevance rules: which operation follows which rule. Pure data.

A layer that is missing here stops the relevance; `register_relevance_rule` adds one.
"""

from __future__ import annotations

import keras
from keras import layers

from keras_gcp.criteria.relevance import signs
from keras_gcp.criteria.relevance.propagate import (
    copies,
    difference,
    gated,
    linear,
    proportional,
    separable,
    unchanged,
)
from keras_gcp.criteria.relevance.rules import (
    RelevanceRule,
    never,
    no_zero,
    register_relevance_rule,
)
from keras_gcp.graph import Call

ADDITION = RelevanceRule("addition", proportional, signs.like_inputs)
GATE = RelevanceRule("gate", gated, signs.like_inputs)
LINEAR = RelevanceRule("linear", linear, signs.by_activation)
DEPTHWISE = RelevanceRule("depthwise", linear, signs.by_activation)
SEPARABLE = RelevanceRule("separable", separable, signs.by_activation)
SOURCE = RelevanceRule("source", lambda step, relevance: [None], reads_inputs=False)
"""Channels begin here and nothing goes on to the inputs: an embedding looks up integers."""


def _unchanged(nonnegative=signs.like_inputs, keeps_zero=signs.zero_stays) -> RelevanceRule:  # type: ignore[no-untyped-def]
    return RelevanceRule("unchanged", unchanged, nonnegative, keeps_zero, reads_inputs=False)


def _copies(nonnegative=signs.like_inputs) -> RelevanceRule:  # type: ignore[no-untyped-def]
    return RelevanceRule("copies", copies, nonnegative)


def _sums(nonnegative=signs.like_inputs) -> RelevanceRule:  # type: ignore[no-untyped-def]
    return RelevanceRule("proportional", proportional, nonnegative)


_UNCHANGED, _SIGNED = _unchanged(), _unchanged(never)
_SHIFTED = _unchanged(never, no_zero)
_DIFFERENCE = RelevanceRule("proportional", difference)


def _if_plain(rule: RelevanceRule):  # type: ignore[no-untyped-def]
    """Covers a layer unless its weights are quantized or its activation halves the channels."""

    def select(call: Call) -> RelevanceRule | None:
        quantized = getattr(call.operation, "quantization_mode", None) is not None
        return None if quantized or call.operation.activation is keras.activations.glu else rule

    return select


def _convolution(call: Call) -> RelevanceRule | None:
    """With one group per channel a convolution is a depthwise one."""
    alone = call.operation.groups > 1 and call.operation.kernel.shape[-2] == 1
    return _if_plain(DEPTHWISE if alone else LINEAR)(call)


def _with_constant(rule: RelevanceRule, with_constant: RelevanceRule | None):  # type: ignore[no-untyped-def]
    """Between two tensors one rule; between a tensor and a constant (a bias, say) another."""
    return lambda call: rule if len(call.inputs) > 1 else with_constant


def _division(call: Call) -> RelevanceRule | None:
    """Only by a constant: a scaling."""
    return _SIGNED if len(call.inputs) == 1 and call.args[:1] == call.inputs else None


def _upsampling(call: Call) -> RelevanceRule:
    nearest = call.operation.interpolation == "nearest"
    return (_copies if nearest else _sums)(signs.by_interpolation)


register_relevance_rule(
    _if_plain(LINEAR),
    layers.Dense,
    layers.Conv1DTranspose,
    layers.Conv2DTranspose,
    layers.Conv3DTranspose,
)
register_relevance_rule(_convolution, layers.Conv1D, layers.Conv2D, layers.Conv3D)
register_relevance_rule(_if_plain(DEPTHWISE), layers.DepthwiseConv1D, layers.DepthwiseConv2D)
register_relevance_rule(_if_plain(SEPARABLE), layers.SeparableConv1D, layers.SeparableConv2D)
register_relevance_rule(SOURCE, layers.Embedding)

register_relevance_rule(
    _if_plain(_unchanged(signs.by_activation, signs.zero_by_activation)), layers.Activation
)
register_relevance_rule(_unchanged(signs.by_slope), layers.ReLU, layers.LeakyReLU)
register_relevance_rule(_unchanged(signs.always), "ops.Relu", "ops.Relu6")
register_relevance_rule(
    _unchanged(signs.always, no_zero),
    layers.Softmax,
    "ops.Exp",
    "ops.HardSigmoid",
    "ops.Sigmoid",
    "ops.Softmax",
    "ops.Softplus",
)
register_relevance_rule(
    _SHIFTED,
    layers.BatchNormalization,
    layers.GroupNormalization,
    layers.LayerNormalization,
    layers.Normalization,
    layers.Rescaling,
    "ops.Clip",
    "ops.LogSoftmax",
)
register_relevance_rule(
    _SIGNED,
    layers.ELU,
    layers.PReLU,
    layers.RMSNormalization,
    layers.UnitNormalization,
    "ops.Celu",
    "ops.Elu",
    "ops.Gelu",
    "ops.HardSilu",
    "ops.LeakyRelu",
    "ops.Negative",
    "ops.Selu",
    "ops.Silu",
    "ops.Tanh",
)
# At inference these do nothing.
register_relevance_rule(
    _UNCHANGED,
    layers.ActivityRegularization,
    layers.AlphaDropout,
    layers.Dropout,
    layers.GaussianDropout,
    layers.GaussianNoise,
    layers.Identity,
    layers.Masking,
    layers.RandomBrightness,
    layers.RandomContrast,
    layers.RandomFlip,
    layers.RandomRotation,
    layers.RandomTranslation,
    layers.RandomZoom,
    layers.SpatialDropout1D,
    layers.SpatialDropout2D,
    layers.SpatialDropout3D,
    "ops.Cast",
)

register_relevance_rule(
    _copies(),
    layers.Concatenate,
    layers.Cropping1D,
    layers.Cropping2D,
    layers.Cropping3D,
    layers.Flatten,
    layers.GlobalMaxPooling1D,
    layers.GlobalMaxPooling2D,
    layers.GlobalMaxPooling3D,
    layers.MaxPooling1D,
    layers.MaxPooling2D,
    layers.MaxPooling3D,
    layers.Minimum,
    layers.Permute,
    layers.RepeatVector,
    layers.Reshape,
    layers.UpSampling1D,
    layers.UpSampling3D,
    layers.ZeroPadding1D,
    layers.ZeroPadding2D,
    layers.ZeroPadding3D,
    "ops.BroadcastTo",
    "ops.Concatenate",
    "ops.ExpandDims",
    "ops.Flip",
    "ops.GetItem",
    "ops.Max",
    "ops.MaxPool",
    "ops.Moveaxis",
    "ops.Repeat",
    "ops.Reshape",
    "ops.Roll",
    "ops.Split",
    "ops.Squeeze",
    "ops.Stack",
    "ops.Swapaxes",
    "ops.Tile",
    "ops.Transpose",
)
register_relevance_rule(_copies(signs.by_padding), "ops.Pad")
register_relevance_rule(_copies(signs.like_any_input), layers.Maximum)
register_relevance_rule(_with_constant(_copies(signs.like_any_input), _SHIFTED), "ops.Maximum")
register_relevance_rule(_with_constant(_copies(), _SHIFTED), "ops.Minimum")
register_relevance_rule(_upsampling, layers.UpSampling2D)

register_relevance_rule(ADDITION, layers.Add)
register_relevance_rule(_with_constant(ADDITION, _SHIFTED), "ops.Add")
register_relevance_rule(_DIFFERENCE, layers.Subtract)
register_relevance_rule(_with_constant(_DIFFERENCE, _SHIFTED), "ops.Subtract")
register_relevance_rule(
    _sums(),
    layers.Average,
    layers.AveragePooling1D,
    layers.AveragePooling2D,
    layers.AveragePooling3D,
    layers.GlobalAveragePooling1D,
    layers.GlobalAveragePooling2D,
    layers.GlobalAveragePooling3D,
    "ops.AveragePool",
    "ops.Mean",
    "ops.Sum",
)
register_relevance_rule(_sums(signs.by_interpolation), layers.Resizing)

register_relevance_rule(GATE, layers.Multiply)
register_relevance_rule(_with_constant(GATE, _SIGNED), "ops.Multiply")
register_relevance_rule(_division, "ops.Divide", "ops.TrueDivide")
