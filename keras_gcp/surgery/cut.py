"""One cut of a living model: weights compensated, channels removed, outputs compared."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import Any

import numpy as np

from keras_gcp import keras_state
from keras_gcp.channels.map import ChannelMap
from keras_gcp.keras_state import Transaction
from keras_gcp.surgery.narrow import narrow_model
from keras_gcp.surgery.neighbours import MaskedNeighbour, masked_neighbours
from keras_gcp.surgery.verify import masked_outputs, verify_narrow

Stage = Callable[[str], AbstractContextManager[Any]]
"""Stands around a part of the work that has a name, such as to time it."""


def cut_in_place(
    model: Any,
    channels: ChannelMap,
    keep: np.ndarray,
    values: Mapping[int, np.ndarray],
    transaction: Transaction,
    inputs: Any = None,
    expected: list[np.ndarray] | None = None,
    optimizers: Sequence[Any] = (),
    in_fit: bool = False,
    stage: Stage = lambda name: nullcontext(),
) -> None:
    """Makes a model narrower, and proves that it computes what the masked one does.

    Args:
        model: The model that `channels` was traced from.
        channels: Its channel map.
        keep: `(coupled_count,)` booleans, True = kept.
        values: Weights that compensate the cut, of the wide shapes, by `id` of the variable.
        transaction: Receives every change, so that all of it can be taken back.
        inputs: What the comparison is made on; None: no comparison.
        expected: What has to come out; None takes what the masked model computes.
        optimizers: Whose slots follow, besides those that the model holds.
        in_fit: Whether `model.fit` is running.
        stage: Called with `"narrow"` and `"verify"`.

    Raises:
        VerificationFailed: the narrow model computes something else.
    """
    put_values(values, model, transaction)
    others: list[MaskedNeighbour] = []
    if inputs is not None:
        with stage("verify"):
            if expected is None:
                expected = masked_outputs(model, channels, keep, inputs)
            others = masked_neighbours(channels, keep)
    with stage("narrow"):
        narrow_model(model, channels, keep, transaction, optimizers, in_fit)
    if expected is not None:
        with stage("verify"):
            verify_narrow(model, channels, inputs, expected)
            for other in others:
                other.verify(channels)


def put_values(values: Mapping[int, np.ndarray], model: Any, transaction: Transaction) -> None:
    """Gives variables of a model new values, by `id`."""
    if not values:
        return
    # Changes are taken back in reverse: PyTorch's parameters are listed again when all are back.
    transaction.on_rollback(partial(keras_state.retrack_torch_family, model))
    for variable in model.weights:
        if id(variable) in values:
            transaction.replace_value(variable, values[id(variable)])
