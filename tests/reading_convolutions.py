"""A convolution of eight channels, and after it a grouped, separable or transposed one."""

from __future__ import annotations

import keras
import numpy as np
from helpers import randomise
from keras import layers

IMAGE, SERIES, VOLUME = (6, 7, 3), (12, 3), (4, 3, 4, 3)
READERS = {
    "grouped": (IMAGE, lambda: layers.Conv2D(6, 3, padding="same", groups=2)),
    "grouped in time": (SERIES, lambda: layers.Conv1D(4, 3, groups=2, use_bias=False)),
    "separable": (IMAGE, lambda: layers.SeparableConv2D(5, 3, padding="same")),
    "multiplied": (
        IMAGE,
        lambda: layers.SeparableConv2D(5, 3, strides=2, depth_multiplier=2, activation="tanh"),
    ),
    "separable in time": (SERIES, lambda: layers.SeparableConv1D(5, 3, dilation_rate=2)),
    "transposed": (IMAGE, lambda: layers.Conv2DTranspose(5, 3, strides=2, padding="same")),
    "transposed in time": (SERIES, lambda: layers.Conv1DTranspose(5, 4, strides=3)),
    "transposed volumes": (VOLUME, lambda: layers.Conv3DTranspose(3, 2, strides=2)),
}


def network(kind, copies=()):
    """A convolution of eight correlated channels, of three, and a layer that reads them.

    Args:
        kind: Which reader.
        copies: Pairs: the second channel computes what the first one does, and is read so.
    """
    shape, make = READERS[kind]
    convolution = {2: layers.Conv1D, 3: layers.Conv2D, 4: layers.Conv3D}[len(shape)]
    inputs = keras.Input(shape)
    before = convolution(8, 1, activation="relu", name="before")
    reader = make()
    model = randomise(keras.Model(inputs, reader(before(inputs))))
    kernel, bias = (np.array(keras.ops.convert_to_numpy(w)) for w in before.weights)
    for first, second in copies:
        kernel[..., second], bias[second] = kernel[..., first], bias[first]
    before.set_weights([kernel, bias])
    if hasattr(reader, "depthwise_kernel"):  # Else it makes two different channels of equal ones.
        filters = np.array(keras.ops.convert_to_numpy(reader.depthwise_kernel))
        for first, second in copies:
            filters[..., second, :] = filters[..., first, :]
        reader.depthwise_kernel.assign(filters)
    return model


def examples(kind, count=64, seed=0):
    """As in images, neighbours are alike: else channels behind different filters would not be."""
    shape, _ = READERS[kind]
    rng = np.random.default_rng(seed)
    whole = rng.normal(size=(count, *(1 for _ in shape[:-1]), shape[-1]))
    return (whole + 0.4 * rng.normal(size=(count, *shape))).astype("float32")
