"""One cut of a living model: weights compensated, channels removed, outputs compared."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
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


@dataclass(frozen=True, eq=False)
class Cut:
    """Which channels a model keeps, and what becomes of the weights that stay.

    Attributes:
        channels: The model's channel map.
        keep: `(coupled_count,)` booleans, True = kept.
        values: Weights that compensate the cut, of the wide shapes, by `id` of the variable.
    """

    channels: ChannelMap
    keep: np.ndarray
    values: Mapping[int, np.ndarray]


def cut_in_place(
    cut: Cut,
    transaction: Transaction,
    *,
    inputs: Any = None,
    expected: list[np.ndarray] | None = None,
    optimizers: Sequence[Any] = (),
    in_fit: bool = False,
    stage: Stage = lambda name: nullcontext(),
) -> None:
    """Makes a model narrower, and proves that it computes what the masked one does.

    Args:
        cut: What is cut.
        transaction: Receives every change, so that all of it can be taken back.
        inputs: What the comparison is made on; None: no comparison.
        expected: What has to come out; None takes what the masked model computes.
        optimizers: Whose slots follow, besides those that the model holds.
        in_fit: Whether `model.fit` is running.
        stage: Called with `"narrow"` and `"verify"`.

    Raises:
        VerificationFailed: the narrow model computes something else.
    """
    channels, keep = cut.channels, cut.keep
    put_values(cut, transaction)
    others: list[MaskedNeighbour] = []
    if inputs is not None:
        with stage("verify"):
            if expected is None:
                expected = masked_outputs(channels, keep, inputs)
            others = masked_neighbours(channels, keep)
    with stage("narrow"):
        narrow_model(channels, keep, transaction, optimizers, in_fit)
    if expected is not None:
        with stage("verify"):
            verify_narrow(channels, inputs, expected)
            for other in others:
                other.verify(channels)


def put_values(cut: Cut, transaction: Transaction) -> None:
    """Gives the variables of a model the values that compensate a cut."""
    model, values = cut.channels.model, cut.values
    if not values:
        return
    # Changes are taken back in reverse: PyTorch's parameters are listed again when all are back.
    transaction.on_rollback(partial(keras_state.retrack_torch_family, model))
    for variable in model.weights:
        if id(variable) in values:
            transaction.replace_value(variable, values[id(variable)])
