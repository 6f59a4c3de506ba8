"""Derivatives on PyTorch, which runs eagerly."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Any

import numpy as np
import torch
from keras import ops


def vjp(function: Callable[..., Any], inputs: Sequence[Any]) -> tuple[Any, Callable[[Any], Any]]:
    with torch.enable_grad():
        # Leaves of their own: the gradients of the caller's tensors stay as they are.
        leaves = [x.detach().requires_grad_(True) for x in inputs]
        outputs = function(*leaves)
    recorded = list(outputs) if isinstance(outputs, list | tuple) else [outputs]

    def pullback(cotangents: Any) -> list[Any]:
        given = list(cotangents) if isinstance(cotangents, list | tuple) else [cotangents]
        # An output that depends on no input has nothing recorded; torch refuses it.
        pairs = [(y, c) for y, c in zip(recorded, given, strict=True) if y.requires_grad]
        if not pairs:
            return [torch.zeros_like(leaf) for leaf in leaves]
        gradients = torch.autograd.grad(
            [y for y, _ in pairs],
            leaves,
            grad_outputs=[c.to(y.dtype) for y, c in pairs],
            allow_unused=True,
        )
        return [
            torch.zeros_like(leaf) if gradient is None else gradient
            for leaf, gradient in zip(leaves, gradients, strict=True)
        ]

    detached = [y.detach() for y in recorded]
    return (type(outputs)(detached) if isinstance(outputs, list | tuple) else detached[0]), pullback


def hessian_product(
    function: Callable[..., Any], inputs: Sequence[Any], direction: Sequence[Any]
) -> list[Any]:
    with torch.enable_grad():
        leaves = [x.detach().requires_grad_(True) for x in inputs]
        gradients = torch.autograd.grad(
            function(*leaves), leaves, create_graph=True, allow_unused=True
        )
        pairs = [
            (gradient, part)
            for gradient, part in zip(gradients, direction, strict=True)
            if gradient is not None and gradient.requires_grad
        ]
        if not pairs:
            return [torch.zeros_like(leaf) for leaf in leaves]
        along = sum((gradient * part).sum() for gradient, part in pairs)
        products = torch.autograd.grad(along, leaves, allow_unused=True)
    return [
        torch.zeros_like(leaf) if product is None else product
        for leaf, product in zip(leaves, products, strict=True)
    ]


def compiled(function: Callable[..., Any], model: Any = None) -> Callable[..., Any]:
    return function


def runs_eagerly(model: Any) -> bool:
    return True


def forget_gradients(function: Any) -> None:
    """Nothing to do: no gradient outlives its function."""


def trace_train_step(model: Any, x: Any, y: Any) -> bool:
    return False  # A step cannot be looked at without being taken.


def forget_shapes() -> None:
    """Nothing to do."""


def without_gradients() -> AbstractContextManager[Any]:
    return torch.no_grad()


def random_state() -> Any | None:
    return torch.get_rng_state().numpy()


def set_random_state(state: Any) -> None:
    torch.set_rng_state(torch.from_numpy(np.array(state)))


def process_count(model: Any) -> int:
    return 1  # `keras_state.check_strategy` refuses more.


def process_index(model: Any) -> int:
    return 0


def gather_rows(model: Any, row: np.ndarray) -> np.ndarray:
    return row[None]


def local_weights(model: Any) -> list[Any]:
    return [ops.convert_to_tensor(variable.value) for variable in model.weights]


def frozen_weights(model: Any) -> list[Any]:
    return local_weights(model)
