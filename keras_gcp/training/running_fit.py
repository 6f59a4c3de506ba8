"""What belongs to one running fit; made when it begins."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import keras

from keras_gcp.schedules import AdaptiveSchedule, Schedule
from keras_gcp.schedules.scheduler import Scheduler
from keras_gcp.training.tensorboard import EventLog


@dataclass
class RunningFit:
    """Where a fit stands.

    Attributes:
        schedule: When events happen.
        scheduler: Which of them are to come.
        other_callbacks: The other callbacks of the fit.
        to_reset: Those whose memory of a best model a cut clears.
        log: Where events are written for TensorBoard.
        has_begun: Whether the first epoch has begun.
        epoch: The epoch that is going on, from 0.
        steps_before: Training steps done before it.
        steps_in_epoch: Training steps done in it.
    """

    schedule: Schedule | AdaptiveSchedule
    scheduler: Scheduler
    other_callbacks: Sequence[Any]
    to_reset: Sequence[Any]
    log: EventLog
    has_begun: bool = False
    epoch: int = 0
    steps_before: int = 0
    steps_in_epoch: int = 0

    def begin_epoch(self, epoch: int, steps: int | None) -> None:
        """Counts steps through all epochs; those of an endless data set as they come.

        Args:
            epoch: The epoch that begins.
            steps: Steps of every epoch; None if unknown.
        """
        if steps:
            self.steps_before = epoch * steps
        elif epoch == 0:
            self.steps_before = 0
        else:
            self.steps_before += self.steps_in_epoch
        self.epoch, self.steps_in_epoch = epoch, 0


def compiles_steps(model: Any) -> bool:
    """Whether the first step after a cut is compiled, which takes a while."""
    eager_backend = keras.config.backend() == "torch" and not model.jit_compile
    return not (model.run_eagerly or eager_backend)
