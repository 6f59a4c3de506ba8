"""Activation density: layers become as wide as the share of their outputs that is not zero."""

from __future__ import annotations

import itertools
import sys
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import keras
import numpy as np

from keras_gcp import backend, keras_state
from keras_gcp.channels.map import ChannelMap
from keras_gcp.channels.trace import trace_at
from keras_gcp.costs.costs import Costs
from keras_gcp.costs.counting import build_cost_model, count_map, prunable_groups
from keras_gcp.criteria.density import channel_densities
from keras_gcp.errors import InvalidArgument
from keras_gcp.graph import Shapes
from keras_gcp.keras_state import Transaction
from keras_gcp.methods.density.rounds import Round, rounds_table
from keras_gcp.pruning.stages import comparison_inputs, cut_and_recount
from keras_gcp.sample import DrawnSample, Sample
from keras_gcp.sample.draw import draw_sample
from keras_gcp.sample.input_sizes import sizes_of
from keras_gcp.selection import Selection
from keras_gcp.selection.blockers import require_prunable
from keras_gcp.selection.plan import Plan
from keras_gcp.selection.planning import candidates_of, keep_of, plan_of
from keras_gcp.surgery.cut import Cut
from keras_gcp.training.fit_checks import check_known_to_optimizer
from keras_gcp.training.messages import say, verbosity
from keras_gcp.training.other_callbacks import register_pruner, reset_memory
from keras_gcp.training.pruner_checks import check_pruner
from keras_gcp.training.settings import checked_verbose
from keras_gcp.validation import between, layer_names, require_integer, require_seed

DENSEST = "densest"

_BACKWARDS = 3
"""A step of training is taken as three passes: forwards, and backwards to inputs and weights."""

_GO_ON = ("iteration", "learning_rate")
"""Variables of optimizers that no cut takes back."""


@dataclass
class _Widths:
    """The present round.

    Attributes:
        channels: The model's channel map.
        costs: What it costs.
        epochs: Epochs so far.
        steps: Training steps so far.
        history: Densities of every epoch.
        metric: The metric of the last epoch.
    """

    channels: ChannelMap
    costs: Costs
    epochs: int = 0
    steps: int = 0
    history: list[dict[str, float]] = field(default_factory=list)
    metric: float | None = None


@dataclass(frozen=True, eq=False)
class _Before:
    """How the model was before the last cut."""

    transaction: Transaction
    variables: tuple[Any, ...]
    values: tuple[np.ndarray, ...]
    plan: Plan | None


class ActivationDensity(keras.callbacks.Callback):
    """Trains, cuts every layer to the width that its activations fill, and trains on.

    The density of a layer is the share of its activations that are not zero. Once densities have
    become flat, every group of layers with the same channels goes to `density * width` channels,
    all at once, and the same `fit` goes on with the narrower model; until the accuracy falls below
    a floor, all rounds are used up, or nothing changes any more. If the metric is below `at_least`
    when a round ends, the last cut is taken back: the model is again as it was before it, in
    widths and weights, and is trained on without further cuts.

    Densities have no scale of their own: with batch normalization before every ReLU they are about
    one half at any width. So the method halves a network in each round, and the floor decides
    where it ends. Layers whose activations have no zeros (swish, linear bottlenecks) stay.

    Foldy-Porto, Venkatesha, Panda, 2020 (arXiv 2002.02949); when densities are flat, which channels
    stay and when rounds end is ours (docs/methods/activation_density.md).

    Args:
        sample: Examples as `fit` takes them, of which 512 are drawn once (a `keras_gcp.Sample` says
            how many else); densities are measured on them at the end of each epoch.
        at_least: The floor: a value of the metric, greater = better; None: there is none.
        metric: Entry of the logs that the floor is about.
        rounds: The most cuts.
        carry: `"densest"`: the channels with the greatest densities stay, with their weights and
            the optimizer's memory of them. None: all weights are drawn anew at each cut, and the
            optimizer forgets its gradients.
        patience: For so many epochs in a row no density may change by `min_change` or more before
            they count as flat.
        min_change: See `patience`.
        exclude: Names (or paths) of layers whose outputs, and all that is tied to them, stay.
        selection: Of a `keras_gcp.Selection`, or a dict of its arguments, `align`, `floor` and
            `cap`: the nearest allowed width is taken. Default: any width from 1.
        seed: Seed for drawing the sample.
        verbose: `"auto"`: silent if `fit` is (`verbose=0`), else one line per round. 0 = silent; 2
            says no more than 1.

    Attributes:
        rounds: What each round that has ended was, as `Round` objects.
        densities: Group of layers to its density at the end of the last epoch.
        plan: All cuts so far as one `Plan` for the original model; None before the first.
        training_macs: Multiply-adds of all training so far, all rounds summed up, for one example
            in each step, three times those of a forward pass. Multiply by the batch size.
        training_share: The same as a share of as many steps with the original model.

    The logs carry `density/<group>` for every group, `macs_left` and `parameters_left` as shares of
    the original, and `training_share`.

    Raises:
        InvalidArgument: an argument is malformed; at construction, or when training begins.
        UnsupportedModel: model or optimizer cannot be pruned; when training begins.

    Example:

    ```python
    density = keras_gcp.methods.ActivationDensity((x, y), at_least=0.95, rounds=4)
    model.fit(x, y, validation_data=(x_val, y_val), epochs=60, callbacks=[density])
    print(density.explain())
    ```
    """

    def __init__(
        self,
        sample: Any,
        at_least: float | None = None,
        metric: str = "val_accuracy",
        rounds: int = 5,
        *,
        carry: str | None = DENSEST,
        patience: int = 5,
        min_change: float = 0.01,
        exclude: Sequence[str] = (),
        selection: Any = Selection(align=1, floor=1),
        seed: int | None = None,
        verbose: int | str = "auto",
    ) -> None:
        super().__init__()
        self._floor = _checked_floor(at_least)
        if not isinstance(metric, str) or not metric:
            raise InvalidArgument(
                "`metric` expects the name of an entry of the logs, such as 'val_accuracy'. "
                f"Received: {metric!r}."
            )
        if carry is not None and carry != DENSEST:
            raise InvalidArgument(f"`carry` expects 'densest' or None. Received: {carry!r}.")
        change = between(min_change, 0.0, 1.0)
        if not change:
            raise InvalidArgument(
                "`min_change` expects a difference of densities in (0, 1]. "
                f"Received: {min_change!r}."
            )
        self._data, self._metric, self._carry = Sample.parse(sample), metric, carry
        self._most = require_integer("rounds", rounds, least=1)
        self._patience = require_integer("patience", patience, least=1)
        self._min_change = change
        self._exclude = layer_names("exclude", exclude)
        self._selection = Selection.parse(selection)
        self._seed = require_seed(seed)
        self._verbose = checked_verbose(verbose)
        self.rounds: tuple[Round, ...] = ()
        self.densities: dict[str, float] = {}
        self.plan: Plan | None = None
        self._now: _Widths | None = None
        self._before: _Before | None = None

    # ---- what came of it

    @property
    def training_macs(self) -> int | None:
        """Multiply-adds of all training so far, for one example in each step."""
        parts = [(one.macs, one.steps) for one in self.rounds]
        if self._now is not None:
            parts.append((self._now.costs.macs, self._now.steps))
        if any(macs is None for macs, _ in parts):
            return None
        return _BACKWARDS * sum((macs or 0) * steps for macs, steps in parts)

    @property
    def training_share(self) -> float | None:
        """`training_macs` as a share of as many steps with the original model."""
        total, steps = self.training_macs, self._steps
        if total is None or not steps:
            return None
        return total / (_BACKWARDS * steps * (self._original.macs or 1))

    def explain(self) -> str:
        """Text: a row for each round, and what all training took."""
        ended = [*self.rounds, *([self._ended()] if self._now and self._now.epochs else [])]
        share = self.training_share
        took = (
            "" if share is None else f"\ntraining took {share:.1%} of the original's multiply-adds"
        )
        return f"{rounds_table(ended, self._metric)}{took}"

    # ---- Keras' hooks

    def set_model(self, model: Any) -> None:
        super().set_model(model)
        register_pruner(model, self)

    def on_train_begin(self, logs: Any = None) -> None:
        model = self.model
        self._to_reset = check_pruner(self)
        self._sample: DrawnSample = draw_sample(
            self._data, self._data.size, self._seed, model, needs_labels=False
        )
        self._shapes: Shapes | None = sizes_of(model, None, self._sample)
        channels = trace_at(self._shapes, model, self._exclude, True)
        require_prunable(channels)
        candidates_of(channels, np.zeros(channels.coupled_count), self._selection)
        costs = count_map(channels)
        self._original: Costs = Costs(costs.macs, costs.parameters, costs.channels)
        self._widths = channels.widths()
        self.rounds, self.plan, self._before, self._done = (), None, None, False
        self._now = _Widths(channels, self._original)
        epochs = self.params.get("epochs")
        if epochs is not None and epochs < self._patience + 2:
            warnings.warn(
                f"ActivationDensity will cut nothing: with patience={self._patience} densities are "
                f"flat after {self._patience + 1} epochs at the earliest, a cut comes with the "
                f"epoch after them, and the fit has {epochs}. Expected more epochs, or a smaller "
                "`patience`.",
                stacklevel=2,
            )

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        if not self._done and self._is_flat():
            self._next_round()

    def on_train_batch_begin(self, batch: int, logs: Any = None) -> None:
        self._present.steps += int(self.model.steps_per_execution)

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        now = self._present
        now.epochs += 1
        now.metric = self._metric_in(logs or {})
        self.densities = self._measured(now.channels)
        now.history.append(self.densities)
        if logs is not None:
            logs.update({f"density/{name}": value for name, value in self.densities.items()})
            logs.update(self._shares())

    def on_train_end(self, logs: Any = None) -> None:
        if self._before is not None and self._is_below_floor():
            self._take_back()
        else:
            self._keep_cut()
        if not self.rounds and not self._done and not self._is_below_floor():
            self._warn_of_no_cut()
        backend.forget_gradients(self.model.train_function)
        if self._verbosity:
            say(self.explain())

    # ---- steps

    @property
    def _present(self) -> _Widths:
        if self._now is None:
            raise InvalidArgument(
                "ActivationDensity was used without `on_train_begin`; pass it to `model.fit`."
            )
        return self._now

    @property
    def _steps(self) -> int:
        return sum(one.steps for one in self.rounds) + (self._now.steps if self._now else 0)

    @property
    def _verbosity(self) -> int:
        return verbosity(self._verbose, self.params)

    def _measured(self, channels: ChannelMap) -> dict[str, float]:
        """Density of each group."""
        own = channel_densities(self.model, channels, self._sample)
        weight = len(self._sample)
        values = backend.mean_over_processes(self.model, {"densities": own}, weight)["densities"]
        self._by_channel = values
        return {one.name: float(values[one.coupled].mean()) for one in prunable_groups(channels)}

    def _metric_in(self, logs: Mapping[str, Any]) -> float | None:
        if self._metric in logs:
            return float(logs[self._metric])
        if self._floor is None:
            return None
        raise InvalidArgument(
            f"`metric={self._metric!r}` of ActivationDensity is not among the logs: "
            f"{', '.join(map(repr, logs))}. Compile with that metric, and pass `validation_data` "
            "for names that begin with 'val_'; or name another one."
        )

    def _shares(self) -> dict[str, float]:
        now, original, found = self._present.costs, self._original, {}
        if now.macs is not None and original.macs:
            found["macs_left"] = now.macs / original.macs
        found["parameters_left"] = now.parameters / original.parameters
        share = self.training_share
        return found if share is None else {**found, "training_share": share}

    def _is_flat(self) -> bool:
        recent = self._present.history[-self._patience - 1 :]
        if len(recent) <= self._patience:
            return False
        steps = itertools.pairwise(recent)
        return all(abs(b[name] - a[name]) < self._min_change for a, b in steps for name in a)

    def _warn_of_no_cut(self) -> None:
        """Unless it was said before the first step."""
        recent = self._present.history[-self._patience - 1 :]
        if len(recent) <= self._patience or self._is_flat():
            return
        change, name = max(
            (abs(b[name] - a[name]), name) for a, b in itertools.pairwise(recent) for name in a
        )
        warnings.warn(
            f"ActivationDensity has cut nothing: the density of '{name}' still changed by "
            f"{change:.3g} from one epoch to the next at the end, and all of them count as flat "
            f"only below min_change={self._min_change} for patience={self._patience} epochs. "
            "Expected more epochs, a greater `min_change`, or a smaller `patience`.",
            stacklevel=2,
        )

    def _is_below_floor(self) -> bool:
        metric = self._present.metric
        return self._floor is not None and metric is not None and not metric >= self._floor

    def _keep_cut(self) -> None:
        """The last cut, if there is one, is taken back no more."""
        if self._before is not None:
            self._before.transaction.commit()
            self._before = None

    def _next_round(self) -> None:
        if self._is_below_floor():
            if self._before is not None:
                self._take_back()
            return  # That of the original: training may still bring it there.
        self._keep_cut()
        plan = None if len(self.rounds) == self._most else self._planned()
        if plan is None or not plan.removed_channels:
            self._done = True
            return
        self._cut(plan)

    def _planned(self) -> Plan:
        """Every group at its density times its width, with its densest channels."""
        channels = self._present.channels
        scores = self._by_channel
        groups = prunable_groups(channels)
        candidates = candidates_of(channels, scores, self._selection, self._widths)
        keep = np.ones(channels.coupled_count, bool)
        for group, one in zip(groups, candidates, strict=True):
            width = width_by_density(len(group.coupled), float(scores[group.coupled].mean()))
            keep[group.coupled] = one.best(_nearest(one.widths, width))
        found = plan_of(channels, keep, build_cost_model(channels), "activation density")
        return replace(found, criterion="activation density")

    def _cut(self, plan: Plan) -> None:
        model, channels = self.model, self._present.channels
        keras_state.put_state_back(model)
        check_known_to_optimizer(model)
        backend.assert_equal(model, "their plans", plan.digest())
        variables = (*model.variables, *keras_state.optimizer_variables(model))
        values = tuple(np.array(keras.ops.convert_to_numpy(one)) for one in variables)
        transaction = Transaction()
        before = _Before(transaction, variables, values, self.plan)
        cut = Cut(channels, keep_of(plan, channels), {})
        inputs = comparison_inputs(model, self._sample)

        def run() -> None:
            cut_and_recount(
                cut,
                plan.after,
                transaction,
                inputs=inputs,
                in_fit=True,
                shapes=self._shapes,
                exclude=self._exclude,
            )

        try:
            backend.run_everywhere(model, run)
        except BaseException:
            transaction.rollback()
            raise
        if self._carry is None:
            _draw_anew(model)
        self._end_round()
        self._before = before
        self.plan = plan if self.plan is None else self.plan.then(plan)
        self._begin_round(plan.after)
        if self._verbosity:
            say(
                f"round {len(self.rounds)}: "
                f"{plan.before.parameters:,} -> {plan.after.parameters:,} parameters"
            )

    def _end_round(self, taken_back: bool = False) -> None:
        self.rounds = (*self.rounds, replace(self._ended(), taken_back=taken_back))

    def _ended(self) -> Round:
        now = self._present
        return Round(
            now.epochs,
            now.steps,
            now.costs.macs,
            now.costs.parameters,
            now.channels.widths(),
            self.densities,
            now.metric,
        )

    def _begin_round(self, costs: Costs) -> None:
        self._now = _Widths(trace_at(self._shapes, self.model, self._exclude, True), costs)
        reset_memory(self._to_reset)
        backend.forget_shapes()

    def _take_back(self) -> None:
        """The model as it was before the last cut; no further ones."""
        before = self._before
        assert before is not None
        keras_state.put_state_back(self.model)
        self._end_round(taken_back=True)
        before.transaction.rollback()
        for variable, value in zip(before.variables, before.values, strict=True):
            if variable.name not in _GO_ON:
                variable.assign(value)
        self._before, self.plan, self._done = None, before.plan, True
        costs = self._original if before.plan is None else before.plan.after
        self._begin_round(costs)
        if self._verbosity:
            say(f"{self._metric} below {self._floor}: the last cut is taken back")


def width_by_density(width: int, density: float) -> int:
    """The width that is filled: `density * width`, rounded, and at least 1.

    Example:

    >>> width_by_density(32, 0.52), width_by_density(3, 0.1)
    (17, 1)
    """
    return max(1, round(density * width))


def _nearest(widths: Sequence[int], wanted: int) -> int:
    """Of two that are as near, the wider."""
    return min(widths, key=lambda width: (abs(width - wanted), -width))


def _draw_anew(model: Any) -> None:
    """Gives a model fresh weights, and lets its optimizers forget their gradients."""
    with keras_state.strategy_scope(model):
        fresh = keras.models.clone_model(model)
    for variable, value in zip(model.weights, fresh.weights, strict=True):
        variable.assign(value)
    keras_state.reset_slots(model)


def _checked_floor(at_least: Any) -> float | None:
    if at_least is None:
        return None
    found = between(at_least, -sys.float_info.max, sys.float_info.max)
    if found is None:
        raise InvalidArgument(
            "`at_least` of ActivationDensity expects a value of the metric, such as 0.95, or None. "
            f"Received: {at_least!r}."
        )
    return found
