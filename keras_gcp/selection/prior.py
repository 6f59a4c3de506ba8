"""A prior: what was measured before, and says which groups may lose more than scores tell."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol, runtime_checkable

import numpy as np

from keras_gcp.errors import InvalidArgument

LEAST_WEIGHT = 0.01
"""Weight of channels whose removal did not show, as a share of the mean: they are still ranked."""


@runtime_checkable
class Prior(Protocol):
    """Anything that weighs scores by group; `keras_gcp.Sensitivity` does."""

    def weighted(self, scores: np.ndarray, groups: Mapping[str, np.ndarray]) -> np.ndarray:
        """Weighed scores.

        Args:
            scores: One score per set of coupled channels, larger = keep.
            groups: Name of each group that may be pruned to its coupled channels.

        Returns:
            Scores of the same shape; those outside of all groups are unchanged.
        """


def check_prior(prior: Any) -> None:
    """Refuses what weighs no scores.

    Raises:
        InvalidArgument: it has no method `weighted`.
    """
    if prior is not None and (isinstance(prior, type) or not isinstance(prior, Prior)):
        raise InvalidArgument(
            "`prior` expects what `keras_gcp.sensitivity` returned, an object with a method "
            f"`weighted(scores, groups)`, or None. Received: {type(prior).__name__}."
        )


def check_weighable(group: str, scores: np.ndarray) -> None:
    """Refuses scores of a group that a weight would not order as it should.

    Raises:
        InvalidArgument: some are negative.
    """
    if (scores < 0).any():
        raise InvalidArgument(
            f"A prior multiplies scores, and group '{group}' has negative ones. Expected a "
            "criterion whose scores are 0 or more."
        )
