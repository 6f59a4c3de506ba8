"""Costs as functions of axis sizes: a file's bytes, peak memory, latency. Sees numbers only."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from keras_gcp.costs.cost_model import Products


@dataclass(frozen=True, eq=False)
class Sum:
    """A constant and a sum of products of axis sizes.

    Attributes:
        constant: What does not depend on any width.
        products: What does.
    """

    constant: float
    products: Products

    def total(self, sizes: np.ndarray) -> float:
        """The sum."""
        return int(self.constant) + self.products.total(sizes)


@dataclass(frozen=True, eq=False)
class Peak:
    """The largest sum of the tensors that are in memory at the same time.

    Attributes:
        tensors: The size of every tensor, as a product of axis sizes.
        steps: `(pairs,)`: step i ...
        live: `(pairs,)`: ... needs this tensor in memory.
        count: Number of steps.
        names: Their layers; may be left out.
    """

    tensors: Products
    steps: np.ndarray
    live: np.ndarray
    count: int
    names: tuple[str, ...] = ()

    def total(self, sizes: np.ndarray) -> float:
        """The sum of the step at which it is largest."""
        return int(self.by_step(sizes).max(initial=0))

    def bottleneck(self, sizes: np.ndarray) -> str | None:
        """The layer of the step at which it is largest."""
        return self.names[int(self.by_step(sizes).argmax())] if self.names else None

    def by_step(self, sizes: np.ndarray) -> np.ndarray:
        """The sum at every step."""
        each = self.tensors.factors * sizes[self.tensors.axes].prod(axis=1)
        return np.bincount(self.steps, each[self.live], minlength=self.count)


@dataclass(frozen=True, eq=False)
class Curve:
    """Times of one layer at several sizes of what enters it, or of what leaves it.

    Between measured sizes it is linear, beyond them constant. A larger size never takes less time:
    every point is at least as high as those before it. Narrow layers that ran slower than wide ones
    (widths off the processor's vector size) so count as slow as they are, and wide ones at least as
    much; the bound is conservative.

    Attributes:
        sizes: `(points,)`, ascending.
        shares: `(points,)`, time as a share of that at the largest size.
    """

    sizes: np.ndarray
    shares: np.ndarray

    @staticmethod
    def through(sizes: Sequence[float], milliseconds: Sequence[float]) -> Curve:
        """The curve of measured times, the full width last."""
        rising = np.maximum.accumulate(np.asarray(milliseconds, np.float64))
        return Curve(np.asarray(sizes, np.float64), rising / rising[-1])

    def share(self, size: float) -> float:
        """The time at a size, as a share of that at full width."""
        return float(np.interp(size, self.sizes, self.shares))


@dataclass(frozen=True, eq=False)
class Side:
    """What enters a layer, or what leaves it: the sum of the axes on which its channels lie.

    Attributes:
        axes: Indices of the axes.
        curve: How the layer's time depends on the sum of their sizes.
    """

    axes: tuple[int, ...]
    curve: Curve


@dataclass(frozen=True)
class LayerTime:
    """Latency of one layer.

    It is taken for a product: full time, times a share by what enters, times a share by what
    leaves. So a layer is measured along two lines of widths, not over a whole plane of them.

    Attributes:
        milliseconds: At full width.
        sides: One or two.
    """

    milliseconds: float
    sides: tuple[Side, ...]


class Latency:
    """Latency of a network: what calling it takes, and a sum over its layers, scaled.

    Args:
        overhead: Milliseconds that do not depend on any width.
        scale: What the sum over layers measured alone is multiplied by.
        layers: The layers.
    """

    def __init__(self, overhead: float, scale: float, layers: Sequence[LayerTime]) -> None:
        self._overhead, self._scale = overhead, scale
        self._milliseconds = np.array([layer.milliseconds for layer in layers])
        sides = [(i, side) for i, layer in enumerate(layers) for side in layer.sides]
        self._owners = np.array([i for i, _ in sides], np.int64)
        most = max((len(side.axes) for _, side in sides), default=0)
        padded = [[*side.axes, *[-1] * (most - len(side.axes))] for _, side in sides]
        self._axes = np.array(padded, np.int64).reshape(len(sides), most)
        self._padding = np.array([most - len(side.axes) for _, side in sides], np.int64)
        largest = max((int(side.curve.sizes[-1]) for _, side in sides), default=0)
        # One number for every size: selection asks thousands of times.
        self._shares = np.array(
            [
                np.interp(np.arange(largest + 1), side.curve.sizes, side.curve.shares)
                for _, side in sides
            ]
        ).reshape(len(sides), largest + 1)

    def total(self, sizes: np.ndarray) -> float:
        """Milliseconds, to the nanosecond."""
        return round(self._overhead + self._scale * float(self.by_layer(sizes).sum()), 6)

    def by_layer(self, sizes: np.ndarray) -> np.ndarray:
        """Milliseconds of every layer, as if measured alone."""
        summed = np.rint(sizes[self._axes].sum(axis=1)).astype(np.int64) - self._padding
        entering = np.clip(summed, 0, self._shares.shape[1] - 1)
        shares = np.ones(len(self._milliseconds))
        rows = np.arange(len(entering))
        np.multiply.at(shares, self._owners, self._shares[rows, entering])
        return self._milliseconds * shares
