"""How many multiply-adds a network has on average, if its channels are open by chance."""

from __future__ import annotations

from typing import Any

import numpy as np
from keras import ops

from keras_gcp.channels.grouping import owners_of
from keras_gcp.channels.map import ChannelMap
from keras_gcp.costs.counting import (
    build_cost_model,
    full_widths,
    prunable_groups,
    require_known_positions,
)


class ExpectedMacs:
    """The share of a network's multiply-adds at its expected widths; differentiable.

    Widths of different groups are independent, so for products of them that is the expectation;
    where a group's width is squared, it is too low by the variance of that width.

    Args:
        channels: The channel map.
        coupled: `(gated channels,)`, the coupled channel that each chance is of.

    Raises:
        UnsupportedModel: sizes of the network's inputs are open, so nothing can be counted.
    """

    def __init__(self, channels: ChannelMap, coupled: np.ndarray) -> None:
        require_known_positions(channels)
        groups, model = prunable_groups(channels), build_cost_model(channels)
        owners = owners_of(channels.coupled_count, [group.coupled for group in groups])[coupled]
        full = full_widths(channels)
        self._members = (owners[None] == np.arange(len(groups))[:, None]).astype("float32")
        self._always = (full - self._members.sum(axis=1)).astype("float32")
        slopes = np.zeros((len(model.fixed), len(groups)), "float32")
        np.add.at(slopes, (model.slopes.axes, model.slopes.groups), model.slopes.values)
        self._slopes, self._fixed = slopes, model.fixed.astype("float32")
        self._axes = model.products["macs"].axes
        # Shares of the whole, so that float32 holds them.
        self._factors = (model.products["macs"].factors / model.cost("macs", full)).astype(
            "float32"
        )

    def share(self, chances: Any) -> Any:
        """Of the multiply-adds, for the chances of the gated channels."""
        widths = ops.matmul(self._members, chances[:, None])[:, 0] + self._always
        sizes = ops.matmul(self._slopes, widths[:, None])[:, 0] + self._fixed
        sizes = ops.concatenate([sizes, ops.ones((1,))])
        factors = ops.reshape(ops.take(sizes, self._axes.ravel()), self._axes.shape)
        return ops.sum(self._factors * ops.prod(factors, axis=1))
