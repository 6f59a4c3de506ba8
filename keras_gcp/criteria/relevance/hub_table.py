"""Relevance rules of keras-hub's own layers, by name: keras-hub need not be installed."""

from __future__ import annotations

from keras_gcp.criteria.relevance import signs
from keras_gcp.criteria.relevance.rule_functions import unchanged
from keras_gcp.criteria.relevance.rules import (
    RelevanceRule,
    RuleKind,
    never,
    no_zero,
    register_relevance_rule,
)

_MOBILENET_V5 = "keras_hub.src.models.mobilenetv5.mobilenetv5_layers"
_HGNET_V2 = "keras_hub.src.models.hgnetv2.hgnetv2_layers"

# As for batch normalization relevance passes what scales or shifts each element by itself, and
# as for layer normalization what scales all channels of a position alike.
register_relevance_rule(
    RelevanceRule(RuleKind.UNCHANGED, unchanged, never, signs.zero_stays, reads_inputs=False),
    f"{_MOBILENET_V5}.LayerScale2d",
    f"{_MOBILENET_V5}.RmsNorm2d",
)
register_relevance_rule(
    RelevanceRule(RuleKind.UNCHANGED, unchanged, never, no_zero, reads_inputs=False),
    f"{_HGNET_V2}.HGNetV2LearnableAffineBlock",
)
# At inference it does nothing.
register_relevance_rule(
    RelevanceRule(
        RuleKind.UNCHANGED, unchanged, signs.like_inputs, signs.zero_stays, reads_inputs=False
    ),
    f"{_MOBILENET_V5}.DropPath",
)
