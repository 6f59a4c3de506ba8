"""How open the gate of a channel is, in a network with gates."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from keras import ops

from keras_gcp.channels.map import ChannelMap
from keras_gcp.criteria.base import prunable_layers
from keras_gcp.errors import UnsupportedModel
from keras_gcp.gates.gate import Gate, gated_channels
from keras_gcp.sample import DrawnSample


@dataclass(frozen=True)
class GateValue:
    """The value of the gate that a channel has, from 0 to 1 (`keras_gcp.gates.Gate.values`).

    Values of all gates are compared as they are.
    """

    name: ClassVar[str] = "gate_value"
    needs_sample: ClassVar[bool] = False
    normalize: ClassVar[str] = "none"

    def check(self, model: Any, channels: ChannelMap, sample: DrawnSample | None) -> None:
        """Raises if some prunable channel has no gate."""
        missing = np.isnan(_values(channels)) & channels.prunable
        lacking = [
            path for path in prunable_layers(channels) if missing[channels.produced[path]].any()
        ]
        if lacking:
            raise UnsupportedModel(
                "Criterion 'gate_value' needs a gate on every prunable channel. Layers without "
                f"one: {', '.join(map(repr, lacking))}. Put gates on the model "
                "(`keras_gcp.gates.insert`), take another criterion, e.g. 'l2_norm', or exclude "
                "those layers."
            )

    def __call__(
        self, model: Any, channels: ChannelMap, sample: DrawnSample | None = None
    ) -> dict[str, np.ndarray]:
        values = np.nan_to_num(_values(channels))
        return {path: values[channels.produced[path]] for path in prunable_layers(channels)}


def _values(channels: ChannelMap) -> np.ndarray:
    """`(coupled_count,)`, NaN for channels without a gate."""
    values = np.full(channels.coupled_count, np.nan)
    for call in channels.graph.calls:
        gate = call.operation
        if isinstance(gate, Gate) and not gate.whole:
            values[gated_channels(channels, call)] = ops.convert_to_numpy(gate.values())
    return values
