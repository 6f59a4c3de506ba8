"""Derivatives and compilation on TensorFlow."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import tensorflow as tf


def vjp(function: Callable[..., Any], inputs: Sequence[Any]) -> tuple[Any, Callable[[Any], Any]]:
    inputs = [tf.convert_to_tensor(x) for x in inputs]
    # Weights are constants here: only the inputs given are differentiated.
    with tf.GradientTape(watch_accessed_variables=False) as tape:
        tape.watch(inputs)
        outputs = function(*inputs)

    def pullback(cotangents: Any) -> list[Any]:
        gradients = tape.gradient(
            outputs,
            inputs,
            output_gradients=cotangents,
            unconnected_gradients=tf.UnconnectedGradients.ZERO,
        )
        return [tf.convert_to_tensor(gradient) for gradient in gradients]  # also sparse ones

    return outputs, pullback


def compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    return tf.function(function, autograph=False)


def without_gradients() -> AbstractContextManager[Any]:
    return nullcontext()  # Nothing is recorded without a tape.
