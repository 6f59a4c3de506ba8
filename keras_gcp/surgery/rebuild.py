"""Copies of a model."""

from __future__ import annotations

from typing import Any

import keras


def copy_model(model: Any) -> Any:
    """A functional copy with layers and variables of its own, holding the same weights.

    The copy is a plain `keras.Model` (or `Sequential`) and is not compiled.
    """
    copy = keras.models.clone_model(model)
    copy.set_weights(model.get_weights())
    return copy
