"""The callback: prunes gradually while `model.fit` goes on."""

from __future__ import annotations

import gc
import time
import weakref
from collections.abc import Sequence
from typing import Any

import keras

from keras_gcp import backend, criteria, schedules
from keras_gcp.budgets import Budget
from keras_gcp.errors import InvalidArgument
from keras_gcp.events import Event
from keras_gcp.fit_checks import (
    AUTO,
    callbacks_to_reset,
    check_criterion,
    check_feasible,
    check_fit_runs,
    check_known_to_optimizer,
    check_model,
    check_only_pruner,
    check_reset,
    check_schedule,
    register_pruner,
    reset_memory,
)
from keras_gcp.plans import Plan
from keras_gcp.reporting.text import event_line
from keras_gcp.run import Original, PruningRun, Settings
from keras_gcp.sample import SAMPLE_SIZE, draw_sample
from keras_gcp.schedules import ChannelsEvery, Schedule
from keras_gcp.selection import DEFAULT_FLOOR, check_align, check_floor


class GradualChannelPruning(keras.callbacks.Callback):
    """Removes channels during `model.fit`, until a budget is met.

    At every event the channels are scored on a held sample batch and ranked globally; the least
    relevant ones leave, and the model's layers, weights, optimizer slots, shapes and compiled
    functions become narrower in place. The same `model` object trains on and gets cheaper. Each
    cut is compared with the masked model on the sample, and taken back if they differ.

    After "Gradual Channel Pruning while Training using Feature Relevance Scores for Convolutional
    Neural Networks", Aketi, Roy, Raghunathan, Roy, 2020 (arXiv 2002.09958).

    Args:
        sample: `(x, y)` arrays, or a `tf.data.Dataset` or `keras.utils.PyDataset`, from which
            `sample_size` examples are drawn once, when training begins. Labels sparse or one-hot.
            None is allowed with criteria that look at no data (`"l2_norm"`).
        budget: Dict of what may *remain*: a share in (0, 1) of the original `"macs"`,
            `"parameters"` or (prunable) `"channels"`, or `keras_gcp.absolute(count)`. All entries
            must hold. None only with `schedules.channels_every`.
        schedule: `keras_gcp.schedules.linear`, `cubic`, `one_shot` or `channels_every`. Default:
            four cubic events between a tenth and a half of the epochs.
        criterion: Name of a criterion, or a callable `(model, channels, sample) -> {path of a
            producing layer: (width,) scores}`, larger = keep.
        align: Widths to prefer: `"auto"` (multiples of 8 for layers of 16 channels and more, free
            below) or a number; odd widths run slower than the next larger multiple.
        floor: Least width of a layer: int = channels, float = share of the original width.
        exclude: Names (or paths) of layers whose outputs, and all that is tied to them, stay.
        verify: Whether to compare the narrow model with the masked one after each cut.
        seed: Seed for drawing the sample and for the random criterion.
        reset: Callbacks whose memory of a best model is cleared at a cut, because weights kept from
            before no longer fit, and a wider model's figures are another model's. `"auto"`: every
            `EarlyStopping` and `ModelCheckpoint(save_best_only=True)` of the same fit.
        verbose: 0 = silent, 1 = one line per event, 2 = also the table of widths.
        reference: Model whose costs and widths shares refer to; by default the model as this
            callback first saw it.
        sample_size: Number of examples drawn from `sample`; None takes all.

    Attributes:
        plan: All cuts so far as one `Plan` for the original model; None before the first event.
        events: What each event did, as `Event` objects.
        retrace_seconds: For each event, how much longer than usual the next training step took.

    The logs (and so `History`, and callbacks further down the list, such as `CSVLogger`) carry
    `macs`, `parameters` and `pruned_channels` for every epoch.

    Raises:
        InvalidArgument: an argument is malformed; at construction, or when training begins.
        UnsupportedModel: model or optimizer cannot be pruned; when training begins.
        ImpossibleBudget: floors and anchors forbid the budget; when training begins.

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
        schedule: Schedule | None = None,
        criterion: Any = "feature_relevance",
        align: str | int = "auto",
        floor: int | float = DEFAULT_FLOOR,
        exclude: Sequence[str] = (),
        verify: bool = True,
        seed: int | None = None,
        reset: str | Sequence[Any] = AUTO,
        verbose: int = 1,
        reference: Any = None,
        sample_size: int | None = SAMPLE_SIZE,
    ) -> None:
        super().__init__()
        self._fixed_channels = isinstance(schedule, ChannelsEvery)
        self._budget = _parsed_budget(budget, self._fixed_channels)
        if schedule is not None and not isinstance(schedule, Schedule):
            raise InvalidArgument(
                "`schedule` expects `keras_gcp.schedules.linear(...)`, `cubic`, `one_shot` or "
                f"`channels_every`. Received: {schedule!r}."
            )
        check_align(align)
        check_floor(floor)
        check_reset(reset)
        self._schedule = schedule
        exclude = (exclude,) if isinstance(exclude, str) else tuple(exclude)
        self._settings = Settings(criteria.get(criterion, seed=seed), align, floor, exclude, verify)
        self._sample_source, self._sample_size, self._seed = sample, sample_size, seed
        self._reset = reset
        self._to_reset: tuple[Any, ...] = ()
        self._reference = reference
        self._verbose = verbose
        self._run: PruningRun | None = None
        self._first_model: Any = None  # weak reference to the model this callback prunes
        self._due: dict[int, float] = {}
        self._step_started = 0.0
        self._awaiting_retrace = False
        self._usual_step = 0.0
        self.retrace_seconds: list[float] = []

    @property
    def plan(self) -> Plan | None:
        """All cuts so far as one plan for the original model."""
        return self._run.plan if self._run else None

    @property
    def events(self) -> tuple[Event, ...]:
        """What each event did."""
        return tuple(self._run.events) if self._run else ()

    # ---- Keras' hooks

    def set_model(self, model: Any) -> None:
        super().set_model(model)
        register_pruner(model, self)

    def on_train_begin(self, logs: Any = None) -> None:
        model = self.model
        check_only_pruner(model, self)
        check_fit_runs(model)
        epochs = self.params.get("epochs") or 1
        self._due = check_schedule(self._schedule or schedules.default(epochs), epochs)
        self._to_reset = callbacks_to_reset(self, self._reset)
        check_known_to_optimizer(model)
        if self._run is None or self._first_model() is not model:
            backend.together(model, lambda: self._start(model))
        self._usual_step, self._awaiting_retrace = 0.0, False

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        progress = self._due.get(epoch)
        if progress is None:
            return
        run = self._require_run()
        event = run.event(self.model, self._limits(progress), epoch, progress, in_fit=True)
        if event.removed_channels:
            reset_memory(self._to_reset)
            self._awaiting_retrace = True
            backend.forget_shapes()
            gc.collect()  # Dead graphs are cycles; Python would let dozens gather first.
        self._report(event)

    def on_train_batch_begin(self, batch: int, logs: Any = None) -> None:
        self._step_started = time.perf_counter()

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        seconds = time.perf_counter() - self._step_started
        if self._awaiting_retrace:
            self._awaiting_retrace = False
            self.retrace_seconds.append(max(0.0, seconds - self._usual_step))
        else:
            self._usual_step = min(seconds, self._usual_step or seconds)

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        if logs is None:
            return
        run = self._require_run()
        totals = run.plan.after if run.plan else run.first_totals
        logs["macs"] = float(totals.macs)
        logs["parameters"] = float(totals.parameters)
        logs["pruned_channels"] = float(run.pruned_channels)

    def on_train_end(self, logs: Any = None) -> None:
        backend.forget_gradients(self.model.train_function)

    # ---- steps

    def _start(self, model: Any) -> None:
        """Looks at everything once, so that nothing can go wrong ten epochs later."""
        channels, totals = check_model(model, self._settings.exclude)
        original = Original(totals, channels.widths())
        if self._reference is not None:
            original = Original.of(self._reference, self._settings.exclude)
        sample = None
        if self._sample_source is not None:
            sample = draw_sample(self._sample_source, self._sample_size, self._seed, model)
        check_criterion(self._settings.scorer, model, channels, sample)
        if self._budget is not None:
            check_feasible(model, channels, self._budget, totals, original, self._settings)
        self._run = PruningRun(self._settings, original, sample, first_totals=totals)
        self._first_model = weakref.ref(model)

    def _require_run(self) -> PruningRun:
        if self._run is None:
            raise InvalidArgument(
                "GradualChannelPruning was used without `on_train_begin`; pass it to `model.fit`."
            )
        return self._run

    def _limits(self, progress: float) -> dict[str, float]:
        run = self._require_run()
        if self._budget is not None:
            return self._budget.limits(run.original.costs(), progress)
        now = (run.plan.after if run.plan else run.first_totals).channels
        assert isinstance(self._schedule, ChannelsEvery)
        return {"channels": now - self._schedule.x}

    def _report(self, event: Event) -> None:
        run = self._require_run()
        if self._verbose:
            totals = run.original.totals
            print(event_line(event, totals.macs, totals.parameters))
        if self._verbose > 1 and run.plan:
            print(run.plan.explain())


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
