"""The size of each channel's filter: the sum of its absolute weights, or its Euclidean length."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from keras_gcp.channels.map import ChannelMap
from keras_gcp.criteria.base import prunable_layers
from keras_gcp.criteria.weights import channel_norms, operations_by_path
from keras_gcp.sample import DrawnSample


@dataclass(frozen=True)
class L1Norm:
    """L1 norm of the kernel entries that compute a channel.

    Li et al., "Pruning Filters for Efficient ConvNets", ICLR 2017.
    """

    name: ClassVar[str] = "l1_norm"
    needs_sample: ClassVar[bool] = False
    normalize: ClassVar[str] = "rank"

    def __call__(
        self, model: Any, channels: ChannelMap, sample: DrawnSample | None = None
    ) -> dict[str, np.ndarray]:
        return _norms(channels, lambda rows: np.abs(rows).sum(axis=1))


@dataclass(frozen=True)
class L2Norm:
    """L2 norm of the kernel entries that compute a channel.

    He et al., "Soft Filter Pruning for Accelerating Deep Convolutional Neural Networks",
    IJCAI 2018.
    """

    name: ClassVar[str] = "l2_norm"
    needs_sample: ClassVar[bool] = False
    normalize: ClassVar[str] = "rank"

    def __call__(
        self, model: Any, channels: ChannelMap, sample: DrawnSample | None = None
    ) -> dict[str, np.ndarray]:
        return _norms(channels, lambda rows: np.linalg.norm(rows, axis=1))


def _norms(channels: ChannelMap, norm: Callable[[np.ndarray], np.ndarray]) -> dict[str, np.ndarray]:
    operations = operations_by_path(channels)
    return {
        path: channel_norms(channels, path, operations[path], norm)
        for path in prunable_layers(channels)
    }
