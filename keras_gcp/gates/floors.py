"""What has to stay open: layers cannot do without any channel, and some need several."""

from __future__ import annotations

import numpy as np

from keras_gcp.channels.map import ChannelMap, Group


def least_open(group: Group) -> int:
    """How many channels of a group stay, whatever its gates say."""
    return max(group.least, 1)


def with_floors(channels: ChannelMap, keep: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Which channels stay, if those with the largest values fill up groups that have too few.

    Args:
        channels: The channel map.
        keep: `(coupled_count,)` booleans, True = open.
        values: `(coupled_count,)`, how open each is.

    Returns:
        `(coupled_count,)` booleans; channels that may not be pruned stay.
    """
    keep = keep | ~channels.prunable
    for group in channels.groups:
        missing = least_open(group) - int(keep[group.coupled].sum())
        if missing > 0:
            closed = group.coupled[~keep[group.coupled]]
            keep[closed[np.argsort(-values[closed], kind="stable")[:missing]]] = True
    return keep
