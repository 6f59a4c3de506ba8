"""Optimizer slots follow their weights: they have the same shape, and are cut the same way."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np

from keras_gcp import keras_state
from keras_gcp.channels.map import ChannelMap
from keras_gcp.errors import UnsupportedModel
from keras_gcp.keras_state import Transaction
from keras_gcp.surgery.slicing import taken


def check_optimizer(optimizer: Any) -> None:
    """Refuses an optimizer whose state cannot be cut along with the weights.

    Raises:
        UnsupportedModel: some of its variables are neither scalars nor shaped like a weight.
    """
    strange = keras_state.unsliceable_slots(optimizer)
    if strange:
        names = ", ".join(f"'{v.path}' {tuple(v.shape)}" for v in strange[:3])
        raise UnsupportedModel(
            f"Optimizer '{optimizer.name}' (class {type(optimizer).__name__}) keeps state that is "
            f"not shaped like the weights it belongs to: {names}"
            f"{' …' if len(strange) > 3 else ''}. Such state cannot be cut with the channels. "
            "Expected an optimizer with one slot per weight; take SGD, Adam, AdamW or RMSprop."
        )


def narrow_slots(
    optimizer: Any, channels: ChannelMap, keep: np.ndarray, transaction: Transaction
) -> None:
    """Cuts every slot of every labelled weight; call it before the weights change."""
    for part in keras_state.optimizer_chain(optimizer):
        if not part.built:
            continue
        for variable, slot in keras_state.optimizer_slots(part):
            weight = channels.weights.get(id(variable))
            if weight is None or tuple(slot.shape) != tuple(variable.shape):
                continue
            value = taken(keras.ops.convert_to_numpy(slot), weight.axes, keep)
            if value.shape != tuple(slot.shape):
                transaction.replace_value(slot, value)
