"""What a network costs, as a function of how many channels each group keeps.

Everything is a sum of products: the multiply-adds of a convolution are positions times window
times channels in times filters, and a weight's size is the product of its axes. Each axis is a
fixed number plus a linear function of the groups' kept channels. Sees numbers only.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

COINS = ("macs", "parameters", "channels")
"""What a budget can be counted in."""


@dataclass(frozen=True)
class LayerCount:
    """Costs of one layer.

    Attributes:
        macs: Multiply-adds of its convolutions and dense products, per example.
        parameters: Entries of all its weights.
        weights: Entries of its convolution and dense kernels.
    """

    macs: int
    parameters: int
    weights: int


@dataclass(frozen=True)
class Count:
    """Costs of a model, per example.

    Attributes:
        macs: Multiply-adds of convolutions and dense layers (one MAC is two FLOPs). Biases,
            normalization, activations and pooling are not counted, as in the papers.
        parameters: Entries of all weights, `model.count_params()`.
        weights: Entries of convolution and dense kernels only, the papers' parameter count.
        channels: Output channels of all layers that produce channels and may be pruned.
        layers: The same per layer, by path; channels excepted.
    """

    macs: int
    parameters: int
    weights: int
    channels: int
    layers: Mapping[str, LayerCount]


@dataclass(frozen=True, eq=False)
class Products:
    """A sum of products of axis sizes.

    Attributes:
        factors: `(terms,)`, the fixed factor of every product.
        axes: `(terms, most axes)`, indices into the sizes; the index one past the last axis
            stands for the size 1.
    """

    factors: np.ndarray
    axes: np.ndarray

    @staticmethod
    def of(terms: Sequence[tuple[int, Sequence[int]]], axis_count: int) -> Products:
        """Builds it from pairs (fixed factor, axes)."""
        most = max((len(axes) for _, axes in terms), default=0)
        padded = [list(axes) + [axis_count] * (most - len(axes)) for _, axes in terms]
        return Products(
            np.array([factor for factor, _ in terms], np.float64),
            np.array(padded, np.int64).reshape(len(terms), most),
        )

    def total(self, sizes: np.ndarray) -> int:
        """The sum for given axis sizes (1 appended); exact below 2**53."""
        return int((self.factors * sizes[self.axes].prod(axis=1)).sum())


@dataclass(frozen=True, eq=False)
class Ledger:
    """The costs of a network for any number of kept channels per group.

    Attributes:
        fixed: `(axes,)`, positions of each axis that belong to no prunable group.
        slopes: `(axes, groups)`, positions of each axis per kept channel of each group.
        products: Sums of products by coin: `macs` and `parameters`.
        constants: What each coin counts besides (weights without labels).
        filters: `(groups,)`, output channels of producing layers per kept channel of each group.
    """

    fixed: np.ndarray
    slopes: np.ndarray
    products: Mapping[str, Products]
    constants: Mapping[str, int]
    filters: np.ndarray

    def cost(self, coin: str, kept: np.ndarray) -> int:
        """The cost in a coin when group g keeps `kept[g]` channels."""
        if coin == "channels":
            return int(self.filters @ kept)
        sizes = np.append(self.fixed + self.slopes @ kept, 1).astype(np.float64)
        return self.constants[coin] + self.products[coin].total(sizes)
