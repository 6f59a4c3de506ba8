"""Training data as tf_keras takes it, and how many steps it makes."""

from __future__ import annotations

import math
from typing import Any

import keras

from keras_gcp import keras_state
from keras_gcp.errors import InvalidArgument


def arranged(source: Any, x: Any, tf: Any) -> Any:
    """Inputs in the order of `model.inputs`: in tf_keras the inputs of the model are a flat list.

    Args:
        source: The Keras 3 model.
        x: Arrays in any form that `source.fit` takes, or a `tf.data.Dataset`.
        tf: The module.

    Raises:
        InvalidArgument: it is a data set of Keras 3, or does not fit the model.
    """
    if isinstance(x, tf.data.Dataset):
        return x if len(source.inputs) == 1 else x.map(lambda *parts: _row(source, parts))
    if isinstance(x, keras.utils.PyDataset):
        raise InvalidArgument(
            "`x` is a `keras.utils.PyDataset`, which tf_keras does not take. Expected arrays or a "
            "`tf.data.Dataset`."
        )
    return _flat(source, x)


def steps(x: Any, epochs: int, batch_size: int | None, options: dict[str, Any], tf: Any) -> int:
    """How many steps a training will make.

    Raises:
        InvalidArgument: nothing tells.
    """
    given = options.get("steps_per_epoch")
    if given is not None:
        return int(given) * epochs
    if isinstance(x, tf.data.Dataset):
        known = int(x.cardinality())
        if known < 0:
            raise InvalidArgument(
                "The data set does not say how many batches it has, which is needed to know when "
                "weights become zero. Pass `steps_per_epoch=`."
            )
        return known * epochs
    count = len(keras.tree.flatten(x)[0]) * (1 - float(options.get("validation_split") or 0.0))
    return math.ceil(int(count) / (batch_size or 32)) * epochs


def _flat(source: Any, x: Any) -> Any:
    ordered = keras_state.ordered_inputs(source, x)
    return ordered[0] if len(ordered) == 1 else list(ordered)


def _row(source: Any, parts: tuple[Any, ...]) -> tuple[Any, ...]:
    return (tuple(_flat(source, parts[0])), *parts[1:])
