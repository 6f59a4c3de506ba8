"""Events whenever the training has stopped improving. Sees numbers only."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass

from keras_gcp.errors import InvalidArgument
from keras_gcp.schedules.base import MIN_STEP, checked_min_step
from keras_gcp.validation import between, require_integer, require_one_of
from keras_gcp.validation.configured import Configured, call_text, changed_fields

MODES = ("auto", "min", "max")
"""Whether smaller or greater values are better; "auto" tells it by the name."""

_SMALLER = ("loss", "error")
_GREATER = ("accuracy", "acc", "auc", "precision", "recall", "iou", "score")


@dataclass(frozen=True, repr=False)
class OnPlateau(Configured):
    """An event whenever a metric has stopped improving; made by `on_plateau`."""

    monitor: str = "val_loss"
    patience: int = 2
    min_delta: float = 0.0
    share: float = 0.25
    until: int | None = None
    mode: str = "auto"
    min_step: float = MIN_STEP

    def __post_init__(self) -> None:
        if not isinstance(self.monitor, str) or not self.monitor:
            raise InvalidArgument(
                "`monitor` expects the name of an entry of the logs, such as 'val_loss'. "
                f"Received: {self.monitor!r}."
            )
        delta = between(self.min_delta, 0.0, sys.float_info.max)
        if delta is None:
            raise InvalidArgument(
                f"`min_delta` expects a number from 0. Received: {self.min_delta!r}."
            )
        part = between(self.share, 0.0, 1.0)
        if not part:
            raise InvalidArgument(
                "`share` is the share of the way of one event, in (0, 1]. "
                f"Received: {self.share!r}."
            )
        require_one_of("mode", self.mode, MODES)
        checked = {
            "patience": require_integer("patience", self.patience, least=1),
            "min_delta": delta,
            "share": part,
            "until": None if self.until is None else require_integer("until", self.until, least=0),
            "mode": _mode_of(self.monitor) if self.mode == "auto" else self.mode,
            "min_step": checked_min_step(self.min_step),
        }
        for name, value in checked.items():
            object.__setattr__(self, name, value)

    def __repr__(self) -> str:
        return call_text("on_plateau", {"monitor": self.monitor, **changed_fields(self)})

    def next(self, epoch: int, progress: float, values: Sequence[float]) -> float | None:
        """How far an event before an epoch is to go; None if none is due."""
        if progress >= 1:
            return None
        if self.until is not None and epoch >= self.until:
            return 1.0
        if self.epochs_without_improvement(values) < self.patience:
            return None
        further = progress + self.share
        return 1.0 if further > 1 - 1e-9 else further  # Ten tenths are one.

    def epochs_without_improvement(self, values: Sequence[float]) -> int:
        """How many of the latest values are not better than the best one before them."""
        sign = -1.0 if self.mode == "min" else 1.0
        best, since = None, 0
        for value in values:
            if value == value and (best is None or sign * (value - best) > self.min_delta):
                best, since = value, 0
            else:  # A value that is not a number is not an improvement.
                since += 1
        return since


def on_plateau(
    monitor: str = "val_loss",
    patience: int = 2,
    min_delta: float = 0.0,
    share: float = 0.25,
    *,
    until: int | None = None,
    mode: str = "auto",
    min_step: float = MIN_STEP,
) -> OnPlateau:
    """An event whenever a monitored metric has stopped improving.

    So the network recovers from one cut as long as it can before the next comes. After an event
    the waiting starts again: a narrower model is another one, and so is its best value.

    Args:
        monitor: Entry of the logs, as for `keras.callbacks.EarlyStopping`.
        patience: Epochs without improvement before an event.
        min_delta: Least change that counts as an improvement.
        share: Share of the way that each event goes, in (0, 1].
        until: 0-based epoch before which all that is left goes at once, plateau or not. None:
            events come on plateaus only, and if there are too few the budget is not met; a warning
            then says so in the end.
        mode: `"min"` if smaller values are better, `"max"` if greater ones are, `"auto"` where the
            name tells it (`loss`, `error`; `accuracy`, `auc`, and the like).
        min_step: As in `linear`.

    Raises:
        InvalidArgument: a value is out of its range, or `"auto"` does not know the name.

    Example:

    >>> keras_gcp.schedules.on_plateau("val_accuracy", patience=3, until=60).mode
    'max'
    """
    return OnPlateau(monitor, patience, min_delta, share, until, mode, min_step)


def _mode_of(monitor: str) -> str:
    name = monitor.lower()
    if name.endswith(_SMALLER):
        return "min"
    if name.endswith(_GREATER):
        return "max"
    raise InvalidArgument(
        f"Whether smaller or greater values of `monitor={monitor!r}` are better cannot be told by "
        "its name. Pass mode='min' or mode='max'."
    )
