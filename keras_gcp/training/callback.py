"""The callback: prunes gradually while `model.fit` goes on."""

from __future__ import annotations

import os
import warnings
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np

from keras_gcp import backend, keras_state
from keras_gcp.errors import InvalidArgument
from keras_gcp.pruning.stages import require_one_criterion
from keras_gcp.schedules import AdaptiveSchedule, LimitingSchedule, Schedule, min_step_of
from keras_gcp.schedules.scheduler import DueEvent, Scheduler
from keras_gcp.selection import Selection
from keras_gcp.selection.plan import Plan
from keras_gcp.training.accuracy_guard import AccuracyGuard
from keras_gcp.training.backup import state
from keras_gcp.training.backup.manager import BackupManager
from keras_gcp.training.closing_messages import refused_text, savings_line, unmet_line
from keras_gcp.training.distillation import Distillation, Teacher
from keras_gcp.training.event_records import Event, EventRequest, SkippedEvent, when
from keras_gcp.training.fit_checks import (
    check_fit_runs,
    check_known_to_optimizer,
    monitored,
    planned,
)
from keras_gcp.training.messages import (
    begin_line,
    end_open_line,
    event_lines,
    number_text,
    outlook_line,
    say,
    stages_line,
    verbosity,
)
from keras_gcp.training.other_callbacks import (
    callbacks_to_reset,
    check_only_pruner,
    check_other_callbacks,
    other_callbacks_of,
    register_pruner,
    reset_memory,
)
from keras_gcp.training.preparation import PrunedModel, choices, prepare
from keras_gcp.training.pruning_run import PruningRun
from keras_gcp.training.running_fit import RunningFit, compiles_steps
from keras_gcp.training.settings import AT_ONCE, AUTO, Arguments
from keras_gcp.training.step_times import Savings
from keras_gcp.training.tensorboard import EventLog
from keras_gcp.training.trial_runs import check_monitor, check_removals
from keras_gcp.validation.configured import call_text, changed_fields


class GradualChannelPruning(keras.callbacks.Callback):
    """Removes channels during `model.fit`, until a budget is met.

    At every event the channels are scored on a held sample batch and ranked globally; the least
    relevant ones leave, and the model's layers, weights, optimizer slots, shapes and compiled
    functions become narrower in place. The same `model` object trains on and gets cheaper. Each
    cut is compared with the masked model on the sample, and taken back if they differ.

    After "Gradual Channel Pruning while Training using Feature Relevance Scores for Convolutional
    Neural Networks", Aketi, Roy, Raghunathan, Roy, 2020 (arXiv 2002.09958).

    Args:
        sample: Examples as `fit` takes them, of which 512 are drawn once, when training begins (a
            `keras_gcp.Sample` says how many else): `(x, y)` arrays, a `tf.data.Dataset` or a
            `keras.utils.PyDataset`; `x` alone with criteria that read no labels (`"l2_norm"`); see
            `keras_gcp.plan`. None is allowed with criteria that look at no data.
        budget: What may *remain*: a dict of shares in (0, 1) of the original `"macs"`,
            `"parameters"`, (prunable) `"channels"`, `"tflite_bytes"`, `"tflite_bytes_int8"`,
            `"peak_activation_bytes"`, `"peak_activation_bytes_int8"` or `"latency_ms"` (see
            `keras_gcp.timed`), or of `keras_gcp.absolute(count)`; or a `keras_gcp.Budget`, whose
            shares may be those of another model. All entries must hold. None only with
            `schedules.channels_every`.
        schedule: `keras_gcp.schedules.linear`, `cubic`, `cosine`, `one_shot`, `function`,
            `on_plateau` or `channels_every`, or an object of one's own. Its `min_step` is the share
            of the original cost that is worth an event. Default: where all layers have learned
            something already, one cut before the first epoch; else, and with a `guard`, four cubic
            events between a tenth and a half of the epochs.
        criterion: Name of a criterion, or a callable `(model, channels, sample) -> {path of a
            producing layer: (width,) scores}`, larger = keep. `"auto"`: `"loss_aware"` where
            it applies, else the first of `"compensation_aware"`, `"feature_relevance"`, `"taylor"`
            and `"l2_norm"` that does; decided once, when training begins, and said with the reason.
        exclude: Names (or paths) of layers whose outputs, and all that is tied to them, stay.
        selection: How to select: a `keras_gcp.Selection`, or a dict of its arguments `align`,
            `floor`, `cap`, `ranking`, `prior`, `normalize` and `evenness`.
        compensation: What is done at a cut about what the removed channels did, on the sample:
            `"least_squares"`, `"fold"`, None, or a `keras_gcp.Compensation` (or a dict of its
            arguments). `"auto"`: least squares, if there is a sample.
        guard: A `keras_gcp.AccuracyGuard`: no event may make a metric worse than it allows, on
            examples that training does not see. None: no limit.
        distillation: A `keras_gcp.Distillation`: from the first cut on the model also learns from
            itself as it was before. None: it does not.
        verify: Whether to compare the narrow model with the masked one after each cut.
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
        reset: Callbacks whose memory of a best model is cleared at a cut, because weights kept from
            before no longer fit, and a wider model's figures are another model's. `"auto"`: every
            `EarlyStopping` and `ModelCheckpoint(save_best_only=True)` of the same fit.
        seed: Seed for drawing the sample and for the random criterion; None draws one.
        verbose: `"auto"`: silent if `fit` is (`verbose=0`), else as 1. 0 = silent. 1 = one line
            before training; when an event begins; two when it is done; one at the end. 2 = also
            what the stages of an event took, and the table of widths. Lines are printed as Keras
            prints its own; see `keras.config.disable_interactive_logging`.
        input_shape: The size to count at, if the model leaves sizes of its input open
            (`keras.Input((None, None, 3))`), as in `keras_gcp.plan`. None: the size of the sample,
            if there is one. The model keeps its open sizes.

    Attributes:
        plan: All cuts so far as one `Plan` for the original model; None before the first event.
        events: What each event did, as `Event` objects.
        skipped: Events that failed (with `on_failure="skip"`) or were refused (by the guard),
            as `SkippedEvent` objects.
        savings: What pruning has cost and saved so far, in seconds.
        costs: What the model costs now, by resource: `"macs"`, `"parameters"`, `"channels"` and
            further ones of the budget. Empty before training.
        original_costs: What shares refer to, likewise.

    The logs (and so the progress bar, `History`, and callbacks further down the list, such as
    `CSVLogger`) carry what is left of the original for every epoch, as shares: `macs_left`,
    `parameters_left`, `channels_left` and further resources of the budget. `costs` has the numbers.
    A `keras.callbacks.TensorBoard` in the same fit shows every event, as a run `pruning`.

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
        criterion: Any = AUTO,
        *,
        exclude: Sequence[str] = (),
        selection: Any = Selection(),
        compensation: Any = AUTO,
        guard: AccuracyGuard | None = None,
        distillation: Distillation | None = None,
        verify: bool = True,
        on_failure: str = "raise",
        backup_dir: str | os.PathLike[str] | None = None,
        reset: str | Sequence[Any] = AUTO,
        seed: int | None = None,
        verbose: int | str = AUTO,
        input_shape: Any = None,
    ) -> None:
        super().__init__()
        self._arguments = Arguments(
            sample,
            budget,
            schedule,
            criterion,
            exclude=exclude,
            selection=selection,
            compensation=compensation,
            guard=guard,
            distillation=distillation,
            verify=verify,
            on_failure=on_failure,
            backup_dir=backup_dir,
            reset=reset,
            seed=seed,
            verbose=verbose,
            input_shape=input_shape,
        )
        self._backups = BackupManager(backup_dir, on_failure)
        self._pruned: PrunedModel | None = None  # what belongs to one model
        self._fit: RunningFit | None = None  # what belongs to one fit

    def __repr__(self) -> str:
        return call_text(type(self).__name__, changed_fields(self._arguments), more=True)

    def get_config(self) -> dict[str, Any]:
        """The arguments as a dict; objects, such as the sample, as they are."""
        return self._arguments.get_config()

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
        return dict(self._run.costs) if self._run else {}

    @property
    def original_costs(self) -> dict[str, float]:
        """What the model cost that shares refer to, by resource."""
        return dict(self._run.original.costs) if self._run else {}

    # ---- Keras' hooks

    def set_model(self, model: Any) -> None:
        super().set_model(model)
        register_pruner(model, self)

    def on_train_begin(self, logs: Any = None) -> None:
        model, epochs = self.model, self.params.get("epochs") or 1
        check_only_pruner(model, self)
        check_fit_runs(model)
        schedule = self._arguments.schedule_for(model, epochs)
        scheduler = planned(schedule, epochs, self.params.get("steps"))
        others = other_callbacks_of(self)
        check_other_callbacks(others)
        to_reset = callbacks_to_reset(self, self._arguments.reset)
        check_known_to_optimizer(model)
        seed = self._agreed_seed(self._backups.find(model))
        if self._pruned is None or not self._pruned.is_about(model):
            self._begin(model, schedule, scheduler, seed)
        elif self._fit is not None:
            scheduler.restore(self._fit.scheduler.to_dict())
        log = EventLog(others, writes=backend.process_index(model) == 0)
        self._fit = RunningFit(schedule, scheduler, others, to_reset, log)
        if scheduler.adaptive is not None:
            check_monitor(scheduler.adaptive.monitor, model, self._required_run(), others)
        self._learn_from_teacher()
        self._required_run().times.start()
        self._backups.prepare(model, self._required_run(), epochs)

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        fit = self._required_fit()
        fit.begin_epoch(epoch, self.params.get("steps"))
        if fit.has_begun:
            self._backups.write(self._training(), self._position(epoch))
        else:
            self._begin_first_epoch(epoch)
        if fit.scheduler.unit == "epoch":
            self._run_due(epoch, epoch, None)

    def on_train_batch_begin(self, batch: int, logs: Any = None) -> None:
        # Steps are timed here alone: a method `on_train_batch_end` would make Keras wait for the
        # device after each of them.
        fit = self._required_fit()
        if fit.scheduler.unit == "step":
            step = fit.steps_before + batch
            self._run_due(step, fit.epoch, step)
        fit.steps_in_epoch = batch + int(self.model.steps_per_execution)
        self._required_run().times.step()

    def on_test_begin(self, logs: Any = None) -> None:
        if self._run is not None:
            self._run.times.pause()

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        run = self._required_run()
        run.times.pause()
        run.note_retracing()
        self._required_fit().log.retraced(run.events)
        if self._teacher is not None:
            self._teacher.check_used(self.model)
        if logs is None:
            return
        self._observe(logs)
        logs.update({f"{resource}_left": left for resource, left in run.shares_left.items()})

    def on_train_end(self, logs: Any = None) -> None:
        backend.forget_gradients(self.model.train_function)
        if self._teacher is not None:
            self._teacher.detach(self.model)
        self._backups.clear()
        self._required_fit().log.close()
        self._warn_if_unmet()
        if self._verbosity and self.events:
            say(savings_line(self._required_run().savings, self.events, self.skipped))

    # ---- steps

    @property
    def _run(self) -> PruningRun | None:
        return None if self._pruned is None else self._pruned.run

    @property
    def _teacher(self) -> Teacher | None:
        return None if self._pruned is None else self._pruned.teacher

    @property
    def _verbosity(self) -> int:
        """0, 1 or 2: what the user said, or what `fit` was told."""
        return verbosity(self._arguments.verbose, self.params)

    def _required_run(self) -> PruningRun:
        if self._run is None:
            raise InvalidArgument(
                "GradualChannelPruning was used without `on_train_begin`; pass it to `model.fit`."
            )
        return self._run

    def _required_fit(self) -> RunningFit:
        self._required_run()
        assert self._fit is not None
        return self._fit

    def _begin(
        self,
        model: Any,
        schedule: Schedule | AdaptiveSchedule,
        scheduler: Scheduler,
        seed: int,
    ) -> None:
        """Looks at everything once, and says what a user should know before the first epoch."""
        pruned = backend.run_everywhere(model, lambda: prepare(model, self._arguments, seed))
        if self._backups.wanted:
            self._backups.identify(model, choices(self._arguments, schedule, pruned))
        self._pruned = pruned
        require_one_criterion(model, pruned.decision)
        if self._verbosity:
            say(outlook_line(pruned.outlook(self._arguments, schedule, scheduler)))
            if schedule is AT_ONCE:
                say("schedule: one cut, because all layers are trained")
            for line in pruned.first_remarks():
                say(line)

    def _agreed_seed(self, position: state.Position | None) -> int:
        """The seed from before a restart, the user's, or a new one; the same in all processes."""
        if position is not None:
            return position.seed
        if self._arguments.seed is not None:
            return self._arguments.seed
        if self._pruned is not None:
            return self._pruned.seed
        drawn = np.random.SeedSequence().generate_state(1)
        first = float(backend.process_index(self.model) == 0)
        mean = backend.mean_over_processes(self.model, {"seed": drawn}, weight=first)
        return int(mean["seed"][0])

    def _learn_from_teacher(self) -> None:
        """Distils if something has been cut, in this fit or in one before."""
        teacher = self._teacher
        if teacher is None or not teacher.is_ready or not self._required_run().pruned_channels:
            return
        if not teacher.is_attached(self.model):
            teacher.attach(self.model)

    def _begin_first_epoch(self, epoch: int) -> None:
        fit = self._required_fit()
        fit.has_begun = True
        position = self._backups.go_on(self._training())
        if position is not None:
            self._went_on(position)
        step = None if fit.scheduler.unit == "epoch" else fit.steps_before
        fit.log.begin(self._required_run().shares_left, epoch, step)
        # Of an earlier fit, or before the restart.
        if self.events or self.skipped or fit.scheduler.has_begun:
            fit.scheduler.drop_before(epoch if fit.scheduler.unit == "epoch" else fit.steps_before)
        if isinstance(fit.schedule, LimitingSchedule):  # Only now the events are known.
            check_removals(self.model, self._required_run(), fit.scheduler, fit.schedule)

    def _observe(self, logs: dict[str, Any]) -> None:
        """Notes what the schedule monitors; the same in all processes."""
        fit = self._required_fit()
        adaptive = fit.scheduler.adaptive
        value = None if adaptive is None else monitored(logs, adaptive.monitor, fit.epoch)
        if value is not None:
            values = {"value": np.array(value)}
            mean = backend.mean_over_processes(self.model, values, weight=1.0)
            fit.scheduler.observe(float(mean["value"]))

    def _run_due(self, position: int, epoch: int, step: int | None) -> None:
        """The event that is due, if any, unless it is too small for one of its own."""
        fit = self._required_fit()
        due = fit.scheduler.due_at(position)
        if due is not None and self._arguments.budget is not None:
            run = self._required_run()
            now, original = run.costs, run.original.costs
            min_step = min_step_of(fit.schedule)
            due = fit.scheduler.put_together(due, now, self._limits, original, min_step)
        if due is not None:
            self._event(epoch, step, due)

    def _event(self, epoch: int, step: int | None, due: DueEvent) -> None:
        run, scheduler = self._required_run(), self._required_fit().scheduler
        number = self._number(due)
        self._announce(number, epoch, step)
        keras_state.put_state_back(self.model)
        try:
            check_known_to_optimizer(self.model)  # Another callback may have unfrozen layers.
            self._show_teacher()
            limits = self._limits(due.progress, due.merged)
            request = EventRequest(epoch, step, due.progress, limits, due.merged, self._goal())
            outcome = run.event(self.model, request, in_fit=True)
        except Exception as error:
            if self._arguments.on_failure == "raise":
                raise
            self._skip(SkippedEvent(epoch, step, f"{type(error).__name__}: {error}"))
            return
        if isinstance(outcome, SkippedEvent):
            self._put_off(outcome)
            return
        scheduler.done(outcome.progress)
        if outcome.removed_channels:
            reset_memory(self._required_fit().to_reset)
        self._learn_from_teacher()
        self._report(outcome, number)

    def _number(self, due: DueEvent) -> str:
        """Which event of the schedule it is, in words."""
        scheduler = self._required_fit().scheduler
        numbers = scheduler.numbers_of(due)
        if numbers is None:
            next_one = len(self.events) + len(self.skipped) + 1
            return number_text(next_one, next_one, None)
        return number_text(*numbers, scheduler.scheduled)

    def _announce(self, number: str, epoch: int, step: int | None) -> None:
        """Says that an event begins: it may take a minute, in which nothing else is printed."""
        if not self._verbosity:
            return
        inside = step is not None and step > self._required_fit().steps_before
        if inside and self.params.get("verbose") in (1, AUTO):
            end_open_line()
        say(begin_line(number, epoch, step, compiles=compiles_steps(self.model)))

    def _show_teacher(self) -> None:
        """Before the first cut, the teacher takes the weights as they are now."""
        if self._teacher is not None and not self._required_run().pruned_channels:
            self._teacher.take(self.model.get_weights())

    def _put_off(self, refused: SkippedEvent) -> None:
        self._required_fit().scheduler.left_out()
        self._required_fit().log.skipped(refused)
        if self._verbosity:
            say(f"  nothing removed: {refused.error}")

    def _skip(self, skipped: SkippedEvent) -> None:
        self._required_fit().scheduler.left_out()
        self._required_run().skipped.append(skipped)
        self._required_fit().log.skipped(skipped)
        warnings.warn(
            f"The event before {when(skipped.epoch, skipped.step)} failed and was skipped; the "
            f"model is as it was before. {skipped.error}",
            stacklevel=2,
        )

    def _limits(self, progress: float, merged: int = 1) -> dict[str, float]:
        run, schedule = self._required_run(), self._required_fit().schedule
        if isinstance(schedule, LimitingSchedule):
            return schedule.limits(run.costs, merged)
        return self._arguments.budget.limits_at(run.original.costs, progress)

    def _goal(self) -> dict[str, float] | None:
        """What may remain after the last event, if the schedule says that."""
        fit = self._required_fit()
        says_one = isinstance(fit.schedule, LimitingSchedule)
        return None if says_one else self._limits(fit.scheduler.goal)

    def _report(self, event: Event, number: str) -> None:
        run = self._required_run()
        self._required_fit().log.event(event, run.shares_left, run.plan)
        if not self._verbosity:
            return
        for line in event_lines(event, run.original.costs, number):
            say(line)
        if self._verbosity > 1:
            say(stages_line(event))
            if run.plan:
                say(run.plan.explain())

    def _warn_if_unmet(self) -> None:
        """Says it if events were skipped or refused, or the training ended before them."""
        run, scheduler = self._required_run(), self._required_fit().scheduler
        if self._arguments.budget is None:
            self._warn_if_refused()
            return
        limits = self._limits(scheduler.goal)
        costs = run.costs
        now = {resource: costs[resource] for resource in limits}
        line = unmet_line(now, limits, run.events, run.skipped, len(scheduler.to_come))
        if line:
            warnings.warn(line, stacklevel=2)

    def _warn_if_refused(self) -> None:
        if any(skipped.refused for skipped in self.skipped):
            warnings.warn(
                f"{refused_text(self.skipped)}, and removed nothing.",
                stacklevel=2,
            )

    # ---- backups

    def _went_on(self, position: state.Position) -> None:
        self._required_fit().steps_before = position.step
        self._learn_from_teacher()
        if self._verbosity:
            say(f"resumed before epoch {position.epoch}, after {len(self.events)} events")

    def _training(self) -> state.Training:
        fit, pruned = self._required_fit(), self._pruned
        assert pruned is not None
        return state.Training(
            self.model, pruned.run, fit.scheduler, fit.other_callbacks, pruned.teacher
        )

    def _position(self, epoch: int) -> state.Position:
        assert self._pruned is not None
        return state.Position(epoch, self._required_fit().steps_before, self._pruned.seed)
