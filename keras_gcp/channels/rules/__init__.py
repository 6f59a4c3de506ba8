"""The rules, one file per layer family; importing this package registers them all."""

from keras_gcp.channels.rules import (
    attention,
    convolution,
    dense,
    einsum,
    elementwise,
    hub,
    merging,
    movement,
    normalization,
    pooling,
    recurrent,
    reduction,
    reshaping,
    slicing,
    spatial,
    wrappers,
)

__all__ = [
    "attention",
    "convolution",
    "dense",
    "einsum",
    "elementwise",
    "hub",
    "merging",
    "movement",
    "normalization",
    "pooling",
    "recurrent",
    "reduction",
    "reshaping",
    "slicing",
    "spatial",
    "wrappers",
]
