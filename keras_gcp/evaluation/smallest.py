"""The smallest model that is still good enough, found by bisection."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from keras_gcp import backend, criteria, resources
from keras_gcp.channels.trace import trace, trace_at
from keras_gcp.classification.metrics import Metric, metric_for, value_of
from keras_gcp.compensation import AUTO
from keras_gcp.compensation import parse as parse_compensation
from keras_gcp.costs.budget import Budget, check_resource
from keras_gcp.costs.counting import build_cost_model
from keras_gcp.errors import ImpossibleBudget, InvalidArgument
from keras_gcp.evaluation.masked_model import MaskedModel
from keras_gcp.evaluation.smallest_result import Smallest, Trial, share_left
from keras_gcp.pruning.one_shot import apply
from keras_gcp.pruning.original import Original
from keras_gcp.pruning.planner import Planner
from keras_gcp.pruning.stages import (
    compensated_weights,
    decided,
    in_words,
    preferences,
    scores_are_losses,
    settled,
    weighted,
)
from keras_gcp.sample import draw_sample, sample_of
from keras_gcp.sample.input_sizes import sizes_of
from keras_gcp.selection import Selection
from keras_gcp.selection.blockers import require_prunable
from keras_gcp.selection.plan import Plan
from keras_gcp.selection.planning import keep_of, plan_of
from keras_gcp.training.messages import say
from keras_gcp.validation import between, require_integer, require_verbose


def smallest(
    model: Any,
    data: Any,
    at_least: float,
    criterion: Any = "auto",
    *,
    sample: Any = None,
    resource: str = "macs",
    metric: Any = None,
    mode: str = "auto",
    tolerance: float = 0.01,
    max_evaluations: int = 20,
    exclude: Any = (),
    selection: Any = Selection(),
    compensation: Any = AUTO,
    seed: int = 0,
    batch_size: int = backend.DEFAULT_BATCH_SIZE,
    verbose: int = 1,
    input_shape: Any = None,
) -> Smallest:
    """Finds the smallest model that has at least some accuracy, without training.

    The channels are scored once, on the model as it is. Then the share of the resource that may
    remain is bisected: for each share a plan is made, and the metric measured with the removed
    channels masked (and compensated, if there is a sample), which needs no cut and no new
    compilation. In the end the smallest candidate that was good enough is really cut, and measured
    again; if it is not good enough after all, the next larger one follows. So what is returned is
    always good enough. Accuracy need not fall steadily with size: beyond a model that is not good
    enough there may be a smaller one that is.

    The idea of a search with a least accuracy, restoring the weights for every candidate,
    is that of Xie, Fu, Tian, Zhou, Chen, "Pruning with Compensation", 2021 (arXiv 2108.13728).

    Args:
        model: A built functional or sequential `keras.Model`; it does not change.
        data: What to measure on, with labels: in the forms of `sample`. All of it is held in
            memory, or as many examples as a `keras_gcp.Sample` says.
        at_least: The least value of the metric (the largest, if less is better).
        criterion: As in `keras_gcp.plan`.
        sample: As in `keras_gcp.plan`.
        resource: What is to be small: `"macs"`, or another resource of `keras_gcp.plan`. Bytes of
            files and latencies are predicted, then checked on a real file for every candidate.
        metric: As in `keras_gcp.sensitivity`; by default the first compiled metric.
        mode: As in `keras_gcp.sensitivity`.
        tolerance: The search ends when the share is known to this precision.
        max_evaluations: The most evaluations of masked candidates.
        exclude: As in `keras_gcp.plan`.
        selection: As in `keras_gcp.plan`. Its `floor` is the least *width* of a layer.
        compensation: As in `keras_gcp.apply`: with a sample, the kernels of every candidate are
            refitted by least squares; None: only cut.
        seed: As in `keras_gcp.plan`.
        batch_size: Examples per batch.
        verbose: 0 = silent, 1 = a line per candidate.
        input_shape: As in `keras_gcp.plan`; None: the size of the sample, else of `data`.

    Returns:
        A `Smallest`: `.model`, `.plan`, `.value`, `.explain()`. Where nothing can be removed, its
        model is a copy of the one given.

    Raises:
        InvalidArgument: the model itself has less than `at_least`, or an argument is malformed.

    Example:

    ```python
    found = keras_gcp.smallest(model, (x_val, y_val), at_least=0.90)
    print(found.explain())
    found.model.save("small.keras")
    ```
    """
    at_least, tolerance = _checked_bound(at_least), _checked_tolerance(tolerance)
    max_evaluations = require_integer("max_evaluations", max_evaluations, least=1)
    batch_size = require_integer("batch_size", batch_size, least=1)
    verbose = require_verbose(verbose)
    check_resource(resource)
    any_share = Budget({resource: 0.5})
    resources.require_environment(any_share)
    scorer = criteria.get(criterion, seed=seed)
    selected = Selection.parse(selection)
    said = sizes_of(model, input_shape)  # Refuses what has no inputs before any data are read.
    require_prunable(trace(model, exclude), resource)
    examples = draw_sample(data, None, seed, model)
    measured = metric_for(metric, model, examples, mode)
    drawn = sample_of(sample, seed, model)
    settings = parse_compensation(compensation, drawn is not None)
    channels = trace_at(said or sizes_of(model, None, drawn, examples), model, exclude)
    original = Original.of_traced(channels, any_share)
    cost_model = build_cost_model(channels, original.resources)
    decision = decided(scorer, channels, drawn)
    words = in_words(decision, selected.normalize)
    selected = settled(selected, decision.scorer)
    known = preferences(decision.scorer, channels, drawn, selected)
    preferred = replace(known, scores=weighted(known.scores, channels, selected.prior))
    predicts = scores_are_losses(selected, decision.scorer)
    planner = Planner(channels, preferred, selected, original, cost_model, predicts)
    search = _Search(resource, measured, at_least, verbose)

    def planned(share: float) -> Plan:
        budget = Budget({resource: share})
        limits = budget.limits_at(original.costs)
        return replace(planner.plan(limits, str(budget)), criterion=words)

    def compensated(keep: np.ndarray) -> dict[int, np.ndarray]:
        return compensated_weights(channels, keep, drawn, settings)

    with MaskedModel(channels, examples, measured, batch_size, compensated) as masked:
        baseline = masked.value(np.ones(channels.coupled_count, bool))
        _require_good_enough(measured, baseline, at_least)
        candidates = search.bisect(
            planned, lambda one: masked.value(keep_of(one, channels)), tolerance, max_evaluations
        )

    def cut(candidate: Plan) -> tuple[Any, float]:
        narrow = apply(model, candidate, drawn, compensation=compensation)
        return narrow, value_of(measured, narrow, examples, batch_size)

    found = search.first_to_hold(candidates, cut)
    if found is None:  # Nothing can go. A copy computes the same: `apply` compares it.
        whole = plan_of(channels, np.ones(channels.coupled_count, bool), cost_model)
        found = whole, apply(model, whole), baseline
    plan, narrow, value = found
    return Smallest(
        model=narrow,
        plan=plan,
        metric=measured.name,
        at_least=float(at_least),
        baseline=baseline,
        value=value,
        resource=resource,
        trials=tuple(search.trials),
    )


def _require_good_enough(metric: Metric, baseline: float, at_least: float) -> None:
    if not metric.holds(baseline, at_least):
        raise InvalidArgument(
            f"The model itself has {metric.name} {baseline:.4f}, which does not reach "
            f"`at_least` ({at_least!r}). Expected a value that the model reaches before anything "
            "is removed."
        )


class _Search:
    """Bisects the share that may remain, and notes what it tried."""

    def __init__(self, resource: str, metric: Metric, at_least: float, verbose: int) -> None:
        self._resource, self._metric = resource, metric
        self._at_least, self._verbose = at_least, verbose
        self.trials: list[Trial] = []

    def bisect(
        self,
        planned: Callable[[float], Plan],
        measure: Callable[[Plan], float],
        tolerance: float,
        max_evaluations: int,
    ) -> list[Plan]:
        """The candidates that are good enough, the smallest first."""
        low, high = 0.0, 1.0
        known: dict[tuple[bytes, ...], bool] = {}
        good: list[Plan] = []
        while high - low > tolerance and len(self.trials) < max_evaluations:
            limit = (low + high) / 2
            try:
                candidate = planned(limit)
            except ImpossibleBudget:  # Floors and anchors do not let it go so far.
                low = limit
                continue
            key = tuple(keep.tobytes() for keep in candidate.layers.values())
            if key not in known:
                known[key] = self.note(candidate, limit, measure(candidate), cut=False)
                if known[key]:
                    good.append(candidate)
            if known[key]:
                high = min(limit, share_left(candidate, self._resource))
            else:
                low = limit
        return sorted(good, key=lambda one: share_left(one, self._resource))

    def first_to_hold(
        self, candidates: Sequence[Plan], cut: Callable[[Plan], tuple[Any, float]]
    ) -> tuple[Plan, Any, float] | None:
        """The first candidate that is good enough when it is really cut; None if none is.

        Args:
            candidates: The candidates.
            cut: Cuts one; returns the narrow model, and the metric.
        """
        for candidate in candidates:
            narrow, value = cut(candidate)
            if self.note(candidate, share_left(candidate, self._resource), value, cut=True):
                return candidate, narrow, value
        return None

    def note(self, candidate: Plan, limit: float, value: float, cut: bool) -> bool:
        """Notes what a candidate is worth; returns whether it is good enough."""
        holds = self._metric.holds(value, self._at_least)
        share = share_left(candidate, self._resource)
        self.trials.append(Trial(limit, share, value, holds, cut))
        if self._verbose:
            how = "cut" if cut else "masked"
            say(
                f"{self._resource} {share:.1%} of the original ({how}): {self._metric.name} "
                f"{value:.4f}, {'good enough' if holds else f'worse than {self._at_least:.4f}'}"
            )
        return holds


def _checked_bound(value: Any) -> float:
    found = between(value, -sys.float_info.max, sys.float_info.max)
    if found is None:
        raise InvalidArgument(
            "`at_least` expects a number, in the unit of the metric (0.9 for 90 %). "
            f"Received: {value!r}."
        )
    return found


def _checked_tolerance(tolerance: Any) -> float:
    found = between(tolerance, 0.0, 1.0)
    if not found or found == 1:
        raise InvalidArgument(
            "`tolerance` expects a share of the original between 0 and 1, both excluded. "
            f"Received: {tolerance!r}."
        )
    return found
