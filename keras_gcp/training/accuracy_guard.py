"""The metric that events must not make worse."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from keras_gcp.classification.metrics import MODES, Metric
from keras_gcp.errors import InvalidArgument
from keras_gcp.sample import DrawnSample, checked_size
from keras_gcp.validation import number
from keras_gcp.validation.configured import Configured

GUARD_SIZE = 2048
"""Examples drawn by default. Before and after a cut the same ones are measured on, so a change of
one percent of accuracy is 20 of them."""

SHARES = (1.0, 0.5, 0.25)
"""How far the tries of an event go, as shares of what it is to remove."""

_ROUNDING = 1e-9


@dataclass(frozen=True, eq=False, repr=False)
class AccuracyGuard(Configured):
    """No event of `GradualChannelPruning` may make a metric worse by more than this.

    The metric is measured before and after every cut. After no event is it more than `max_drop`
    worse than *the best value measured just before any event*. A cut after which it would be is
    taken back, and tried with half, then with a quarter of what was to go. If that is still too
    much, nothing goes, and what is left is up to the next event; after the last one it stays.

    Args:
        data: Examples that training does not see, with labels: `(x, y)` arrays, a
            `tf.data.Dataset` or a `keras.utils.PyDataset`.
        max_drop: How much worse the metric may be, 0 or more, in the metric's own units: 0.01 of
            accuracy is one percentage point. Of a metric that is better when smaller (a mean
            absolute error) it is how far it may rise.
        size: Number of examples, drawn once; None takes all.
        metric: `"accuracy"`: of the model's compiled metrics, or the share of right answers of a
            classifier that is not compiled with it. The name of another compiled metric; `"loss"`;
            a `keras.metrics.Metric` (of a model with one output); or a loss or a callable
            `(y_true, y_pred) -> number, or one number per example`, which gets all examples as
            NumPy arrays, for several outputs structured as those. None: the first compiled metric.
            State of compiled metrics is left as it was.
        mode: Whether more of the metric is better (`"max"`) or less (`"min"`); `"auto"` knows it of
            Keras' metrics and losses and of the usual names.

    Where several processes train the model, each measures on its own examples, and the mean counts.

    Raises:
        InvalidArgument: an argument is malformed.

    Example:

    ```python
    guard = keras_gcp.AccuracyGuard((x_held, y_held), max_drop=0.02, metric="auc")
    pruning = keras_gcp.GradualChannelPruning((x, y), {"macs": 0.5}, guard=guard)
    ```
    """

    data: Any = field(repr=False)
    max_drop: float = 0.01
    size: int | None = GUARD_SIZE
    metric: Any = "accuracy"
    mode: str = field(default="auto", kw_only=True)

    def __post_init__(self) -> None:
        if self.data is None:
            raise InvalidArgument(
                "`data` of AccuracyGuard expects examples with labels that the model is not "
                "trained on: (x, y) arrays, a `tf.data.Dataset` or a `keras.utils.PyDataset`. "
                "Received: None."
            )
        object.__setattr__(self, "max_drop", _checked_drop(self.max_drop, self.metric))
        object.__setattr__(self, "size", checked_size(self.size))
        if not isinstance(self.mode, str) or self.mode not in MODES:
            raise InvalidArgument(
                f"`mode` of AccuracyGuard expects one of {', '.join(map(repr, MODES))}. Received: "
                f"{self.mode!r}."
            )
        named = self.metric is None or isinstance(self.metric, str)
        if not named and (not callable(self.metric) or isinstance(self.metric, type)):
            raise InvalidArgument(
                "`metric` of AccuracyGuard expects the name of a metric, a `keras.metrics.Metric` "
                f"or a callable (y_true, y_pred) -> number. Received: {self.metric!r}."
            )


def _checked_drop(max_drop: Any, metric: Any) -> float:
    drop = number(max_drop)
    if drop is None or not 0 <= drop < math.inf:
        raise InvalidArgument(
            "`max_drop` of AccuracyGuard is how much worse the metric may get, a number of 0 or "
            f"more: 0.01 of accuracy is one percentage point. Received: {max_drop!r}."
        )
    if drop >= 1 and isinstance(metric, str) and re.search(r"(^|_)(acc|accuracy)$", metric):
        raise InvalidArgument(
            f"`max_drop` of AccuracyGuard is in units of '{metric}', which is at most 1: 0.01 is "
            f"one percentage point. Expected a number below 1. Received: {max_drop!r}."
        )
    return float(drop)


def in_parts(guard: AccuracyGuard | None) -> dict[str, object]:
    """What must be the same after a restart; the data are compared as such."""
    names = ("max_drop", "size", "metric", "mode")
    return {f"guard.{name}": getattr(guard, name, None) for name in names}


@dataclass(frozen=True, eq=False)
class GuardedMetric:
    """A guard at work in one training.

    Attributes:
        sample: The examples, drawn once.
        metric: What is measured on them.
        max_drop: How much worse it may get.
        shares: How far the tries of an event go.
    """

    sample: DrawnSample
    metric: Metric
    max_drop: float
    shares: tuple[float, ...] = SHARES

    def bound(self, values: Iterable[float]) -> float:
        """What the metric must reach after an event, if these were measured before events.

        NaN if all of these are: then nothing reaches it.
        """
        known = [value for value in values if math.isfinite(value)]
        if not known:
            return math.nan
        if self.metric.higher_is_better:
            return max(known) - self.max_drop
        return min(known) + self.max_drop

    def allows(self, value: float, bound: float) -> bool:
        """Whether a value is good enough; sums over processes round."""
        rounding = _ROUNDING * max(1.0, abs(bound))
        return self.metric.holds(
            value, bound - rounding if self.metric.higher_is_better else bound + rounding
        )


def shortened(
    limits: Mapping[str, float], now: Mapping[str, float], share: float
) -> dict[str, float]:
    """Limits that go only a share of the way from what there is now."""
    return {
        resource: now[resource] - share * (now[resource] - limit)
        if limit < now[resource]
        else limit
        for resource, limit in limits.items()
    }
