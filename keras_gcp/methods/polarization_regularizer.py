"""A penalty that parts the scales of batch normalizations in two: near 0, and away from it."""

from __future__ import annotations

import math
import sys
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_gcp import keras_state
from keras_gcp.channels.map import ChannelMap, Weight
from keras_gcp.channels.trace import trace
from keras_gcp.costs.counting import (
    build_cost_model,
    full_widths,
    prunable_groups,
    require_known_positions,
)
from keras_gcp.errors import InvalidArgument, UnsupportedModel
from keras_gcp.validation import between

MACS = "macs"


class PolarizationRegularizer(keras.callbacks.Callback):
    """Adds to the loss of a `fit` a penalty that lets `"bn_scale"` tell channels apart.

    With g the absolute scales (gamma) of all batch normalizations on channels that may be pruned,
    and m the mean of all of them together, it adds
    `strength * (t * sum |g| - sum |g - alpha * m|)`. An L1 penalty alone moves all scales towards
    0; the second sum pushes them away from their mean, so that some go to 0 and others stay, and
    there is a gap to cut in.

    Zhuang et al., "Neuron-level Structured Pruning using Polarization Regularizer", NeurIPS 2020,
    the penalty of their program. Afterwards: `keras_gcp.prune(model, budget, "bn_scale")`, or
    `GradualChannelPruning(..., criterion="bn_scale")` in the same fit, listed before this.

    Args:
        strength: Factor of the penalty.
        t: Weight of the L1 part. Up to 1, large scales are not held back by it; the larger it is,
            the more scales go to 0.
        alpha: Multiple of the mean that scales are pushed away from.
        weights: None, or `"macs"`: each scale counts as much as its channel costs in multiply-adds,
            1 on average.

    Attributes:
        penalized: Paths of the normalizations; known when training begins.

    Raises:
        InvalidArgument: an argument is out of its range, or another callback of the same `fit`
            changes the loss, too.
        UnsupportedModel: the model has no such normalization.

    Example:

    ```python
    polarize = keras_gcp.methods.PolarizationRegularizer(1e-3)
    model.fit(x, y, epochs=10, callbacks=[polarize])
    ```
    """

    def __init__(
        self,
        strength: float = 1e-4,
        *,
        t: float = 1.2,
        alpha: float = 1.0,
        weights: str | None = None,
    ) -> None:
        super().__init__()
        self.strength = _above_0("strength", strength)
        self.t, self.alpha = _above_0("t", t), _above_0("alpha", alpha)
        if weights not in (None, MACS):
            raise InvalidArgument(
                "`weights` of PolarizationRegularizer expects None or 'macs'. "
                f"Received: {weights!r}."
            )
        self.weights = weights
        self.penalized: tuple[str, ...] = ()
        self._scales: list[tuple[Any, np.ndarray]] = []
        self._channels: ChannelMap | None = None
        self._parameters = 0
        self._installed: Any = None

    def on_train_begin(self, logs: Any = None) -> None:
        model = self.model
        if keras_state.has_training_loss(model):
            raise InvalidArgument(
                "PolarizationRegularizer and another callback of the same `fit` change what it "
                "minimises. Expected one of them."
            )
        if not keras_state.tells_training(model):
            raise UnsupportedModel(
                f"`compute_loss` of model '{model.name}' (class {type(model).__name__}) has no "
                "argument `training`, so PolarizationRegularizer cannot tell training from "
                "validation. Expected `compute_loss(self, x, y, y_pred, sample_weight, "
                "training=True)`."
            )
        self._look()
        keras_state.set_training_loss(model, self._loss)
        self._installed = model.compute_loss

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        self._look_if_narrower()

    def on_train_batch_begin(self, batch: int, logs: Any = None) -> None:
        self._look_if_narrower()

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        if self.model.compute_loss is not self._installed:
            raise InvalidArgument(
                "Another callback of the same `fit`, such as GradualChannelPruning with "
                "`distillation`, has replaced the loss with the penalty of "
                "PolarizationRegularizer. Expected one callback that changes the loss."
            )

    def on_train_end(self, logs: Any = None) -> None:
        keras_state.take_back_training_loss(self.model)

    def _look(self) -> None:
        self._parameters = self.model.count_params()
        self._channels = trace(self.model)
        found = penalized_scales(self._channels, self.weights == MACS)
        if not found:
            raise UnsupportedModel(
                f"Model '{self.model.name}' has no batch normalization with a scale (gamma) on "
                "channels that may be pruned, so PolarizationRegularizer has nothing to penalise. "
                "`print(keras_gcp.trace(model))` says why channels stay."
            )
        self.penalized = tuple(weight.path for weight, _ in found)
        self._scales = [(weight.variable, factors) for weight, factors in found]

    def _look_if_narrower(self) -> None:
        if self.model.count_params() != self._parameters:
            self._look()

    def _loss(self, loss: Any, penalties: list[Any], x: Any, y_pred: Any, weights: Any) -> Any:
        # Not `self.model`, which on JAX would write the last step's values into the model.
        assert self._channels is not None
        if self._channels.model.count_params() != self._parameters:
            raise InvalidArgument(
                "The model has been cut since PolarizationRegularizer looked at it. List it after "
                "the callback that prunes: callbacks=[pruning, PolarizationRegularizer(...)]."
            )
        scales = [ops.cast(ops.convert_to_tensor(one), "float32") for one, _ in self._scales]
        factors = np.concatenate([factors for _, factors in self._scales])
        penalty = polarization(ops.concatenate(scales), factors, self.t, self.alpha)
        return loss + self.strength * ops.cast(penalty, loss.dtype)


def polarization(scales: Any, factors: Any, t: float, alpha: float) -> Any:
    """`t * sum f |g| - sum f |g - alpha * mean g|` of absolute scales g, as a tensor.

    Args:
        scales: All scales, `(channels,)`.
        factors: How much each counts, `(channels,)`; 0 leaves it out, of the mean too.
        t: Weight of the first sum.
        alpha: Multiple of the mean.
    """
    factors = ops.convert_to_tensor(np.asarray(factors, np.float32))
    counted = ops.cast(factors > 0, "float32")
    sizes = ops.abs(scales)
    mean = ops.sum(sizes * counted) / ops.sum(counted)
    return ops.sum(factors * (t * sizes - ops.abs(sizes - alpha * mean)))


def penalized_scales(channels: ChannelMap, by_macs: bool) -> list[tuple[Weight, np.ndarray]]:
    """Scales of batch normalizations on channels that may be pruned, with how much each counts."""
    factors = _macs_of_channels(channels) if by_macs else np.ones(channels.coupled_count)
    found = []
    for operation in {id(call.operation): call.operation for call in channels.graph.calls}.values():
        # What has a moving variance normalises over the batch.
        gamma = getattr(operation, "gamma", None) if hasattr(operation, "moving_variance") else None
        weight = channels.weights.get(id(gamma))
        if weight is not None and 0 in weight.axes and channels.prunable[weight.axes[0]].any():
            coupled = weight.axes[0]
            found.append((weight, factors[coupled] * channels.prunable[coupled]))
    total = sum(float(each.sum()) for _, each in found)
    count = sum(int((each > 0).sum()) for _, each in found)
    scale = count / total if total > 0 else math.nan
    return [(weight, (each * scale).astype(np.float32)) for weight, each in found]


def _macs_of_channels(channels: ChannelMap) -> np.ndarray:
    """What one channel less would save, `(coupled_count,)`."""
    require_known_positions(channels)
    cost_model, full = build_cost_model(channels), full_widths(channels)
    whole, saved = cost_model.cost("macs", full), np.zeros(channels.coupled_count)
    for number, group in enumerate(prunable_groups(channels)):
        less = full.copy()
        less[number] -= 1
        saved[group.coupled] = whole - cost_model.cost("macs", less)
    return saved


def _above_0(name: str, value: Any) -> float:
    found = between(value, 0.0, sys.float_info.max)
    if not found:
        raise InvalidArgument(
            f"`{name}` of PolarizationRegularizer expects a number above 0. Received: {value!r}."
        )
    return found
