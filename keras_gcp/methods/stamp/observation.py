"""What a generator sees of a task: how each gated channel responds to its examples."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

STATISTICS = 3
"""Numbers for each channel: mean, spread over examples, spread between classes."""

_LEAST = 1e-6
"""Added to spreads: a channel may be constant."""


@dataclass(frozen=True, eq=False)
class Reference:
    """How channels respond to the data that a generator has learned from.

    Attributes:
        mean: `(channels,)`, over examples.
        spread: `(channels,)`, standard deviation over examples.
    """

    mean: np.ndarray
    spread: np.ndarray

    @classmethod
    def of(cls, responses: Sequence[np.ndarray]) -> Reference:
        """That of some tasks, each `(examples, channels)`."""
        every = np.concatenate(responses)
        return cls(every.mean(axis=0), every.std(axis=0) + _LEAST)


@dataclass(frozen=True, eq=False)
class Observation:
    """A task.

    Attributes:
        examples: `(examples, features)`: responses of the last gated channels, and the means of
            these over the example's class.
        channels: `(channels, STATISTICS)`, for all gated channels.
    """

    examples: np.ndarray
    channels: np.ndarray


def observe(
    responses: np.ndarray, classes: np.ndarray, last: int, reference: Reference
) -> Observation:
    """What is seen of a task; the order of examples, and the names of classes, play no part.

    Args:
        responses: `(examples, channels)`, means over positions of every gated channel.
        classes: `(examples,)`.
        last: How many channels at the end are those of the last gate.
        reference: Responses are counted from its means, in its spreads.
    """
    x = ((responses - reference.mean) / reference.spread).astype("float64")
    _, numbers, counts = np.unique(classes, return_inverse=True, return_counts=True)
    sums = np.zeros((len(counts), x.shape[1]))
    np.add.at(sums, numbers, x)
    of_class = (sums / counts[:, None])[numbers]
    channels = np.stack([x.mean(axis=0), x.std(axis=0), of_class.std(axis=0)], axis=1)
    examples = np.concatenate([x[:, -last:], of_class[:, -last:]], axis=1)
    return Observation(examples.astype("float32"), channels.astype("float32"))
