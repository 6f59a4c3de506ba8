"""Layer-wise relevance propagation (LRP) over the calls of a model."""

from keras_gcp.criteria.relevance import (  # noqa: F401  (they fill the table of rules)
    layer_table,
    operation_table,
    wrapping,
)
from keras_gcp.criteria.relevance.conservation import Conservation, conservation_report
from keras_gcp.criteria.relevance.rules import RelevanceRule, Step, register_relevance_rule
from keras_gcp.criteria.relevance.scoring import relevance_scores

__all__ = [
    "Conservation",
    "RelevanceRule",
    "Step",
    "conservation_report",
    "register_relevance_rule",
    "relevance_scores",
]
