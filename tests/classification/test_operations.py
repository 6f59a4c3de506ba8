"""What moves values, and what is a function of one number: as the rules of relevance have it."""

from __future__ import annotations

import pytest

from keras_gcp.classification.operations import (
    _FUNCTIONS,
    _FUNCTIONS_WITH_CONSTANT,
    _MOVING,
)
from keras_gcp.criteria.relevance.rules import RelevanceRule, registered_relevance_rules

AFFINE_OR_KNOWN = frozenset(
    "BatchNormalization Gate HardSigmoid Identity LogSoftmax Rescaling Sigmoid Softmax "
    "Sparsemax".split()
)
OF_SEVERAL_TENSORS = frozenset("Average Concatenate Maximum Minimum Stack Subtract".split())


def names_of(kind: str) -> set[str]:
    return {
        (operation if isinstance(operation, str) else operation.__name__).rpartition(".")[2]
        for operation, rule in registered_relevance_rules().items()
        if isinstance(rule, RelevanceRule) and rule.kind == kind
    }


@pytest.mark.parametrize("kind", ["copies", "proportional"])
def test_whatever_relevance_copies_or_averages_moves_values(kind):
    assert names_of(kind) - OF_SEVERAL_TENSORS <= _MOVING


def test_whatever_relevance_passes_unchanged_is_a_function_or_moves_values():
    assert names_of("unchanged") - AFFINE_OR_KNOWN <= _FUNCTIONS | _MOVING


def test_no_name_is_both():
    assert not _MOVING & (_FUNCTIONS | _FUNCTIONS_WITH_CONSTANT)
