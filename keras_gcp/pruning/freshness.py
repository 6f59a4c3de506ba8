"""Whether a network has learned anything yet."""

from __future__ import annotations

from typing import Any

from keras import ops

ZEROS_AT_FIRST = ("bias", "beta", "moving_mean")
"""Weights that layers of Keras begin with as zeros, and that the first step of a training moves."""


def is_fresh(model: Any) -> bool:
    """Whether weights are as they were drawn: some begin as zeros, and all of these still are.

    A network with other initializers is taken for a trained one.
    """
    moved = _moved(model)
    return bool(moved) and not any(moved)


def has_learned(model: Any) -> bool:
    """Whether all layers have learned something: no weight that begins as zeros is as it was.

    A trained network with a new head has not.
    """
    moved = _moved(model)
    return bool(moved) and all(moved)


def _moved(model: Any) -> list[bool]:
    """Of each weight that begins as zeros, whether it is something else."""
    begin = [variable for variable in model.variables if variable.name in ZEROS_AT_FIRST]
    return [bool(ops.convert_to_numpy(variable).any()) for variable in begin]
