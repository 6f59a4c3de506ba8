"""The criteria by name."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

import keras

from keras_gcp.criteria.auto import Auto
from keras_gcp.criteria.base import Criterion
from keras_gcp.criteria.bn_scale import BatchNormScale
from keras_gcp.criteria.compensation_aware import CompensationAware
from keras_gcp.criteria.feature_relevance import FeatureRelevance
from keras_gcp.criteria.gate_value import GateValue
from keras_gcp.criteria.gradient_flow import GradientFlow
from keras_gcp.criteria.input_variance import InputVariance
from keras_gcp.criteria.loss_aware import LossAware
from keras_gcp.criteria.random import Random
from keras_gcp.criteria.taylor import Taylor
from keras_gcp.criteria.trace_ratio import TraceRatio
from keras_gcp.criteria.weight_norm import L1Norm, L2Norm
from keras_gcp.errors import InvalidArgument
from keras_gcp.validation import require_seed

_CRITERIA: Mapping[str, Callable[[], Any]] = MappingProxyType(
    {
        kind.name: kind
        for kind in (
            Auto,
            FeatureRelevance,
            L1Norm,
            L2Norm,
            BatchNormScale,
            Taylor,
            CompensationAware,
            LossAware,
            InputVariance,
            TraceRatio,
            GradientFlow,
            GateValue,
            Random,
        )
    }
)


def names() -> tuple[str, ...]:
    """Names that `get` knows."""
    return tuple(_CRITERIA)


def is_known(criterion: Any) -> bool:
    """Whether a criterion is one of these, and not a user's own."""
    return type(criterion) in _CRITERIA.values()


def get(criterion: Any, seed: int | None = None) -> Criterion:
    """The criterion of a name; a callable is returned as it is.

    Args:
        criterion: One of `names()`, or a callable `(model, channels, sample) -> scores`.
        seed: For criteria that draw random numbers.

    Raises:
        InvalidArgument: there is no such criterion.
    """
    seed = require_seed(seed)
    if isinstance(criterion, str):
        if criterion == Random.name:
            return Random(seed)
        if criterion in _CRITERIA:
            return _CRITERIA[criterion]()
    elif callable(criterion) and not isinstance(criterion, type | keras.Layer):
        return criterion
    raise InvalidArgument(
        f"There is no criterion {criterion!r}. Expected one of "
        f"{', '.join(repr(name) for name in names())}, or a function (model, channels, sample) -> "
        "dict of scores by producing layer."
    )
