"""A penalty that parts the scales of batch normalizations in two: near 0, and away from it."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from keras import ops

from keras_gcp.channels.map import ChannelMap, Weight
from keras_gcp.costs.counting import (
    build_cost_model,
    full_widths,
    prunable_groups,
    require_known_positions,
)
from keras_gcp.errors import InvalidArgument
from keras_gcp.methods.penalties.penalty import Penalty
from keras_gcp.validation import require_above_0

MACS = "macs"


class PolarizationRegularizer(Penalty):
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

    penalizes = "batch normalization with a scale (gamma) on channels that may be pruned"

    def __init__(
        self,
        strength: float = 1e-4,
        *,
        t: float = 1.2,
        alpha: float = 1.0,
        weights: str | None = None,
    ) -> None:
        super().__init__(strength)
        own = type(self).__name__
        self.t, self.alpha = require_above_0("t", t, own), require_above_0("alpha", alpha, own)
        if weights not in (None, MACS):
            raise InvalidArgument(
                "`weights` of PolarizationRegularizer expects None or 'macs'. "
                f"Received: {weights!r}."
            )
        self.weights = weights
        self._scales: list[tuple[Any, np.ndarray]] = []

    def look(self, channels: ChannelMap) -> list[str]:
        """Notes the scales."""
        found = penalized_scales(channels, self.weights == MACS)
        self._scales = [(weight.variable, factors) for weight, factors in found]
        return [weight.path for weight, _ in found]

    def penalty(self, channels: ChannelMap, x: Any) -> Any:
        """That of the scales as they are."""
        scales = [ops.cast(ops.convert_to_tensor(one), "float32") for one, _ in self._scales]
        factors = np.concatenate([factors for _, factors in self._scales])
        return polarization(ops.concatenate(scales), factors, self.t, self.alpha)


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
