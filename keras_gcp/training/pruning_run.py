"""A pruning run: the events of one training, and what has to be known between them."""

from __future__ import annotations

import gc
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from keras_gcp import backend, resources
from keras_gcp.channels.map import ChannelMap
from keras_gcp.channels.trace import trace_at
from keras_gcp.costs.cost_model import CostModel
from keras_gcp.costs.costs import Costs, ModelCosts
from keras_gcp.costs.counting import count_map
from keras_gcp.criteria import FirstScores
from keras_gcp.keras_state import Transaction
from keras_gcp.pruning.original import Original
from keras_gcp.pruning.stages import (
    comparison_inputs,
    compensated_weights,
    cut_and_recount,
    preferences,
    scores_are_losses,
    weighted,
)
from keras_gcp.sample import DrawnSample
from keras_gcp.selection.plan import Plan
from keras_gcp.selection.planning import choose, keep_of, sizes_before
from keras_gcp.selection.preferences import Preferences
from keras_gcp.surgery.cut import Cut
from keras_gcp.training.accuracy_guard import GuardedMetric, shortened
from keras_gcp.training.event_records import STAGES, Event, EventRequest, SkippedEvent
from keras_gcp.training.measurements import loss_on, metric_on
from keras_gcp.training.settings import Settings
from keras_gcp.training.step_times import Savings, StepTimes


@dataclass
class PruningRun:
    """Scores, selects and cuts, event after event.

    Attributes:
        settings: How.
        original: What shares refer to.
        sample: The held sample batch, or None.
        first_costs: What the model cost when the run began.
        plan: All cuts so far, as one plan for the model as it was at the first event.
        events: What each event did.
        skipped: Events that failed or were refused, where training went on.
        times: How long training steps took.
        events_seconds: What all events took, without compiling the next steps again.
        guard: The metric that events must not make worse, or None.
        first_scores: Scores from before the first step, until an event has asked for scores.
    """

    settings: Settings
    original: Original
    sample: DrawnSample | None
    first_costs: Costs
    plan: Plan | None = None
    events: list[Event] = field(default_factory=list)
    skipped: list[SkippedEvent] = field(default_factory=list)
    times: StepTimes = field(default_factory=StepTimes)
    events_seconds: float = 0.0
    guard: GuardedMetric | None = None
    first_scores: FirstScores | None = None

    @property
    def savings(self) -> Savings:
        """What pruning has cost and saved so far."""
        retracing = sum(event.seconds["retrace"] for event in self.events)
        return self.times.savings(self.events_seconds + retracing)

    @property
    def costs(self) -> Costs:
        """What the model costs now."""
        return self.plan.after if self.plan else self.first_costs

    @property
    def shares_left(self) -> dict[str, float]:
        """What is left of the original cost, by resource."""
        original = self.original.costs
        now = self.costs.items()
        return {name: cost / original[name] for name, cost in now if original.get(name)}

    @property
    def pruned_channels(self) -> int:
        """Output channels removed so far."""
        return self.plan.removed_channels if self.plan else 0

    def event(self, model: Any, request: EventRequest, in_fit: bool) -> Event | SkippedEvent:
        """One event: score, select, cut, verify. On any failure the model is as it was before.

        Args:
            model: The living model.
            request: When, and how far.
            in_fit: Whether `fit` is running.

        Returns:
            What it did; or that it was refused, because the guarded metric would have got too bad.
        """
        began = time.perf_counter()
        self.times.pause()
        try:
            outcome = self._event(model, request, in_fit)
            self._note(outcome)
            return outcome
        finally:
            self.events_seconds += time.perf_counter() - began

    def _event(self, model: Any, request: EventRequest, in_fit: bool) -> Event | SkippedEvent:
        clock = _Clock()
        found = self._look_at(model, clock)
        bound = self._bound(found.metric)
        if self._too_bad(found.metric, bound):
            return self._refusal(request, found.metric, bound, [])
        with clock.stage("score"):
            preferred = self._preferences(found.channels, found.count, request.limits)
        refused: list[tuple[Plan, float | None]] = []  # with the metric that was left
        for share in self.guard.shares if self.guard else (1.0,):
            with clock.stage("select"):
                plan = self._choose(found, preferred, request, share)
            if any(plan.keeps_what_is_kept_by(other) for other, _ in refused):
                continue  # Channels that live or die together are that many.
            try:
                with Transaction() as transaction:
                    after = self._carry_out(found, plan, clock, in_fit, transaction)
                    if self._too_bad(after.metric, bound):
                        raise _Refused  # The transaction takes everything back.
                    so_far = self._joined(plan)
            except _Refused:
                refused.append((plan, after.metric))
                continue
            self.plan = so_far
            event = self._record(request, found, plan, after, share, clock)
            return replace(event, tries=len(refused) + 1)
        return self._refusal(request, found.metric, bound, [value for _, value in refused])

    def _note(self, outcome: Event | SkippedEvent) -> None:
        if isinstance(outcome, SkippedEvent):
            self.skipped.append(outcome)
            changed = bool(outcome.tries)
        else:
            self.events.append(outcome)
            changed = bool(outcome.removed_channels)
            if changed:
                self.times.cut()
        if changed:
            backend.forget_shapes()
            gc.collect()  # Dead graphs are cycles; Python would let dozens gather first.

    def _look_at(self, model: Any, clock: _Clock) -> _Found:
        """The model before the event."""
        with clock.stage("trace"):
            channels = trace_at(self.settings.shapes, model, self.settings.exclude, in_place=True)
            counted = count_map(channels, self.original.resources)
        loss = self._loss(model, clock)
        return _Found(channels, counted, loss, self._metric(model, clock))

    def _choose(
        self,
        found: _Found,
        preferred: Preferences,
        request: EventRequest,
        share: float,
    ) -> Plan:
        """The plan that goes a share of the way from the present model to the limits.

        With real files and measurements only where the budget ends.
        """
        limits, for_real = request.limits, request.progress >= 1
        now = {resource: found.count[resource] for resource in limits}
        limits = limits if share == 1 else shortened(limits, now, share)

        base = sizes_before(self.plan, found.channels) if self.plan else None

        predicts = scores_are_losses(self.settings.selection, self.settings.scorer)

        def chosen(cost_model: CostModel) -> Plan:
            return choose(
                found.channels,
                preferred.scores,
                limits,
                self.settings.selection,
                self.original.widths,
                cost_model=cost_model,
                base=base,
                scores_are_losses=predicts,
                sets=preferred.sets,
                goal=request.goal,
            )

        resources_now = self.original.resources
        outcome = resources.calibrated(found.channels, limits, resources_now, chosen, for_real)
        self.original = replace(self.original, resources=outcome.resources)
        return replace(outcome.plan, criterion=self.settings.criterion)

    def _joined(self, plan: Plan) -> Plan:
        """All cuts so far and this one, whose limits were looked at for all of them."""
        if self.plan is None:
            return plan
        return replace(self.plan.then(plan), slack=plan.slack)

    def _carry_out(
        self,
        found: _Found,
        plan: Plan,
        clock: _Clock,
        in_fit: bool,
        transaction: Transaction,
    ) -> _After:
        """Compensates and cuts as planned, and looks at what came of it."""
        model = found.channels.model
        backend.assert_equal(model, "their plans", plan.digest())
        if not plan.removed_channels:
            return _After(found.loss, found.metric)
        channels, keep = found.channels, keep_of(plan, found.channels)
        with clock.stage("compensate"):
            values = compensated_weights(channels, keep, self.sample, self.settings.compensation)
        cut = Cut(channels, keep, values)
        backend.run_everywhere(model, lambda: self._cut(cut, plan, clock, in_fit, transaction))
        return _After(self._loss(model, clock), self._metric(model, clock))

    def _record(
        self,
        request: EventRequest,
        found: _Found,
        plan: Plan,
        after: _After,
        share: float,
        clock: _Clock,
    ) -> Event:
        gone = max((event.progress for event in self.events), default=0.0)
        further = share * max(0.0, request.progress - gone)
        return Event(
            epoch=request.epoch,
            step=request.step,
            progress=request.progress if share == 1 else gone + further,
            removed_channels=plan.removed_channels,
            macs_before=found.count.macs,
            macs_after=plan.after.macs,
            parameters_before=found.count.parameters,
            parameters_after=plan.after.parameters,
            loss_before=found.loss,
            loss_after=after.loss,
            widths=plan.widths(),
            seconds=clock.seconds,
            merged=request.merged,
            metric=self.guard.metric.name if self.guard else None,
            metric_before=found.metric,
            metric_after=after.metric,
            further=plan.after.further,
        )

    def _bound(self, value: float | None) -> float | None:
        """What the guard demands: no cut may lead further from the best value so far."""
        if self.guard is None or value is None:
            return None
        earlier = [event.metric_before for event in self.events]
        earlier += [skipped.metric_before for skipped in self.skipped]
        return self.guard.bound([value, *(one for one in earlier if one is not None)])

    def _too_bad(self, value: float | None, bound: float | None) -> bool:
        if self.guard is None or value is None or bound is None:
            return False
        return not self.guard.allows(value, bound)

    def _refusal(
        self,
        request: EventRequest,
        before: float | None,
        bound: float | None,
        after: Sequence[float | None],
    ) -> SkippedEvent:
        """Says that an event was refused, and why."""
        assert self.guard is not None and before is not None and bound is not None
        metric = self.guard.metric
        tried = ", ".join(metric.shown(value) for value in after if value is not None)
        result = f"After smaller and smaller cuts it was {tried}." if tried else "Nothing could go."
        return SkippedEvent(
            epoch=request.epoch,
            step=request.step,
            error=(
                f"{metric.name} was {metric.shown(before)}, and may not be "
                f"{'below' if metric.higher_is_better else 'above'} {metric.shown(bound)}. {result}"
            ),
            refused=True,
            tries=len(after),
            metric=metric.name,
            metric_before=before,
            metric_after=after[-1] if after else None,
        )

    def note_retracing(self) -> None:
        """Completes the events that cut something: what compiling the next step again took."""
        cuts = [i for i, event in enumerate(self.events) if event.removed_channels]
        for i, seconds in zip(cuts, self.times.retrace_seconds(), strict=True):
            event = self.events[i]
            self.events[i] = replace(event, seconds={**event.seconds, "retrace": seconds})

    def _preferences(
        self, channels: ChannelMap, now: ModelCosts, limits: Mapping[str, float]
    ) -> Preferences:
        holds = all(now[resource] <= limit for resource, limit in limits.items())
        if holds and self.settings.selection.cap is None:
            # Nothing has to go, so nothing is ranked.
            return Preferences(np.zeros(channels.coupled_count))
        scorer, self.first_scores = self.first_scores or self.settings.scorer, None
        selection = self.settings.selection
        found = preferences(scorer, channels, self.sample, selection)
        return replace(found, scores=weighted(found.scores, channels, selection.prior))

    def _cut(
        self, cut: Cut, plan: Plan, clock: _Clock, in_fit: bool, transaction: Transaction
    ) -> None:
        model, settings = cut.channels.model, self.settings
        verified = settings.verify
        cut_and_recount(
            cut,
            plan.after,
            transaction,
            inputs=comparison_inputs(model, self.sample, settings.run_at) if verified else None,
            in_fit=in_fit,
            shapes=settings.shapes,
            exclude=settings.exclude,
            stage=clock.stage,
        )

    def _loss(self, model: Any, clock: _Clock) -> float | None:
        with clock.stage("loss"):
            return loss_on(model, self.sample)

    def _metric(self, model: Any, clock: _Clock) -> float | None:
        if self.guard is None:
            return None
        with clock.stage("guard"):
            return metric_on(model, self.guard.metric, self.guard.sample)


@dataclass(frozen=True, eq=False)
class _Found:
    """A model before an event."""

    channels: ChannelMap
    count: ModelCosts
    loss: float | None
    metric: float | None


@dataclass(frozen=True)
class _After:
    """The same model after it."""

    loss: float | None
    metric: float | None


class _Refused(Exception):
    """The metric has got too bad, so the cut is taken back."""


class _Clock:
    """Adds up wall-clock seconds by stage."""

    def __init__(self) -> None:
        self.seconds = dict.fromkeys(STAGES, 0.0)

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        start = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[name] += time.perf_counter() - start
