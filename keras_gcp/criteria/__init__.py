"""Criteria: which channels matter least.

A criterion is a plain callable `(model, channels, sample) -> scores by producing layer`; larger
scores are kept. One file per criterion.
"""

from keras_gcp.criteria.aggregation import coupled_scores
from keras_gcp.criteria.auto import Decision, decided
from keras_gcp.criteria.base import (
    Criterion,
    SetValued,
    check,
    checked,
    checked_evidence,
    checked_scores,
    needs_sample,
    normalization_of,
)
from keras_gcp.criteria.first_scores import FirstScores
from keras_gcp.criteria.registry import get, is_known, names
from keras_gcp.criteria.relevance import (
    RelevanceRule,
    register_relevance_rule,
    relevance_scores,
)

__all__ = [
    "Criterion",
    "Decision",
    "FirstScores",
    "RelevanceRule",
    "SetValued",
    "check",
    "checked",
    "checked_evidence",
    "checked_scores",
    "coupled_scores",
    "decided",
    "get",
    "is_known",
    "names",
    "needs_sample",
    "normalization_of",
    "register_relevance_rule",
    "relevance_scores",
]
