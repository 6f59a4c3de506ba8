"""Metrics: one number from labels and outputs, and which way is better."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np

from keras_gcp import backend, formatting, keras_state
from keras_gcp.classification.accuracy import right_share
from keras_gcp.classification.asker import Asker
from keras_gcp.classification.head import find_head
from keras_gcp.classification.labels import check_targets
from keras_gcp.classification.targets import targets_of
from keras_gcp.errors import InvalidArgument, in_short
from keras_gcp.sample import DrawnSample
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

    def shown(self, value: float) -> str:
        """A value as text: accuracies in percent."""
        return formatting.metric(self.name, value)

    def holds(self, value: float, bound: float) -> bool:
        """Whether a value is at least as good as a bound; NaN never is."""
        return value >= bound if self.higher_is_better else value <= bound


@dataclass(frozen=True)
class _Found:
    """A metric, before it is known which way it is better."""

    name: str
    description: str
    measure: Callable[[Batches], float]
    higher_is_better: bool | None = None


def metric_for(metric: Any, model: Any, data: DrawnSample, mode: str = "auto") -> Metric:
    """Makes a metric of what a user passed.

    Args:
        metric: None for the first metric that the model was compiled with (accuracy if it has
            none); the name of a compiled metric; `"accuracy"` for the share of right answers of a
            classifier, compiled with it or not; `"loss"` for the compiled loss without penalties
            on weights; another name that `keras.metrics.get` knows; a `keras.metrics.Metric`; or a
            loss or a callable `(y_true, y_pred) -> number, or one number per example`, which gets
            all examples at once, as NumPy arrays.
        model: The model.
        data: The examples to be measured on.
        mode: `"max"`, `"min"`, or `"auto"`: as Keras knows it of its own metrics and losses, else
            by the name.

    Raises:
        InvalidArgument: there is no such metric, labels do not fit it, or which way it is better
            is not known.
    """
    require_one_of("mode", mode, MODES)
    found = _resolved(metric, model, data)
    higher = found.higher_is_better
    if mode != "auto":
        higher = mode == "max"
    elif higher is None:
        higher = _higher_is_better(found.name)
    return Metric(found.name, higher, found.description, found.measure)


def value_of(
    metric: Metric, model: Any, data: DrawnSample, batch_size: int = backend.DEFAULT_BATCH_SIZE
) -> float:
    """The metric of a model as it is now."""
    worth = backend.worth_compiling(model, len(data), batch_size)
    with backend.Predictor(model, batch_size, compile=worth) as predictor:
        return metric.measure(
            predictor.batches(backend.local_weights(model), data.x_of_loss, data.y)
        )


_SAY_WHAT_IS_LOGGED = (
    *("train_step", "test_step", "compute_metrics", "get_metrics_result", "metrics"),
)


def log_names(model: Any, data: DrawnSample | None) -> set[str] | None:
    """The entries that `fit` itself writes into its logs, without "val_"; None if unknown.

    Args:
        model: The model.
        data: A few examples, as `fit` gets them.
    """
    own = any(
        getattr(type(model), name, None) is not getattr(keras.Model, name, None)
        for name in _SAY_WHAT_IS_LOGGED
    )
    if own or data is None or data.y is None or not getattr(model, "compiled", False):
        return None
    try:
        compiled = _compiled_names(model, data)
    except InvalidArgument:  # The sample's labels may be in another form than those of `fit`.
        return None
    outputs = getattr(model, "output_names", ())
    losses = [f"{name}_loss" for name in outputs] if len(outputs) > 1 else []
    of_layers = {metric.name for metric in model.metrics} - {"compile_metrics"}
    return {"loss", *losses, *compiled, *of_layers}


def _words(name: str) -> str:
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).lower()


def _higher_is_better(name: str) -> bool:
    words = _words(name)
    if _LOWER.search(words):
        return False
    if _HIGHER.search(words):
        return True
    raise InvalidArgument(
        f"Whether a larger value of the metric '{name}' is a better one cannot be told from its "
        "name. Pass mode='max' or mode='min'."
    )


def _resolved(metric: Any, model: Any, data: DrawnSample) -> _Found:
    if metric is None or isinstance(metric, str):
        return _by_name(metric, model, data)
    if isinstance(metric, keras.metrics.Metric):
        config = {key: metric.get_config()[key] for key in sorted(metric.get_config())}
        return _by_keras(metric, model, f"{type(metric).__name__} {config}")
    if callable(metric) and not isinstance(metric, type | keras.Layer):
        name = getattr(metric, "__name__", type(metric).__name__)
        words = getattr(metric, "__qualname__", name)
        lower = isinstance(metric, keras.losses.Loss) or metric in _LOSSES
        return _Found(name, words, _by_callable(metric, name), False if lower else None)
    raise InvalidArgument(
        "`metric` expects the name of a metric, a `keras.metrics.Metric` or a callable "
        f"(y_true, y_pred) -> number. Received: {metric!r}."
    )


_LOSSES = [one for one in vars(keras.losses).values() if callable(one)]


def _by_name(name: str | None, model: Any, data: DrawnSample) -> _Found:
    check_targets(model, data, "the examples to measure on")
    if name == "loss":
        if not backend.has_loss(model):
            raise InvalidArgument(
                f"Model '{model.name}' is not compiled with a loss, so metric='loss' is undefined. "
                "Call `model.compile(loss=...)`, or take another metric."
            )
        return _Found(name, "compiled loss", lambda batches: _mean_loss(model, batches), False)
    compiled = _compiled_names(model, data)
    if name is None and compiled:
        name = compiled[0]
    if name in compiled:
        return _Found(
            name,
            f"compiled metric {name}",
            lambda batches: _compiled(model, name, batches),
            _direction_of_compiled(name, model),
        )
    if name is None or name.lower() in ("accuracy", "acc"):
        return _own_accuracy(name or "accuracy", model, data, compiled)
    known = _metric_of_keras(name)
    if known is None:
        raise InvalidArgument(
            f"There is no metric {name!r}: model '{model.name}' was compiled with "
            f"{_listed(compiled)}, and `keras.metrics.get` does not know it. Pass one of these "
            "names, a `keras.metrics.Metric`, or a callable (y_true, y_pred) -> number."
        )
    return _by_keras(known, model, f"{type(known).__name__} {known.name}")


def _listed(compiled: Sequence[str]) -> str:
    return ", ".join(map(repr, compiled)) or "none"


# ----------------------------------------------------------------------------- compiled metrics


def _compiled_names(model: Any, data: DrawnSample) -> list[str]:
    """Names of the metrics that the model was compiled with, without its losses."""
    if not getattr(model, "compiled", False):
        return []
    few = DrawnSample(
        *keras.tree.map_structure(
            lambda leaf: None if leaf is None else leaf[:2], (data.x, data.y, data.given)
        )
    )
    outputs = backend.predict(model, few.x)
    with _kept(model.metrics_variables, model.reset_metrics):
        found = _updated(model, few.x_of_loss, few.y, outputs)
    outputs_named = getattr(model, "output_names", ())  # A `Sequential` has none.
    losses = {"loss", *(f"{name}_loss" for name in outputs_named)}
    return [name for name in found if name not in losses]


def _direction_of_compiled(name: str, model: Any) -> bool | None:
    """What Keras knows of a compiled metric; with several outputs the name begins with one's."""
    known = keras_state.compiled_metrics(model)
    own = [one for one in known if one.name == name] or [
        one for one in known if name.endswith(f"_{one.name}")
    ]
    ways = {keras_state.higher_is_better(one) for one in own}
    return ways.pop() if len(ways) == 1 else None


def _compiled(model: Any, name: str, batches: Batches) -> float:
    results: Any = {}
    with _kept(model.metrics_variables, model.reset_metrics):
        for x, y, outputs in batches:
            results = _updated(model, x, y, outputs)
        return _number(results[name], name)


def _updated(model: Any, x: Any, y: Any, outputs: Any) -> Any:
    try:
        return model.compute_metrics(x, y, outputs, None)
    except Exception as error:
        raise InvalidArgument(
            f"The metrics that model '{model.name}' was compiled with fail on the examples to "
            f"measure on: {in_short(error)}. Expected labels as `fit` gets them."
        ) from error


@contextmanager
def _kept(variables: Sequence[Any], reset: Callable[[], None]) -> Iterator[None]:
    """Inside the context metrics start from nothing; afterwards they go on where they were.

    `fit` may be in the middle of an epoch, and add to the same variables.
    """
    before = [(v, keras.ops.convert_to_numpy(v)) for v in variables]
    reset()
    try:
        yield
    finally:
        reset()  # also those that Keras has built meanwhile
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


def _metric_of_keras(name: str) -> Any | None:
    try:
        found = keras.metrics.get(name)
    except ValueError:
        return None
    if isinstance(found, keras.metrics.Metric):
        return found
    return keras.metrics.MeanMetricWrapper(found, name=name)


def _own_accuracy(name: str, model: Any, data: DrawnSample, compiled: Sequence[str]) -> _Found:
    """The share of right answers, where the model is a classifier and the labels are its classes.

    Not the accuracy that `compile` would choose by shapes: three colours are not three classes.
    """
    remedy = (
        f"Pass `metric`: the name of a metric that the model was compiled with "
        f"({_listed(compiled)}), 'loss', a `keras.metrics.Metric`, or a callable (y_true, y_pred) "
        "-> number."
    )
    asker = Asker("Accuracy", remedy, InvalidArgument)
    head = find_head(model, keras_state.read_graph(model), asker)
    targets_of(head, data.y, asker)

    def measure(batches: Batches) -> float:
        y_true, y_pred = _all_of(batches)
        return right_share(head, y_true, keras.tree.flatten(y_pred)[0], asker)

    return _Found(name, f"accuracy of a {head.kind} classifier", measure, True)


def _by_keras(metric: Any, model: Any, description: str) -> _Found:
    if len(model.outputs) > 1:
        raise InvalidArgument(
            f"Model '{model.name}' has {len(model.outputs)} outputs; `{metric.name}` takes one. "
            "Pass the name of a compiled metric, or a callable (y_true, y_pred) -> number."
        )

    def measure(batches: Batches) -> float:
        with _kept(metric.variables, metric.reset_state):
            for _, y, outputs in batches:
                _told(metric, keras.tree.flatten(y)[0], keras.tree.flatten(outputs)[0])
            return _number(metric.result(), metric.name)

    return _Found(metric.name, description, measure, keras_state.higher_is_better(metric))


def _told(metric: Any, y: Any, outputs: Any) -> None:
    try:
        metric.update_state(y, outputs)
    except Exception as error:
        raise InvalidArgument(
            f"Metric '{metric.name}' fails on labels of shape {tuple(y.shape)} and outputs of "
            f"shape {tuple(outputs.shape)}: {in_short(error)}."
        ) from error


def _all_of(batches: Batches) -> tuple[Any, Any]:
    """Labels and outputs of all examples, as NumPy arrays."""
    pairs = [keras.tree.map_structure(_to_numpy, (y, outputs)) for _, y, outputs in batches]
    joined = keras.tree.map_structure(
        lambda *parts: None if parts[0] is None else np.concatenate(parts), *pairs
    )
    return joined[0], joined[1]


def _to_numpy(leaf: Any) -> Any:
    return None if leaf is None else keras.ops.convert_to_numpy(leaf)


def _by_callable(function: Callable[..., Any], name: str) -> Callable[[Batches], float]:
    def measure(batches: Batches) -> float:
        y_true, y_pred = _all_of(batches)
        try:
            value = np.asarray(keras.ops.convert_to_numpy(function(y_true, y_pred)))
        except Exception as error:
            raise InvalidArgument(
                f"Metric '{name}' fails on the labels and outputs of all examples, which it gets "
                f"as NumPy arrays: {in_short(error)}. Expected (y_true, y_pred) -> number, or one "
                "number per example."
            ) from error
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
