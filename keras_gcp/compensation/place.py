"""What a reconstruction sees: one layer, in the wide network and in the cut one."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from keras_gcp.channels.map import ChannelMap
from keras_gcp.compensation.settings import Compensation
from keras_gcp.graph import Call, Tensor


@dataclass(frozen=True, eq=False)
class Place:
    """One layer, in both networks.

    Attributes:
        call: Its only call.
        channels: The channel map.
        keep: `(coupled_count,)`, True = kept.
        settings: What is wanted.
        before_normalization: Whether only a BatchNormalization reads its output.
        ridge: How much a kernel is held to what it is, see `correction`.
        run: New values of variables to the layer's output in the cut network.
        run_few: Its output there for the first examples, with the values of now.
        wide_inputs: Its input tensors in the wide network.
        narrow_inputs: Those in the cut one.
        wide_output: Its output in the wide network.
    """

    call: Call
    channels: ChannelMap
    keep: np.ndarray
    settings: Compensation
    before_normalization: bool
    ridge: float
    run: Callable[[Mapping[int, np.ndarray]], Any]
    run_few: Callable[[], Any]
    wide_inputs: list[Any]
    narrow_inputs: list[Any]
    wide_output: Any

    @property
    def layer(self) -> Any:
        """The layer."""
        return self.call.operation

    @property
    def reads_removed(self) -> bool:
        """Whether channels are removed that enter the layer."""
        return not all(self.keep[self.channels.tensors[x.index]].all() for x in self.call.inputs)

    def values_of(self, x: Tensor) -> tuple[Any, Any]:
        """An input in the wide network, and in the cut one."""
        at = next(i for i, known in enumerate(self.call.inputs) if known is x)
        return self.wide_inputs[at], self.narrow_inputs[at]


Values = dict[int, np.ndarray]
"""New values by `id` of the variable."""

Reconstruct = Callable[[Place], Values]
