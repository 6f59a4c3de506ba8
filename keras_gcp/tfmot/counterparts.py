"""The tf_keras layer for a Keras 3 layer or operation, with the same settings."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

from keras_gcp import keras_state
from keras_gcp.errors import UnsupportedModel
from keras_gcp.tfmot import layers
from keras_gcp.tfmot.refusals import AFTER_TRAINING, activation_of

UNUSED = ("name", "dtype", "trainable", "seed")
"""Settings that are given otherwise; random numbers are others anyway."""


def counterpart(operation: Any, name: str, tf_keras: Any) -> Any:
    """A layer of tf_keras that computes what a layer or operation of Keras 3 computes.

    Args:
        operation: One that `keras_gcp.tfmot.refusals` has nothing against.
        name: Of the new layer.
        tf_keras: The module.

    Raises:
        UnsupportedModel: it has a setting that tf_keras does not have.
    """
    kind = type(operation).__name__
    if not keras_state.is_layer(operation):
        settings = {key: getattr(operation, key) for key in _of_operation(kind)}
        fixed = layers.FIXED_SETTINGS.get(kind, {})
        return getattr(tf_keras.layers, layers.OPERATIONS[kind])(name=name, **settings, **fixed)
    if kind == "Activation" and activation_of(operation) == "relu6":
        return tf_keras.layers.ReLU(6.0, name=name)  # tfmot knows it only by this name.
    made = getattr(tf_keras.layers, kind)(name=name, **_settings(operation, kind, tf_keras))
    made.trainable = operation.trainable
    return made


def _of_operation(kind: str) -> tuple[str, ...]:
    return layers.SETTINGS_OF_OPERATIONS.get(kind, ())


def _settings(layer: Any, kind: str, tf_keras: Any) -> dict[str, Any]:
    known = accepted(getattr(tf_keras.layers, kind))
    renamed = layers.RENAMED.get(kind, {})
    settings = {}
    for key, value in layer.get_config().items():
        if key in UNUSED or key.endswith("_initializer"):  # Weights are copied.
            continue
        own = renamed.get(key, key)
        if own in known:
            settings[own] = _value(layer, key, value, tf_keras)
        elif not is_default(type(layer), key, value):
            raise UnsupportedModel(
                f"Layer '{layer.name}' (class {kind}) has {key}={value!r}, a setting that tf_keras "
                f"does not have. Expected its default. {AFTER_TRAINING}"
            )
    return settings


def accepted(kind: type) -> set[str]:
    """Names of the arguments that a class and its bases take."""
    found: set[str] = set()
    for one in kind.__mro__:
        if "__init__" in vars(one):
            found |= set(inspect.signature(one.__init__).parameters)  # type: ignore[misc]
    return found - {"self", "args", "kwargs"}


def is_default(kind: type, key: str, value: Any) -> bool:
    """Whether a setting is what it is without being mentioned."""
    if (key, value) == ("data_format", "channels_last"):  # tf_keras' only one, where it has none.
        return True
    parameter = inspect.signature(kind).parameters.get(key)
    if parameter is None or parameter.default is inspect.Parameter.empty:
        return value is None or value is False
    return bool(value == parameter.default)


def _value(layer: Any, key: str, value: Any, tf_keras: Any) -> Any:
    if key == "activation":
        return layers.ACTIVATIONS[str(activation_of(layer))]
    for ending, module in (
        ("regularizer", tf_keras.regularizers),
        ("constraint", tf_keras.constraints),
    ):
        if key.endswith(ending) and value is not None:
            return _object(layer, key, value, module)
    return value


def _object(layer: Any, key: str, value: Any, module: Any) -> Any:
    """A regularizer or constraint, from how Keras 3 describes it."""
    name = value.get("class_name", "") if isinstance(value, Mapping) else ""
    kind, settings = getattr(module, name, None), dict((value or {}).get("config") or {})
    if kind is None or not set(settings) <= accepted(kind):
        raise UnsupportedModel(
            f"Layer '{layer.name}' (class {type(layer).__name__}) has {key}={name or value!r}, "
            "which tf_keras does not have. Expected a regularizer or constraint of both, such as "
            f"`keras.regularizers.L2`. Set `layer.{key} = None` to train without."
        )
    return kind(**settings)
