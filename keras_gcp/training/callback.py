"""The callback: prunes gradually while `model.fit` goes on."""

from __future__ import annotations

import os
import warnings
import weakref
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import keras
import numpy as np

from keras_gcp import backend, compensation, criteria, keras_state, resources, schedules
from keras_gcp.backend.sizes_to_run import sizes_to_run
from keras_gcp.channels.trace import trace_at
from keras_gcp.classification.labels import check_targets
from keras_gcp.costs.budget import Budget
from keras_gcp.costs.cost_model import left_out
from keras_gcp.criteria.base import name_of
from keras_gcp.errors import InvalidArgument
from keras_gcp.pruning.stages import require_one_criterion, totals_of
from keras_gcp.sample import SAMPLE_SIZE, checked_size, sample_of
from keras_gcp.sample.input_sizes import sizes_of
from keras_gcp.schedules import AdaptiveSchedule, ChannelsEvery, Schedule
from keras_gcp.schedules.scheduler import MIN_SHARE, DueEvent, Scheduler, checked_min_share
from keras_gcp.selection import DEFAULT_FLOOR, Align, Cap, Floor, Preferences
from keras_gcp.selection.plan import Plan
from keras_gcp.selection.plan_text import sizes_line
from keras_gcp.selection.prior import Prior, check_prior
from keras_gcp.training.accuracy_guard import AccuracyGuard, check_guard, in_parts
from keras_gcp.training.backup import state
from keras_gcp.training.backup.manager import BackupManager
from keras_gcp.training.distillation import Distillation, Teacher, check_distillation
from keras_gcp.training.event_records import Event, EventRequest, SkippedEvent, when
from keras_gcp.training.fit_checks import (
    AUTO,
    callbacks_to_reset,
    check_criterion,
    check_feasible,
    check_fit_runs,
    check_known_to_optimizer,
    check_model,
    check_on_failure,
    check_only_pruner,
    check_other_callbacks,
    checked_reset,
    guarded,
    monitored,
    other_callbacks_of,
    planned,
    register_pruner,
    reset_memory,
)
from keras_gcp.training.messages import event_line, refused_text, savings_line, unmet_line
from keras_gcp.training.pruning_run import Original, PruningRun, Settings
from keras_gcp.training.step_times import Savings
from keras_gcp.training.trial_runs import (
    check_monitor,
    check_preferences,
    check_removals,
    first_scores,
)
from keras_gcp.validation import layer_names, require_flag, require_seed, require_verbose


class GradualChannelPruning(keras.callbacks.Callback):
    """Removes channels during `model.fit`, until a budget is met.

    At every event the channels are scored on a held sample batch and ranked globally; the least
    relevant ones leave, and the model's layers, weights, optimizer slots, shapes and compiled
    functions become narrower in place. The same `model` object trains on and gets cheaper. Each
    cut is compared with the masked model on the sample, and taken back if they differ.

    After "Gradual Channel Pruning while Training using Feature Relevance Scores for Convolutional
    Neural Networks", Aketi, Roy, Raghunathan, Roy, 2020 (arXiv 2002.09958).

    Args:
        sample: Examples as `fit` takes them, of which `sample_size` are drawn once, when training
            begins: `(x, y)` arrays, a `tf.data.Dataset` or a `keras.utils.PyDataset`; `x` alone
            with criteria that read no labels (`"l2_norm"`); see `keras_gcp.plan`. None is allowed
            with criteria that look at no data.
        budget: Dict of what may *remain*: a share in (0, 1) of the original `"macs"`,
            `"parameters"`, (prunable) `"channels"`, `"tflite_bytes"`, `"tflite_bytes_int8"`,
            `"peak_activation_bytes"`, `"peak_activation_bytes_int8"` or `"latency_ms"` (see
            `keras_gcp.timed`), or `keras_gcp.absolute(count)`. All entries must hold. None only
            with `schedules.channels_every`.
        schedule: `keras_gcp.schedules.linear`, `cubic`, `cosine`, `one_shot`, `function`,
            `on_plateau` or `channels_every`, or an object of your own. Default: four cubic events
            between a tenth and a half of the epochs.
        criterion: Name of a criterion, or a callable `(model, channels, sample) -> {path of a
            producing layer: (width,) scores}`, larger = keep. `"auto"`: `"feature_relevance"` where
            it applies (a classifier, labels that are its classes, only layers it can be followed
            through), else the first of `"compensation_aware"`, `"taylor"` and `"l2_norm"` that
            does; decided once, when training begins, and said with the reason.
        align: Widths to prefer, because odd ones run slower than the next larger multiple: `"auto"`
            (multiples of 8 for layers of 16 channels and more, free below), a number, or a dict of
            these by layer. A layer narrower than the number has the halves of it (4, 2, 1).
        floor: Least width of a layer: int = channels, float = share of the original width, or a
            dict of these by layer.
        exclude: Names (or paths) of layers whose outputs, and all that is tied to them, stay.
        verify: Whether to compare the narrow model with the masked one after each cut.
        seed: Seed for drawing the sample and for the random criterion; None draws one.
        reset: Callbacks whose memory of a best model is cleared at a cut, because weights kept from
            before no longer fit, and a wider model's figures are another model's. `"auto"`: every
            `EarlyStopping` and `ModelCheckpoint(save_best_only=True)` of the same fit.
        verbose: 0 = silent, 1 = one line per event, 2 = also the table of widths.
        reference: Model whose costs and widths shares refer to; by default the model as this
            callback first saw it.
        sample_size: Number of examples drawn from `sample`; None takes all.
        on_failure: What an event that fails leads to. In any case model and optimizer are as they
            were before it. `"raise"`: the exception ends the training. `"skip"`: a warning, and
            the training continues; the next event makes up for it.
        backup_dir: Folder for backups, one before every epoch but the first, on a local or mounted
            file system. If the process is killed, the same program started again goes on from the
            last one: widths, weights, optimizer, sample, random state, and the memory of
            `EarlyStopping`, `ReduceLROnPlateau`, `ModelCheckpoint` and `History`. The order in
            which TensorFlow shuffles arrays (`shuffle=True`) is not restored. A training that ends
            removes its backups. One training has the folder: another process with the same one is
            refused when its training begins. None: no backups.
        compensate: What is done at a cut about what the removed channels did, on the sample.
            `"least_squares"`: kernels that read them are refitted on the channels that stay, and
            biases take what is constant. `"fold"`: only the latter. None: nothing. `"auto"`: least
            squares if there is a sample.
        recalibrate: Whether means and variances of `BatchNormalization` layers follow the change of
            their inputs at a cut. `"auto"`: if there is a sample. Layers with `trainable=False`
            keep their numbers, here and with `compensate`.
        cap: Largest width that may remain, in the same terms, or None: layers that must shrink.
            It holds from the first event on.
        normalize: `"none"`: the channels with the least scores leave, whatever they cost.
            `"cost"`: the kept channels have the largest total score that the budget buys (to about
            1 %), so that a layer whose channels are costly loses more of them.
        scope: `"global"`: one ranking of the whole network. `"group"`: every layer keeps the same
            share of its width, as far as `align`, `floor` and `cap` let it.
        min_share: Share of the original cost that is worth an event. One that would remove less is
            put together with the next; the last ones, if they would, with the one before. The
            budget is reached in any case. 0: the schedule is kept as it is, as it always is with
            `channels_every`.
        guard: A `keras_gcp.AccuracyGuard`: no event may make a metric worse than it allows, on
            examples that training does not see. None: no limit.
        distill: A `keras_gcp.Distillation`: from the first cut on the model also learns from
            itself as it was before. None: it does not.
        prior: What `keras_gcp.sensitivity` measured on the model, or on the wider one that it was
            cut from. Scores are multiplied by the drop of the metric per removed channel at each
            width, so that groups that lose little are pruned more, at every event.
        input_shape: The size to count at, if the model leaves sizes of its input open
            (`keras.Input((None, None, 3))`), as in `keras_gcp.plan`. None: the size of the sample,
            if there is one. The model keeps its open sizes.

    Dicts by layer: as in `keras_gcp.plan`.

    Attributes:
        plan: All cuts so far as one `Plan` for the original model; None before the first event.
        events: What each event did, as `Event` objects.
        skipped: Events that failed (with `on_failure="skip"`) or were refused (by the guard),
            as `SkippedEvent` objects.
        savings: What pruning has cost and saved so far, in seconds.
        costs: What the model costs now, by resource: `"macs"`, `"parameters"`, `"channels"` and
            further ones of the budget. Empty before training.
        original_costs: What shares refer to, likewise.

    The logs (and so `History`, and callbacks further down the list, such as `CSVLogger`) carry
    `macs`, `parameters`, `pruned_channels` and further resources of the budget for every epoch.

    Raises:
        InvalidArgument: an argument is malformed; at construction, or when training begins.
        UnsupportedModel: model or optimizer cannot be pruned; when training begins.
        ImpossibleBudget: floors and anchors forbid the budget; when training begins.
        BackupFailed: a backup cannot be written, or none of those there can be read; when training
            begins, also if another process has its backups there.

    Example:

    ```python
    pruning = keras_gcp.GradualChannelPruning(
        sample=(x_train, y_train),
        budget={"macs": 0.5},
        schedule=keras_gcp.schedules.linear(begin=2, end=8, every=2),
    )
    model.fit(x_train, y_train, epochs=20, callbacks=[pruning])
    print(pruning.plan.explain())
    ```
    """

    def __init__(
        self,
        sample: Any,
        budget: Any = None,
        schedule: Schedule | AdaptiveSchedule | None = None,
        criterion: Any = "auto",
        align: Align = "auto",
        floor: Floor = DEFAULT_FLOOR,
        exclude: Sequence[str] = (),
        verify: bool = True,
        seed: int | None = None,
        reset: str | Sequence[Any] = AUTO,
        verbose: int = 1,
        reference: Any = None,
        sample_size: int | None = SAMPLE_SIZE,
        on_failure: str = "raise",
        backup_dir: str | os.PathLike[str] | None = None,
        compensate: str | None = compensation.AUTO,
        recalibrate: str | bool = compensation.AUTO,
        cap: Cap = None,
        normalize: str = "none",
        scope: str = "global",
        min_share: float = MIN_SHARE,
        guard: AccuracyGuard | None = None,
        distill: Distillation | None = None,
        prior: Prior | None = None,
        input_shape: Any = None,
    ) -> None:
        super().__init__()
        self._fixed_channels = isinstance(schedule, ChannelsEvery)
        self._budget = _parsed_budget(budget, self._fixed_channels)
        if self._budget is not None:
            resources.require_environment(self._budget)
        if schedule is not None and not isinstance(schedule, Schedule | AdaptiveSchedule):
            raise InvalidArgument(
                "`schedule` expects `keras_gcp.schedules.linear(...)`, another one from there, or "
                f"an object with a method `events()`. Received: {schedule!r}."
            )
        preferences = Preferences(align, floor, cap, normalize, scope)
        check_on_failure(on_failure)
        check_guard(guard)
        check_distillation(distill)
        check_prior(prior)
        self._schedule = schedule
        self._seed = require_seed(seed)
        self._criterion = criterion
        self._settings = Settings(
            criteria.get(criterion, seed=self._seed),
            preferences,
            layer_names("exclude", exclude),
            require_flag("verify", verify),
            compensation.parse(compensate, recalibrate, sample is not None, spare_frozen=True),
            prior,
        )
        self._sample_source, self._sample_size = sample, checked_size(sample_size)
        self._min_share = checked_min_share(min_share)
        self._guard = guard
        self._distill = distill
        self._reset = checked_reset(reset)
        self._on_failure = on_failure
        self._backups = BackupManager(backup_dir, on_failure)
        self._reference = reference
        self._input_shape = input_shape
        self._verbose = require_verbose(verbose)
        # What belongs to one model, set when its training begins.
        self._run: PruningRun | None = None
        self._first_model: Any = None  # weak reference to the model this callback prunes
        self._teacher: Teacher | None = None
        self._scheduler = Scheduler()
        # What belongs to one fit.
        self._first_epoch: int | None = None
        self._epoch, self._steps_before, self._steps_in_epoch = 0, 0, 0
        self._other_callbacks: list[Any] = []
        self._to_reset: tuple[Any, ...] = ()

    @property
    def plan(self) -> Plan | None:
        """All cuts so far as one plan for the original model."""
        return self._run.plan if self._run else None

    @property
    def events(self) -> tuple[Event, ...]:
        """What each event did."""
        return tuple(self._run.events) if self._run else ()

    @property
    def skipped(self) -> tuple[SkippedEvent, ...]:
        """Events that failed or were refused, and left the model as it was."""
        return tuple(self._run.skipped) if self._run else ()

    @property
    def savings(self) -> Savings | None:
        """What pruning has cost and saved so far; None before training."""
        return self._run.savings if self._run else None

    @property
    def costs(self) -> dict[str, float]:
        """What the model costs now, by resource."""
        return self._run.totals.costs() if self._run else {}

    @property
    def original_costs(self) -> dict[str, float]:
        """What the model cost that shares refer to, by resource."""
        return self._run.original.costs() if self._run else {}

    # ---- Keras' hooks

    def set_model(self, model: Any) -> None:
        super().set_model(model)
        register_pruner(model, self)

    def on_train_begin(self, logs: Any = None) -> None:
        model, epochs = self.model, self.params.get("epochs") or 1
        check_only_pruner(model, self)
        check_fit_runs(model)
        schedule = self._schedule or schedules.default(epochs)
        scheduler = planned(schedule, epochs, self.params.get("steps"))
        self._other_callbacks = other_callbacks_of(self)
        check_other_callbacks(self._other_callbacks)
        self._to_reset = callbacks_to_reset(self, self._reset)
        check_known_to_optimizer(model)
        self._agree_on_seed(self._backups.find(model))
        if self._run is None or self._first_model() is not model:
            decision = backend.run_everywhere(model, lambda: self._start(model, schedule))
            require_one_criterion(model, decision)
            if self._verbose and decision.was_open:
                print(f"criterion: {decision.words}")
        else:
            scheduler.restore(self._scheduler.to_dict())
        self._scheduler = scheduler
        if scheduler.adaptive is not None:
            check_monitor(
                scheduler.adaptive.monitor, model, self._require_run(), self._other_callbacks
            )
        self._learn_from_teacher()
        self._require_run().times.start()
        self._first_epoch = None
        self._backups.prepare(model, self._require_run(), epochs)

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        self._count_steps_before(epoch)
        if self._first_epoch is None:
            self._begin_first_epoch(epoch)
        else:
            self._backups.write(self._training(), self._position(epoch))
        if self._scheduler.unit == "epoch":
            self._run_due(epoch, epoch, None)

    def on_train_batch_begin(self, batch: int, logs: Any = None) -> None:
        # Steps are timed here alone: a method `on_train_batch_end` would make Keras wait for the
        # device after each of them.
        if self._scheduler.unit == "step":
            step = self._steps_before + batch
            self._run_due(step, self._epoch, step)
        self._steps_in_epoch = batch + int(self.model.steps_per_execution)
        self._require_run().times.step()

    def on_test_begin(self, logs: Any = None) -> None:
        if self._run is not None:
            self._run.times.pause()

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        run = self._require_run()
        run.times.pause()
        run.note_retracing()
        if self._teacher is not None:
            self._teacher.check_used(self.model)
        if logs is None:
            return
        self._observe(logs)
        totals = run.totals
        if totals.macs is not None:
            logs["macs"] = float(totals.macs)
        logs["parameters"] = float(totals.parameters)
        logs["pruned_channels"] = float(run.pruned_channels)
        logs.update({resource: float(cost) for resource, cost in totals.further.items()})

    def on_train_end(self, logs: Any = None) -> None:
        backend.forget_gradients(self.model.train_function)
        if self._teacher is not None:
            self._teacher.detach(self.model)
        self._backups.clear()
        self._warn_if_unmet()
        if self._verbose and self.events:
            print(savings_line(self._require_run().savings, self.events, self.skipped))

    # ---- steps

    def _start(self, model: Any, schedule: Schedule | AdaptiveSchedule) -> criteria.Decision:
        """Looks at everything once, so that nothing can go wrong ten epochs later.

        Returns:
            What scores, in all events to come.
        """
        scorer = criteria.get(self._criterion, seed=self._seed)
        resource = next(iter(self._budget.entries)) if self._budget is not None else "channels"
        channels = check_model(model, self._settings.exclude, resource)
        said = sizes_of(model, self._input_shape)
        sample = sample_of(self._sample_source, self._sample_size, self._seed, model)
        shapes = said or sizes_of(model, None, sample)
        run_at = sizes_to_run(model, shapes) if self._settings.verify and sample is None else None
        self._settings = replace(self._settings, shapes=shapes, run_at=run_at)
        if shapes is not None:
            channels = trace_at(shapes, model, self._settings.exclude, in_place=True)
        reference = model if self._reference is None else self._reference
        original = Original.of(reference, self._settings.exclude, self._budget, shapes)
        totals = totals_of(model, channels, original.resources)
        check_targets(model, sample)
        decision = criteria.decided(scorer, model, channels, sample)
        self._settings = replace(self._settings, scorer=decision.scorer, criterion=decision.words)
        check_criterion(decision.scorer, model, channels, sample)
        if self._budget is not None:
            check_feasible(model, channels, self._budget, totals, original, self._settings)
        else:
            check_preferences(model, channels, original, self._settings)
        self._run = PruningRun(
            self._settings,
            original,
            sample,
            first_totals=totals,
            guard=None if self._guard is None else guarded(self._guard, self._seed, model),
            first_scores=first_scores(self._settings, model, channels, sample),
        )
        for line in left_out(channels.uncounted, most=3) if self._verbose else ():
            print(line)
        if self._verbose and shapes is not None:
            print(sizes_line(shapes))
        self._scheduler = Scheduler()
        if self._distill is not None:
            self._teacher = Teacher(
                self._distill, model, channels.graph, None if sample is None else sample.y
            )
            self._teacher.check_step(model, sample)
        self._first_model = weakref.ref(model)
        if self._backups.wanted:
            criterion = name_of(decision.scorer) if decision.was_open else self._criterion
            self._backups.identify(model, self._choices(schedule, criterion))
        return decision

    def _learn_from_teacher(self) -> None:
        """Distils if something has been cut, in this fit or in one before."""
        teacher = self._teacher
        if teacher is None or not teacher.is_ready or not self._require_run().pruned_channels:
            return
        if not teacher.is_attached(self.model):
            teacher.attach(self.model)

    def _require_run(self) -> PruningRun:
        if self._run is None:
            raise InvalidArgument(
                "GradualChannelPruning was used without `on_train_begin`; pass it to `model.fit`."
            )
        return self._run

    def _count_steps_before(self, epoch: int) -> None:
        """Steps are counted through all epochs; those of an endless data set as they come."""
        steps = self.params.get("steps")
        if steps:
            self._steps_before = epoch * steps
        elif epoch == 0:
            self._steps_before = 0
        else:
            self._steps_before += self._steps_in_epoch
        self._epoch, self._steps_in_epoch = epoch, 0

    def _begin_first_epoch(self, epoch: int) -> None:
        self._first_epoch = epoch
        position = self._backups.go_on(self._training())
        if position is not None:
            self._went_on(position)
        # Of an earlier fit, or before the restart.
        if self.events or self.skipped or self._scheduler.has_begun:
            self._scheduler.drop_before(
                epoch if self._scheduler.unit == "epoch" else self._steps_before
            )
        if isinstance(self._schedule, ChannelsEvery):  # Only now the events are known.
            check_removals(self.model, self._require_run(), self._scheduler, self._schedule.x)

    def _observe(self, logs: dict[str, Any]) -> None:
        """Notes what the schedule monitors; the same in all processes."""
        adaptive = self._scheduler.adaptive
        value = None if adaptive is None else monitored(logs, adaptive.monitor, self._epoch)
        if value is not None:
            mean = backend.mean_over_processes(self.model, {"value": np.array(value)}, weight=1.0)
            self._scheduler.observe(float(mean["value"]))

    def _run_due(self, position: int, epoch: int, step: int | None) -> None:
        """The event that is due, if any, unless it is too small for one of its own."""
        due = self._scheduler.due_at(position)
        if due is not None and self._budget is not None:
            run = self._require_run()
            now, original = run.totals.costs(), run.original.costs()
            due = self._scheduler.put_together(due, now, self._limits, original, self._min_share)
        if due is not None:
            self._event(epoch, step, due)

    def _event(self, epoch: int, step: int | None, due: DueEvent) -> None:
        run = self._require_run()
        keras_state.put_state_back(self.model)
        try:
            check_known_to_optimizer(self.model)  # Another callback may have unfrozen layers.
            self._show_teacher()
            limits = self._limits(due.progress, due.merged)
            request = EventRequest(epoch, step, due.progress, limits, due.merged)
            outcome = run.event(self.model, request, in_fit=True)
        except Exception as error:
            if self._on_failure == "raise":
                raise
            self._skip(SkippedEvent(epoch, step, f"{type(error).__name__}: {error}"))
            return
        if isinstance(outcome, SkippedEvent):
            self._put_off(outcome)
            return
        self._scheduler.done(outcome.progress)
        if outcome.removed_channels:
            reset_memory(self._to_reset)
        self._learn_from_teacher()
        self._report(outcome)

    def _show_teacher(self) -> None:
        """Before the first cut, the teacher takes the weights as they are now."""
        if self._teacher is not None and not self._require_run().pruned_channels:
            self._teacher.take(self.model.get_weights())

    def _put_off(self, refused: SkippedEvent) -> None:
        self._scheduler.left_out()
        if self._verbose:
            print(f"{when(refused.epoch, refused.step)}: nothing removed · {refused.error}")

    def _skip(self, skipped: SkippedEvent) -> None:
        self._scheduler.left_out()
        self._require_run().skipped.append(skipped)
        warnings.warn(
            f"The event before {when(skipped.epoch, skipped.step)} failed and was skipped; the "
            f"model is as it was before. {skipped.error}",
            stacklevel=2,
        )

    def _limits(self, progress: float, merged: int = 1) -> dict[str, float]:
        run = self._require_run()
        if self._budget is not None:
            return self._budget.limits(run.original.costs(), progress)
        assert isinstance(self._schedule, ChannelsEvery)
        return {"channels": run.totals.channels - merged * self._schedule.x}

    def _report(self, event: Event) -> None:
        run = self._require_run()
        if self._verbose:
            totals = run.original.totals
            print(event_line(event, totals.macs, totals.parameters, totals.further))
        if self._verbose > 1 and run.plan:
            print(run.plan.explain())

    def _warn_if_unmet(self) -> None:
        """Says it if events were skipped or refused, or the training ended before them."""
        run = self._require_run()
        if self._budget is None:
            self._warn_if_refused()
            return
        limits = self._limits(self._scheduler.goal)
        costs = run.totals.costs()
        now = {resource: costs[resource] for resource in limits}
        line = unmet_line(now, limits, run.events, run.skipped, len(self._scheduler.to_come))
        if line:
            warnings.warn(line, stacklevel=2)

    def _warn_if_refused(self) -> None:
        if any(skipped.refused for skipped in self.skipped):
            warnings.warn(
                f"{refused_text(self.skipped)}, and removed nothing.",
                stacklevel=2,
            )

    # ---- restarts

    def _agree_on_seed(self, position: state.Position | None) -> None:
        """The seed from before a restart, the user's, or a new one; the same in all processes."""
        if position is not None:
            self._seed = position.seed
        elif self._seed is None:
            drawn = np.random.SeedSequence().generate_state(1)
            first = float(backend.process_index(self.model) == 0)
            (agreed,) = backend.mean_over_processes(self.model, {"seed": drawn}, weight=first)[
                "seed"
            ]
            self._seed = int(agreed)

    def _choices(self, schedule: Schedule | AdaptiveSchedule, criterion: Any) -> dict[str, object]:
        """What must be the same after a restart."""
        return {
            "budget": self._budget,
            "schedule": schedule,
            "criterion": criterion,
            **vars(self._settings.preferences),
            "exclude": list(self._settings.exclude),
            "sample_size": self._sample_size,
            "compensation": self._settings.compensation,
            "min_share": self._min_share,
            **in_parts(self._guard),
            "distill": self._distill,
            "prior": self._settings.prior,
            "input_shape": self._input_shape,
        }

    def _went_on(self, position: state.Position) -> None:
        self._steps_before = position.step
        self._learn_from_teacher()
        if self._verbose:
            print(f"resumed before epoch {position.epoch}, after {len(self.events)} events")

    def _training(self) -> state.Training:
        run, other_callbacks = self._require_run(), self._other_callbacks
        return state.Training(self.model, run, self._scheduler, other_callbacks, self._teacher)

    def _position(self, epoch: int) -> state.Position:
        assert self._seed is not None  # since training began
        return state.Position(epoch, self._steps_before, self._seed)


def _parsed_budget(budget: Any, fixed_channels: bool) -> Budget | None:
    if not fixed_channels:
        return Budget.parse(budget)
    if budget is not None:
        raise InvalidArgument(
            "`schedules.channels_every` removes a fixed number of channels at every event, so it "
            f"goes without a budget. Received: budget={budget!r}. Leave `budget` out, or take "
            "another schedule."
        )
    return None
