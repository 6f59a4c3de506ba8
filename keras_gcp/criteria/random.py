"""Random scores: the control that every other criterion has to beat."""

from __future__ import annotations

import zlib
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np

from keras_gcp.channels.map import ChannelMap
from keras_gcp.criteria.base import prunable_layers
from keras_gcp.sample import DrawnSample


def _fresh_seed() -> int:
    return int(np.random.SeedSequence().generate_state(1)[0])


@dataclass(frozen=True)
class Random:
    """Scores drawn evenly from [0, 1).

    Args:
        seed: The same seed gives the same scores to a layer of the same name and width; None
            draws one, which the criterion then keeps.
    """

    seed: int | None = field(default_factory=_fresh_seed)

    name: ClassVar[str] = "random"
    needs_sample: ClassVar[bool] = False
    normalize: ClassVar[str] = "rank"

    def __post_init__(self) -> None:
        if self.seed is None:
            object.__setattr__(self, "seed", _fresh_seed())

    def __call__(
        self, model: Any, channels: ChannelMap, sample: DrawnSample | None = None
    ) -> dict[str, np.ndarray]:
        return {
            path: np.random.default_rng([int(self.seed or 0), zlib.crc32(path.encode())]).random(
                len(channels.produced[path])
            )
            for path in prunable_layers(channels)
        }
