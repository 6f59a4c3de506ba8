"""The loss that a model was compiled with."""

from __future__ import annotations

from typing import Any


def loss_weights(model: Any) -> Any:
    """What the loss of each output weighs, as the user gave it; None if nothing was given."""
    return getattr(getattr(model, "_compile_loss", None), "_user_loss_weights", None)


def compile_alike(copy: Any, model: Any) -> None:
    """Gives a copy the loss of a compiled model; no metrics, and a new optimizer.

    Losses are the same objects. One that a class of the user's own computes (`compute_loss`) stays
    behind: copies are plain models.

    Args:
        copy: A copy of the model, which may be narrower.
        model: The model.
    """
    if not getattr(model, "compiled", False) or model.loss is None:
        return
    copy.compile(loss=model.loss, loss_weights=loss_weights(model))
