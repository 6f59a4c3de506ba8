"""From relevance per example to one score per channel."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from keras_gcp.errors import InvalidArgument, UnsupportedModel

NORM_EPSILON = 1e-9


@dataclass
class ClassStatistics:
    """Sums over examples, per class present in them; the order of examples does not matter.

    Attributes:
        sums: `(classes, channels)`, relevance of the examples with each class.
        used: `(classes,)`, how many of them had finite relevance and outputs.
        seen: `(classes,)`, how many there were.
        correct: `(classes,)`, how often the model recognised the class.
        trials: `(classes,)`, how often it could have: at every example, or at every place.
    """

    sums: np.ndarray
    used: np.ndarray
    seen: np.ndarray
    correct: np.ndarray
    trials: np.ndarray

    @classmethod
    def empty(cls, classes: int, channels: int) -> ClassStatistics:
        """Statistics of no examples."""
        counts = np.zeros((2, classes), np.int64)
        return cls(np.zeros((classes, channels)), *counts, *np.zeros((2, classes)))

    def add(
        self,
        relevance: np.ndarray,
        finite: np.ndarray,
        classes: np.ndarray,
        hits: np.ndarray,
        trials: np.ndarray,
    ) -> None:
        """Adds a batch of examples, each with one class that is present in it.

        Args:
            relevance: `(examples, channels)`.
            finite: `(examples,)`, whether the model's outputs are finite.
            classes: `(examples,)`.
            hits: `(examples,)`, how often the model recognised the class.
            trials: `(examples,)`, how often it could have.
        """
        finite = finite & np.isfinite(relevance).all(axis=1)
        one_hot = np.eye(len(self.seen))[classes]
        self.sums += one_hot[finite].T @ relevance[finite].astype(np.float64)
        self.used += one_hot[finite].sum(axis=0).astype(np.int64)
        self.seen += one_hot.sum(axis=0).astype(np.int64)
        self.correct += hits.astype(np.float64) @ one_hot
        self.trials += trials.astype(np.float64) @ one_hot

    def accuracies(self) -> np.ndarray:
        """`(classes,)`, NaN for classes without examples."""
        with np.errstate(invalid="ignore"):
            return self.correct / self.trials


def class_weights_from(accuracies: np.ndarray) -> np.ndarray:
    """`sigmoid(1 / (accuracy / best accuracy))`: classes that are hard for the model count more.

    The best class has weight 0.731, a class that is never recognised 1. If no class ever is, all
    weigh the same.

    Args:
        accuracies: `(classes,)` in [0, 1]; NaN for classes without examples, whose weight is NaN.
    """
    best = np.nanmax(accuracies)
    if best == 0:
        return np.where(np.isnan(accuracies), np.nan, 1.0)
    with np.errstate(divide="ignore"):
        return 1 / (1 + np.exp(-best / accuracies))


def mean_over_classes(statistics: ClassStatistics, weights: np.ndarray | None) -> np.ndarray:
    """Weighted mean over the classes present of the mean per class, `(channels,)`.

    Warns about classes without examples and about examples without finite relevance.
    """
    _report_dropped(statistics)
    present = statistics.used > 0
    _report_missing(statistics.seen > 0)
    if weights is None:
        weights = class_weights_from(statistics.accuracies())
    means = statistics.sums[present] / statistics.used[present, None]
    return (weights[present, None] * means).mean(axis=0)


def normalised(relevance: np.ndarray) -> np.ndarray:
    """Absolute values, divided by their L2 norm, so that layers can be compared."""
    scores = np.abs(relevance)
    return scores / (np.linalg.norm(scores) + NORM_EPSILON)


def checked_class_weights(class_weights: Any, classes: int) -> np.ndarray:
    """Class weights as an array.

    Raises:
        InvalidArgument: not one finite, non-negative number per class, or all are 0.
    """
    try:
        weights = np.asarray(class_weights, np.float64)
    except (OverflowError, TypeError, ValueError):
        weights = np.full(0, np.nan)
    fits = weights.shape == (classes,) and np.isfinite(weights).all() and (weights >= 0).all()
    if not fits or not weights.any():
        raise InvalidArgument(
            f"class_weights must be None or hold one number of 0 or more for each of the {classes} "
            f"classes, and not only zeros. Received: {class_weights!r}."
        )
    return weights


def _report_dropped(statistics: ClassStatistics) -> None:
    seen, used = int(statistics.seen.sum()), int(statistics.used.sum())
    if used == 0:
        raise UnsupportedModel(
            f"The relevance of all {seen} examples is NaN or infinite, so channels cannot be "
            "scored by it. Has the training diverged? Otherwise take another criterion: "
            "'taylor', 'l2_norm', 'l1_norm' or 'bn_scale'."
        )
    if used < seen:
        warnings.warn(
            f"{seen - used} of {seen} examples have NaN or infinite relevance and are left out of "
            "the channel scores.",
            stacklevel=2,
        )


def _report_missing(present: Sequence[bool] | np.ndarray) -> None:
    missing = np.flatnonzero(~np.asarray(present))
    if len(missing):
        shown = ", ".join(map(str, missing[:10])) + (", ..." if len(missing) > 10 else "")
        warnings.warn(
            f"The sample has no example of {len(missing)} of {len(present)} classes ({shown}); "
            "they are left out of the mean. Draw more examples to have every class counted.",
            stacklevel=2,
        )
