"""The accuracy that events must not take away."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from keras_gcp.errors import InvalidArgument
from keras_gcp.sample import Sample
from keras_gcp.validation import between

VALIDATION_SIZE = 2048
"""Examples drawn by default. Before and after a cut the same ones are classified, so a change of
one percent is 20 of them."""

SHARES = (1.0, 0.5, 0.25)
"""How far the tries of an event go, as shares of what it is to remove."""


@dataclass(frozen=True, eq=False)
class AccuracyGuard:
    """How far the accuracy on some examples may fall.

    Attributes:
        sample: The examples, drawn once.
        max_drop: The greatest fall, in [0, 1), below the best accuracy that was measured just
            before an event.
        shares: How far the tries of an event go.
    """

    sample: Sample
    max_drop: float
    shares: tuple[float, ...] = SHARES

    def least(self, accuracies: Iterable[float]) -> float:
        """The accuracy that must remain, if these were measured before events."""
        return max(accuracies) - self.max_drop


def allows(accuracy: float, least: float) -> bool:
    """Whether an accuracy is high enough; sums over processes round."""
    return accuracy >= least - 1e-9


def checked_max_drop(max_drop: Any, validation_data: Any) -> float | None:
    """The drop, as a plain number; refuses a guard that lacks something.

    Raises:
        InvalidArgument: `max_drop` is not in [0, 1), or one of both is missing.
    """
    if max_drop is None:
        if validation_data is not None:
            raise InvalidArgument(
                "`validation_data` of GradualChannelPruning is what `max_drop` is measured on, and "
                "there is no `max_drop`. Expected both or none, such as max_drop=0.01."
            )
        return None
    drop = between(max_drop, 0.0, 1.0)
    if drop is None or drop == 1:
        raise InvalidArgument(
            "`max_drop` is how far the accuracy may fall, from 0 to below 1: 0.01 is one "
            f"percentage point. Received: {max_drop!r}."
        )
    if validation_data is None:
        raise InvalidArgument(
            f"`max_drop={max_drop}` needs `validation_data=(x, y)`: arrays, a `tf.data.Dataset` or "
            "a `keras.utils.PyDataset` of examples that the model is not trained on."
        )
    return drop


def shortened(
    limits: Mapping[str, float], now: Mapping[str, float], share: float
) -> dict[str, float]:
    """Limits that go only a share of the way from what there is now."""
    return {
        coin: now[coin] - share * (now[coin] - limit) if limit < now[coin] else limit
        for coin, limit in limits.items()
    }
