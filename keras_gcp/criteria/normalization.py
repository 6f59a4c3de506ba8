"""How the scores of one layer are made comparable with those of the others. Sees numbers only.

A criterion scores channels within its layer, in whatever unit comes of it. One ranking of the whole
network compares layers, and what they are divided by decides which of them lose channels.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

import numpy as np

from keras_gcp.errors import InvalidArgument

AUTO = "auto"
OF_FUNCTIONS = "mean"
"""How layers are compared by a user's criterion that does not say it."""


def _by_norm(scores: np.ndarray) -> np.ndarray:
    return _divided(scores, np.linalg.norm)


def _by_mean(scores: np.ndarray) -> np.ndarray:
    return _divided(scores, lambda unit: np.abs(unit).mean())


def _divided(scores: np.ndarray, size: Callable[[np.ndarray], Any]) -> np.ndarray:
    """Scores over their size; a layer of zeros stays one.

    The largest is made 1 first, so that squares neither vanish nor overflow. No small number is
    added to the size: scores of a criterion may all be smaller than that.
    """
    largest = np.abs(scores).max(initial=0.0)
    if not largest:
        return scores
    unit = scores / largest
    divided: np.ndarray = unit / size(unit)
    return divided


def _by_rank(scores: np.ndarray) -> np.ndarray:
    _, which, counts = np.unique(scores, return_inverse=True, return_counts=True)
    ranks = np.cumsum(counts) - (counts - 1) / 2
    found: np.ndarray = ranks[which] / max(len(scores), 1)
    return found


def _as_they_are(scores: np.ndarray) -> np.ndarray:
    return scores


_WAYS: Mapping[str, Callable[[np.ndarray], np.ndarray]] = MappingProxyType(
    {"norm": _by_norm, "mean": _by_mean, "rank": _by_rank, "none": _as_they_are}
)

NORMALIZATIONS = tuple(_WAYS)
"""What a criterion may say; a selection may say `"auto"`, too: what the criterion says."""


def normalized(scores: np.ndarray, normalize: str) -> np.ndarray:
    """The scores of one layer, comparable with those of others.

    Args:
        scores: `(width,)`, finite.
        normalize: `"norm"`: divided by their L2 norm. `"mean"`: by the mean of their absolute
            values. `"rank"`: their ranks in the layer, in (0, 1]; equal ones share their mean rank.
            `"none"`: as they are.

    Raises:
        InvalidArgument: `normalize` is none of these.
    """
    if normalize not in _WAYS:
        raise InvalidArgument(
            f"normalize={normalize!r} was given. Expected one of {NORMALIZATIONS}."
        )
    return _WAYS[normalize](np.asarray(scores, np.float64))
