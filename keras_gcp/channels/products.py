"""What a layer with a kernel computes, written as products: rows of its input times a matrix."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from keras import layers, ops

from keras_gcp.channels.patches import PatchGeometry, convolution_geometry, transposed_geometry
from keras_gcp.channels.registry import entry_for

Gather = Callable[[np.ndarray, Sequence[np.ndarray], np.ndarray | None], np.ndarray]
"""`(x, places, kept)` to rows, as `Product.rows`."""


@dataclass(frozen=True, eq=False)
class Product:
    """`rows @ matrix`: some channels of a layer's output, before bias and activation.

    An entry of a row, and the line of the matrix that it is multiplied with, belong to a tap of the
    kernel and to a position along the axis that the kernel sums over: taps first, so that all
    positions of one tap lie side by side.

    Attributes:
        variable: The kernel.
        axis: Its axis that is summed over.
        outputs: The channels of the output that come of it.
        counts: The output's `*space`.
        gather: Makes rows.
    """

    variable: Any
    axis: int
    outputs: slice
    counts: tuple[int, ...]
    gather: Gather

    @property
    def positions(self) -> np.ndarray:
        """`(entries,)`, the position along the kernel's axis that each entry belongs to."""
        *taps, _ = (size for at, size in enumerate(self.variable.shape) if at != self.axis)
        return np.tile(np.arange(self.variable.shape[self.axis]), math.prod(taps))

    def rows(
        self, x: np.ndarray, places: Sequence[np.ndarray], kept: np.ndarray | None = None
    ) -> np.ndarray:
        """What the matrix is multiplied with, `(places, entries)`.

        Args:
            x: The layer's input `(examples, *space, channels)`.
            places: Indices into the outputs `(examples, *counts)`, one array per axis.
            kept: `(positions,)` booleans: only entries of these positions; None for all.
        """
        return self.gather(x, places, kept)

    def matrix(self, kernel: np.ndarray) -> np.ndarray:
        """The matrix `(entries, filters)` in a value of the kernel."""
        own = self._arranged(kernel)[..., self.outputs]
        return own.reshape(-1, own.shape[-1])

    def write(self, matrix: np.ndarray, kernel: np.ndarray) -> None:
        """Puts a matrix `(entries, filters)` where `matrix` finds it in a value of the kernel."""
        own = self._arranged(kernel)[..., self.outputs]  # A view.
        own[...] = matrix.reshape(own.shape)

    def _arranged(self, kernel: np.ndarray) -> np.ndarray:
        """`(*taps, positions, filters)`; transposed convolutions have filters first."""
        return np.moveaxis(kernel, self.axis, -2)


def products_of(layer: Any, space: Sequence[int]) -> tuple[Product, ...] | None:
    """The products that make up a layer's output; None if it is not known to consist of any.

    They share the kernel, its axis and `counts`, and each makes other channels of the output.

    Args:
        layer: A built layer.
        space: Height and width of its inputs; all axes between the examples and the channels.
    """
    entry = entry_for(layer, _PRODUCTS)
    return None if entry is None else entry(layer, space)


def _of_dense(layer: Any, space: Sequence[int]) -> tuple[Product, ...]:
    def gather(x: np.ndarray, places: Sequence[np.ndarray], kept: np.ndarray | None) -> np.ndarray:
        rows = x[tuple(places)]
        return rows if kept is None else rows[:, kept]

    return (Product(layer.kernel, 0, slice(None), tuple(space), gather),)


def _of_convolution(layer: Any, space: Sequence[int]) -> tuple[Product, ...] | None:
    """One product for each group. With one channel per group nothing is summed over."""
    rank, width = len(layer.kernel_size), layer.kernel.shape[-2]
    if layer.groups > 1 and width == 1:
        return None
    geometry = convolution_geometry(layer, space)
    filters = layer.filters // layer.groups
    return tuple(
        Product(
            layer.kernel,
            rank,
            slice(group * filters, (group + 1) * filters),
            geometry.counts,
            _patches(geometry, slice(group * width, (group + 1) * width)),
        )
        for group in range(layer.groups)
    )


def _of_transposed(layer: Any, space: Sequence[int]) -> tuple[Product, ...]:
    geometry = transposed_geometry(layer, space)
    axis, gather = len(layer.kernel_size) + 1, _patches(geometry, slice(None))
    return (Product(layer.kernel, axis, slice(None), geometry.counts, gather),)


def _patches(geometry: PatchGeometry, channels: slice) -> Gather:
    def gather(x: np.ndarray, places: Sequence[np.ndarray], kept: np.ndarray | None) -> np.ndarray:
        own = x[..., channels]
        return geometry.rows(own if kept is None else own[..., kept], places)

    return gather


def _of_separable(layer: Any, space: Sequence[int]) -> tuple[Product, ...]:
    """The pointwise kernel; its rows are what the depthwise one makes of the patches."""
    geometry = convolution_geometry(layer, space)
    multiplier = layer.depth_multiplier

    def gather(x: np.ndarray, places: Sequence[np.ndarray], kept: np.ndarray | None) -> np.ndarray:
        kernel = ops.convert_to_numpy(layer.depthwise_kernel).astype(x.dtype)
        kernel = kernel.reshape(-1, *kernel.shape[-2:])  # (taps, channels, multiplier)
        if kept is not None:  # What one channel is multiplied into is kept or removed as a whole.
            alive = kept.reshape(-1, multiplier).any(axis=1)
            x, kernel, kept = x[..., alive], kernel[:, alive], kept[np.repeat(alive, multiplier)]
        patches = geometry.rows(x, places).reshape(-1, *kernel.shape[:2])
        rows = np.einsum("ptc,tcm->pcm", patches, kernel).reshape(len(patches), -1)
        return rows if kept is None else rows[:, kept]

    axis = len(layer.kernel_size)
    return (Product(layer.pointwise_kernel, axis, slice(None), geometry.counts, gather),)


_PRODUCTS: Mapping[type | str, Callable[[Any, Sequence[int]], tuple[Product, ...] | None]] = {
    **dict.fromkeys((layers.Conv1D, layers.Conv2D, layers.Conv3D), _of_convolution),
    **dict.fromkeys(
        (layers.Conv1DTranspose, layers.Conv2DTranspose, layers.Conv3DTranspose), _of_transposed
    ),
    **dict.fromkeys((layers.SeparableConv1D, layers.SeparableConv2D), _of_separable),
    layers.Dense: _of_dense,
}
