"""How wide a gated network is on average and what that costs, as tensors that gradients go through.

A group that keeps some of its channels whatever its gates say is never taken for narrower: closing
more of them would save nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_gcp.channels.grouping import owners_of
from keras_gcp.channels.map import ChannelMap
from keras_gcp.costs.cost_model import CostModel
from keras_gcp.costs.counting import build_cost_model, full_widths, prunable_groups
from keras_gcp.gates.floors import least_open
from keras_gcp.gates.gate import Gate, gated_channels


@dataclass(frozen=True, eq=False)
class ExpectedWidths:
    """The widths that groups have on average.

    Attributes:
        groups: Gate, by `id`, to `(units, groups)`: the group of each of its channels, one-hot.
        full: `(groups,)`, all channels.
        least: `(groups,)`, channels that stay whatever gates say.
    """

    groups: Mapping[int, np.ndarray]
    full: np.ndarray
    least: np.ndarray

    @classmethod
    def of(cls, channels: ChannelMap) -> ExpectedWidths:
        """For a gated model."""
        every = prunable_groups(channels)
        owners = owners_of(channels.coupled_count, [group.coupled for group in every])
        found: dict[int, np.ndarray] = {}
        for call in channels.graph.calls:
            gate = call.operation
            if isinstance(gate, Gate) and not gate.whole and id(gate) not in found:
                owned = owners[gated_channels(channels, call)]
                found[id(gate)] = (owned[:, None] == np.arange(len(every))).astype(np.float32)
        least = np.array([least_open(group) for group in every], np.int64)
        return cls(found, full_widths(channels), least)

    def __call__(self, gates: Sequence[Gate], shares: Sequence[Any]) -> Any:
        """The width of each group, `(groups,)`.

        Args:
            gates: The gates.
            shares: For each of them how often its channels are open, `(units,)`.
        """
        widths = ops.convert_to_tensor((self.full - self.gated).astype(np.float32))
        for gate, share in zip(gates, shares, strict=True):
            owned = ops.convert_to_tensor(self.groups[id(gate)])
            widths = widths + ops.sum(share[:, None] * owned, axis=0)
        return ops.maximum(widths, ops.convert_to_tensor(self.least.astype(np.float32)))

    def open(self, gates: Sequence[Gate], shares: Sequence[Any]) -> Any:
        """The share of the gated channels that is open."""
        closed = ops.sum(ops.convert_to_tensor(self.full.astype(np.float32)) - self(gates, shares))
        return 1 - closed / float(self.gated.sum())

    @property
    def least_open(self) -> float:
        """The smallest value that `open` can take."""
        gated = self.gated
        return float(np.maximum(self.least - (self.full - gated), 0).sum() / gated.sum())

    @property
    def gated(self) -> np.ndarray:
        """Channels that have a gate, `(groups,)`."""
        return np.round(sum(owned.sum(axis=0) for owned in self.groups.values())).astype(np.int64)


@dataclass(frozen=True, eq=False)
class ExpectedMacs:
    """Multiply-adds of the widths that groups have on average, as a share of all.

    They are a sum of products of widths, so they are those of the network that is left if every
    gate decides alike for all inputs.

    Attributes:
        widths: The widths.
        cost_model: Multiply-adds as a function of them.
    """

    widths: ExpectedWidths
    cost_model: CostModel

    @classmethod
    def of(cls, channels: ChannelMap) -> ExpectedMacs:
        """For a gated model."""
        return cls(ExpectedWidths.of(channels), build_cost_model(channels))

    def share(self, gates: Sequence[Gate], shares: Sequence[Any]) -> Any:
        """The share of the multiply-adds that is left.

        Args:
            gates: The gates.
            shares: For each of them how often its channels are open, `(units,)`.
        """
        widths = self.widths(gates, shares)
        products, slopes = self.cost_model.products["macs"], self.cost_model.slopes
        fixed = self.cost_model.fixed
        of_groups = np.zeros((len(fixed), len(self.widths.full)), np.float32)
        of_groups[slopes.axes, slopes.groups] = slopes.values
        sizes = ops.matmul(ops.convert_to_tensor(of_groups), widths[:, None])[:, 0]
        sizes = sizes + ops.convert_to_tensor(fixed.astype(np.float32))
        sizes = ops.concatenate([sizes, ops.ones((1,), "float32")])
        full = self.cost_model.cost("macs", self.widths.full)
        factors = (products.factors / full).astype(np.float32)
        each = ops.prod(ops.take(sizes, products.axes, axis=0), axis=1)
        return ops.sum(ops.convert_to_tensor(factors) * each)

    @property
    def least_share(self) -> float:
        """The smallest value that `share` can take."""
        widths = self.widths
        least = np.maximum(widths.least, widths.full - widths.gated)
        return self.cost_model.cost("macs", least) / self.cost_model.cost("macs", widths.full)


def mean_open(gates: Sequence[Gate]) -> float:
    """The mean of the values of all channels' gates."""
    values = [np.ravel(keras.ops.convert_to_numpy(gate.values())) for gate in gates]
    return float(np.concatenate(values).mean())
