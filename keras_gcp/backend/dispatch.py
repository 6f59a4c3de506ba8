"""Chooses the functions of the framework that Keras runs on."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from types import ModuleType
from typing import Any

import keras
import numpy as np

from keras_gcp.errors import UnsupportedModel

BACKENDS = ("tensorflow", "jax", "torch")

Pullback = Callable[[Any], list[Any]]


def vjp(function: Callable[..., Any], *inputs: Any) -> tuple[Any, Pullback]:
    """Value of a function, and its vector-Jacobian product (reverse-mode derivative).

    Args:
        function: Maps tensors to one tensor, or to a list of tensors; differentiable.
        *inputs: Tensors of floating-point type, the point at which to evaluate.

    Returns:
        `(outputs, pullback)`. `pullback(cotangents)`, with cotangents structured and shaped like
        the outputs, returns a list with one tensor per input, of the input's shape; zeros where
        the function does not depend on an input. Call it once: TensorFlow and PyTorch free what
        they recorded.

    Example:

    >>> outputs, pullback = vjp(lambda x, y: x * y, keras.ops.array([2.0]), keras.ops.array([5.0]))
    >>> [float(g[0]) for g in pullback(keras.ops.array([1.0]))]
    [5.0, 2.0]
    """
    return _framework().vjp(function, inputs)


def hessian_product(
    function: Callable[..., Any], inputs: Sequence[Any], direction: Sequence[Any]
) -> list[Any]:
    """The product of a function's Hessian with a direction, without the Hessian itself.

    Args:
        function: Maps tensors to a number; twice differentiable.
        inputs: Tensors of floating-point type, the point at which to evaluate.
        direction: A tensor per input, of its shape and type.

    Returns:
        A tensor per input; zeros where nothing depends on it.

    Example:

    >>> x, y = keras.ops.array([2.0]), keras.ops.array([5.0])
    >>> cubic = lambda x, y: keras.ops.sum(x**3 * y)
    >>> along_x = hessian_product(cubic, [x, y], [keras.ops.ones(1), keras.ops.zeros(1)])
    >>> [float(h[0]) for h in along_x]  # 6 x y, and 3 x^2
    [60.0, 12.0]
    """
    found: list[Any] = _framework().hessian_product(function, inputs, direction)
    return found


def compiled(function: Callable[..., Any], model: Any = None) -> Callable[..., Any]:
    """The function, compiled where that pays: `tf.function`, `jax.jit`; unchanged on PyTorch.

    Only tensors may go in. Everything else is bound beforehand, and what is bound stays alive as
    long as the returned function does; so keep that function for one piece of work only.

    Args:
        function: Pure function of tensors; its result is a tensor or a structure of tensors.
        model: The model that the function runs, if it runs one. Where `runs_eagerly(model)` is
            false, TensorFlow compiles with XLA.
    """
    return _framework().compiled(function, model)


def runs_eagerly(model: Any) -> bool:
    """Whether the framework can run a model call by call.

    On a CPU, TensorFlow itself has no convolutions with channels first; XLA has.
    """
    return _framework().runs_eagerly(model)


def trace_train_step(model: Any, x: Any, y: Any) -> bool:
    """Runs the Python code of a model's `train_step` on symbolic tensors: nothing is trained.

    Args:
        model: The model, compiled.
        x: Inputs of a few examples.
        y: Their labels.

    Returns:
        Whether it has run; only TensorFlow can do it, and not every step takes these data.
    """
    found: bool = _framework().trace_train_step(model, x, y)
    return found


def forget_gradients(function: Any) -> None:
    """Lets a compiled function die that is not going to be differentiated any more.

    TensorFlow registers the gradient of every `tf.custom_gradient` that it traces, and with it
    the whole graph, for as long as the process lives. Nothing happens on JAX and PyTorch.

    Args:
        function: What `compiled` returned, or a model's `train_function`. It can still be called,
            but a gradient through it from outside can no longer be taken.
    """
    _framework().forget_gradients(function)


def forget_shapes() -> None:
    """Empties the cache of what was prepared for eager operations, by shape.

    TensorFlow keeps a kernel for every shape that it ever computed or stored, some 10 kB each, and
    every cut brings new shapes. What is needed again is prepared again, in microseconds. Nothing
    happens on JAX and PyTorch.
    """
    _framework().forget_shapes()


def without_gradients() -> AbstractContextManager[Any]:
    """A context in which nothing is recorded for derivatives, except by `vjp`."""
    return _framework().without_gradients()


def random_state() -> Any | None:
    """The framework's global random state as an array, where it has one that can be read.

    PyTorch has. TensorFlow's cannot be read, and JAX has none.
    """
    return _framework().random_state()


def set_random_state(state: Any) -> None:
    """Sets what `random_state` returned."""
    _framework().set_random_state(state)


def process_count(model: Any) -> int:
    """How many processes train this model together, in step; 1 unless they share its variables."""
    return _framework().process_count(model)


def process_index(model: Any) -> int:
    """Which of them this one is, from 0."""
    return _framework().process_index(model)


def gather_rows(model: Any, row: np.ndarray) -> np.ndarray:
    """The integers (`int32`) of all processes, one row each or several equal ones, in any order.

    All processes wait here for each other.
    """
    return _framework().gather_rows(model, row)


def local_weights(model: Any) -> list[Any]:
    """The values of the model's weights as tensors that this process computes with alone."""
    return _framework().local_weights(model)


def frozen_weights(model: Any) -> list[Any]:
    """The values of a model's weights for a training step that is compiled for another model.

    On JAX they are NumPy arrays: such a step may span devices, and processes, on which these
    weights are not.
    """
    return _framework().frozen_weights(model)


def _framework() -> ModuleType:
    name = keras.config.backend()
    if name not in BACKENDS:
        raise UnsupportedModel(
            f"Keras runs on the backend '{name}', which has no derivatives. Expected one of "
            f"{', '.join(BACKENDS)}; set the environment variable KERAS_BACKEND before Keras is "
            "imported."
        )
    return importlib.import_module(f"keras_gcp.backend.{name}")


def as_list(outputs: Any) -> Sequence[Any]:
    """A function's outputs as a list, whether it returned one tensor or several."""
    return list(outputs) if isinstance(outputs, list | tuple) else [outputs]
