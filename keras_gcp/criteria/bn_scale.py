"""The scale that batch normalisation gives to a channel."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from keras import ops

from keras_gcp.channels.map import ChannelMap
from keras_gcp.criteria.base import prunable_layers
from keras_gcp.errors import UnsupportedModel
from keras_gcp.sample import DrawnSample


@dataclass(frozen=True)
class BatchNormScale:
    """Absolute gamma of the batch normalisation that a channel passes.

    Liu et al., "Learning Efficient Convolutional Networks through Network Slimming", ICCV 2017.
    What counts is the normalisation right after the layer; if there is none, the mean over all
    normalisations that the channel passes anywhere (pre-activation networks).
    """

    name: ClassVar[str] = "bn_scale"
    needs_sample: ClassVar[bool] = False
    normalize: ClassVar[str] = "mean"

    def check(self, model: Any, channels: ChannelMap, sample: DrawnSample | None) -> None:
        """Raises if some prunable channel passes no batch normalisation."""
        _gammas_by_layer(channels)

    def __call__(
        self, model: Any, channels: ChannelMap, sample: DrawnSample | None = None
    ) -> dict[str, np.ndarray]:
        return _gammas_by_layer(channels)


def _gammas_by_layer(channels: ChannelMap) -> dict[str, np.ndarray]:
    anywhere = _mean_gamma(channels)
    scores = {}
    lacking = []
    for path in prunable_layers(channels):
        coupled = channels.produced[path]
        direct = _gammas_right_after(channels, path)
        gammas = anywhere[coupled] if direct is None else direct
        # Channels that stay anyway need no score; 0 keeps the array finite.
        gammas = np.where(channels.prunable[coupled], gammas, np.nan_to_num(gammas))
        if np.isnan(gammas).any():
            lacking.append(path)
        scores[path] = gammas
    if lacking:
        raise UnsupportedModel(
            "Criterion 'bn_scale' needs a batch normalisation with a scale (gamma) on every "
            f"prunable channel. Layers without one: {', '.join(map(repr, lacking))}. Take another "
            "criterion, e.g. 'l2_norm' or 'taylor', or exclude those layers."
        )
    return scores


def _gamma(operation: Any) -> Any | None:
    """The scale of a batch normalisation; None for other layers and if it has none."""
    return getattr(operation, "gamma", None) if hasattr(operation, "moving_variance") else None


def _absolute(gamma: Any) -> np.ndarray:
    return np.abs(ops.convert_to_numpy(gamma)).astype(np.float64)


def _mean_gamma(channels: ChannelMap) -> np.ndarray:
    """`(coupled_count,)`, NaN for channels that pass no batch normalisation."""
    sums, counts = np.zeros((2, channels.coupled_count))
    for operation in {id(call.operation): call.operation for call in channels.graph.calls}.values():
        weight = channels.weights.get(id(_gamma(operation)))
        if weight is not None:
            np.add.at(sums, weight.axes[0], _absolute(weight.variable))
            np.add.at(counts, weight.axes[0], 1)
    with np.errstate(invalid="ignore"):
        return sums / counts


def _gammas_right_after(channels: ChannelMap, path: str) -> np.ndarray | None:
    readers = channels.graph.readers
    found = [
        weight
        for call in channels.graph.calls
        if call.path == path
        for y in call.outputs
        for reader in readers.get(y.index, [])
        if (weight := channels.weights.get(id(_gamma(reader.operation)))) is not None
        and np.array_equal(weight.axes[0], channels.produced[path])
    ]
    if not found:
        return None
    return np.mean([_absolute(weight.variable) for weight in found], axis=0)
