"""A model's metric on labelled examples, where there is one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from keras_gcp.cli.data import Examples
from keras_gcp.errors import InvalidArgument


@dataclass(frozen=True)
class Measured:
    """A metric of a model.

    Attributes:
        name: The metric.
        value: Its value.
        shown: The value as text.
        examples: How many examples it was measured on.
    """

    name: str
    value: float
    shown: str
    examples: int


def measure(model: Any, examples: Examples | None, metric: str | None = None) -> Measured | None:
    """The metric of a model, or its accuracy; None without labels, or for no classifier.

    Args:
        model: The model.
        examples: Examples, or None.
        metric: A metric that was asked for: then its absence is an error.

    Raises:
        InvalidArgument: a metric that was asked for cannot be measured.
    """
    if examples is None or examples.test.y is None:
        return None
    from keras_gcp.classification.metrics import metric_for, value_of
    from keras_gcp.sample import draw_sample

    drawn = draw_sample(examples.test.as_sample(), None, 0, model)
    try:
        found = metric_for(metric, model, drawn)
    except InvalidArgument:
        if metric is None:  # Nobody asked: a model that is no classifier has no accuracy.
            return None
        raise
    value = value_of(found, model, drawn)
    return Measured(found.name, value, found.shown(value), len(drawn))
