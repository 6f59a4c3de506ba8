"""Names and nesting of a model's inputs and outputs; inside the package they are flat lists."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras

from keras_gcp import keras_state


def input_names(model: keras.Model) -> list[str]:
    """Names of the inputs, in the order of `model.inputs`; the keys where they are a dict."""
    structure = keras_state.input_structure(model)
    if isinstance(structure, dict):
        keys = {id(tensor): str(key) for key, tensor in structure.items()}
        return [keys.get(id(tensor), tensor.name) for tensor in model.inputs]
    return [tensor.name for tensor in model.inputs]


def output_names(model: keras.Model) -> list[str]:
    """Names of the output layers, in the order of `model.outputs`; not always different."""
    if isinstance(model, keras.Sequential):
        return [model.layers[-1].name]
    return list(model.output_names)


def call_argument(model: keras.Model, values: Sequence[Any]) -> Any:
    """Values in the order of `model.inputs`, in the structure that calling the model expects."""
    return keras_state.packed_inputs(model, values)
