"""What is known of values without computing them: where none is negative, where 0 stays 0.

Where no input is negative the cheap form of the alpha-beta rule is exact. Where 0 stays 0 on the
way to the next layer, relevance vanishes together with the value it belongs to.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras

from keras_gcp.graph import Call

NONNEGATIVE_ACTIVATIONS = frozenset(
    keras.activations.get(name)
    for name in (
        "exponential",
        "hard_sigmoid",
        "relu",
        "relu6",
        "sigmoid",
        "softmax",
        "softplus",
        "sparsemax",
    )
)
ZERO_KEEPING_ACTIVATIONS = frozenset(
    keras.activations.get(name)
    for name in (
        "celu",
        "elu",
        "gelu",
        "hard_shrink",
        "hard_silu",
        "hard_tanh",
        "leaky_relu",
        "linear",
        "relu",
        "relu6",
        "selu",
        "silu",
        "soft_shrink",
        "softsign",
        "tanh",
        "tanh_shrink",
    )
)


def always(call: Call, inputs: Sequence[bool]) -> bool:
    """Outputs are never negative."""
    return True


def like_inputs(call: Call, inputs: Sequence[bool]) -> bool:
    """Outputs are not negative if no input is."""
    return all(inputs)


def like_any_input(call: Call, inputs: Sequence[bool]) -> bool:
    """A maximum is not negative if one of its arguments is not."""
    return any(inputs)


def by_activation(call: Call, inputs: Sequence[bool]) -> bool:
    """The layer's activation decides."""
    return is_nonnegative(call.operation.activation)


def by_slope(call: Call, inputs: Sequence[bool]) -> bool:
    """A ReLU layer may let negative inputs through, made smaller."""
    return bool(call.operation.negative_slope == 0)


def by_interpolation(call: Call, inputs: Sequence[bool]) -> bool:
    """Cubic interpolation overshoots."""
    return all(inputs) and getattr(call.operation, "interpolation", "nearest") in (
        "nearest",
        "bilinear",
    )


def by_padding(call: Call, inputs: Sequence[bool]) -> bool:
    """`ops.pad` may pad with any number."""
    return all(inputs) and call.kwargs.get("constant_values") in (None, 0)


def is_nonnegative(activation: Any) -> bool:
    """Whether an activation function, or a ReLU layer used as one, has no negative values."""
    return activation in NONNEGATIVE_ACTIVATIONS or getattr(activation, "negative_slope", None) == 0


def zero_stays(call: Call) -> bool:
    """The operation maps 0 to 0."""
    return True


def zero_by_activation(call: Call) -> bool:
    """The layer's activation decides."""
    activation = call.operation.activation
    return activation in ZERO_KEEPING_ACTIVATIONS or hasattr(activation, "negative_slope")
