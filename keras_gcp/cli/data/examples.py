"""Examples as arrays, and which of them are for what."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

Arrays = np.ndarray | Mapping[str, np.ndarray]
"""One array, or one for each input by its name."""


@dataclass(frozen=True, eq=False)
class Part:
    """Some examples, with labels or without.

    Attributes:
        x: Inputs.
        y: Labels, or None.
    """

    x: Arrays
    y: np.ndarray | None = None

    def __len__(self) -> int:
        first = next(iter(self.x.values())) if isinstance(self.x, Mapping) else self.x
        return len(first)

    def as_sample(self) -> Any:
        """As functions of the package take it: `x`, or `(x, y)`."""
        return self.x if self.y is None else (self.x, self.y)

    def spread(self, count: int | None) -> Part:
        """At most `count` of them, evenly spread: what is sorted by class keeps its classes."""
        if count is None or len(self) <= count:
            return self
        kept = np.unique(np.linspace(0, len(self) - 1, count).round().astype(int))
        x = {k: v[kept] for k, v in self.x.items()} if isinstance(self.x, Mapping) else self.x[kept]
        return Part(x, None if self.y is None else self.y[kept])


@dataclass(frozen=True, eq=False)
class Examples:
    """The parts of a data set.

    Attributes:
        train: For scores, compensation and calibration.
        test: For what is measured: those held out, if the data tell them apart, else all.
        held_out: Whether `test` has other examples than `train`.
        described: What they are, in words.
    """

    train: Part
    test: Part
    held_out: bool
    described: str
