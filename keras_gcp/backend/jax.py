"""Derivatives, compilation and several processes on JAX."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils
from keras import ops


def vjp(function: Callable[..., Any], inputs: Sequence[Any]) -> tuple[Any, Callable[[Any], Any]]:
    outputs, pullback = jax.vjp(function, *inputs)
    structure = jax.tree.structure(outputs)

    def as_list(cotangents: Any) -> list[Any]:
        # JAX wants the same containers that the function returned (tuple or list).
        leaves = jax.tree.leaves(cotangents)
        return list(pullback(jax.tree.unflatten(structure, leaves)))

    return outputs, as_list


def hessian_product(
    function: Callable[..., Any], inputs: Sequence[Any], direction: Sequence[Any]
) -> list[Any]:
    gradients = jax.grad(function, argnums=tuple(range(len(inputs))))
    _, products = jax.jvp(gradients, tuple(inputs), tuple(direction))
    return list(products)


def compiled(function: Callable[..., Any], model: Any = None) -> Callable[..., Any]:
    return jax.jit(function)


def runs_eagerly(model: Any) -> bool:
    return True


def forget_gradients(function: Any) -> None:
    """Nothing to do: no gradient outlives its function."""


def trace_train_step(model: Any, x: Any, y: Any) -> bool:
    return False  # A step cannot be looked at without being taken.


def forget_shapes() -> None:
    """Nothing to do."""


def without_gradients() -> AbstractContextManager[Any]:
    return nullcontext()  # Nothing is recorded outside a transformation.


def random_state() -> Any | None:
    return None  # Nothing: every random number has a key of its own.


def set_random_state(state: Any) -> None:
    """Nothing to set."""


def process_count(model: Any) -> int:
    # Processes may also train models of their own; then each has its variables to itself.
    if jax.process_count() == 1:
        return 1
    shared = any(not variable.value.is_fully_addressable for variable in model.variables)
    return jax.process_count() if shared else 1


def process_index(model: Any) -> int:
    return jax.process_index()


def gather_rows(model: Any, row: np.ndarray) -> np.ndarray:
    return np.asarray(multihost_utils.process_allgather(row))


def local_weights(model: Any) -> list[Any]:
    return [_local(ops.convert_to_tensor(variable.value)) for variable in model.weights]


def frozen_weights(model: Any) -> list[Any]:
    return [np.asarray(_local(variable.value)) for variable in model.weights]  # not traced


def _local(value: Any) -> Any:
    """Of a value that every device of every process holds, the copy on a device of this one."""
    return value if value.is_fully_addressable else value.addressable_data(0)
