"""What compiled training steps see, told outside of them."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
from keras import ops

from keras_gcp import keras_state


class LargestSeen:
    """The largest of numbers that training steps show it, compiled ones, too.

    Nothing of it belongs to the model: it is not saved, and is no state of a step.

    Args:
        model: The model whose steps show numbers; several devices may run them.
    """

    def __init__(self, model: Any) -> None:
        self._number = -np.inf  # as JAX tells it
        self._variable: Any = None
        if keras.config.backend() != "jax":
            with keras_state.strategy_scope(model):
                self._variable = keras.Variable(
                    -np.inf, dtype="float32", trainable=False, aggregation="mean"
                )

    def show(self, number: Any) -> None:
        """Called in a training step, with a tensor without axes."""
        number = ops.cast(number, "float32")
        if self._variable is None:
            import jax

            jax.debug.callback(self._note, number)
        else:
            self._variable.assign(ops.maximum(self._variable.value, number))

    def value(self) -> float:
        """The largest so far; waits for the steps that have begun. -inf if there was none."""
        if self._variable is None:
            import jax

            jax.effects_barrier()
            return float(self._number)
        return float(ops.convert_to_numpy(self._variable.value))

    def _note(self, number: Any) -> None:
        self._number = max(self._number, float(number))
