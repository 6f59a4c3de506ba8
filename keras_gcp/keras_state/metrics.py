"""What Keras knows of metrics that `compile` was given."""

from __future__ import annotations

from typing import Any


def higher_is_better(metric: Any) -> bool | None:
    """Whether a larger value is the better one, as Keras' own callbacks know it; None if unknown.

    Args:
        metric: A `keras.metrics.Metric`.
    """
    direction = getattr(metric, "_direction", None)
    return None if direction not in ("up", "down") else direction == "up"


def compiled_metrics(model: Any) -> list[Any]:
    """The metrics that a model was compiled with, as objects, once they have been built."""
    return [metric for holder in model.metrics for metric in getattr(holder, "metrics", ())]
