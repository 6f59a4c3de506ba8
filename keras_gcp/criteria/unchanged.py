"""Criteria look at a model and leave it as it is."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import keras
import numpy as np

from keras_gcp.errors import InvalidArgument


@contextmanager
def unchanged_weights(model: Any, criterion: str) -> Iterator[None]:
    """Inside the context a criterion scores a model; afterwards the weights are as before.

    A moving average is enough: running a model with `training=True` changes those of a batch
    normalization, and what the network computes from then on.

    Args:
        model: The model.
        criterion: What to call the criterion.

    Raises:
        InvalidArgument: it has changed weights; they have their values back.
    """
    before = [np.array(keras.ops.convert_to_numpy(variable)) for variable in model.weights]
    changed = []
    try:
        yield
    finally:  # Also where it fails.
        for variable, value in zip(model.weights, before, strict=True):
            now = np.asarray(keras.ops.convert_to_numpy(variable))
            if now.tobytes() != value.tobytes():  # To the bit: NaN is equal to itself.
                changed.append(variable.path)
                variable.assign(value)
    if changed:
        raise InvalidArgument(
            f"Criterion '{criterion}' changed {len(changed)} weights of model '{model.name}' while "
            f"it scored, such as '{changed[0]}'; they have their values back. Expected a function "
            "that only looks: run the model with `training=False`, and train a copy of it, if any."
        )
