"""Where the graph of a model is, and the structure of its inputs."""

from __future__ import annotations

from typing import Any

import keras

from keras_gcp.errors import UnsupportedModel


def functional_of(model: Any) -> Any | None:
    """The functional graph inside a model, or None if there is none (yet)."""
    if isinstance(model, keras.Sequential):
        return model._functional
    return model if hasattr(model, "_nodes_by_depth") else None


def input_structure(model: Any) -> Any:
    """The model's symbolic inputs: one tensor, a list or a dict."""
    structure = require_functional(model)._inputs_struct
    single = isinstance(model, keras.Sequential) and isinstance(structure, list | tuple)
    return structure[0] if single else structure


def require_functional(model: Any) -> Any:
    """The functional graph inside a model.

    Raises:
        UnsupportedModel: it has none, was never built, or is not a model.
    """
    if not isinstance(model, keras.Model):
        raise UnsupportedModel(
            f"Expected a `keras.Model`. Received: {model!r} (of type {type(model).__name__})."
        )
    functional = functional_of(model)
    if functional is not None:
        return functional
    kind = f"Model '{model.name}' (class {type(model).__name__})"
    if isinstance(model, keras.Sequential):
        raise UnsupportedModel(
            f"{kind} is not built, so its layers have no shapes yet. Put a `keras.Input(shape)` "
            "first, or call `model.build(input_shape)`, before pruning."
        )
    raise UnsupportedModel(
        f"{kind} is a subclassed model: its layers are called by Python code, so there is no "
        "graph to follow the channels through. Expected a `keras.Sequential` or a functional "
        "`keras.Model(inputs, outputs)`. Rebuild the network with the functional API (its layers "
        "and their weights can be reused as they are)."
    )
