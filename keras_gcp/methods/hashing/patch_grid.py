"""Overlapping patches of an image, so large that each gives a small block of a convolution."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from keras import ops

MARGIN = 2
"""Pixels by which a patch is wider than the kernel."""


@dataclass(frozen=True)
class Side:
    """One dimension of the grid. Sizes are integers, or tensors where the model leaves them open.

    Attributes:
        length: Pixels of the image.
        patch: Pixels of a patch.
        step: Pixels from one patch to the next.
        block: Outputs of a patch.
        before: Zeros in front of the image.
        outputs: Outputs in all.
        count: Patches.
    """

    length: Any
    patch: int
    step: int
    block: int
    before: Any
    outputs: Any
    count: Any

    def pixels(self) -> tuple[Any, Any]:
        """`(indices, inside)`, each `(count * patch,)`: the pixels of all patches.

        Indices lie in the image; `inside` says which are not padding.
        """
        known = all(isinstance(size, int) for size in (self.length, self.before, self.count))
        numbers = np if known else ops
        starts = numbers.arange(self.count) * self.step - self.before
        at = numbers.reshape(starts[:, None] + np.arange(self.patch, dtype="int32")[None], (-1,))
        inside = numbers.logical_and(at >= 0, at < self.length)
        return numbers.clip(at, 0, self.length - 1), inside


@dataclass(frozen=True)
class PatchGrid:
    """The patches of images of one size.

    Attributes:
        sides: Vertical and horizontal.
    """

    sides: tuple[Side, Side]

    def patches(self, x: Any) -> Any:
        """The patches of images, `(examples * rows * columns, height, width, channels)`.

        Args:
            x: `(examples, height, width, channels)`.
        """
        for axis, side in enumerate(self.sides, start=1):
            indices, inside = side.pixels()
            x = ops.take(x, indices, axis=axis)
            if not isinstance(inside, np.ndarray) or not inside.all():
                shape = [1, 1, 1, 1]
                shape[axis] = -1
                x = ops.where(ops.reshape(inside, shape), x, ops.zeros((), x.dtype))
        rows, columns = self.sides
        channels = x.shape[-1]
        x = ops.reshape(x, (-1, rows.patch, columns.count, columns.patch * channels))
        x = ops.transpose(x, (0, 2, 1, 3))
        return ops.reshape(x, (-1, rows.patch, columns.patch, channels))

    def joined(self, blocks: Any) -> Any:
        """The blocks of outputs side by side, `(examples, height, width, filters)`.

        Args:
            blocks: `(examples * rows * columns, block, block, filters)`.
        """
        rows, columns = self.sides
        filters = blocks.shape[-1]
        y = ops.reshape(blocks, (-1, columns.count, rows.block, columns.block * filters))
        y = ops.transpose(y, (0, 2, 1, 3))
        shape = (-1, rows.count * rows.block, columns.count * columns.block, filters)
        return ops.reshape(y, shape)[:, : rows.outputs, : columns.outputs]

    def outputs_by_patch(self) -> np.ndarray:
        """How many outputs each patch gives, `(rows, columns)`; sizes have to be known."""
        rows, columns = (
            np.minimum(side.block, side.outputs - side.block * np.arange(side.count))
            for side in self.sides
        )
        return np.outer(rows, columns)


def grid_of(
    space: Sequence[Any], kernel: Sequence[int], strides: Sequence[int], padding: str
) -> PatchGrid:
    """The grid over images of a size.

    Patches are `MARGIN` pixels wider than the kernel, and overlap so that their blocks of outputs
    lie side by side: blocks of 3 x 3 without strides, 2 x 2 with strides of two.

    Args:
        space: Height and width, as integers or tensors.
        kernel: Height and width of the kernel.
        strides: Vertical and horizontal step of the convolution.
        padding: `"valid"` or `"same"`.
    """
    rows, columns = (_side(*sizes, padding) for sizes in zip(space, kernel, strides, strict=True))
    return PatchGrid((rows, columns))


def _side(length: Any, kernel: int, stride: int, padding: str) -> Side:
    block = MARGIN // stride + 1
    if padding == "valid":
        before, outputs = 0, (length - kernel) // stride + 1
    else:
        outputs = -(-length // stride)
        needed = (outputs - 1) * stride + kernel - length
        before = (max(needed, 0) if isinstance(needed, int) else ops.maximum(needed, 0)) // 2
    return Side(
        length, kernel + MARGIN, block * stride, block, before, outputs, -(-outputs // block)
    )
