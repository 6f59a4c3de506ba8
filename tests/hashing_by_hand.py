"""A convolution of merged channels, really done so: patch by patch, bucket by bucket, in NumPy.

Another way than the package's own, which replaces channels by means and convolves all of them. Each
addition and each multiply-add that a machine would do is counted where it is done.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import numpy as np

TIE = 1e-5


@dataclass
class ByHand:
    """What came of it.

    Attributes:
        outputs: `(examples, height, width, filters)`, bias added, no activation.
        buckets: `(examples, rows, columns)`, how many were occupied in each patch.
        clear: Likewise, whether no sign of a projection was so close that rounding could turn it.
        counts: Operations, by what they are for.
        patch_of: `(rows of outputs, columns of outputs, 2)`: the patch that gave the output.
    """

    outputs: np.ndarray
    buckets: np.ndarray
    clear: np.ndarray
    counts: Counter
    patch_of: np.ndarray

    def clear_outputs(self):
        """Where outputs must be met exactly, `(examples, height, width)`."""
        return self.clear[:, self.patch_of[..., 0], self.patch_of[..., 1]]


def convolution_by_hand(x, kernel, bias, vectors, strides=(1, 1), padding="same", room=1e-5):
    """A HASTE convolution.

    Args:
        x: `(examples, height, width, channels)`.
        kernel: `(height, width, channels, filters)`.
        bias: `(filters,)` or None.
        vectors: Random vectors, `(pixels of a patch, planes)`.
        strides: Steps.
        padding: As for Keras.
        room: A projection so close to where its sign changes is not clear, relative to the largest
            entry of the patch times the square root of the number of its entries.
    """
    x, kernel = np.float64(x), np.float64(kernel)
    size = kernel.shape[:2]
    patch = tuple(k + 2 for k in size)
    blocks = tuple(len(range(0, 3, stride)) for stride in strides)
    before, counts = zip(
        *(outputs_along(n, k, s, padding) for n, k, s in zip(x.shape[1:3], size, strides)),
        strict=True,
    )
    rows, columns = (-(-n // block) for n, block in zip(counts, blocks, strict=True))
    wide = np.zeros((len(x), *(before[d] + x.shape[1 + d] + sum(patch) * 4 for d in (0, 1)), x.shape[3]))
    wide[:, before[0] : before[0] + x.shape[1], before[1] : before[1] + x.shape[2]] = x

    y = np.zeros((len(x), *counts, kernel.shape[-1]))
    found, clear = np.zeros((len(x), rows, columns), int), np.zeros((len(x), rows, columns), bool)
    patch_of = np.zeros((*counts, 2), int)
    done = Counter()
    for n in range(len(x)):
        for i in range(rows):
            for j in range(columns):
                top, left = i * blocks[0] * strides[0], j * blocks[1] * strides[1]
                piece = wide[n, top : top + patch[0], left : left + patch[1]]
                codes, clear[n, i, j] = codes_of(piece, vectors, room, done)
                merged, filters = merge(piece, kernel, codes, done)
                found[n, i, j] = merged.shape[-1]
                for a in range(i * blocks[0], min((i + 1) * blocks[0], counts[0])):
                    for b in range(j * blocks[1], min((j + 1) * blocks[1], counts[1])):
                        at = a * strides[0] - top, b * strides[1] - left
                        window = merged[at[0] : at[0] + size[0], at[1] : at[1] + size[1]]
                        y[n, a, b] = np.tensordot(window, filters, 3)
                        done["convolving"] += filters.size
                        patch_of[a, b] = i, j
    return ByHand(y if bias is None else y + bias, found, clear, done, patch_of)


def outputs_along(length, size, stride, padding):
    """`(zeros in front, number of outputs)`."""
    if padding == "valid":
        return 0, (length - size) // stride + 1
    outputs = -(-length // stride)
    return max((outputs - 1) * stride + size - length, 0) // 2, outputs


def codes_of(piece, vectors, room, done):
    """The code of each channel, as bytes, and whether all signs are clear."""
    columns = piece.reshape(-1, piece.shape[-1])
    centred = columns - columns.mean(axis=1, keepdims=True)
    done["centring"] += centred.size
    projections = vectors.T @ centred
    done["hashing"] += int((vectors != 0).sum()) * piece.shape[-1]
    largest = np.abs(columns).max()
    signs = projections > TIE * largest
    distance = np.abs(projections - TIE * largest)
    # Of channels that are all alike, or of vectors of zeros only, rounding leaves nothing.
    exact = (np.abs(projections) == 0).all() or largest == 0
    clear = exact or distance.min() > room * largest * np.sqrt(len(columns)) / 10
    return [bits.tobytes() for bits in signs.T], clear


def merge(piece, kernel, codes, done):
    """Means of channels, and sums of their filters, by bucket."""
    inputs, filters = [], []
    for code in dict.fromkeys(codes):
        members = [c for c, own in enumerate(codes) if own == code]
        inputs.append(piece[..., members].mean(axis=-1))
        filters.append(kernel[:, :, members].sum(axis=2))
        done["merging_inputs"] += (len(members) - 1) * inputs[-1].size
        done["merging_filters"] += (len(members) - 1) * filters[-1].size
    return np.stack(inputs, axis=-1), np.stack(filters, axis=2)
