"""How much of a gated network is open, as a tensor that gradients go through."""

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
from keras_gcp.gates.gate import Gate, gated_channels


@dataclass(frozen=True, eq=False)
class ExpectedMacs:
    """Multiply-adds of the widths that groups have on average, as a share of all.

    They are a sum of products of widths, so they are those of the network that is left if every
    gate decides alike for all inputs.

    Attributes:
        groups: Gate, by `id`, to `(units, groups)`: the group of each of its channels, one-hot.
        ungated: `(groups,)`, channels without a gate.
        cost_model: Multiply-adds as a function of the widths of groups.
    """

    groups: Mapping[int, np.ndarray]
    ungated: np.ndarray
    cost_model: CostModel

    @classmethod
    def of(cls, channels: ChannelMap) -> ExpectedMacs:
        """For a gated model."""
        every = prunable_groups(channels)
        owners = owners_of(channels.coupled_count, [group.coupled for group in every])
        found: dict[int, np.ndarray] = {}
        ungated = full_widths(channels).astype(np.float32)
        for call in channels.graph.calls:
            gate = call.operation
            if not isinstance(gate, Gate) or gate.whole or id(gate) in found:
                continue
            owned = owners[gated_channels(channels, call)]
            found[id(gate)] = (owned[:, None] == np.arange(len(every))).astype(np.float32)
            ungated -= found[id(gate)].sum(axis=0)
        return cls(found, ungated, build_cost_model(channels))

    def share(self, gates: Sequence[Gate], shares: Sequence[Any]) -> Any:
        """The share of the multiply-adds that is left.

        Args:
            gates: The gates.
            shares: For each of them how often its channels are open, `(units,)`.
        """
        widths = ops.convert_to_tensor(self.ungated)
        for gate, share in zip(gates, shares, strict=True):
            owned = ops.convert_to_tensor(self.groups[id(gate)])
            widths = widths + ops.sum(share[:, None] * owned, axis=0)
        products, slopes = self.cost_model.products["macs"], self.cost_model.slopes
        fixed = self.cost_model.fixed
        of_groups = np.zeros((len(fixed), len(self.ungated)), np.float32)
        of_groups[slopes.axes, slopes.groups] = slopes.values
        sizes = ops.matmul(ops.convert_to_tensor(of_groups), widths[:, None])[:, 0]
        sizes = sizes + ops.convert_to_tensor(fixed.astype(np.float32))
        sizes = ops.concatenate([sizes, ops.ones((1,))])
        full = self.cost_model.cost("macs", self._full)
        factors = (products.factors / full).astype(np.float32)
        each = ops.prod(ops.take(sizes, products.axes, axis=0), axis=1)
        return ops.sum(ops.convert_to_tensor(factors) * each)

    @property
    def _full(self) -> np.ndarray:
        gated = sum(owned.sum(axis=0) for owned in self.groups.values())
        return np.asarray(np.round(self.ungated + gated), np.int64)


def mean_open(gates: Sequence[Gate]) -> float:
    """The mean of the values of all channels' gates."""
    values = [np.ravel(keras.ops.convert_to_numpy(gate.values())) for gate in gates]
    return float(np.concatenate(values).mean())
