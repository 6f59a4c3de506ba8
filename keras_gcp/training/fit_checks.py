"""What is checked when training begins, so that nothing fails ten epochs later."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import keras
import numpy as np

from keras_gcp import backend, keras_state
from keras_gcp.channels.map import ChannelMap
from keras_gcp.channels.trace import trace
from keras_gcp.classification.metrics import metric_for, value_of
from keras_gcp.errors import InvalidArgument, UnsupportedModel
from keras_gcp.sample import draw_sample
from keras_gcp.schedules import AdaptiveSchedule, Schedule, checked_events, unit_of
from keras_gcp.schedules.scheduler import Scheduler, next_progress
from keras_gcp.selection.blockers import require_prunable
from keras_gcp.surgery.optimizer import check_optimizer
from keras_gcp.training.accuracy_guard import AccuracyGuard, GuardedMetric


def check_model(model: Any, exclude: Sequence[str], resource: str = "macs") -> ChannelMap:
    """Traces the model, and looks at its optimizer and its strategy.

    Args:
        model: The model.
        exclude: Layers that stay.
        resource: What the budget counts.

    Raises:
        UnsupportedModel: the model or its optimizer cannot be pruned.
    """
    channels = trace(model, exclude, in_place=True)
    require_prunable(channels, resource)
    check_can_be_cut(model)
    return channels


def check_can_be_cut(model: Any) -> None:
    """Refuses a model whose strategy, compiled steps or optimizers do not bear a cut.

    Raises:
        UnsupportedModel: it is one of these.
    """
    keras_state.check_strategy(model)
    _check_steps(model)
    if getattr(model, "optimizer", None) is not None:
        keras_state.build_optimizer(model)
    for optimizer in keras_state.optimizers_of(model):
        check_optimizer(optimizer)


def check_fit_runs(model: Any) -> None:
    """Refuses to prune in a `fit` that Keras itself cannot run; see docs/scaling.md.

    Raises:
        UnsupportedModel: several TensorFlow processes train the model.
    """
    if keras.config.backend() == "tensorflow" and backend.process_count(model) > 1:
        raise UnsupportedModel(
            f"Model '{model.name}' is in the scope of a MultiWorkerMirroredStrategy of "
            f"{backend.process_count(model)} processes. `fit` of Keras 3 (3.15 at least) does not "
            "run there, with or without pruning. Expected MirroredStrategy (one process, many "
            "devices). For several processes take the JAX backend with "
            "`keras.distribution.DataParallel`, or a training loop of your own with "
            "`keras_gcp.plan` and `keras_gcp.narrow`."
        )


def _check_steps(model: Any) -> None:
    steps = keras_state.steps_compiled_by_hand(model)
    if steps:
        raise UnsupportedModel(
            f"`{steps[0]}` of model '{model.name}' (class {type(model).__name__}) is wrapped in a "
            "`tf.function`, which holds on to the weights it was first compiled with; a cut "
            "replaces them. Expected a plain method: take the decorator away. Keras compiles the "
            "method anyway, unless `compile(run_eagerly=True)` says otherwise."
        )


def planned(schedule: Schedule | AdaptiveSchedule, epochs: int, steps: int | None) -> Scheduler:
    """The events that a schedule has for a fit.

    Args:
        schedule: The schedule.
        epochs: Number of epochs of the fit.
        steps: Steps of an epoch; None if unknown.

    Raises:
        InvalidArgument: it has none.
    """
    if isinstance(schedule, Schedule):
        inside = check_schedule(schedule, epochs, steps)
        return Scheduler(inside, unit_of(schedule), goal=max(inside.values()))
    if not isinstance(schedule.monitor, str) or not schedule.monitor:
        raise InvalidArgument(
            f"`monitor` of the schedule {schedule!r} must be the name of an entry of the logs. "
            f"Received: {schedule.monitor!r}."
        )
    next_progress(schedule, 0, 0.0, [])  # What it returns later follows from the same rules.
    until = getattr(schedule, "until", None)
    if until is not None and until >= epochs:
        warnings.warn(
            f"The schedule reaches the budget before epoch {until} at the latest, but the fit ends "
            f"after {epochs} epochs: without enough plateaus the budget is not met.",
            stacklevel=2,
        )
    return Scheduler(adaptive=schedule)


def monitored(logs: Mapping[str, Any], monitor: str, epoch: int) -> float | None:
    """The entry of the logs that a schedule looks at; None in an epoch without validation.

    Raises:
        InvalidArgument: there is no such entry.
    """
    if monitor in logs:
        try:
            return float(logs[monitor])
        except (TypeError, ValueError) as error:
            raise InvalidArgument(
                f"The schedule monitors '{monitor}', which is {logs[monitor]!r} in the logs of "
                f"epoch {epoch}. Expected a number."
            ) from error
    if not monitor.startswith("val_") or any(name.startswith("val_") for name in logs):
        raise InvalidArgument(
            f"The schedule monitors '{monitor}', which is not in the logs of this fit. Expected "
            f"one of {', '.join(map(repr, sorted(logs)))}."
        )
    if epoch == 0:
        warnings.warn(
            f"The schedule monitors '{monitor}', but the first epoch had no validation, so no "
            "event can come on a plateau yet. Pass `validation_data` to `fit`.",
            stacklevel=2,
        )
    return None


def guarded(guard: AccuracyGuard, seed: int | None, model: Any) -> GuardedMetric:
    """Draws a guard's examples, and measures its metric on them once.

    Raises:
        InvalidArgument: there is no such metric, or data, labels or metric do not go together.
    """
    try:
        sample = draw_sample(guard.data, guard.size, seed, model)
        metric = metric_for(guard.metric, model, sample, guard.mode)
        value = value_of(metric, model, sample)
    except InvalidArgument as error:
        raise InvalidArgument(f"`guard` of GradualChannelPruning: {error}") from error
    if not np.isfinite(value):
        raise InvalidArgument(
            f"`guard` of GradualChannelPruning: {metric.name} is {value} on its "
            f"{len(sample)} examples before training, so no cut could be compared with it. "
            "Expected a finite number: look at the labels, and at the metric."
        )
    return GuardedMetric(sample, metric, guard.max_drop)


def check_schedule(schedule: Schedule, epochs: int, steps: int | None) -> dict[int, float]:
    """The events of a schedule that lie inside the training: epoch (or step) to progress.

    Args:
        schedule: The schedule.
        epochs: Number of epochs of the fit.
        steps: Steps of an epoch; None if unknown, and then every step may come.

    Raises:
        InvalidArgument: none does.
    """
    unit, events = unit_of(schedule), checked_events(schedule)
    total = epochs if unit == "epoch" else None if steps is None else epochs * steps
    inside = {at: progress for at, progress in events.items() if total is None or at < total}
    if not inside:
        raise InvalidArgument(
            f"The schedule {schedule} has no event inside the {total:,} {unit}s of this fit: its "
            f"events come before the 0-based {unit}s {sorted(events)}. Let it begin earlier or "
            "train longer."
        )
    if len(inside) < len(events):
        warnings.warn(
            f"The schedule has events before the {unit}s {sorted(events)}, but the fit ends after "
            f"{total:,} {unit}s, so only {max(inside.values()):.0%} of the way to the budget is "
            "gone in the end.",
            stacklevel=2,
        )
    return inside


def check_known_to_optimizer(model: Any) -> None:
    """Refuses a model that was made trainable in other places since it was compiled.

    Without a cut, `fit` would go on with what it compiled before and not notice.

    Raises:
        InvalidArgument: the optimizer does not know some trainable weights.
    """
    unknown = keras_state.unknown_to_optimizer(model)
    if unknown:
        names = ", ".join(f"'{variable.path}'" for variable in unknown[:3])
        raise InvalidArgument(
            f"The optimizer of model '{model.name}' does not know {len(unknown)} trainable weights "
            f"({names}{', …' if len(unknown) > 3 else ''}): they were frozen when it was built. "
            "Call `model.compile` again after changing `trainable`."
        )
