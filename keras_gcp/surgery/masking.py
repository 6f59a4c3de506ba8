"""A wide model that computes what a narrow one will: nothing reads a removed channel.

Masked means: the kernel rows of the layers that *consume* removed channels are zero. That is
exact for any activation and any normalization constants of the removed channels. Layers
that mix channels without weights between them (layer normalization) compute from the kept ones.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from types import MappingProxyType
from typing import Any

import keras
import numpy as np

from keras_gcp import keras_state
from keras_gcp.channels.map import ChannelMap, Weight
from keras_gcp.keras_state import Transaction

NO_VALUES: Mapping[int, np.ndarray] = MappingProxyType({})


@contextmanager
def masked(channels: ChannelMap, keep: np.ndarray) -> Iterator[None]:
    """Inside the context, no layer of the model reads a channel that is not kept.

    Values are exchanged, not overwritten: so even where memory has run out, the old ones come back.
    """
    exchange = Transaction()
    try:
        with masked_mixings(channels, keep):
            for variable, value in _masked(channels.all_weights.values(), keep, NO_VALUES):
                exchange.replace_value(variable, value)
            yield
    finally:
        exchange.rollback()


def masked_values(
    channels: ChannelMap, keep: np.ndarray, values: Mapping[int, np.ndarray] = NO_VALUES
) -> Iterator[tuple[Any, np.ndarray]]:
    """The weights that read channels, with zeros where they read what is not kept.

    Args:
        channels: The channel map.
        keep: `(coupled_count,)` booleans, True = kept.
        values: Values to start from in place of the variables' own, by `id`.

    Yields:
        `(keras.Variable, value)` for every weight of the model of which something changes.
    """
    return _masked(channels.weights.values(), keep, values)


def _masked(
    weights: Iterable[Weight], keep: np.ndarray, values: Mapping[int, np.ndarray]
) -> Iterator[tuple[Any, np.ndarray]]:
    for weight in weights:
        cut = {a: c for a, c in weight.axes.items() if a in weight.consumed and not keep[c].all()}
        if not cut:
            continue
        own = values.get(id(weight.variable))
        value = np.array(keras.ops.convert_to_numpy(weight.variable) if own is None else own)
        for axis, coupled in cut.items():
            shape = [1] * value.ndim
            shape[axis] = -1
            value *= keep[coupled].reshape(shape).astype(value.dtype)
        yield weight.variable, value


@contextmanager
def masked_mixings(channels: ChannelMap, keep: np.ndarray) -> Iterator[bool]:
    """Inside the context, layers that mix channels without weights compute from the kept ones.

    Yields whether there are such layers: code that was compiled outside does not know of it.
    """
    with ExitStack() as restricted:
        touched = [one for one in channels.mixings if not keep[one.ids].all()]
        for mixing in touched:
            call = mixing.restricted(keep[mixing.ids])
            restricted.enter_context(keras_state.replaced_call(mixing.operation, call))
        yield bool(touched)
