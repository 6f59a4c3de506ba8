"""What is checked where something else than the model's own loss is minimised in a `fit`."""

from __future__ import annotations

from typing import Any

from keras_gcp import keras_state
from keras_gcp.errors import InvalidArgument, UnsupportedModel


def check_tells_training(model: Any, changer: str) -> None:
    """Refuses a model whose loss is computed without knowing whether it trains.

    Args:
        model: The model.
        changer: What changes the loss, in the words of an error.

    Raises:
        UnsupportedModel: its `compute_loss` has no argument `training`.
    """
    if not keras_state.tells_training(model):
        raise UnsupportedModel(
            f"`compute_loss` of model '{model.name}' (class {type(model).__name__}) has no "
            f"argument `training`, so {changer} cannot tell training from validation. Expected "
            "`compute_loss(self, x, y, y_pred, sample_weight, training=True)`."
        )


def check_loss_is_free(model: Any, changer: str) -> None:
    """Refuses a second callback that changes the loss; arguments as `check_tells_training`."""
    if keras_state.has_training_loss(model):
        raise InvalidArgument(
            f"{changer} and another callback of the same `fit` change what it minimises. Expected "
            "one of them; a `Distillation` can follow in the next `fit`."
        )


def check_loss_is_kept(model: Any, installed: Any, changer: str) -> None:
    """Refuses to go on once another callback has put its own loss in the place of a changed one.

    Args:
        model: The model.
        installed: Its `compute_loss` when the loss was changed.
        changer: As in `check_tells_training`.
    """
    if model.compute_loss is not installed:
        raise InvalidArgument(
            "Another callback of the same `fit`, such as GradualChannelPruning with "
            f"`distillation`, has replaced the loss with what {changer} adds. Expected one "
            "callback that changes the loss."
        )
