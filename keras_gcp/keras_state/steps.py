"""Models that `TimeDistributed` repeats: their graph is read with the steps of time as examples.

What `TimeDistributed(model)` computes of `(batch, steps, ...)` is what the model computes of
`(batch * steps, ...)`. So the calls inside are calls like any others, between an operation that
puts the steps into the batch axis and one that takes them out of it again.
"""

from __future__ import annotations

from typing import Any

import keras
from keras import layers, ops

from keras_gcp.graph import leaves
from keras_gcp.keras_state.functional import functional_of


class StepsAsExamples(keras.Operation):
    """`(batch, steps, ...)` to `(batch * steps, ...)`."""

    def call(self, x: Any) -> Any:
        return ops.reshape(x, (-1, *ops.shape(x)[2:]))

    def compute_output_spec(self, x: Any) -> Any:
        return keras.KerasTensor((None, *x.shape[2:]), x.dtype)


class ExamplesAsSteps(keras.Operation):
    """`(batch * steps, ...)` to `(batch, steps, ...)`.

    Args:
        steps: Their number; None if it is that of a second tensor that the operation is called on.
    """

    def __init__(self, steps: int | None) -> None:
        super().__init__()
        self.steps = steps

    def call(self, y: Any, like: Any = None) -> Any:
        steps = ops.shape(like)[1] if self.steps is None else self.steps
        return ops.reshape(y, (-1, steps, *ops.shape(y)[1:]))

    def compute_output_spec(self, y: Any, like: Any = None) -> Any:
        return keras.KerasTensor((None, self.steps, *y.shape[1:]), y.dtype)


def repeated_model(operation: Any) -> Any | None:
    """The model that a `TimeDistributed`, or several of them, repeats; None without one."""
    while isinstance(operation, layers.TimeDistributed):
        operation = operation.layer
        if isinstance(operation, keras.Model):
            return operation
    return None


def not_repeatable(operation: Any, args: Any, kwargs: Any) -> str | None:
    """Why the model that a `TimeDistributed` repeats cannot be followed; None if it can.

    Args:
        operation: The `TimeDistributed`.
        args: The symbols that it was called with.
        kwargs: Likewise.
    """
    model: Any = repeated_model(operation)
    functional = functional_of(model)
    if type(operation).call is not layers.TimeDistributed.call:
        return "its `call` is not that of TimeDistributed"
    if functional is None:
        return f"model '{model.name}' (class {type(model).__name__}) has no graph"
    if len(functional._inputs) != 1 or not isinstance(
        functional._outputs_struct, keras.KerasTensor
    ):
        return f"model '{model.name}' has several inputs or outputs"
    if functional._inputs[0].shape[0] is not None:
        return f"model '{model.name}' has a fixed batch size"
    stateful = [one for one in model._flatten_layers() if getattr(one, "stateful", False)]
    if stateful:
        return f"layer '{stateful[0].name}' in model '{model.name}' has a state"
    symbols = [x for x in leaves((args, kwargs)) if isinstance(x, keras.KerasTensor)]
    if len(symbols) > 1 or any(getattr(x, "_keras_mask", None) is not None for x in symbols):
        return "it is called with a mask"
    return None


def is_repeatable(operation: Any, args: Any, kwargs: Any) -> bool:
    """Whether it is a `TimeDistributed` of a model, and that can be followed."""
    return repeated_model(operation) is not None and not_repeatable(operation, args, kwargs) is None
