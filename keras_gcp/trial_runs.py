"""What is tried out when training begins, because only trying shows that it works."""

from __future__ import annotations

from typing import Any

from keras_gcp import criteria
from keras_gcp.agenda import Agenda
from keras_gcp.channels.map import ChannelMap
from keras_gcp.channels.trace import trace_at
from keras_gcp.counting import build_ledger
from keras_gcp.errors import ImpossibleBudget
from keras_gcp.pipeline import weighted
from keras_gcp.planning import require_reachable
from keras_gcp.run import Original, PruningRun, Settings
from keras_gcp.sample import Sample


def first_scores(
    settings: Settings, model: Any, channels: ChannelMap, sample: Sample | None
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
    if known and criteria.needs_sample(settings.scorer) and settings.prior is None:
        return None
    # This process' own scores: the caller waits for the others, and must not do so twice.
    first = criteria.FirstScores(settings.scorer, model, channels, sample)
    weighted(criteria.class_scores(first.scores, channels), channels, settings.prior)
    return None if known and not criteria.needs_sample(settings.scorer) else first


def check_preferences(
    model: Any, channels: ChannelMap, original: Original, settings: Settings
) -> None:
    """Refuses settings by layer that do not fit the model, where no budget does so.

    Raises:
        InvalidArgument: they name layers that the model does not have, or contradict one another.
    """
    ledger = build_ledger(model, channels, original.coins)
    require_reachable(channels, {}, settings.preferences, ledger, original.widths)


def check_removals(model: Any, run: PruningRun, agenda: Agenda, each: int) -> None:
    """Refuses a schedule that removes more channels than may go, before its first event.

    Args:
        model: The model.
        run: Its pruning run.
        agenda: The events of this training.
        each: How many channels each of them removes.

    Raises:
        ImpossibleBudget: the last events would have nothing to remove.
    """
    settings, events, now = run.settings, len(agenda.to_come), run.totals.channels
    channels = trace_at(settings.shapes, model, settings.exclude, in_place=True)
    ledger = build_ledger(model, channels, run.original.coins)
    limits = {"channels": float(max(0, now - events * each))}
    try:
        require_reachable(channels, limits, settings.preferences, ledger, run.original.widths)
    except ImpossibleBudget as error:
        raise ImpossibleBudget(
            f"The schedule removes {each:,} channels at each of {events:,} events, and the model "
            f"has {now:,} that may be pruned. {error}"
        ) from error
