"""How much of what its readers compute a channel explains, beyond the channels before it."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from keras import ops

from keras_gcp import backend
from keras_gcp.backend.calls import as_floats, batches_in, input_tensors, last_uses, run_alone
from keras_gcp.channels.map import ChannelMap, Weight
from keras_gcp.channels.patches import channels_last, geometry_of, some_places
from keras_gcp.criteria.base import prunable_layers
from keras_gcp.criteria.greedy import greedy_order
from keras_gcp.errors import InvalidArgument, UnsupportedModel
from keras_gcp.graph import Call, Tensor
from keras_gcp.sample import DrawnSample

_JITTER = 1e-6
"""Variance that every input has for itself, in units of their mean: equal ones have an inverse."""

RIDGE = 0.03
"""The same where a kernel has more inputs than there are rows: that of the compensation."""


@dataclass(frozen=True)
class CompensationAware:
    """Greedy order of a kernel's input channels, by what least squares can make up for.

    Of the channels that a convolution or dense layer reads, the next best is the one that most
    reduces the variance of the layer's outputs that the channels chosen so far cannot express. Its
    score is that reduction, as a share of the whole variance, added over all layers that read the
    channel. All that leaves with a channel is chosen at once: its entries of a patch, its places
    after `Flatten`. A channel that others can stand in for scores low, however large it is; so this
    criterion belongs with `compensate="least_squares"`.

    Xie et al., "Compensating Pruned Channels", 2021 (arXiv 2108.13728): `gain_j = |W Sigma_{:,j|S}
    M^-T|^2` with `M M^T = Sigma_{jj|S}`, where S are the channels chosen so far. Where a kernel has
    more inputs than there are rows of the sample, with the ridge of `compensate="least_squares"`.

    Layers whose patches are not known (grouped, separable and transposed convolutions) score their
    channels by variance times squared kernel, as if channels were independent.

    Args:
        examples: At most so many examples are used, and some thousand patches of them.
    """

    examples: int = 256

    name: ClassVar[str] = "compensation_aware"
    needs_sample: ClassVar[bool] = True
    normalize: ClassVar[str] = "mean"

    def check(self, model: Any, channels: ChannelMap, sample: DrawnSample | None) -> None:
        """Raises without a sample, or if nothing with weights reads a layer's channels."""
        if sample is None:
            raise InvalidArgument(
                "Criterion 'compensation_aware' needs examples. Expected sample=(x, y)."
            )
        read = np.zeros(channels.coupled_count, bool)
        for _, weight, axis, _ in _readers(channels):
            read[weight.axes[axis]] = True
        for path in prunable_layers(channels):
            coupled = channels.produced[path]
            if not read[coupled[channels.prunable[coupled]]].all():
                raise UnsupportedModel(
                    f"Criterion 'compensation_aware' scores channels by the layers that read them, "
                    f"and some channels of layer '{path}' are read by no layer with weights. Take "
                    "another criterion, e.g. criterion='l2_norm'."
                )

    def __call__(
        self, model: Any, channels: ChannelMap, sample: DrawnSample | None
    ) -> dict[str, np.ndarray]:
        assert sample is not None
        gains = np.zeros(channels.coupled_count)
        for call, weight, axis, source, x in self._inputs_of_readers(model, channels, sample):
            block = channels.tensors[source.index]
            coupled, own = _gains(call.operation, weight, axis, x, block)
            np.add.at(gains, coupled, own)
        return {path: gains[channels.produced[path]] for path in prunable_layers(channels)}

    def _inputs_of_readers(
        self, model: Any, channels: ChannelMap, sample: DrawnSample
    ) -> Iterator[tuple[Call, Weight, int, Tensor, np.ndarray]]:
        """Runs the model call by call; gives every reading weight what it reads."""
        readers: dict[int, list[tuple[Weight, int, Tensor]]] = {}
        for call, weight, axis, source in _readers(channels):
            readers.setdefault(id(call), []).append((weight, axis, source))
        graph, last = channels.graph, last_uses(channels.graph)
        inputs = input_tensors(model, graph, sample.x, min(self.examples, len(sample)))
        batches = batches_in(model, inputs)
        values = {x.index: value for x, value in zip(graph.inputs, inputs, strict=True)}
        weights = list(zip(model.weights, backend.local_weights(model), strict=True))
        for at, call in enumerate(graph.calls):
            with backend.without_gradients():
                outputs = run_alone(model, call, values, weights, batches)
            values.update({y.index: v for y, v in zip(call.outputs, outputs, strict=True)})
            for weight, axis, source in readers.get(id(call), []):
                yield call, weight, axis, source, as_floats(values[source.index])
            for x in call.inputs:
                if last.get(x.index) == at:
                    values.pop(x.index, None)


def _readers(channels: ChannelMap) -> Iterator[tuple[Call, Weight, int, Tensor]]:
    """Calls with a weight that sums over channels, the axis of these, and where they come from."""
    for call in channels.graph.calls:
        for variable in getattr(call.operation, "weights", ()):
            weight = channels.weights.get(id(variable))
            if weight is None:
                continue
            for axis in weight.consumed:
                if channels.prunable[weight.axes[axis]].any():
                    yield call, weight, axis, _source(call, weight.axes[axis], channels)


def _source(call: Call, coupled: np.ndarray, channels: ChannelMap) -> Tensor:
    """The input with these channels; the output where a recurrent layer reads its own units."""
    for x in (*call.inputs, *call.outputs):
        if np.isin(coupled, channels.tensors[x.index]).all():
            return x
    return call.inputs[0]


def _gains(
    layer: Any, weight: Weight, axis: int, x: np.ndarray, block: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """`(coupled, gains)`: a number for each set of coupled channels that is read; at most 1 in all.

    Args:
        layer: The layer.
        weight: A weight of it that reads channels.
        axis: Along this axis.
        x: What it reads.
        block: The coupled channels of that.
    """
    kernel = ops.convert_to_numpy(weight.variable).astype(np.float64)
    coupled = weight.axes[axis]
    space = channels_last(layer, x).shape[1:-1]
    geometry = geometry_of(layer, space)
    if geometry is None:
        return coupled, _independent(kernel, axis, coupled, x, block)
    x = channels_last(layer, x)
    if not geometry.sizes:
        x = x.reshape(-1, x.shape[-1])
    taps = math.prod(geometry.sizes)
    places = some_places((len(x), *geometry.counts), taps * len(coupled))
    rows = geometry.rows(x, places).astype(np.float64)
    rows -= rows.mean(axis=0)
    own, blocks = _blocks(np.tile(coupled, taps))
    picked, gains = greedy_order(rows, kernel.reshape(len(blocks), -1), blocks, _ridge(*rows.shape))
    scores = np.zeros(len(own))
    # A later pick may gain more than an earlier one; it must not rank before it for that.
    scores[picked] = np.maximum.accumulate(gains[::-1])[::-1]
    return own, scores


def _ridge(rows: int, entries: int) -> float:
    """With fewer rows than entries a channel or two would explain all there is, and the others be
    ranked by roundings; then what counts is what compensation, with its ridge, can make up for."""
    return _JITTER if rows >= entries else RIDGE


def _blocks(coupled: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The different ones in the order they first come in, and for each entry which it is.

    All that leaves with a channel is one block: its entries of a patch, its places after Flatten,
    its copies.
    """
    found, first, inverse = np.unique(coupled, return_index=True, return_inverse=True)
    order = np.argsort(first)
    return found[order], np.argsort(order)[inverse]


def _independent(
    kernel: np.ndarray, axis: int, coupled: np.ndarray, x: np.ndarray, block: np.ndarray
) -> np.ndarray:
    """Variance times squared kernel, for each position along the kernel's axis."""
    squares = np.square(np.moveaxis(kernel, axis, 0).reshape(len(coupled), -1)).sum(axis=1)
    varying = [a for a, size in enumerate(block.shape) if size > 1] or [block.ndim - 1]
    lines = np.moveaxis(x, varying[0] + 1, 0).reshape(x.shape[varying[0] + 1], -1)
    line = np.moveaxis(block, varying[0], 0).reshape(block.shape[varying[0]], -1)[:, 0]
    found = dict(zip(line.tolist(), lines.var(axis=1).tolist(), strict=False))
    gains = squares * np.array([found.get(one, 0.0) for one in coupled.tolist()])
    return gains / max(gains.sum(), 1e-30)
