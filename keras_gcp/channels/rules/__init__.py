"""The rules, one file per layer family; importing this package registers them all."""

from keras_gcp.channels.rules import (
    convolution,
    dense,
    elementwise,
    hub,
    merging,
    movement,
    normalization,
    pooling,
    reduction,
    reshaping,
    slicing,
    spatial,
    wrappers,
)

__all__ = [
    "convolution",
    "dense",
    "elementwise",
    "hub",
    "merging",
    "movement",
    "normalization",
    "pooling",
    "reduction",
    "reshaping",
    "slicing",
    "spatial",
    "wrappers",
]
