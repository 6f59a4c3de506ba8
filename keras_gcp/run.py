"""A pruning run: the events of one training, and what has to be known between them."""

from __future__ import annotations

import gc
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import keras
import numpy as np

from keras_gcp import backend, coins
from keras_gcp.budgets import Budget
from keras_gcp.channels.map import ChannelMap
from keras_gcp.channels.trace import trace
from keras_gcp.costs import Count, Ledger
from keras_gcp.counting import Coin, count_map
from keras_gcp.events import STAGES, Event, SkippedEvent
from keras_gcp.keras_state import Transaction
from keras_gcp.pipeline import score, totals_of
from keras_gcp.planning import choose, keep_of
from keras_gcp.plans import Plan, Totals
from keras_gcp.recount import require_costs
from keras_gcp.sample import Sample
from keras_gcp.step_times import Savings, StepTimes
from keras_gcp.surgery.narrow import narrow_model
from keras_gcp.surgery.verify import example_count, masked_outputs, random_inputs, verify_narrow


@dataclass(frozen=True)
class Original:
    """The model that shares refer to.

    Attributes:
        totals: What it costs.
        widths: Producing layer to its width.
        coins: Further coins of the budget, fitted to it.
    """

    totals: Totals
    widths: Mapping[str, int]
    coins: tuple[Coin, ...] = ()

    @staticmethod
    def of(model: Any, exclude: Sequence[str] = (), budget: Budget | None = None) -> Original:
        """Counts a model; for some coins it is converted and measured."""
        channels = trace(model, exclude)
        opened = coins.opened(budget, model, channels)
        return Original(totals_of(model, channels, opened), channels.widths(), opened)

    def costs(self) -> dict[str, float]:
        """Cost by coin."""
        return self.totals.costs()


@dataclass(frozen=True)
class Settings:
    """How events select and cut."""

    scorer: Any
    align: str | int
    floor: int | float
    exclude: Sequence[str]
    verify: bool


@dataclass
class PruningRun:
    """Scores, selects and cuts, event after event.

    Attributes:
        settings: How.
        original: What shares refer to.
        sample: The held sample batch, or None.
        first_totals: What the model cost when the run began.
        plan: All cuts so far, as one plan for the model as it was at the first event.
        events: What each event did.
        skipped: Events that failed, where training went on.
        times: How long training steps took.
        events_seconds: What all events took, without compiling the next steps anew.
    """

    settings: Settings
    original: Original
    sample: Sample | None
    first_totals: Totals
    plan: Plan | None = None
    events: list[Event] = field(default_factory=list)
    skipped: list[SkippedEvent] = field(default_factory=list)
    times: StepTimes = field(default_factory=StepTimes)
    events_seconds: float = 0.0

    @property
    def savings(self) -> Savings:
        """What pruning has cost and saved so far."""
        retracing = sum(event.seconds["retrace"] for event in self.events)
        return self.times.savings(self.events_seconds + retracing)

    @property
    def totals(self) -> Totals:
        """What the model costs now."""
        return self.plan.after if self.plan else self.first_totals

    @property
    def pruned_channels(self) -> int:
        """Output channels removed so far."""
        return self.plan.removed_channels if self.plan else 0

    def event(
        self,
        model: Any,
        limits: Mapping[str, float],
        epoch: int,
        progress: float,
        in_fit: bool,
        step: int | None = None,
    ) -> Event:
        """One event: score, select, cut, verify. On any failure the model is as it was before.

        Args:
            model: The living model.
            limits: What may remain after this event, by coin.
            epoch: The epoch before which, or within which, it happens.
            progress: Share of the way that is gone afterwards.
            in_fit: Whether `fit` is running.
            step: The training step before which it happens, if the schedule counts steps.
        """
        began = time.perf_counter()
        self.times.pause()
        try:
            event = self._event(model, limits, epoch, progress, in_fit, step)
            if event.removed_channels:
                self.times.cut()
                backend.forget_shapes()
                gc.collect()  # Dead graphs are cycles; Python would let dozens gather first.
            return event
        finally:
            self.events_seconds += time.perf_counter() - began

    def _event(
        self,
        model: Any,
        limits: Mapping[str, float],
        epoch: int,
        progress: float,
        in_fit: bool,
        step: int | None,
    ) -> Event:
        clock = _Clock()
        with clock.stage("trace"):
            channels = trace(model, self.settings.exclude)
            before = count_map(model, channels, self.original.coins)
        loss_before = self._loss(model, clock)
        with clock.stage("score"):
            scores = self._class_scores(model, channels, before, limits)
        with clock.stage("select"):
            plan = self._choose(model, channels, scores, limits, for_real=progress >= 1)
        loss_after = loss_before
        with Transaction() as transaction:
            backend.require_same(model, "their plans", plan.to_json())
            if plan.removed_channels:
                backend.together(
                    model, lambda: self._cut(model, channels, plan, clock, in_fit, transaction)
                )
                loss_after = self._loss(model, clock)
            so_far = self.plan.then(plan) if self.plan else plan
        self.plan = so_far
        event = Event(
            epoch=epoch,
            step=step,
            progress=progress,
            removed_channels=plan.removed_channels,
            macs_before=before.macs,
            macs_after=plan.after.macs,
            parameters_before=before.parameters,
            parameters_after=plan.after.parameters,
            loss_before=loss_before,
            loss_after=loss_after,
            widths=plan.widths(),
            seconds=clock.seconds,
            further=plan.after.further,
        )
        self.events.append(event)
        return event

    def _choose(
        self,
        model: Any,
        channels: ChannelMap,
        scores: np.ndarray,
        limits: Mapping[str, float],
        for_real: bool,
    ) -> Plan:
        """The plan under limits; with real files and measurements only where the budget ends."""

        def chosen(ledger: Ledger) -> Plan:
            return choose(
                model,
                channels,
                scores,
                limits,
                self.settings.align,
                self.settings.floor,
                self.original.widths,
                ledger=ledger,
            )

        found = coins.settled(model, channels, limits, self.original.coins, chosen, for_real)
        self.original = replace(self.original, coins=found.coins)
        return found.plan

    def note_retracing(self) -> None:
        """Completes the events that cut something: what compiling the next step anew took."""
        cuts = [i for i, event in enumerate(self.events) if event.removed_channels]
        for i, seconds in zip(cuts, self.times.retrace_seconds(), strict=True):
            event = self.events[i]
            self.events[i] = replace(event, seconds={**event.seconds, "retrace": seconds})

    def _class_scores(
        self, model: Any, channels: ChannelMap, now: Count, limits: Mapping[str, float]
    ) -> np.ndarray:
        if all(now.cost(coin) <= limit for coin, limit in limits.items()):
            return np.zeros(channels.class_count)  # Nothing has to go, so nothing is ranked.
        return score(self.settings.scorer, model, channels, self.sample)

    def _cut(
        self,
        model: Any,
        channels: ChannelMap,
        plan: Plan,
        clock: _Clock,
        in_fit: bool,
        transaction: Transaction,
    ) -> None:
        keep = keep_of(plan, channels)
        inputs, expected = None, None
        if self.settings.verify:
            with clock.stage("verify"):
                inputs = self._verification_inputs(model)
                expected = masked_outputs(model, channels, keep, inputs)
        optimizer = getattr(model, "optimizer", None)
        with clock.stage("narrow"):
            narrow_model(
                model, channels, keep, transaction, [optimizer] if optimizer else [], in_fit
            )
        if expected is not None:
            with clock.stage("verify"):
                verify_narrow(model, channels, inputs, expected)
        with clock.stage("trace"):
            require_costs(plan.after, model, trace(model, self.settings.exclude))

    def _verification_inputs(self, model: Any) -> Any:
        examples = example_count(model)
        if self.sample is None:
            return random_inputs(model, examples)
        return keras.tree.map_structure(lambda x: x[:examples], self.sample.x)

    def _loss(self, model: Any, clock: _Clock) -> float | None:
        if self.sample is None or self.sample.y is None:
            return None
        x, y = self.sample.x, self.sample.y
        with clock.stage("loss"):
            loss = backend.together(model, lambda: backend.sample_loss(model, x, y))
        if loss is None:
            return None
        mean = backend.averaged(model, {"loss": np.array(loss)}, weight=len(self.sample))
        return float(mean["loss"])


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
