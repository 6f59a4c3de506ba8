"""Metrics: one number from labels and outputs, and which way is better."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np

from keras_gcp import backend
from keras_gcp.errors import InvalidArgument
from keras_gcp.sample import Sample
from keras_gcp.validation import require_one_of

Batches = Iterable[tuple[Any, Any, Any]]
"""Inputs, labels and outputs of batch after batch, as tensors."""

MODES = ("auto", "max", "min")
"""Which way a metric is better; "auto" knows the usual names."""

_HIGHER = re.compile(r"(^|_)(acc|accuracy|auc|precision|recall|f1|score|iou|dice|r2)(_|$|\d)")
_LOWER = re.compile(r"(^|_)(loss|error|mse|mae|mape|msle|rmse|crossentropy|divergence|hinge)(_|$)")


@dataclass(frozen=True)
class Metric:
    """A metric that is ready to be measured.

    Attributes:
        name: What to call it.
        higher_is_better: Whether a larger value is a better one.
        description: What it is, in words that are the same in another process.
        measure: One number from batches of inputs, labels and outputs.
    """

    name: str
    higher_is_better: bool
    description: str
    measure: Callable[[Batches], float]

    def holds(self, value: float, bound: float) -> bool:
        """Whether a value is at least as good as a bound; NaN never is."""
        return value >= bound if self.higher_is_better else value <= bound


def metric_for(metric: Any, model: Any, data: Sample, mode: str = "auto") -> Metric:
    """Makes a metric of what a user passed.

    Args:
        metric: None for the first metric that the model was compiled with (accuracy if it has
            none); the name of a compiled metric; `"loss"` for the compiled loss without penalties
            on weights; another name that `keras.metrics.get` knows; a `keras.metrics.Metric`; or a
            callable `(y_true, y_pred) -> number, or one number per example`, which gets all
            examples at once, as NumPy arrays.
        model: The model.
        data: The examples to be measured on.
        mode: `"max"`, `"min"`, or `"auto"`: by the name, and `"max"` for a callable whose name says
            nothing.

    Raises:
        InvalidArgument: there is no such metric, or which way it is better is not known.
    """
    require_one_of("mode", mode, MODES)
    name, description, measure = _resolved(metric, model, data)
    own = callable(metric) and not isinstance(metric, keras.metrics.Metric)
    higher = mode == "max" if mode != "auto" else _higher_is_better(name, unknown_is=own or None)
    return Metric(name, higher, description, measure)


def value_of(metric: Metric, model: Any, data: Sample, batch_size: int) -> float:
    """The metric of a model as it is now."""
    worth = backend.worth_compiling(model, len(data), batch_size)
    with backend.Predictor(model, batch_size, compile=worth) as predictor:
        return metric.measure(
            predictor.batches(backend.local_weights(model), data.x_of_loss, data.y)
        )


def _higher_is_better(name: str, unknown_is: bool | None) -> bool:
    words = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).lower()
    if _LOWER.search(words):
        return False
    if _HIGHER.search(words):
        return True
    if unknown_is is not None:
        return unknown_is
    raise InvalidArgument(
        f"Whether a larger value of the metric '{name}' is a better one cannot be told from its "
        "name. Pass mode='max' or mode='min'."
    )


def _resolved(metric: Any, model: Any, data: Sample) -> tuple[str, str, Callable[[Batches], float]]:
    """Name, description and measure."""
    if metric is None or isinstance(metric, str):
        return _by_name(metric, model, data)
    if isinstance(metric, keras.metrics.Metric):
        config = {key: metric.get_config()[key] for key in sorted(metric.get_config())}
        return metric.name, f"{type(metric).__name__} {config}", _by_keras(metric, model)
    if callable(metric) and not isinstance(metric, type | keras.Layer):
        name = getattr(metric, "__name__", type(metric).__name__)
        return name, getattr(metric, "__qualname__", name), _by_callable(metric, name)
    raise InvalidArgument(
        "`metric` expects the name of a metric, a `keras.metrics.Metric` or a callable "
        f"(y_true, y_pred) -> number. Received: {metric!r}."
    )


def _by_name(name: str | None, model: Any, data: Sample) -> tuple[str, str, Any]:
    if name == "loss":
        if not backend.has_loss(model):
            raise InvalidArgument(
                f"Model '{model.name}' is not compiled with a loss, so metric='loss' is undefined. "
                "Call `model.compile(loss=...)`, or take another metric."
            )
        return name, "compiled loss", lambda batches: _mean_loss(model, batches)
    compiled = _compiled_names(model, data)
    if name is None and compiled:
        name = compiled[0]
    if name in compiled:
        return name, f"compiled metric {name}", lambda batches: _compiled(model, name, batches)
    known = _metric_of_keras(name or "accuracy", model, data)
    if known is None:
        raise InvalidArgument(
            f"There is no metric {name!r}: model '{model.name}' was compiled with "
            f"{', '.join(map(repr, compiled)) or 'none'}, and `keras.metrics.get` does not know "
            "it. Pass one of these names, a `keras.metrics.Metric`, or a callable "
            "(y_true, y_pred) -> number."
        )
    return known.name, f"{type(known).__name__} {known.name}", _by_keras(known, model)


# ----------------------------------------------------------------------------- compiled metrics


def _compiled_names(model: Any, data: Sample) -> list[str]:
    """Names of the metrics that the model was compiled with, without its losses."""
    if not getattr(model, "compiled", False):
        return []
    x, y = keras.tree.map_structure(lambda leaf: leaf[:2], (data.x_of_loss, data.y))
    outputs = backend.predict(model, x)
    with _metrics_kept(model):
        found = model.compute_metrics(x, y, outputs, None)
    outputs_named = getattr(model, "output_names", ())  # A `Sequential` has none.
    losses = {"loss", *(f"{name}_loss" for name in outputs_named)}
    return [name for name in found if name not in losses]


def _compiled(model: Any, name: str, batches: Batches) -> float:
    results: Any = {}
    with _metrics_kept(model):
        for x, y, outputs in batches:
            results = model.compute_metrics(x, y, outputs, None)
        return _number(results[name], name)


@contextmanager
def _metrics_kept(model: Any) -> Iterator[None]:
    """Inside the context the compiled metrics start from nothing; afterwards they go on."""
    before = [(v, keras.ops.convert_to_numpy(v)) for v in model.metrics_variables]
    model.reset_metrics()
    try:
        yield
    finally:
        model.reset_metrics()  # also those that Keras has built meanwhile
        for variable, value in before:
            variable.assign(value)


def _mean_loss(model: Any, batches: Batches) -> float:
    total, count = 0.0, 0
    for x, y, outputs in batches:
        # Losses of several outputs are tracked in variables; here none of them may change.
        with keras.StatelessScope([(v, v.value) for v in model.weights]):
            loss = backend.loss_of_outputs(model, x, y, outputs)
        examples = len(keras.tree.flatten(outputs)[0])
        total, count = total + examples * float(keras.ops.convert_to_numpy(loss)), count + examples
    return total / count


# -------------------------------------------------------------------------------- other metrics


def _metric_of_keras(name: str, model: Any, data: Sample) -> Any | None:
    if name.lower() in ("accuracy", "acc"):
        return _accuracy(name, model, data)
    try:
        found = keras.metrics.get(name)
    except ValueError:
        return None
    if isinstance(found, keras.metrics.Metric):
        return found
    return keras.metrics.MeanMetricWrapper(found, name=name)


def _accuracy(name: str, model: Any, data: Sample) -> Any:
    """The kind of accuracy that fits labels and outputs, as `compile` chooses it."""
    labels, outputs = keras.tree.flatten(data.y), model.outputs
    if len(outputs) != 1 or len(labels) != 1:
        raise InvalidArgument(
            f"Model '{model.name}' has {len(outputs)} outputs, so it has no single accuracy. Pass "
            "`metric`: the name of a compiled metric, or a callable (y_true, y_pred) -> number."
        )
    width = outputs[0].shape[-1]
    if width == 1:
        return keras.metrics.BinaryAccuracy(name=name)
    if labels[0].ndim < len(outputs[0].shape) or labels[0].shape[-1] == 1:
        return keras.metrics.SparseCategoricalAccuracy(name=name)
    return keras.metrics.CategoricalAccuracy(name=name)


def _by_keras(metric: Any, model: Any) -> Callable[[Batches], float]:
    if len(model.outputs) > 1:
        raise InvalidArgument(
            f"Model '{model.name}' has {len(model.outputs)} outputs; `{metric.name}` takes one. "
            "Pass the name of a compiled metric, or a callable (y_true, y_pred) -> number."
        )

    def measure(batches: Batches) -> float:
        metric.reset_state()
        for _, y, outputs in batches:
            metric.update_state(keras.tree.flatten(y)[0], keras.tree.flatten(outputs)[0])
        value = _number(metric.result(), metric.name)
        metric.reset_state()
        return value

    return measure


def _by_callable(function: Callable[..., Any], name: str) -> Callable[[Batches], float]:
    def measure(batches: Batches) -> float:
        pairs = [
            keras.tree.map_structure(keras.ops.convert_to_numpy, (y, outputs))
            for _, y, outputs in batches
        ]
        y_true, y_pred = keras.tree.map_structure(lambda *parts: np.concatenate(parts), *pairs)
        value = np.asarray(keras.ops.convert_to_numpy(function(y_true, y_pred)))
        if value.ndim:
            value = value.mean()
        return _number(value, name)

    return measure


def _number(value: Any, name: str) -> float:
    try:
        return float(keras.ops.convert_to_numpy(value))
    except (TypeError, ValueError) as error:
        raise InvalidArgument(
            f"Metric '{name}' must be one number. Received {type(value).__name__}: {value!r}."
        ) from error
