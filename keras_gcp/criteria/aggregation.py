"""From scores of layers to one score per set of coupled channels."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from keras_gcp.channels.map import ChannelMap
from keras_gcp.criteria.normalization import normalized
from keras_gcp.errors import InvalidArgument

REDUCTIONS = ("mean", "sum", "max")


def coupled_scores(
    scores: Mapping[str, np.ndarray],
    channels: ChannelMap,
    normalize: str,
    reduce: str = "mean",
) -> np.ndarray:
    """One score per set of coupled channels, comparable over the whole network.

    Every layer's scores are normalised. A set of coupled channels is then scored by the mean over
    all its places in the layers that produce it.

    Args:
        scores: Producing layer to scores `(width,)`, larger = keep.
        channels: The channel map.
        normalize: How, see `normalized`; `normalization_of` says what a criterion asks for.
        reduce: `"mean"`, `"sum"` or `"max"` over the places.

    Returns:
        `(coupled_count,)`; +inf for those that no scored layer produces.

    Raises:
        InvalidArgument: `normalize` or `reduce` is none of its values.
    """
    if reduce not in REDUCTIONS:
        raise InvalidArgument(f"reduce={reduce!r} was given. Expected one of {REDUCTIONS}.")
    counts = np.zeros(channels.coupled_count)
    total = np.full(channels.coupled_count, -np.inf if reduce == "max" else 0.0)
    for path, layer_scores in scores.items():
        coupled = channels.produced[path]
        np.add.at(counts, coupled, 1)
        own = normalized(layer_scores, normalize)
        (np.maximum if reduce == "max" else np.add).at(total, coupled, own)
    scored = counts > 0
    if reduce == "mean":
        total[scored] /= counts[scored]
    return np.where(scored, total, np.inf)
