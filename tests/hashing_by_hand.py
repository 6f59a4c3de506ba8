"""A convolution of merged channels, really done so: patch by patch, bucket by bucket, in NumPy.

Another way than the package's own, which replaces channels by means and convolves all of them. Each
addition and each multiply-add that a machine would do is counted where it is done.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import numpy as np

TIE = 1e-5
"""A projection is positive from this share of the patch's largest entry on."""

ROOM = 5e-6
"""So far from there, rounding in 32 bits cannot turn its sign."""


@dataclass
class ByHand:
    """What came of it.

    Attributes:
        outputs: `(examples, height, width, filters)`, bias added, no activation.
        buckets: `(examples, rows, columns)`, how many were occupied in each patch.
        clear: Likewise, whether rounding cannot change the code of a channel.
        clear_outputs: `(examples, height, width)`, whether the output is of such a patch.
        counts: Operations, by what they are for.
    """

    outputs: np.ndarray
    buckets: np.ndarray
    clear: np.ndarray
    clear_outputs: np.ndarray
    counts: Counter


def convolution_by_hand(x, kernel, bias, vectors, strides=(1, 1), padding="same"):
    """A HASTE convolution.

    Args:
        x: `(examples, height, width, channels)`.
        kernel: `(height, width, channels, filters)`.
        bias: `(filters,)` or None.
        vectors: Random vectors, `(pixels of a patch, planes)`.
        strides: Vertical and horizontal step.
        padding: As for Keras.
    """
    x, kernel = np.float64(x), np.float64(kernel)
    top, height = outputs_along(x.shape[1], kernel.shape[0], strides[0], padding)
    left, width = outputs_along(x.shape[2], kernel.shape[1], strides[1], padding)
    padded = np.pad(x, ((0, 0), (top, 4 * len(x[0])), (left, 4 * len(x[0, 0])), (0, 0)))
    # A patch is two pixels wider than the kernel, so the kernel fits in at steps 0, 1 and 2.
    blocks = [range(0, 3, stride) for stride in strides]
    rows, columns = -(-height // len(blocks[0])), -(-width // len(blocks[1]))

    outputs = np.zeros((len(x), height, width, kernel.shape[-1]))
    buckets, clear = (np.zeros((len(x), rows, columns), kind) for kind in (int, bool))
    clear_outputs, counts = np.zeros(outputs.shape[:-1], bool), Counter()
    for n, i, j in np.ndindex(len(x), rows, columns):
        first = i * len(blocks[0]), j * len(blocks[1])
        y0, x0 = first[0] * strides[0], first[1] * strides[1]
        patch = padded[n, y0 : y0 + kernel.shape[0] + 2, x0 : x0 + kernel.shape[1] + 2]
        codes, clear[n, i, j] = codes_of(patch, vectors, counts)
        merged, filters = merge(patch, kernel, codes, counts)
        buckets[n, i, j] = merged.shape[-1]
        for a, dy in enumerate(blocks[0], first[0]):
            for b, dx in enumerate(blocks[1], first[1]):
                if a >= height or b >= width:
                    continue
                window = merged[dy : dy + kernel.shape[0], dx : dx + kernel.shape[1]]
                outputs[n, a, b] = np.tensordot(window, filters, 3)
                counts["convolving"] += filters.size
                clear_outputs[n, a, b] = clear[n, i, j]
    outputs = outputs if bias is None else outputs + bias
    return ByHand(outputs, buckets, clear, clear_outputs, counts)


def outputs_along(length, size, stride, padding):
    """`(zeros in front, number of outputs)`."""
    if padding == "valid":
        return 0, (length - size) // stride + 1
    outputs = -(-length // stride)
    return max((outputs - 1) * stride + size - length, 0) // 2, outputs


def codes_of(patch, vectors, counts):
    """The code of each channel, and whether all signs are clear."""
    pixels = patch.reshape(-1, patch.shape[-1])
    centred = pixels - pixels.mean(axis=1, keepdims=True)
    counts["centring"] += centred.size
    projections = vectors.T @ centred
    counts["hashing"] += np.count_nonzero(vectors) * patch.shape[-1]
    largest = np.abs(pixels).max()
    distances = np.abs(projections - TIE * largest)
    clear = largest == 0 or distances.min() > ROOM * largest
    return [bits.tobytes() for bits in (projections > TIE * largest).T], clear


def merge(patch, kernel, codes, counts):
    """Means of channels, and sums of their filters, by bucket."""
    inputs, filters = [], []
    for code in dict.fromkeys(codes):
        members = [channel for channel, own in enumerate(codes) if own == code]
        inputs.append(patch[..., members].mean(axis=-1))
        filters.append(kernel[:, :, members].sum(axis=2))
        counts["merging_inputs"] += (len(members) - 1) * inputs[-1].size
        counts["merging_filters"] += (len(members) - 1) * filters[-1].size
    return np.stack(inputs, axis=-1), np.stack(filters, axis=2)
