"""Nesting of a model's inputs and names of its outputs; inside the package they are flat lists."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras

from keras_gcp import keras_state


def output_names(model: keras.Model) -> list[str]:
    """Names of the output layers, in the order of `model.outputs`; not always different."""
    if isinstance(model, keras.Sequential):
        return [model.layers[-1].name]
    return list(model.output_names)


def call_argument(model: keras.Model, values: Sequence[Any]) -> Any:
    """Values in the order of `model.inputs`, in the structure that calling the model expects."""
    return keras_state.packed_inputs(model, values)
