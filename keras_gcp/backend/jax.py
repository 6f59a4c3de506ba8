"""Derivatives and compilation on JAX."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import jax


def vjp(function: Callable[..., Any], inputs: Sequence[Any]) -> tuple[Any, Callable[[Any], Any]]:
    outputs, pullback = jax.vjp(function, *inputs)
    structure = jax.tree.structure(outputs)

    def as_list(cotangents: Any) -> list[Any]:
        # JAX wants the very containers that the function returned (tuple or list).
        leaves = jax.tree.leaves(cotangents)
        return list(pullback(jax.tree.unflatten(structure, leaves)))

    return outputs, as_list


def compiled(function: Callable[..., Any], model: Any = None) -> Callable[..., Any]:
    return jax.jit(function)


def runs_eagerly(model: Any) -> bool:
    return True


def forget_gradients(function: Any) -> None:
    """Nothing to do: no gradient outlives its function."""


def forget_shapes() -> None:
    """Nothing to do."""


def without_gradients() -> AbstractContextManager[Any]:
    return nullcontext()  # Nothing is recorded outside a transformation.


def random_state() -> Any | None:
    return None  # Nothing: every random number has a key of its own.


def set_random_state(state: Any) -> None:
    """Nothing to set."""
