"""What Keras knows of losses that `compile` was given."""

from __future__ import annotations

from typing import Any


def loss_weights(model: Any) -> Any:
    """What the loss of each output weighs, as the user gave it; None if nothing was given."""
    return getattr(getattr(model, "_compile_loss", None), "_user_loss_weights", None)
