"""What a kernel is multiplied with: patches of a convolution's input, rows of a dense layer's."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from keras import layers

from keras_gcp.channels.registry import entry_for


@dataclass(frozen=True)
class PatchGeometry:
    """How patches lie on an input `(examples, *space, channels)`.

    Attributes:
        sizes: Patch size, by dimension of space; empty for a dense layer.
        strides: Steps from patch to patch.
        dilations: Steps inside a patch.
        before: Zeros that padding puts in front.
        counts: Number of patches.
    """

    sizes: tuple[int, ...]
    strides: tuple[int, ...]
    dilations: tuple[int, ...]
    before: tuple[int, ...]
    counts: tuple[int, ...]

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
            steps = np.arange(self.sizes[d]) * self.dilations[d] - self.before[d]
            at = places[1 + d][:, None] * self.strides[d] + steps
            shape = [count, *(1 for _ in self.sizes)]
            shape[1 + d] = self.sizes[d]
            inside = inside & ((at >= 0) & (at < x.shape[1 + d])).reshape(shape)
            index.append(at.clip(0, x.shape[1 + d] - 1).reshape(shape))
        patches = x[tuple(index)] * inside[..., None]
        return patches.reshape(count, -1)


def geometry_of(layer: Any, space: Sequence[int]) -> PatchGeometry | None:
    """The geometry of a layer on inputs of some height and width; None if it has no patches."""
    entry = entry_for(layer, _GEOMETRIES)
    return None if entry is None else entry(layer, space)


def _of_convolution(layer: Any, space: Sequence[int]) -> PatchGeometry | None:
    if layer.groups != 1:
        return None
    sizes, strides = tuple(layer.kernel_size), tuple(layer.strides)
    dilations = tuple(layer.dilation_rate)
    found = [
        _padding(layer.padding, *numbers)
        for numbers in zip(space, sizes, strides, dilations, strict=True)
    ]
    before, counts = (tuple(numbers) for numbers in zip(*found, strict=True))
    return PatchGeometry(sizes, strides, dilations, before, counts)


def _padding(padding: str, length: int, size: int, stride: int, dilation: int) -> tuple[int, int]:
    """Zeros in front, and number of patches."""
    reach = (size - 1) * dilation
    if padding == "valid":
        return 0, (length - reach - 1) // stride + 1
    patches = -(-length // stride)
    if padding == "causal":
        return reach, patches
    return max(0, (patches - 1) * stride + reach + 1 - length) // 2, patches


def _of_dense(layer: Any, space: Sequence[int]) -> PatchGeometry | None:
    return PatchGeometry((), (), (), (), ())


_GEOMETRIES: Mapping[type | str, Callable[[Any, Sequence[int]], PatchGeometry | None]] = {
    layers.Conv1D: _of_convolution,
    layers.Conv2D: _of_convolution,
    layers.Conv3D: _of_convolution,
    layers.Dense: _of_dense,
}


LEAST_ROWS = 4096
ROWS_PER_ENTRY = 4


def some_places(shape: tuple[int, ...], entries: int) -> tuple[np.ndarray, ...]:
    """Enough places of a tensor to fit that many numbers; all of them if there are few.

    Args:
        shape: `(examples, *space)`.
        entries: Numbers in a patch.

    Returns:
        One array of indices per axis. The same ones every time.
    """
    total, most = math.prod(shape), max(LEAST_ROWS, ROWS_PER_ENTRY * entries)
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
