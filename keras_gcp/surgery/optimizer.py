"""Optimizer slots follow their weights: those of the same shape are cut the same way."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np

from keras_gcp import keras_state
from keras_gcp.channels.map import ChannelMap, taken
from keras_gcp.errors import UnsupportedModel
from keras_gcp.keras_state import Transaction


def check_optimizer(optimizer: Any) -> None:
    """Refuses an optimizer whose state cannot be cut along with the weights.

    Raises:
        UnsupportedModel: it is not an optimizer of Keras, or some of its variables are neither
            scalars nor shaped like a weight, nor Adafactor's.
    """
    if not isinstance(optimizer, keras.optimizers.Optimizer):
        raise UnsupportedModel(
            f"Expected a `keras.optimizers.Optimizer`. Received: {optimizer!r} (of type "
            f"{type(optimizer).__name__})."
        )
    strange = keras_state.unsliceable_slots(optimizer)
    if strange:
        names = ", ".join(f"'{v.path}' {tuple(v.shape)}" for v in strange[:3])
        raise UnsupportedModel(
            f"Optimizer '{optimizer.name}' (class {type(optimizer).__name__}) keeps state that is "
            f"not shaped like the weights it belongs to: {names}"
            f"{' …' if len(strange) > 3 else ''}. Such state cannot be cut with the channels. "
            "Expected slots of the shape of their weights, as in every optimizer of Keras; take "
            "SGD, Adam, AdamW or RMSprop."
        )


def narrow_slots(
    optimizer: Any, channels: ChannelMap, keep: np.ndarray, transaction: Transaction
) -> None:
    """Cuts every slot of every weight with channels; call it before the weights change."""
    for part in keras_state.optimizer_chain(optimizer):
        if not part.built:
            continue
        _narrow_factors(part, channels, keep, transaction)
        for variable, slot in keras_state.optimizer_slots(part):
            weight = channels.all_weights.get(id(variable))
            if weight is None or tuple(slot.shape) != tuple(variable.shape):
                continue
            value = taken(keras.ops.convert_to_numpy(slot), weight.axes, keep)
            if value.shape != tuple(slot.shape):
                transaction.replace_value(slot, value)


def _narrow_factors(
    optimizer: Any, channels: ChannelMap, keep: np.ndarray, transaction: Transaction
) -> None:
    """Adafactor's factors, such that the second moment of every kept number stays what it was.

    The factors are means of the second moment V over columns and over rows, and stand for
    `V = r c / mean(r)`. Means over fewer columns are others, so they are taken again from that V.
    """
    for variable, *slots in keras_state.factored_slots(optimizer):
        weight = channels.all_weights.get(id(variable))
        if weight is None:
            continue
        r, c = (keras.ops.convert_to_numpy(slot) for slot in slots)
        moment = np.einsum("...i,...j->...ij", r, c)
        mean = r.mean(axis=-1)[..., None, None]
        moment = np.divide(moment, mean, out=np.zeros_like(moment), where=mean > 0)
        kept = taken(moment, weight.axes, keep)
        if kept.shape != moment.shape:
            for slot, axis in zip(slots, (-1, -2), strict=True):
                transaction.replace_value(slot, kept.mean(axis=axis))
