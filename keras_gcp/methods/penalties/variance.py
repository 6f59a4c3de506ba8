"""A penalty on variances of contributions, so that few channels carry most of each layer."""

from __future__ import annotations

import math
from typing import Any

import keras
import numpy as np
from keras import layers, ops

from keras_gcp import keras_state
from keras_gcp.backend.calls import all_values
from keras_gcp.channels.map import ChannelMap
from keras_gcp.channels.patches import channels_last_tensor
from keras_gcp.criteria.read_rows import numbered
from keras_gcp.criteria.readers import Reader, readers_of
from keras_gcp.methods.penalties.penalty import Penalty
from keras_gcp.validation import require_integer

_LEAST_SHARE = 1e-8
"""Below it the root is as good as linear: its slope stays finite for channels that are gone."""

_MOST_ENTRIES = 64
"""Blocks of so many entries are summed up by their covariance, larger ones by what they add."""


class VarianceRegularizer(Penalty):
    """Adds to the loss of a `fit` a penalty that lets `"input_variance"` rank more clearly.

    For every convolution and dense layer that reads channels which may be pruned it adds
    `strength * sum_j sqrt(share_j)`, with the shares that the criterion `"input_variance"` ranks
    by: the variance of what channel j contributes to the layer's outputs, over the examples and
    positions of the training batch, as a share of all channels that the layer reads. Shares sum to
    one, so the sum of their roots is largest when all are equal, and falls as few channels take
    over; the size of a layer's outputs does not matter.

    A few hundred training steps with it, then `keras_gcp.prune(model, budget, "input_variance",
    sample=x, compensation="fold")`.

    PruneNet-style, after Khetan and Karnin, 2020 (arXiv 2005.11282); the form of the penalty is
    ours (docs/methods/prunenet.md). Layers of other kinds (recurrent, attention, grouped or
    three-dimensional convolutions) get no penalty.

    Args:
        strength: Factor of the penalty. Choose it so that the loss of the task rises by a percent.
        examples: The penalty is that of the first so many examples of a batch. They run through the
            network a second time, in inference mode.

    Attributes:
        penalized: Paths of the layers that get a penalty; known when training begins.

    Raises:
        InvalidArgument: an argument is out of its range, or another callback of the same `fit`
            changes the loss, too.
        UnsupportedModel: the model has no layer that can be penalised.

    Example:

    ```python
    model.fit(x, y, epochs=3, callbacks=[keras_gcp.methods.VarianceRegularizer(1e-3)])
    ```
    """

    penalizes = "convolution or dense layer that reads channels which may be pruned"

    def __init__(self, strength: float = 1e-3, *, examples: int = 32) -> None:
        super().__init__(strength)
        self.examples = require_integer("examples", examples, least=2)

    def look(self, channels: ChannelMap) -> list[str]:
        """Finds the layers."""
        return list(dict.fromkeys(reader.call.path for reader in _penalized(channels)))

    def penalty(self, channels: ChannelMap, x: Any) -> Any:
        """That of the batch's first examples."""
        if keras_state.fixed_batch(channels.model) is None:
            x = keras.tree.map_structure(lambda leaf: leaf[: self.examples], x)
        return variance_penalty(channels, x)


def variance_penalty(channels: ChannelMap, x: Any) -> Any:
    """The sum over layers of the roots of the channels' shares of variance; differentiable.

    Args:
        channels: The model's channel map.
        x: Inputs of the model, as tensors.
    """
    inputs = keras_state.ordered_inputs(channels.model, x)
    values = all_values(channels.graph, inputs)
    total = 0.0
    for reader in _penalized(channels):
        total += ops.sum(ops.sqrt(shares_of(reader, values[reader.source.index]) + _LEAST_SHARE))
    return total


def shares_of(reader: Reader, x: Any) -> Any:
    """Shares of the variance that sets of coupled channels contribute to a reader, as a tensor."""
    rows, kernel = _entries(reader, ops.cast(x, "float32"))
    places, alive = _places(reader.coupled)
    mask = ops.convert_to_tensor(alive[..., None], dtype="float32")
    blocks, size = places.shape
    taps = rows.shape[-1]
    rows = rows - ops.mean(rows, axis=0, keepdims=True)
    rows = ops.take(rows, places.reshape(-1), axis=1)
    rows = ops.reshape(rows, (-1, blocks, size, taps)) * mask
    rows = ops.reshape(rows, (-1, blocks, size * taps))
    kernel = ops.take(kernel, places.reshape(-1), axis=0)
    kernel = ops.reshape(kernel, (blocks, size * taps, -1))
    count = ops.cast(ops.shape(rows)[0], "float32")
    if size * taps <= _MOST_ENTRIES:
        covariance = ops.einsum("pbs,pbt->bst", rows, rows) / count
        variances = ops.sum(ops.matmul(covariance, kernel) * kernel, axis=(1, 2))
    else:
        variances = ops.sum(ops.square(ops.einsum("pbs,bsn->pbn", rows, kernel)), axis=(0, 2))
        variances = variances / count
    return variances / ops.maximum(ops.sum(variances), 1e-30)


def _penalized(channels: ChannelMap) -> list[Reader]:
    return [reader for reader in readers_of(channels) if _is_penalized(reader)]


def _is_penalized(reader: Reader) -> bool:
    layer = reader.call.operation
    if isinstance(layer, layers.Dense):
        return reader.weight.variable is layer.kernel
    known = isinstance(layer, layers.Conv1D | layers.Conv2D) and not isinstance(
        layer, layers.DepthwiseConv1D | layers.DepthwiseConv2D
    )
    # Patches come of a depthwise convolution, which TensorFlow has for equal strides only.
    return known and layer.groups == 1 and len(set(layer.strides)) == 1


def _places(coupled: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """`(places, alive)`, both `(blocks, most)`: where each set of coupled channels stands."""
    _, blocks = numbered(coupled)
    counts = np.bincount(blocks)
    places = np.zeros((len(counts), counts.max()), np.int32)
    alive = np.arange(counts.max()) < counts[:, None]
    places[alive] = np.argsort(blocks, kind="stable")
    return places, alive


def _entries(reader: Reader, x: Any) -> tuple[Any, Any]:
    """`(rows, kernel)`: `(places, channels, taps)` and `(channels, taps, filters)`."""
    layer = reader.call.operation
    kernel = ops.cast(ops.convert_to_tensor(layer.kernel), "float32")
    if isinstance(layer, layers.Dense):
        width = kernel.shape[0]
        return ops.reshape(x, (-1, width, 1)), ops.reshape(kernel, (width, 1, -1))
    *sizes, width, filters = kernel.shape
    taps = math.prod(sizes)
    x, padding = channels_last_tensor(layer, x), layer.padding
    if padding == "causal":
        reach = (sizes[0] - 1) * layer.dilation_rate[0]
        x, padding = ops.pad(x, ((0, 0), (reach, 0), (0, 0))), "valid"
    picking = np.tile(np.eye(taps, dtype="float32").reshape(*sizes, 1, taps), (width, 1))
    rows = ops.depthwise_conv(
        x,
        ops.convert_to_tensor(picking),
        strides=layer.strides[0],
        padding=padding,
        data_format="channels_last",
        dilation_rate=layer.dilation_rate,
    )
    kernel = ops.transpose(ops.reshape(kernel, (taps, width, filters)), (1, 0, 2))
    return ops.reshape(rows, (-1, width, taps)), kernel
