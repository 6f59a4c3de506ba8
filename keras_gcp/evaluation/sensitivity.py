"""Sensitivity: a metric against the kept share of each group, every group alone masked."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from dataclasses import is_dataclass
from typing import Any

import keras
import numpy as np

from keras_gcp import backend, criteria
from keras_gcp.channels.map import Group
from keras_gcp.channels.trace import trace
from keras_gcp.classification.metrics import Metric, metric_for
from keras_gcp.costs.counting import prunable_groups
from keras_gcp.criteria.base import name_of
from keras_gcp.criteria.normalization import AUTO
from keras_gcp.errors import InvalidArgument
from keras_gcp.evaluation.masked_model import MaskedModel
from keras_gcp.evaluation.measurement_cache import WHOLE, Cache, Key
from keras_gcp.evaluation.sensitivity_result import GroupSensitivity, Sensitivity, SensitivityPoint
from keras_gcp.pruning.stages import decided, score
from keras_gcp.sample import DrawnSample, draw_sample, sample_of
from keras_gcp.sample.digest import digest_of
from keras_gcp.selection.blockers import require_prunable
from keras_gcp.validation import layer_names, numbers_in, require_integer, require_verbose

DEFAULT_SHARES = (0.9, 0.75, 0.5, 0.25, 0.1)


def sensitivity(
    model: Any,
    data: Any,
    criterion: Any = "auto",
    sample: Any = None,
    *,
    metric: Any = None,
    mode: str = "auto",
    shares: Sequence[float] = DEFAULT_SHARES,
    exclude: Sequence[str] = (),
    cache: str | os.PathLike[str] | None = None,
    seed: int = 0,
    batch_size: int = backend.DEFAULT_BATCH_SIZE,
    verbose: int = 1,
) -> Sensitivity:
    """Measures how a metric falls when one group of channels alone gets narrower.

    For every group and every share, the group keeps its best channels by a criterion, all others
    keep all of theirs, and the metric is measured. Nothing is cut and nothing trained: the layers
    that read the removed channels get zeros in their kernels, which computes what the narrow model
    would; the forward pass is compiled once. The model does not change.

    After Li, Kadav, Durdanovic, Samet, Graf, "Pruning filters for efficient ConvNets", ICLR 2017
    (arXiv 1608.08710), section 3.2.

    Args:
        model: A built functional or sequential `keras.Model`.
        data: What to measure on, with labels: in the forms of `sample`. All of it is held in
            memory, or as many examples as a `keras_gcp.Sample` says. Weights of examples are
            ignored.
        criterion: What ranks the channels of a group; as in `keras_gcp.plan`. Where several layers
            produce them, the criterion itself says how their scores are compared.
        sample: Examples for criteria that look at data, as in `keras_gcp.plan`.
        metric: None for the first metric that the model was compiled with (accuracy if it has
            none); a name, `"loss"` included; a `keras.metrics.Metric`; or a callable
            `(y_true, y_pred) -> number, or one per example`, which gets all examples as NumPy
            arrays.
        mode: Whether more of the metric is better (`"max"`) or less (`"min"`); `"auto"` knows it
            of Keras' metrics and losses and of the usual names.
        shares: Shares of a group's channels to keep, in (0, 1].
        exclude: As in `keras_gcp.plan`.
        cache: File for the measurements, one JSON line each. A run that was killed goes on there;
            other shares add to it. A file of another model, other data or settings is refused.
            What a callable computes is not looked at: it is known by its name.
        seed: Seed for drawing examples, and for the random criterion.
        batch_size: Examples per batch.
        verbose: 0 = silent, 1 = a progress bar.

    Returns:
        A `Sensitivity`: `.explain()`, `.plot(path)`, `.to_dict()`. It is also a prior for
        `keras_gcp.Selection(prior=sensitivity)`: groups that lose little are pruned more.

    Raises:
        InvalidArgument: an argument is malformed, or the cache is of another measurement.
        UnsupportedModel: the model cannot be traced, or has nothing to prune.

    Example:

    ```python
    sensitivity = keras_gcp.sensitivity(model, (x_val, y_val), cache="sensitivity.jsonl")
    print(sensitivity.explain())
    plan = keras_gcp.plan(model, {"macs": 0.5}, selection={"prior": sensitivity})
    ```
    """
    wanted = _checked_shares(shares)
    exclude = layer_names("exclude", exclude)
    verbose = require_verbose(verbose)
    batch_size = require_integer("batch_size", batch_size, least=1)
    scorer = criteria.get(criterion, seed=seed)
    channels = trace(model, exclude)
    groups = prunable_groups(channels)
    require_prunable(channels)
    examples = draw_sample(data, None, seed, model)
    drawn = sample_of(sample, seed, model)
    measured = metric_for(metric, model, examples, mode)
    decision = decided(scorer, channels, drawn)
    if decision.was_open:
        criterion = name_of(decision.scorer)
    identity = _identity(model, examples, drawn, measured, criterion, exclude, seed)
    known = Cache(cache, identity | _comparison(decision.scorer))
    scores = score(decision.scorer, channels, drawn, AUTO)
    everything = np.ones(channels.coupled_count, bool)
    total = 1 + len(groups) * len(wanted)
    with MaskedModel(channels, examples, measured, batch_size) as masked:
        measurements = _Measurements(masked, known, measured.name, total, verbose)
        baseline = measurements.value(WHOLE, everything)
        _require_finite(baseline, measured.name, model)
        curves = tuple(_curve(group, wanted, scores, everything, measurements) for group in groups)
    return Sensitivity(
        metric=measured.name,
        higher_is_better=measured.higher_is_better,
        baseline=baseline,
        examples=len(examples),
        groups=curves,
    )


def _require_finite(baseline: float, metric: str, model: Any) -> None:
    if not math.isfinite(baseline):
        raise InvalidArgument(
            f"The {metric} of the whole model '{model.name}' is {baseline} on `data`, so it cannot "
            "fall. Expected a finite number. Has the training diverged?"
        )


class _Measurements:
    """Values of the metric: measured, or known from an earlier run; shows how far it is."""

    def __init__(
        self, masked: MaskedModel, known: Cache, metric: str, total: int, verbose: int
    ) -> None:
        self._masked, self._known, self._metric = masked, known, metric
        self._bar = keras.utils.Progbar(
            total, verbose=verbose, stateful_metrics=[metric], unit_name="measurement"
        )

    def value(self, key: Key, keep: np.ndarray) -> float:
        found = self._known.get(key)
        if found is None:
            found = self._masked.value(keep)
            self._known.put(key, found)
        self._bar.add(1, [(self._metric, found)])
        return found


def _curve(
    group: Group,
    shares: Sequence[float],
    scores: np.ndarray,
    everything: np.ndarray,
    measurements: _Measurements,
) -> GroupSensitivity:
    """The curve of one group; at each share its best channels stay."""
    width = len(group.coupled)
    best_first = group.coupled[np.argsort(-scores[group.coupled], kind="stable")]
    points = []
    for share in shares:
        kept = min(width, max(group.least, round(share * width), 1))
        keep = everything.copy()
        keep[best_first[kept:]] = False
        # With all its channels it is the whole model, whichever group that is.
        key = WHOLE if kept == width else (group.name, kept)
        points.append(SensitivityPoint(share, kept, measurements.value(key, keep)))
    layers = tuple(member.path for member in group.members)
    return GroupSensitivity(group.name, layers, width, tuple(points))


def _checked_shares(shares: Any) -> list[float]:
    """The shares, from large to small."""
    numbers = numbers_in(shares)
    if not numbers or not all(0 < share <= 1 for share in numbers):
        raise InvalidArgument(
            "`shares` expects shares of the channels to keep, above 0 and at most 1, such as "
            f"(0.75, 0.5, 0.25). Received: {shares!r}."
        )
    return sorted(set(numbers), reverse=True)


def _identity(
    model: Any,
    examples: DrawnSample,
    sample: DrawnSample | None,
    metric: Metric,
    criterion: Any,
    exclude: Sequence[str],
    seed: int,
) -> dict[str, str]:
    """What a measurement depends on, in words that are the same in another process."""
    shapes = "; ".join(f"{v.path} {tuple(v.shape)}" for v in model.weights)
    named = isinstance(criterion, str) or is_dataclass(criterion)
    return {
        "names and shapes of the weights": digest_of([np.frombuffer(shapes.encode(), np.uint8)]),
        "weights": digest_of(model.get_weights()),
        "data": digest_of([examples.x, examples.y]),
        "metric": metric.description,
        "criterion": str(criterion) if named else name_of(criterion),
        "sample": "none" if sample is None else digest_of([sample.x, sample.y]),
        "exclude": ", ".join(exclude) or "none",
        "seed": str(seed),
    }


def _comparison(scorer: Any) -> dict[str, str]:
    """How layers are compared that produce the same channels; caches were always by the norm."""
    found = criteria.normalization_of(scorer)
    return {} if found == "norm" else {"normalize": found}
