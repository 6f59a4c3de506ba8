"""The table of relevance rules for layers: which layer follows which rule. Pure data.

A layer that is missing here stops the relevance; `add_rule` adds one. Missing on
purpose are attention and recurrent layers, whose outputs are sums of products of features.
"""

from __future__ import annotations

from typing import Any

import keras
from keras import layers

from keras_gcp.channels.inert import INERT
from keras_gcp.channels.rules.einsum import read_equation
from keras_gcp.criteria.relevance import signs
from keras_gcp.criteria.relevance.rule_functions import (
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
    RuleKind,
    add_rule,
    never,
    no_zero,
)
from keras_gcp.gates.gate import Gate
from keras_gcp.graph import Call

_MOBILENET_V5 = "keras_hub.src.models.mobilenetv5.mobilenetv5_layers"
_HGNET_V2 = "keras_hub.src.models.hgnetv2.hgnetv2_layers"

ADDITION = RelevanceRule(RuleKind.ADDITION, proportional, signs.like_inputs)
GATE = RelevanceRule(RuleKind.GATE, gated, signs.like_inputs)
LINEAR = RelevanceRule(RuleKind.LINEAR, linear, signs.by_activation)
DEPTHWISE = RelevanceRule(RuleKind.DEPTHWISE, linear, signs.by_activation)
SEPARABLE = RelevanceRule(RuleKind.SEPARABLE, separable, signs.by_activation)
SOURCE = RelevanceRule(RuleKind.SOURCE, lambda step, relevance: [None], reads_inputs=False)
"""Channels begin here and nothing goes on to the inputs: an embedding looks up integers."""


def unchanging(nonnegative=signs.like_inputs, keeps_zero=signs.zero_stays) -> RelevanceRule:  # type: ignore[no-untyped-def]
    return RelevanceRule(RuleKind.UNCHANGED, unchanged, nonnegative, keeps_zero, reads_inputs=False)


def copying(nonnegative=signs.like_inputs) -> RelevanceRule:  # type: ignore[no-untyped-def]
    return RelevanceRule(RuleKind.COPIES, copies, nonnegative)


def summing(nonnegative=signs.like_inputs) -> RelevanceRule:  # type: ignore[no-untyped-def]
    return RelevanceRule(RuleKind.PROPORTIONAL, proportional, nonnegative)


UNCHANGED, SIGNED = unchanging(), unchanging(never)
SHIFTED = unchanging(never, no_zero)
DIFFERENCE = RelevanceRule(RuleKind.PROPORTIONAL, difference)


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


def _einsum(call: Call) -> RelevanceRule | None:
    """A dense layer if its kernel gives axes of its own."""
    equation = read_equation(call.operation.equation, len(call.inputs[0].shape))
    return _if_plain(LINEAR)(call) if equation.new_letters() else None


def interpolation(call: Call) -> RelevanceRule:
    """A new size: nearest neighbours are copies, anything else a weighted sum."""
    nearest = call.operation.interpolation == "nearest"
    return (copying if nearest else summing)(signs.by_interpolation)


def _named(beginning: str) -> list[Any]:
    """Layers that only newer versions of Keras have."""
    return [getattr(layers, name) for name in dir(layers) if name.startswith(beginning)]


def _crop(call: Call) -> RelevanceRule:
    """`CenterCrop` of an image that is too small resizes it first."""
    layer: Any = call.operation
    first = 2 if layer.data_format == "channels_first" else 1
    sizes = call.inputs[0].shape[first : first + 2]
    enough = all(
        given is not None and given >= wanted
        for given, wanted in zip(sizes, (layer.height, layer.width), strict=True)
    )
    return copying() if enough else summing()


add_rule(
    _if_plain(LINEAR),
    layers.Dense,
    layers.Conv1DTranspose,
    layers.Conv2DTranspose,
    layers.Conv3DTranspose,
)
add_rule(_einsum, layers.EinsumDense)
add_rule(_convolution, layers.Conv1D, layers.Conv2D, layers.Conv3D)
add_rule(_if_plain(DEPTHWISE), layers.DepthwiseConv1D, layers.DepthwiseConv2D)
add_rule(_if_plain(SEPARABLE), layers.SeparableConv1D, layers.SeparableConv2D)
add_rule(SOURCE, layers.Embedding)

add_rule(_if_plain(unchanging(signs.by_activation, signs.zero_by_activation)), layers.Activation)
add_rule(unchanging(signs.by_slope), layers.ReLU, layers.LeakyReLU)
add_rule(unchanging(signs.always, no_zero), layers.Softmax)
add_rule(
    SHIFTED,
    layers.BatchNormalization,
    layers.GroupNormalization,
    layers.LayerNormalization,
    layers.Normalization,
    layers.Rescaling,
)
add_rule(
    SIGNED,
    layers.ELU,
    layers.PReLU,
    layers.RMSNormalization,
    layers.UnitNormalization,
    "keras.src.applications.convnext.LayerScale",
)
# A gate's factors lie between 0 and 1. The others do nothing at inference.
add_rule(
    UNCHANGED,
    Gate,
    *INERT,
    layers.Masking,
    layers.RandomBrightness,
    layers.RandomContrast,
    layers.RandomFlip,
    layers.RandomRotation,
    layers.RandomTranslation,
    layers.RandomZoom,
    "keras.src.applications.convnext.StochasticDepth",
)

add_rule(
    copying(),
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
    *_named("AdaptiveMaxPooling"),
)
add_rule(copying(signs.like_any_input), layers.Maximum)
add_rule(interpolation, layers.UpSampling2D, layers.Resizing)
add_rule(_crop, layers.CenterCrop)

add_rule(ADDITION, layers.Add, "keras.src.applications.inception_resnet_v2.CustomScaleLayer")
add_rule(DIFFERENCE, layers.Subtract)
add_rule(
    summing(),
    layers.Average,
    layers.AveragePooling1D,
    layers.AveragePooling2D,
    layers.AveragePooling3D,
    layers.GlobalAveragePooling1D,
    layers.GlobalAveragePooling2D,
    layers.GlobalAveragePooling3D,
    *_named("AdaptiveAveragePooling"),
)

add_rule(GATE, layers.Multiply)

# Layers of keras-hub, by name: keras-hub need not be installed.
# As for batch normalization relevance passes what scales or shifts each element by itself, and
# as for layer normalization what scales all channels of a position alike.
add_rule(
    SIGNED,
    f"{_MOBILENET_V5}.LayerScale2d",
    f"{_MOBILENET_V5}.RmsNorm2d",
)
add_rule(
    SHIFTED,
    f"{_HGNET_V2}.HGNetV2LearnableAffineBlock",
)
# At inference it does nothing.
add_rule(
    UNCHANGED,
    f"{_MOBILENET_V5}.DropPath",
)
