"""Loss, optimizer and metrics of a compiled Keras 3 model, as tf_keras has them."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import keras

from keras_gcp.errors import InvalidArgument
from keras_gcp.tfmot.counterparts import accepted, is_default
from keras_gcp.validation import between

REDUCTIONS = ("sum_over_batch_size", "sum", "none")


def settings(
    source: Any, tf_keras: Any, loss: Any, optimizer: Any, learning_rate: Any, metrics: Any
) -> dict[str, Any]:
    """Arguments for `compile` of a tf_keras model.

    Args:
        source: The Keras 3 model; what is None below is taken from how it was compiled.
        tf_keras: The module.
        loss: A name, a loss of Keras 3 or tf_keras, or a function of `(y_true, y_pred)`.
        optimizer: A name, or an optimizer of Keras 3 or tf_keras.
        learning_rate: A number.
        metrics: A list of names, or of metrics of Keras 3 or tf_keras.

    Raises:
        InvalidArgument: something is missing, or tf_keras does not have it.
    """
    compiled = _compiled(source)
    if loss is None:
        loss = compiled.get("loss")
    if loss is None:
        raise InvalidArgument(
            f"Model '{source.name}' is not compiled, so there is no loss to train with. Compile it "
            "first, or pass `loss=`, and `optimizer=` if it is not to be 'adam'."
        )
    if optimizer is None:
        optimizer = getattr(source, "optimizer", None) or "adam"
    if metrics is None:
        metrics = compiled.get("metrics") or []
    return {
        "loss": _each(loss, lambda one: _loss(one, tf_keras)),
        "optimizer": _optimizer(optimizer, learning_rate, tf_keras),
        "metrics": _each(metrics, lambda one: _metric(one, tf_keras)),
    }


def _compiled(source: Any) -> Mapping[str, Any]:
    """What `compile` was given, as plain data where Keras can describe it."""
    if not getattr(source, "compiled", False):
        return {}
    with warnings.catch_warnings():  # It warns of functions of the user's own.
        warnings.simplefilter("ignore")
        return source.get_compile_config() or {}


def _each(value: Any, translate: Any) -> Any:
    if isinstance(value, list | tuple):
        return [_each(one, translate) for one in value]
    if isinstance(value, Mapping) and "class_name" not in value:
        return {key: _each(one, translate) for key, one in value.items()}
    return None if value is None else translate(value)


def _loss(value: Any, tf_keras: Any) -> Any:
    if isinstance(value, keras.losses.Loss):
        value = keras.losses.serialize(value)
    return _named(value, "loss", tf_keras.losses)


def _metric(value: Any, tf_keras: Any) -> Any:
    if value in ("accuracy", "acc"):
        return value
    if isinstance(value, keras.metrics.Metric):
        value = keras.metrics.serialize(value)
    return _named(value, "metrics", tf_keras.metrics)


def _named(value: Any, argument: str, module: Any) -> Any:
    """A loss or metric of tf_keras, from a name or from how Keras 3 describes its own."""
    if isinstance(value, Mapping) and value.get("class_name") == "function":
        value = value.get("config")
    if not isinstance(value, str | Mapping):
        return value
    try:
        return _by_its_name(value, module) if isinstance(value, str) else _object(value, module)
    except (ValueError, TypeError, AttributeError) as error:
        shown = value if isinstance(value, str) else value.get("class_name")
        raise InvalidArgument(
            f"`{argument}` has {shown!r}, which tf_keras does not have or not with these settings "
            f"({' '.join(str(error).split())[:200]}). Pass one that it has, such as "
            f"`{argument}={_EXAMPLES[argument]}`."
        ) from error


_EXAMPLES = {"loss": "'sparse_categorical_crossentropy'", "metrics": "['accuracy']"}


def _by_its_name(name: str, module: Any) -> Any:
    found = module.get(name)
    if not callable(found):  # Names that it does not know, some versions give back as they are.
        raise ValueError(f"unknown: {name}")
    return found


def _object(described: Mapping[str, Any], module: Any) -> Any:
    kind = getattr(module, described["class_name"])
    known, given = accepted(kind), {}
    for key, value in (described.get("config") or {}).items():
        if key in ("dtype", "fn"):
            continue
        if key == "reduction" and value not in REDUCTIONS:
            raise ValueError(f"reduction={value!r}")
        if key in known:
            given[key] = value
        elif value is not None:
            raise ValueError(f"{key}={value!r}")
    return kind(**given)


def _optimizer(value: Any, learning_rate: Any, tf_keras: Any) -> Any:
    rate = None if learning_rate is None else between(learning_rate, 0.0, float("inf"))
    if learning_rate is not None and not rate:
        raise InvalidArgument(
            f"`learning_rate` expects a number greater than 0. Received: {learning_rate!r}."
        )
    if isinstance(value, str):
        made = _by_name(value, tf_keras)
    elif isinstance(value, keras.optimizers.Optimizer):
        made = _translated(value, tf_keras)
    elif isinstance(value, tf_keras.optimizers.Optimizer):
        made = value
    else:
        raise InvalidArgument(
            f"`optimizer` expects a name or an optimizer of Keras. Received: {value!r}."
        )
    if rate is not None:
        made.learning_rate = rate
    return made


def _by_name(name: str, tf_keras: Any) -> Any:
    try:
        return tf_keras.optimizers.get(name)
    except ValueError as error:
        raise InvalidArgument(_no_optimizer(name)) from error


def _translated(optimizer: Any, tf_keras: Any) -> Any:
    """The same optimizer with the same settings, at the learning rate that it has now."""
    name = type(optimizer).__name__
    kind = getattr(tf_keras.optimizers, name, None)
    if kind is None:
        raise InvalidArgument(_no_optimizer(name))
    known = accepted(kind)
    given = {}
    for key, setting in optimizer.get_config().items():
        if key in ("name", "learning_rate"):
            continue
        if key in known:
            given[key] = setting
        elif not is_default(type(optimizer), key, setting):
            raise InvalidArgument(
                f"The optimizer {name} has {key}={setting!r}, which that of tf_keras does not "
                "have. Pass `optimizer=` by name, such as 'adam', and `learning_rate=`."
            )
    rate = float(keras.ops.convert_to_numpy(optimizer.learning_rate))
    return kind(learning_rate=rate, **given)


def _no_optimizer(name: Sequence[str]) -> str:
    return (
        f"tf_keras has no optimizer {name!r}. Pass `optimizer=` one of 'adam', 'adamw', 'sgd', "
        "'rmsprop', 'adagrad', 'lion', 'nadam', and `learning_rate=`."
    )
