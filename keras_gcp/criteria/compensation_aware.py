"""How much of what its readers compute a channel explains, beyond the channels before it."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

import keras
import numpy as np
from keras import ops

from keras_gcp import backend
from keras_gcp.calls import as_floats, input_tensors, last_uses, run_alone
from keras_gcp.channels.map import ChannelMap, Weight
from keras_gcp.criteria.base import prunable_layers
from keras_gcp.errors import InvalidArgument, UnsupportedModel
from keras_gcp.graph import Call
from keras_gcp.sample import Sample
from keras_gcp.windows import channels_last, geometry_of, some_places

_JITTER = 1e-6

_TIE = 1e-5
"""Share of the whole variance within which candidates count as equal: which of two equal channels
comes first must not depend on roundings, since the other one is worth nothing then."""


@dataclass(frozen=True)
class CompensationAware:
    """Greedy order of a kernel's input channels, by what least squares can make up for.

    Of the channels that a convolution or dense layer reads, the next best is the one that most
    reduces the variance of the layer's outputs that the channels chosen so far cannot express. Its
    score is that reduction, as a share of the whole variance, added over all layers that read the
    channel. A channel that others can stand in for scores low, however large it is; so this
    criterion belongs with `compensate="least_squares"`.

    Xie et al., "Compensating Pruned Channels", 2021 (arXiv 2108.13728): `gain_j = |W Sigma_{:,j|S}
    M^-T|^2` with `M M^T = Sigma_{jj|S}`, where S are the channels chosen so far.

    Layers whose windows are not known (grouped, separable and transposed convolutions) score their
    channels by variance times squared kernel, as if channels were independent.

    Args:
        examples: At most so many examples are used, and some thousand windows of them.
    """

    examples: int = 256

    name: ClassVar[str] = "compensation_aware"
    needs_sample: ClassVar[bool] = True

    def check(self, model: Any, channels: ChannelMap, sample: Sample | None) -> None:
        """Raises without a sample, or if nothing with weights reads a layer's channels."""
        if sample is None:
            raise InvalidArgument(
                "Criterion 'compensation_aware' needs examples. Expected sample=(x, y)."
            )
        read = np.zeros(channels.class_count, bool)
        for _, weight, axis in _readers(channels):
            read[weight.axes[axis]] = True
        for path in prunable_layers(channels):
            classes = channels.produced[path]
            if not read[classes[channels.prunable[classes]]].all():
                raise UnsupportedModel(
                    f"Criterion 'compensation_aware' scores channels by the layers that read them, "
                    f"and some channels of layer '{path}' are read by no layer with weights. Take "
                    "another criterion, e.g. criterion='l2_norm'."
                )

    def __call__(
        self, model: Any, channels: ChannelMap, sample: Sample | None
    ) -> dict[str, np.ndarray]:
        self.check(model, channels, sample)
        assert sample is not None
        gains = np.zeros(channels.class_count)
        for weight, axis, call, x in self._inputs_of_readers(model, channels, sample):
            np.add.at(gains, weight.axes[axis], _gains(call.operation, weight, axis, x))
        return {path: gains[channels.produced[path]] for path in prunable_layers(channels)}

    def _inputs_of_readers(
        self, model: Any, channels: ChannelMap, sample: Sample
    ) -> Iterator[tuple[Weight, int, Call, np.ndarray]]:
        """Runs the model call by call; gives every reading weight what its layer reads."""
        readers: dict[int, list[tuple[Weight, int]]] = {}
        for call, weight, axis in _readers(channels):
            readers.setdefault(id(call), []).append((weight, axis))
        graph, last = channels.graph, last_uses(channels.graph)
        inputs = input_tensors(model, graph, sample.x, min(self.examples, len(sample)))
        values = {x.index: value for x, value in zip(graph.inputs, inputs, strict=True)}
        weights = list(zip(model.weights, backend.local_weights(model), strict=True))
        for at, call in enumerate(graph.calls):
            for weight, axis in readers.get(id(call), []):
                yield weight, axis, call, as_floats(values[call.inputs[0].index])
            with keras.StatelessScope(state_mapping=weights), backend.without_gradients():
                outputs = run_alone(model, call, values)
            values.update({y.index: v for y, v in zip(call.outputs, outputs, strict=True)})
            for x in call.inputs:
                if last.get(x.index) == at:
                    values.pop(x.index, None)


def _readers(channels: ChannelMap) -> Iterator[tuple[Call, Weight, int]]:
    """Calls with a weight that sums over channels, and the axis of these."""
    for call in channels.graph.calls:
        for variable in getattr(call.operation, "weights", ()):
            weight = channels.weights.get(id(variable))
            if weight is None:
                continue
            for axis in weight.consumed:
                if channels.prunable[weight.axes[axis]].any():
                    yield call, weight, axis


def _gains(layer: Any, weight: Weight, axis: int, x: np.ndarray) -> np.ndarray:
    """One number per channel along the weight's axis; together at most 1."""
    x = channels_last(layer, x)
    kernel = ops.convert_to_numpy(weight.variable).astype(np.float64)
    width = kernel.shape[axis]
    geometry = geometry_of(layer, x.shape[1:-1])
    if geometry is None:
        return _independent(kernel, axis, x, width)
    if not geometry.sizes:
        x = x.reshape(-1, x.shape[-1])
    taps = math.prod(geometry.sizes)
    places = some_places((len(x), *geometry.counts), taps * width)
    rows = geometry.rows(x, places).astype(np.float64)
    rows -= rows.mean(axis=0)
    # By channel: its entries of a window stand together.
    order = np.arange(taps * width).reshape(taps, width).T.ravel()
    flat = kernel.reshape(taps * width, -1)[order]
    covariance = (rows.T @ rows / len(rows))[np.ix_(order, order)]
    picked, gains = greedy_order(covariance, flat, taps)
    scores = np.zeros(width)
    # A later pick may gain more than an earlier one; it must not rank before it for that.
    scores[picked] = np.maximum.accumulate(gains[::-1])[::-1]
    return scores


def _independent(kernel: np.ndarray, axis: int, x: np.ndarray, width: int) -> np.ndarray:
    squares = np.square(np.moveaxis(kernel, axis, 0).reshape(width, -1)).sum(axis=1)
    variance = np.resize(x.reshape(-1, x.shape[-1]).var(axis=0), width)
    gains = squares * variance
    return gains / max(gains.sum(), 1e-30)


def greedy_order(
    covariance: np.ndarray, kernel: np.ndarray, taps: int
) -> tuple[np.ndarray, np.ndarray]:
    """Channels, best first, and how much of the outputs' variance each explains besides.

    Args:
        covariance: `(channels * taps, channels * taps)` of what the kernel is multiplied with, a
            channel's entries side by side.
        kernel: `(channels * taps, filters)`.
        taps: Entries per channel.

    Returns:
        `(picked, gains)`, both `(channels,)` in the order of picking; gains as shares of the whole
        variance.
    """
    channels, filters = len(covariance) // taps, kernel.shape[1]
    jitter = _JITTER * np.trace(covariance) / len(covariance) + 1e-30
    left = covariance + jitter * np.eye(len(covariance))
    missing = left @ kernel  # covariance of every entry with what is not expressed yet
    total = float(np.einsum("io,io->", kernel, missing))
    picked: list[int] = []
    gains: list[float] = []
    free = np.ones(channels, bool)
    blocks = np.arange(channels * taps).reshape(channels, taps)
    every = np.arange(channels)
    while free.any():
        own = left.reshape(channels, taps, channels, taps)[every, :, every]
        own = np.where(free[:, None, None], own, np.eye(taps))
        parts = missing.reshape(channels, taps, filters)
        values = np.einsum("cto,cto->c", parts, np.linalg.solve(own, parts))
        values = np.where(free, values, -np.inf)
        best = int(np.argmax(values >= values.max() - _TIE * total))  # The first of equal ones.
        picked.append(best)
        gains.append(max(float(values[best]), 0.0) / max(total, 1e-30))
        free[best] = False
        column, here = left[:, blocks[best]], missing[blocks[best]]
        missing = missing - column @ np.linalg.solve(own[best], here)
        left = left - column @ np.linalg.solve(own[best], column.T)
    return np.array(picked), np.array(gains)
