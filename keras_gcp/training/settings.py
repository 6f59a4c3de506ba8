"""What a user asked for, and what follows from it for events: frozen, checked once."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from keras_gcp import criteria, resources, schedules
from keras_gcp.compensation import Compensation
from keras_gcp.compensation import parse as parse_compensation
from keras_gcp.costs.budget import Budget
from keras_gcp.errors import InvalidArgument
from keras_gcp.graph import Shapes
from keras_gcp.pruning.freshness import has_learned
from keras_gcp.schedules import AdaptiveSchedule, LimitingSchedule, Schedule
from keras_gcp.selection import Selection
from keras_gcp.training.accuracy_guard import AccuracyGuard
from keras_gcp.training.distillation import Distillation
from keras_gcp.validation import (
    layer_names,
    require_flag,
    require_kind,
    require_one_of,
    require_path,
    require_seed,
    require_verbose,
)
from keras_gcp.validation.configured import Configured

AUTO = "auto"

AT_ONCE = schedules.one_shot(0)
"""The schedule of a trained network, if none is given."""

ON_FAILURE = ("raise", "skip")
"""What an event that fails may lead to: the end of training, or a warning."""


@dataclass(frozen=True, eq=False, repr=False)
class Arguments(Configured):
    """The arguments of `GradualChannelPruning`, see there; they do not change.

    Raises:
        InvalidArgument: one of them is malformed, or two contradict one another.
    """

    sample: Any = field(repr=False)
    budget: Any = None
    schedule: Any = None
    criterion: Any = AUTO
    exclude: Sequence[str] = ()
    selection: Any = Selection()
    compensation: Any = AUTO
    guard: AccuracyGuard | None = None
    distillation: Distillation | None = None
    verify: bool = True
    on_failure: str = "raise"
    backup_dir: str | os.PathLike[str] | None = None
    reset: Any = AUTO
    seed: int | None = None
    verbose: Any = AUTO
    input_shape: Any = None

    def __post_init__(self) -> None:
        _check_schedule(self.schedule)
        require_one_of("on_failure", self.on_failure, ON_FAILURE)
        require_kind(
            "guard", self.guard, AccuracyGuard, "keras_gcp.AccuracyGuard(data, max_drop=...)"
        )
        require_kind(
            "distillation",
            self.distillation,
            Distillation,
            "keras_gcp.Distillation(weight=..., temperature=...)",
        )
        criteria.get(self.criterion, seed=self.seed)
        self.parsed_compensation()
        checked = {
            "budget": _parsed_budget(self.budget, self.schedule),
            "exclude": layer_names("exclude", self.exclude),
            "selection": Selection.parse(self.selection),
            "verify": require_flag("verify", self.verify),
            "reset": _checked_reset(self.reset),
            "seed": require_seed(self.seed),
            "verbose": checked_verbose(self.verbose),
        }
        if self.backup_dir is not None:
            checked["backup_dir"] = require_path("backup_dir", self.backup_dir)
        for name, value in checked.items():
            object.__setattr__(self, name, value)

    def parsed_compensation(self) -> Compensation:
        """How cuts are compensated: in `fit`, frozen layers keep their numbers."""
        return parse_compensation(self.compensation, self.sample is not None, spare_frozen=True)

    def schedule_for(self, model: Any, epochs: int) -> Schedule | AdaptiveSchedule:
        """The user's schedule, or the default one for a model and so many epochs.

        Events are for what is still to be learned. A guard needs several: it can refuse one, or
        shorten it, and wait for the next.
        """
        if self.schedule is not None:
            return self.schedule
        at_once = self.guard is None and has_learned(model)
        return AT_ONCE if at_once else schedules.default(epochs)


@dataclass(frozen=True)
class Settings:
    """How events select and cut.

    Attributes:
        scorer: Gives channels their scores.
        selection: How to select.
        exclude: Layers that stay.
        verify: Whether a cut is compared with the masked model.
        compensation: What is done about what removed channels did.
        shapes: Sizes of the inputs that costs are counted at, if the model leaves them open.
        run_at: Sizes of the inputs at which a cut is compared where there is no sample, likewise.
        criterion: The criterion in words, for plans.
    """

    scorer: Any
    selection: Selection
    exclude: Sequence[str]
    verify: bool
    compensation: Compensation
    shapes: Shapes | None = None
    run_at: Shapes | None = None
    criterion: str = ""


def _check_schedule(schedule: Any) -> None:
    if schedule is not None and not isinstance(schedule, Schedule | AdaptiveSchedule):
        raise InvalidArgument(
            "`schedule` expects `keras_gcp.schedules.linear(...)`, another one from there, or "
            f"an object with a method `events()`. Received: {schedule!r}."
        )


def _parsed_budget(budget: Any, schedule: Any) -> Budget | None:
    if not isinstance(schedule, LimitingSchedule):
        parsed = Budget.parse(budget)
        resources.require_environment(parsed)
        return parsed
    if budget is not None:
        raise InvalidArgument(
            f"The schedule `{schedule!r}` says itself what each event leaves, so it goes without a "
            f"budget. Received: budget={budget!r}. Leave `budget` out, or take another schedule."
        )
    return None


def checked_verbose(verbose: Any) -> Any:
    """`"auto"`, or 0, 1 or 2; of these booleans are the first two."""
    return AUTO if isinstance(verbose, str) and verbose == AUTO else require_verbose(verbose)


def _checked_reset(reset: Any) -> str | tuple[Any, ...]:
    """ "auto", or the callbacks in a list; None lists none.

    Raises:
        InvalidArgument: it is neither, or one of them keeps no best model.
    """
    if isinstance(reset, str) and reset == AUTO:
        return AUTO
    callbacks = () if reset is None else reset
    if not isinstance(callbacks, list | tuple | set | frozenset):
        raise InvalidArgument(
            f"`reset` expects 'auto' or a list of callbacks. Received: {reset!r}."
        )
    for callback in callbacks:
        if not hasattr(callback, "best"):
            raise InvalidArgument(
                "`reset` expects callbacks that remember a best model (EarlyStopping, "
                f"ModelCheckpoint). Received: {callback!r}."
            )
    return tuple(callbacks)
