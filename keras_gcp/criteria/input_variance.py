"""How much a channel varies what its readers compute."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from keras import ops

from keras_gcp.channels.map import ChannelMap
from keras_gcp.criteria.read_rows import (
    blocks_of,
    independent_variances,
    joined_rows,
    products_read,
)
from keras_gcp.criteria.readers import Reader, require_readers, summed_over_readers
from keras_gcp.sample import DrawnSample


@dataclass(frozen=True)
class InputVariance:
    """Variance of what a channel contributes to its readers, as a share of the layer's.

    A layer with kernel W adds up `u_j = W_j x_j` over the channels j that it reads. A channel's
    importance is the variance of its summand over examples and positions, summed over the outputs,
    `I_j = tr(W_j Sigma_jj W_j^T)`, divided by the sum of all channels that the layer reads; of
    several readers the sum. Covariances between channels are left out, as are the next layer's
    chances to make up for a loss: `"compensation_aware"` looks at both.

    Variance says nothing of the mean: a channel that is large and constant scores 0. So this
    criterion belongs with `compensation="fold"` or `"least_squares"`, which put the mean into the
    readers' biases.

    PruneNet-style, after Khetan and Karnin, "PruneNet: Channel Pruning via Global Importance", 2020
    (arXiv 2005.11282); the formulas are ours (docs/methods/prunenet.md).

    Recurrent layers, attention and einsums score their channels by variance times squared kernel.

    Args:
        examples: At most so many examples are used, and some thousand patches of them.

    Example:

    ```python
    small = keras_gcp.prune(
        model, {"macs": 0.5}, criterion="input_variance", sample=x, compensation="fold"
    )
    ```
    """

    examples: int = 256

    name: ClassVar[str] = "input_variance"
    needs_sample: ClassVar[bool] = True
    normalize: ClassVar[str] = "none"
    ranking: ClassVar[str] = "score_per_cost"

    def check(self, model: Any, channels: ChannelMap, sample: DrawnSample | None) -> None:
        """Raises if nothing with weights reads a layer's channels."""
        require_readers(self.name, channels)

    def __call__(
        self, model: Any, channels: ChannelMap, sample: DrawnSample | None
    ) -> dict[str, np.ndarray]:
        assert sample is not None
        return summed_over_readers(model, channels, sample, self.examples, _shares)


def _shares(reader: Reader, x: np.ndarray, block: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    coupled, variances = contributed(reader, x, block)
    return coupled, variances / max(variances.sum(), 1e-30)


def contributed(reader: Reader, x: np.ndarray, block: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """`(coupled, variances)`: what each set of coupled channels contributes to a reader's outputs.

    Args:
        reader: The reader.
        x: What it reads.
        block: The coupled channels of that.
    """
    kernel = ops.convert_to_numpy(reader.weight.variable).astype(np.float64)
    products = products_read(reader, x)
    if products is None:
        return reader.coupled, independent_variances(kernel, reader, x, block)
    rows, _ = joined_rows(reader, products, x)
    matrix = np.concatenate([product.matrix(kernel) for product in products])
    own, blocks = blocks_of(reader, products)
    places = np.split(np.argsort(blocks, kind="stable"), np.cumsum(np.bincount(blocks))[:-1])
    # Rows are centred, so the mean square of a summand is its variance.
    summands = (rows[:, at] @ matrix[at] for at in places)
    return own, np.array([np.square(one).sum() / len(rows) for one in summands])
