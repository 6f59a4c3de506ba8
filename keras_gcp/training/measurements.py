"""What a model achieves on held examples, over all processes that train it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from keras_gcp import backend
from keras_gcp.classification.metrics import Metric, value_of
from keras_gcp.sample import DrawnSample


def loss_on(model: Any, sample: DrawnSample | None) -> float | None:
    """The compiled loss on the sample; None without labels or without a loss."""
    if sample is None or sample.y is None:
        return None
    x, y = sample.x_of_loss, sample.y
    return _over_processes(model, sample, lambda: backend.sample_loss(model, x, y))


def metric_on(model: Any, metric: Metric, sample: DrawnSample) -> float:
    """A metric on some examples."""
    mean = _over_processes(model, sample, lambda: value_of(metric, model, sample))
    assert mean is not None
    return mean


def _over_processes(
    model: Any, sample: DrawnSample, measure: Callable[[], float | None]
) -> float | None:
    own = backend.run_everywhere(model, measure)
    if own is None:
        return None
    mean = backend.mean_over_processes(model, {"mean": np.array(own)}, weight=len(sample))
    return float(mean["mean"])
