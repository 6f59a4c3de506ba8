"""Patches of an input: what a convolution, or a transposed one, gathers for each of its outputs."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from keras import ops


@dataclass(frozen=True)
class PatchGeometry:
    """How patches lie on an input `(examples, *space, channels)`.

    Attributes:
        sizes: Patch size, by dimension of space.
        strides: Steps from patch to patch.
        dilations: Steps inside a patch.
        before: Zeros that padding puts in front.
        counts: Number of patches.
        transposed: Whether this is the way back, from the outputs of such a convolution to its
            inputs: then a patch holds, tap by tap, what was put into its place with that tap.
    """

    sizes: tuple[int, ...]
    strides: tuple[int, ...]
    dilations: tuple[int, ...]
    before: tuple[int, ...]
    counts: tuple[int, ...]
    transposed: bool = False

    def rows(self, x: np.ndarray, places: Sequence[np.ndarray]) -> np.ndarray:
        """The patches at some places, `(places, patch entries * channels)`.

        Args:
            x: `(examples, *space, channels)`.
            places: Indices into the outputs `(examples, *space)`, one array per axis.
        """
        rank = len(self.sizes)
        count = len(places[0])
        inside = np.ones((count, *(1 for _ in self.sizes)), bool)
        index: list[np.ndarray] = [places[0].reshape(count, *(1 for _ in self.sizes))]
        for d in range(rank):
            at, exists = self._met(d, places[1 + d], x.shape[1 + d])
            shape = [count, *(1 for _ in self.sizes)]
            shape[1 + d] = self.sizes[d]
            inside = inside & exists.reshape(shape)
            index.append(at.clip(0, x.shape[1 + d] - 1).reshape(shape))
        patches = x[tuple(index)] * inside[..., None]
        return patches.reshape(count, -1)

    def _met(self, d: int, places: np.ndarray, length: int) -> tuple[np.ndarray, np.ndarray]:
        """`(places, taps)` along one dimension: which input a tap meets, and whether there is one.

        A convolution's output at p reads `p * stride + tap * dilation - before`. On the way back
        the input at q comes to all p of which it was read: those with `p + before - tap * dilation
        = q * stride`. Other taps of p meet nothing.
        """
        steps = np.arange(self.sizes[d]) * self.dilations[d] - self.before[d]
        if self.transposed:
            at, between = np.divmod(places[:, None] - steps, self.strides[d])
        else:
            at = places[:, None] * self.strides[d] + steps
            between = np.zeros_like(at)
        return at, (between == 0) & (at >= 0) & (at < length)


def convolution_geometry(layer: Any, space: Sequence[int]) -> PatchGeometry:
    """That of a plain, grouped or separable convolution, on inputs of some height and width."""
    sizes, strides = tuple(layer.kernel_size), tuple(layer.strides)
    dilations = tuple(layer.dilation_rate)
    found = [
        _padding(layer.padding, *numbers)
        for numbers in zip(space, sizes, strides, dilations, strict=True)
    ]
    before, counts = (tuple(numbers) for numbers in zip(*found, strict=True))
    return PatchGeometry(sizes, strides, dilations, before, counts)


def transposed_geometry(layer: Any, space: Sequence[int]) -> PatchGeometry:
    """That of a transposed convolution: the convolution from its outputs to its inputs, reversed.

    So zeros are put in front of its outputs as if they were the inputs of that convolution.
    """
    counts = _spatial_outputs(layer, space)
    sizes, strides = tuple(layer.kernel_size), tuple(layer.strides)
    dilations = tuple(layer.dilation_rate)
    numbers = zip(counts, sizes, strides, dilations, strict=True)
    before = tuple(_padding(layer.padding, *one)[0] for one in numbers)
    return PatchGeometry(sizes, strides, dilations, before, counts, transposed=True)


def _spatial_outputs(layer: Any, space: Sequence[int]) -> tuple[int, ...]:
    """Height and width of the outputs; only Keras knows what it makes of `output_padding`."""
    axis = channel_axis(layer, len(space) + 2)
    shape = [None, *space]
    shape.insert(axis, layer.kernel.shape[-1])
    outputs = layer.compute_output_shape(tuple(shape))
    return tuple(size for at, size in enumerate(outputs) if at not in (0, axis))


def _padding(padding: str, length: int, size: int, stride: int, dilation: int) -> tuple[int, int]:
    """Zeros in front, and number of patches."""
    reach = (size - 1) * dilation
    if padding == "valid":
        return 0, (length - reach - 1) // stride + 1
    patches = -(-length // stride)
    if padding == "causal":
        return reach, patches
    return max(0, (patches - 1) * stride + reach + 1 - length) // 2, patches


LEAST_ROWS = 4096
ROWS_PER_ENTRY = 4
"""Enough to rank channels by."""

_THOROUGH = 4
"""So many times as many rows where numbers are fitted that the network goes on with."""

_MOST_NUMBERS = 2**27
"""In rows to rank channels by: some 1 GB where they have double precision."""

_MOST_NUMBERS_THOROUGH = 2**26
"""In more rows than that: some 256 MB."""


def some_places(
    shape: tuple[int, ...], entries: int, thorough: bool = False
) -> tuple[np.ndarray, ...]:
    """Enough places of a tensor to fit that many numbers; all of them if there are few.

    Args:
        shape: `(examples, *space)`.
        entries: Numbers in a patch.
        thorough: Whether more of them are wanted, as far as memory allows.

    Returns:
        One array of indices per axis. The same ones every time.
    """
    total, entries = math.prod(shape), max(entries, 1)
    most = max(LEAST_ROWS, min(ROWS_PER_ENTRY * entries, _MOST_NUMBERS // entries))
    if thorough:
        most = max(most, min(_THOROUGH * most, _MOST_NUMBERS_THOROUGH // entries))
    if total <= most:
        return np.unravel_index(np.arange(total), shape)
    chosen = np.random.default_rng(0).choice(total, most, replace=False)
    return np.unravel_index(np.sort(chosen), shape)


def channel_axis(layer: Any, rank: int) -> int:
    """Where a layer's channels lie in its inputs and outputs, batch axis counted."""
    return 1 if rank > 2 and getattr(layer, "data_format", None) == "channels_first" else rank - 1


def channels_last(layer: Any, x: np.ndarray) -> np.ndarray:
    """An input or output of a layer with the channels moved to the end."""
    return np.moveaxis(x, channel_axis(layer, x.ndim), -1)


def channels_last_tensor(layer: Any, x: Any) -> Any:
    """`channels_last` of a tensor."""
    return ops.moveaxis(x, channel_axis(layer, len(x.shape)), -1)
