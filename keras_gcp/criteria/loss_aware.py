"""By how much the loss rises when a channel leaves and its readers are refitted without it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from keras import ops

from keras_gcp.channels.map import ChannelMap
from keras_gcp.channels.patches import channels_last, geometry_of, some_places
from keras_gcp.criteria.base import prunable_layers
from keras_gcp.criteria.curvature import likelihoods_of, needs_labels, second_moments
from keras_gcp.criteria.greedy import greedy_order
from keras_gcp.criteria.readers import Reader, numbered, readers_of, readers_with_inputs, require_readers
from keras_gcp.errors import InvalidArgument
from keras_gcp.graph import Call
from keras_gcp.sample import DrawnSample

RIDGE = 0.03
MODE = "quad"
GRANT = 0.0


@dataclass(frozen=True)
class LossAware:
    examples: int = 256
    draws: int = 2
    batch_size: int = 32

    name: ClassVar[str] = "loss_aware"
    needs_sample: ClassVar[bool] = True
    normalize: ClassVar[str] = "none"

    def check(self, model: Any, channels: ChannelMap, sample: DrawnSample | None) -> None:
        if sample is None:
            raise InvalidArgument("Criterion 'loss_aware' needs examples. Expected sample=x.")
        require_readers(self.name, channels)
        if needs_labels(likelihoods_of(model, channels.graph)) and sample.y is None:
            raise InvalidArgument("Criterion 'loss_aware' needs labels.")

    def __call__(
        self, model: Any, channels: ChannelMap, sample: DrawnSample | None
    ) -> dict[str, np.ndarray]:
        assert sample is not None
        tapped: list[Call] = []
        gated: list[Reader] = []
        for reader in readers_of(channels):
            if geometry_of(reader.call.operation, (1,) * 3) is None if False else not _known(reader):
                gated.append(reader)
            elif not any(one is reader.call for one in tapped):
                tapped.append(reader.call)
        moments = second_moments(
            model, channels, tapped, gated, sample, self.draws, self.batch_size
        )
        gains = np.zeros(channels.coupled_count)
        for reader in gated:
            raise NotImplementedError(reader.call.path)
        for reader, x in readers_with_inputs(model, channels, sample, self.examples):
            if id(reader.call) not in moments.outputs:
                continue
            coupled, own = _gains(reader, x, moments.outputs[id(reader.call)])
            np.add.at(gains, coupled, own)
        return {path: gains[channels.produced[path]] for path in prunable_layers(channels)}


def _known(reader: Reader) -> bool:
    layer = reader.call.operation
    rank = len(reader.source.shape) - 2
    return geometry_of(layer, (8,) * rank) is not None


def _gains(reader: Reader, x: np.ndarray, moment: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    layer = reader.call.operation
    kernel = ops.convert_to_numpy(reader.weight.variable).astype(np.float64)
    x = channels_last(layer, x)
    geometry = geometry_of(layer, x.shape[1:-1])
    if not geometry.sizes:
        x = x.reshape(-1, x.shape[-1])
    taps = math.prod(geometry.sizes)
    places = some_places((len(x), *geometry.counts), taps * len(reader.coupled))
    rows = geometry.rows(x, places).astype(np.float64)
    rows -= rows.mean(axis=0)
    sd = np.sqrt(np.square(rows).mean(axis=0))
    rows /= np.where(sd > 0, sd, 1)
    values, turn = np.linalg.eigh(moment)
    keep = values > 1e-6 * max(values[-1], 1e-30)
    root = turn[:, keep] * np.sqrt(values[keep])
    matrix = kernel.reshape(len(sd), -1)
    own, blocks = numbered(np.tile(reader.coupled, taps))
    picked, gains = greedy_order(rows, (matrix @ root) * sd[:, None], blocks, RIDGE)
    gains = gains / 2
    total = gains.sum()
    left = np.cumsum(gains[::-1])[::-1]  # what is lost if this and all later ones leave
    if MODE == "log" and total > 0:
        share = np.minimum(left / total, 1 - 1e-6)
        cost = -np.log1p(-share) * total
        gains = np.diff(np.append(cost, 0)[::-1])[::-1]
    elif MODE.startswith("pow") and total > 0:
        p = float(MODE[3:])
        share = np.minimum(left / total, 1 - 1e-6)
        cost = left / (1 - share) ** p
        gains = np.diff(np.append(cost, 0)[::-1])[::-1]
    scores = np.zeros(len(own))
    scores[picked] = falling(gains)
    return own, scores


def falling(values: np.ndarray) -> np.ndarray:
    """The nearest sequence that never rises, with the same sum over every level run."""
    levels: list[float] = []
    sizes: list[int] = []
    for value in values.tolist():
        level, size = value, 1
        while levels and levels[-1] < level:
            before, count = levels.pop(), sizes.pop()
            level, size = (level * size + before * count) / (size + count), size + count
        levels.append(level)
        sizes.append(size)
    return np.repeat(levels, sizes)
