"""What is tried out when training begins, because only trying shows that it works."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import keras

from keras_gcp import backend, criteria
from keras_gcp.channels.map import ChannelMap
from keras_gcp.channels.trace import trace_at
from keras_gcp.classification.metrics import log_names
from keras_gcp.costs.counting import build_cost_model
from keras_gcp.errors import ImpossibleBudget, InvalidArgument
from keras_gcp.pruning.original import Original
from keras_gcp.pruning.stages import weighted
from keras_gcp.sample import DrawnSample
from keras_gcp.schedules import LimitingSchedule
from keras_gcp.schedules.scheduler import Scheduler
from keras_gcp.selection.planning import require_reachable
from keras_gcp.training.pruning_run import PruningRun
from keras_gcp.training.settings import Settings


def first_scores(
    settings: Settings, model: Any, channels: ChannelMap, sample: DrawnSample | None
) -> criteria.FirstScores | None:
    """Lets the criterion score once, where no look at model and sample tells that it can.

    A function of the user's own may return anything. Criteria that look at weights cost next to
    nothing. With a prior, scores must not be negative, which only scores show.

    Returns:
        The scores, for an event before the first step; None where scoring again is as cheap, or
        where there was none.

    Raises:
        InvalidArgument: the criterion does not score as it should, or does not go with the prior.
    """
    known = criteria.is_known(settings.scorer)
    if known and criteria.needs_sample(settings.scorer) and settings.selection.prior is None:
        return None
    # This process' own scores: the caller waits for the others, and must not do so twice.
    first = criteria.FirstScores(settings.scorer, model, channels, sample)
    scores = criteria.coupled_scores(first.scores, channels, settings.selection.normalize)
    weighted(scores, channels, settings.selection.prior)
    again = isinstance(settings.scorer, criteria.SetValued) or (
        known and not criteria.needs_sample(settings.scorer)
    )
    return None if again else first


def check_reachable(
    channels: ChannelMap, limits: Mapping[str, float], original: Original, settings: Settings
) -> None:
    """Refuses limits that floors and anchors forbid, and settings by layer that do not fit.

    Args:
        channels: The model's channel map.
        limits: What may remain, by resource.
        original: What shares of widths refer to.
        settings: How events select.

    Raises:
        InvalidArgument: settings name layers that the model does not have, or contradict one
            another.
        ImpossibleBudget: the limits cannot be met.
    """
    cost_model = build_cost_model(channels, original.resources)
    require_reachable(channels, limits, settings.selection, cost_model, original.widths)


def check_removals(
    model: Any, run: PruningRun, scheduler: Scheduler, schedule: LimitingSchedule
) -> None:
    """Refuses a schedule that removes more than may go, before its first event.

    Args:
        model: The model.
        run: Its pruning run.
        scheduler: The events of this training.
        schedule: The schedule, which says what each of them leaves.

    Raises:
        ImpossibleBudget: the last events would have nothing to remove.
    """
    settings, events = run.settings, len(scheduler.to_come)
    channels = trace_at(settings.shapes, model, settings.exclude, in_place=True)
    left = schedule.limits(run.costs, events)
    limits = {resource: float(max(0, limit)) for resource, limit in left.items()}
    try:
        check_reachable(channels, limits, run.original, settings)
    except ImpossibleBudget as error:
        raise ImpossibleBudget(
            f"The schedule {schedule!r} has {events:,} events to come, and the model has "
            f"{run.costs.channels:,} channels that may be pruned. {error}"
        ) from error


def check_monitor(monitor: str, model: Any, run: PruningRun, others: Sequence[Any]) -> None:
    """Refuses a schedule that looks at an entry which the logs of this fit will not have.

    Only where that is certain: training steps and callbacks of the user's own may log anything.

    Args:
        monitor: The entry.
        model: The model.
        run: Its pruning run.
        others: The other callbacks of the fit.

    Raises:
        InvalidArgument: there will be no such entry.
    """
    name = monitor.removeprefix("val_")
    if name == "loss" or not all(map(_logs_nothing_new, others)):
        return
    if backend.process_count(model) > 1:
        return
    known = log_names(model, run.sample)
    if any(isinstance(one, _LOG_THE_RATE) for one in others):
        known = None if known is None else known | {"learning_rate"}
    if known is None or name in known:
        return
    names = ", ".join(map(repr, sorted(known)))
    raise InvalidArgument(
        f"The schedule monitors '{monitor}', which the logs of this fit will not have. Expected "
        f"one of {names}, or one of these with 'val_' in front. Metrics are named in "
        "`model.compile(metrics=[...])`."
    )


_LOG_THE_RATE = (keras.callbacks.LearningRateScheduler, keras.callbacks.ReduceLROnPlateau)


def _logs_nothing_new(callback: Any) -> bool:
    method = getattr(callback.on_epoch_end, "__func__", None)  # A `LambdaCallback` has a function.
    nothing = keras.callbacks.Callback.on_epoch_end
    return method is nothing or (
        method is not None and type(callback).__module__.split(".")[0] == "keras"
    )
