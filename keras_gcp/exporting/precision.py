"""Mixed precision: TFLite has no 16-bit convolutions, so such a model is converted in 32 bits."""

from __future__ import annotations

from typing import Any

import keras

HALF_PRECISION = ("float16", "bfloat16")


def is_mixed_precision(model: keras.Model) -> bool:
    """Whether any layer, nested models included, computes in 16 bits."""
    return any(
        is_mixed_precision(layer)
        if isinstance(layer, keras.Model)
        else str(layer.compute_dtype) in HALF_PRECISION
        for layer in model.layers
    )


def in_float32(model: keras.Model) -> keras.Model:
    """A copy with the same weights in which every layer computes in 32 bits."""
    copy = type(model).from_config(_with_float32(model.get_config()))
    copy.set_weights(model.get_weights())
    return copy


def _with_float32(config: Any) -> Any:
    if isinstance(config, dict):
        if config.get("class_name") == "DTypePolicy":
            return {**config, "config": {"name": "float32"}}
        return {key: _with_float32(value) for key, value in config.items()}
    if isinstance(config, list | tuple):
        return type(config)(_with_float32(value) for value in config)
    return config
