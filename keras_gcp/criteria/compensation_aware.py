"""How much of what its readers compute a channel explains, beyond the channels before it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from keras import ops

from keras_gcp.channels.map import ChannelMap
from keras_gcp.criteria.greedy import greedy_order
from keras_gcp.criteria.read_rows import (
    blocks_of,
    independent_variances,
    joined_rows,
    products_read,
)
from keras_gcp.criteria.readers import Reader, require_readers, summed_over_readers
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
    criterion belongs with `compensation="least_squares"`.

    Xie et al., "Pruning with Compensation", 2021 (arXiv 2108.13728): `gain_j = |W Sigma_{:,j|S}
    M^-T|^2` with `M M^T = Sigma_{jj|S}`, where S are the channels chosen so far. Where a kernel has
    more inputs than there are rows of the sample, with the ridge of `compensation="least_squares"`.

    The groups of a grouped convolution lose a position all at once: it is worth what it explains of
    the outputs of all of them, each by itself. Recurrent layers, attention and einsums score their
    channels by variance times squared kernel, as if channels were independent.

    Args:
        examples: At most so many examples are used, and some thousand patches of them.
    """

    examples: int = 256

    name: ClassVar[str] = "compensation_aware"
    needs_sample: ClassVar[bool] = True
    normalize: ClassVar[str] = "mean"

    def check(self, model: Any, channels: ChannelMap, sample: DrawnSample | None) -> None:
        """Raises if nothing with weights reads a layer's channels."""
        require_readers(self.name, channels)

    def __call__(
        self, model: Any, channels: ChannelMap, sample: DrawnSample | None
    ) -> dict[str, np.ndarray]:
        assert sample is not None
        return summed_over_readers(model, channels, sample, self.examples, _gains)


def _gains(reader: Reader, x: np.ndarray, block: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """`(coupled, gains)`: a number for each set of coupled channels that is read; at most 1 in all.

    Args:
        reader: The reader.
        x: What it reads.
        block: The coupled channels of that.
    """
    kernel = ops.convert_to_numpy(reader.weight.variable).astype(np.float64)
    products = products_read(reader, x)
    if products is None:
        gains = independent_variances(kernel, reader, x, block)
        return reader.coupled, gains / max(gains.sum(), 1e-30)
    rows, places = joined_rows(reader, products, x)
    matrix = np.concatenate([product.matrix(kernel) for product in products])
    own, blocks = blocks_of(reader, products)
    ridge = _ridge(places, len(products[0].positions))
    picked, gains = greedy_order(rows, matrix, blocks, ridge)
    gains /= max(gains.sum(), 1e-30)
    scores = np.zeros(len(own))
    # A later pick may gain more than an earlier one; it must not rank before it for that.
    scores[picked] = np.maximum.accumulate(gains[::-1])[::-1]
    return own, scores


def _ridge(rows: int, entries: int) -> float:
    """With fewer rows than entries a channel or two would explain all there is, and the others be
    ranked by roundings; then what counts is what compensation, with its ridge, can make up for."""
    return _JITTER if rows >= entries else RIDGE
