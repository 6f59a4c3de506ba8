"""Everything looked at once when training begins, so that nothing fails ten epochs later."""

from __future__ import annotations

import weakref
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from keras_gcp import criteria
from keras_gcp.backend.sizes_to_run import sizes_to_run
from keras_gcp.channels.map import ChannelMap
from keras_gcp.channels.trace import trace_at
from keras_gcp.classification.labels import check_targets
from keras_gcp.costs.cost_model import left_out
from keras_gcp.costs.counting import count_map
from keras_gcp.criteria.base import name_of
from keras_gcp.graph import Shapes
from keras_gcp.pruning.original import Original
from keras_gcp.pruning.stages import in_fit, in_words, settled
from keras_gcp.sample import DrawnSample, Sample, sample_of
from keras_gcp.sample.input_sizes import sizes_of
from keras_gcp.schedules import min_step_of
from keras_gcp.schedules.scheduler import Scheduler
from keras_gcp.selection.plan_text import sizes_line
from keras_gcp.selection.planning import limits_of
from keras_gcp.training.accuracy_guard import in_parts
from keras_gcp.training.distillation import Teacher
from keras_gcp.training.fit_checks import check_model, guarded
from keras_gcp.training.messages import Outlook
from keras_gcp.training.pruning_run import PruningRun
from keras_gcp.training.settings import AUTO, Arguments, Settings
from keras_gcp.training.trial_runs import check_reachable, first_scores


@dataclass(frozen=True)
class PrunedModel:
    """What belongs to one model, for all fits in which it is pruned.

    Attributes:
        model: Weak reference to it.
        run: Its pruning run.
        seed: With which its sample was drawn.
        decision: What scores its channels, and why.
        teacher: What it learns from after a cut, or None.
        uncounted: Lines on what its costs leave out.
        channels: Output channels of all its layers.
        anchored: Groups of channels that stay whole.
        evenness_was_open: Whether it was decided how unequal layers may get.
    """

    model: weakref.ref[Any]
    run: PruningRun
    seed: int
    decision: criteria.Decision
    teacher: Teacher | None
    uncounted: tuple[str, ...]
    channels: int
    anchored: tuple[str, ...]
    evenness_was_open: bool

    def is_about(self, model: Any) -> bool:
        """Whether it is this very model."""
        return self.model() is model

    def outlook(self, arguments: Arguments, schedule: Any, scheduler: Scheduler) -> Outlook:
        """What the training is going to prune."""
        return Outlook(
            budget=arguments.budget,
            schedule=repr(schedule),
            unit=scheduler.unit,
            events=tuple(scheduler.to_come),
            monitor="" if scheduler.adaptive is None else scheduler.adaptive.monitor,
            channels=self.channels,
            prunable=self.run.first_costs.channels,
            anchored=self.anchored,
        )

    def first_remarks(self) -> Iterator[str]:
        """What else a user should know before the first epoch."""
        yield from self.uncounted
        if self.run.settings.shapes is not None:
            yield sizes_line(self.run.settings.shapes)
        if self.decision.was_open:
            yield f"criterion: {self.run.settings.criterion}"
        if self.evenness_was_open and self.run.settings.selection.evenness:
            yield f"evenness: {self.run.settings.selection.evenness}, because weights are fresh"


def prepare(model: Any, arguments: Arguments, seed: int) -> PrunedModel:
    """Traces, draws, counts and tries out what a pruning of the model needs.

    Args:
        model: The model.
        arguments: What the user asked for.
        seed: For the sample, the guard's examples and the random criterion.

    Raises:
        InvalidArgument: something does not fit the model.
        UnsupportedModel: the model or its optimizer cannot be pruned.
        ImpossibleBudget: floors and anchors forbid the budget.
    """
    scorer = criteria.get(arguments.criterion, seed=seed)
    budget, exclude = arguments.budget, arguments.exclude
    resource = next(iter(budget.limits)) if budget is not None else "channels"
    channels = check_model(model, exclude, resource)
    said = sizes_of(model, arguments.input_shape)
    sample = sample_of(arguments.sample, seed, model)
    shapes = said or sizes_of(model, None, sample)
    if shapes is not None:
        channels = trace_at(shapes, model, exclude, in_place=True)
    original = Original.of(model, exclude, budget, shapes)
    check_targets(model, sample)
    decision = criteria.decided(scorer, model, channels, sample)
    settings = _settings(arguments, decision, model, sample, shapes)
    criteria.check(decision.scorer, model, channels, sample)
    costs = count_map(channels, original.resources)
    # Without a budget, settings by layer are looked at all the same.
    limits = {} if budget is None else limits_of(budget, costs, original.costs, channels)
    check_reachable(channels, limits, original, settings)
    guard = arguments.guard
    run = PruningRun(
        settings,
        original,
        sample,
        first_costs=costs,
        guard=None if guard is None else guarded(guard, seed, model),
        first_scores=first_scores(settings, model, channels, sample),
    )
    teacher = _teacher(arguments, model, channels, sample)
    lines = tuple(left_out(channels.uncounted, most=3))
    anchored = tuple(group.name for group in channels.groups if group.anchored)
    produced = sum(channels.widths().values())
    return PrunedModel(
        weakref.ref(model),
        run,
        seed,
        decision,
        teacher,
        lines,
        produced,
        anchored,
        evenness_was_open=arguments.selection.evenness == AUTO,
    )


def choices(arguments: Arguments, schedule: Any, pruned: PrunedModel) -> dict[str, object]:
    """What must be the same after a restart."""
    sample, decision = arguments.sample, pruned.decision
    return {
        "budget": arguments.budget,
        "schedule": schedule,
        "min_step": min_step_of(schedule),
        "criterion": name_of(decision.scorer) if decision.was_open else arguments.criterion,
        **pruned.run.settings.selection.get_config(),
        "exclude": list(arguments.exclude),
        "sample_size": None if sample is None else Sample.parse(sample).size,
        "compensation": pruned.run.settings.compensation,
        **in_parts(arguments.guard),
        "distillation": arguments.distillation,
        "input_shape": arguments.input_shape,
    }


def _settings(
    arguments: Arguments,
    decision: criteria.Decision,
    model: Any,
    sample: DrawnSample | None,
    shapes: Shapes | None,
) -> Settings:
    unseen = arguments.verify and sample is None
    return Settings(
        scorer=decision.scorer,
        selection=in_fit(settled(arguments.selection, decision.scorer), model),
        exclude=arguments.exclude,
        verify=arguments.verify,
        compensation=arguments.parsed_compensation(),
        shapes=shapes,
        run_at=sizes_to_run(model, shapes) if unseen else None,
        criterion=in_words(decision, arguments.selection.normalize),
    )


def _teacher(
    arguments: Arguments, model: Any, channels: ChannelMap, sample: DrawnSample | None
) -> Teacher | None:
    if arguments.distillation is None:
        return None
    labels = None if sample is None else sample.y
    teacher = Teacher(arguments.distillation, model, channels.graph, labels)
    teacher.check_step(model, sample)
    return teacher
