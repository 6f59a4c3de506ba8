"""What the callbacks that add a penalty to the loss of a `fit` have in common."""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

from keras_gcp import keras_state
from keras_gcp.channels.map import ChannelMap
from keras_gcp.channels.trace import trace
from keras_gcp.errors import InvalidArgument, UnsupportedModel
from keras_gcp.training.changed_loss import (
    check_loss_is_free,
    check_loss_is_kept,
    check_tells_training,
)
from keras_gcp.validation import require_above_0


class Penalty(keras.callbacks.Callback):
    """Adds `strength` times a penalty to the loss, also of a model that becomes narrower.

    A penalty says `look(channels)` and `penalty(channels, x)`.

    Args:
        strength: Factor of the penalty, above 0.

    Attributes:
        penalized: Paths of the layers that get a penalty; known when training begins.
    """

    penalizes: str
    """What a model needs to get a penalty, in the words of an error."""

    def __init__(self, strength: float) -> None:
        super().__init__()
        self.strength = require_above_0("strength", strength, type(self).__name__, "1e-3")
        self.penalized: tuple[str, ...] = ()
        self._channels: ChannelMap | None = None
        self._parameters = 0
        self._installed: Any = None

    def look(self, channels: ChannelMap) -> list[str]:
        """Notes what the penalty is about, and returns the paths of the layers that get one."""
        raise NotImplementedError

    def penalty(self, channels: ChannelMap, x: Any) -> Any:
        """The penalty without its factor, as a tensor.

        Args:
            channels: The model's channel map.
            x: Inputs of the batch.
        """
        raise NotImplementedError

    def on_train_begin(self, logs: Any = None) -> None:
        model, own = self.model, type(self).__name__
        check_loss_is_free(model, own)
        check_tells_training(model, own)
        self._look()
        keras_state.set_training_loss(model, self._loss)
        self._installed = model.compute_loss

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        self._look_if_narrower()

    def on_train_batch_begin(self, batch: int, logs: Any = None) -> None:
        self._look_if_narrower()

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        check_loss_is_kept(self.model, self._installed, type(self).__name__)

    def on_train_end(self, logs: Any = None) -> None:
        keras_state.take_back_training_loss(self.model)

    def _look(self) -> None:
        self._channels, self._parameters = trace(self.model), self.model.count_params()
        self.penalized = tuple(self.look(self._channels))
        if not self.penalized:
            raise UnsupportedModel(
                f"Model '{self.model.name}' has no {self.penalizes}, so {type(self).__name__} has "
                "nothing to penalise. `print(keras_gcp.trace(model))` says why channels stay."
            )

    def _look_if_narrower(self) -> None:
        if self.model.count_params() != self._parameters:
            self._look()

    def _loss(self, loss: Any, penalties: list[Any], x: Any, y_pred: Any, weights: Any) -> Any:
        # Not `self.model`, which on JAX would write the last step's values into the model.
        channels = self._channels
        assert channels is not None
        if channels.model.count_params() != self._parameters:
            own = type(self).__name__
            raise InvalidArgument(
                f"The model has been cut since {own} looked at it. List it after the callback "
                f"that prunes: callbacks=[pruning, {own}(...)]."
            )
        return loss + self.strength * ops.cast(self.penalty(channels, x), loss.dtype)
