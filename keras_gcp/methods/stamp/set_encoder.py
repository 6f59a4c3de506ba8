"""A vector for a set of examples, whatever their order and number: the Set Transformer.

Lee et al., "Set Transformer: A Framework for Attention-based Permutation-Invariant Neural
Networks", ICML 2019 (arXiv 1810.00825), section 3.1 and 3.2.
"""

from __future__ import annotations

import math
from typing import Any

from keras import layers, ops


class AttentionBlock(layers.Layer):
    """The multihead attention block, MAB(queries, keys).

    `O = Q + softmax(Q K^T / sqrt(d)) V`, in each of the heads, with Q of the queries, K and V of
    the keys by dense layers, d the width of all heads together as in the authors' program; then
    `O + relu(W O)`. Each sum is followed by a layer normalization.

    Args:
        width: Of what comes out.
        heads: Into how many parts the width is divided.
    """

    def __init__(self, width: int, heads: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.width, self.heads = width, heads
        dtype = self.dtype_policy
        projections = (layers.Dense(width, dtype=dtype) for _ in range(4))
        self.query, self.key, self.value, self.mix = projections
        self.norms = [layers.LayerNormalization(dtype=dtype) for _ in range(2)]

    def build(self, queries_shape: Any, keys_shape: Any) -> None:
        self.query.build(queries_shape)
        self.key.build(keys_shape)
        self.value.build(keys_shape)
        self.mix.build((None, self.width))
        for norm in self.norms:
            norm.build((None, self.width))

    def call(self, queries: Any, keys: Any) -> Any:
        """`(queries, width)` of `(queries, n)` and `(keys, m)`."""
        q, k, v = self.query(queries), self.key(keys), self.value(keys)
        weights = ops.einsum("qhd,khd->hqk", self._by_head(q), self._by_head(k))
        weights = ops.softmax(weights / math.sqrt(self.width), axis=-1)
        attended = ops.einsum("hqk,khd->qhd", weights, self._by_head(v))
        y = self.norms[0](q + ops.reshape(attended, (-1, self.width)))
        return self.norms[1](y + ops.relu(self.mix(y)))

    def _by_head(self, x: Any) -> Any:
        return ops.reshape(x, (-1, self.heads, self.width // self.heads))


class SetEncoder(layers.Layer):
    """A set of examples as one vector: SAB, MAB(X, X), then PMA, MAB(seed, X), with one seed.

    The same examples in another order, or all of them twice, give the same vector.

    Args:
        width: Of the vector.
        heads: Of both attention blocks.
    """

    def __init__(self, width: int, heads: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.width = width
        blocks = (AttentionBlock(width, heads, dtype=self.dtype_policy) for _ in range(2))
        self.among, self.pooling = blocks

    def build(self, shape: Any) -> None:
        self.seed = self.add_weight((1, self.width), initializer="glorot_uniform", name="seed")
        self.among.build(shape, shape)
        self.pooling.build((1, self.width), (None, self.width))

    def call(self, x: Any) -> Any:
        """`(1, width)` of `(examples, features)`."""
        return self.pooling(ops.convert_to_tensor(self.seed), self.among(x, x))
