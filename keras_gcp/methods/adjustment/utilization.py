"""Utilization ratios: how much worse a network gets if a layer's channels are dropped by chance.

After Chen, Niu, Xie, Liu, Wei, Tian, "Network Adjustment: Channel Search Guided by FLOPs
Utilization Ratio", CVPR 2020 (arXiv 2004.02767).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np

from keras_gcp import backend
from keras_gcp.channels.map import ChannelMap, Group
from keras_gcp.channels.trace import trace_at
from keras_gcp.classification.metrics import Metric, metric_for
from keras_gcp.costs.counting import (
    build_cost_model,
    count_map,
    full_widths,
    prunable_groups,
    require_known_positions,
)
from keras_gcp.errors import InvalidArgument
from keras_gcp.methods.adjustment.dropping import DroppedChannels, require_droppable
from keras_gcp.methods.adjustment.utilization_result import (
    GroupUtilization,
    UtilizationRatios,
    rates_of_equal_cost,
)
from keras_gcp.sample import DrawnSample, draw_sample
from keras_gcp.sample.input_sizes import sizes_of
from keras_gcp.selection.blockers import require_prunable
from keras_gcp.validation import (
    between,
    layer_names,
    require_integer,
    require_seed,
    require_verbose,
)


def utilization_ratios(
    model: Any,
    data: Any,
    metric: Any = "loss",
    *,
    mode: str = "auto",
    base_rate: float = 0.05,
    repeats: int = 5,
    exclude: Sequence[str] = (),
    seed: int | None = 0,
    batch_size: int = backend.DEFAULT_BATCH_SIZE,
    verbose: int = 1,
    input_shape: Any = None,
) -> UtilizationRatios:
    """Measures what each group of layers makes of its multiply-adds.

    For each group of layers with the same channels, every channel is dropped for every example
    with some probability, whole, and those that stay are divided by one minus it. The rates are
    such that all groups are expected to lose the same number of multiply-adds, in the layers that
    produce the channels and in those that read them. How much worse the metric gets is the group's
    utilization ratio: large = it uses its multiply-adds well. Forward passes only; the model does
    not change.

    Chen et al., "Network Adjustment", CVPR 2020 (arXiv 2004.02767). Rates above one half are
    cut to it, and ratios are per share of the multiply-adds, so that those of such groups can be
    compared with the others.

    Args:
        model: A built functional or sequential `keras.Model`, trained.
        data: What to measure on, with labels, not seen in training: in the forms of the `sample` of
            `keras_gcp.plan`. All of it is held in memory.
        metric: As in `keras_gcp.sensitivity`; `"loss"` is the compiled one, as in the paper.
        mode: As in `keras_gcp.sensitivity`.
        base_rate: Probability of dropping a channel of a group that costs as much as all on
            average; in (0, 0.5].
        repeats: How often each group is measured.
        exclude: As in `keras_gcp.plan`: groups with these layers are not measured.
        seed: Seed of the dropout.
        batch_size: Examples per batch.
        verbose: 0 = silent, 1 = a progress bar.
        input_shape: As in `keras_gcp.plan`; None: the size of `data`.

    Returns:
        A `UtilizationRatios`: printed, a table; `.ratios`, `.groups`, `.to_dict()`. It is also a
        prior for `keras_gcp.Selection(prior=ratios)`: groups that make little of their channels
        lose more of them.

    Raises:
        InvalidArgument: an argument is malformed, or the metric of the model is not finite.
        UnsupportedModel: the model cannot be traced or counted, or has nothing to prune.

    Example:

    ```python
    ratios = keras_gcp.methods.utilization_ratios(model, (x_val, y_val))
    print(ratios)
    plan = keras_gcp.plan(model, {"macs": 0.5}, selection={"prior": ratios})
    ```
    """
    settings = (require_base_rate(base_rate), require_integer("repeats", repeats, least=1))
    exclude = layer_names("exclude", exclude)
    batch_size = require_integer("batch_size", batch_size, least=1)
    seed, verbose = require_seed(seed), require_verbose(verbose)
    examples = draw_sample(data, None, seed, model)
    channels = trace_at(sizes_of(model, input_shape, examples), model, exclude)
    require_prunable(channels)
    require_known_positions(channels)
    measured = metric_for(metric, model, examples, mode)
    groups = [group for group in prunable_groups(channels) if len(group.coupled) > 1]
    return measured_ratios(
        channels, groups, examples, measured, *settings, seed, batch_size, verbose, exclude
    )


def measured_ratios(
    channels: ChannelMap,
    groups: Sequence[Group],
    examples: DrawnSample,
    metric: Metric,
    base_rate: float,
    repeats: int,
    seed: int | None,
    batch_size: int,
    verbose: int,
    exclude: Sequence[str] = (),
) -> UtilizationRatios:
    """`utilization_ratios` of some groups of a traced model."""
    macs = int(count_map(channels).macs or 0)
    slopes = macs_by_channel(channels, groups)
    widths = np.array([len(group.coupled) for group in groups])
    rates = rates_of_equal_cost(widths, slopes, base_rate)
    passes = 1 + len(groups) * repeats
    bar = keras.utils.Progbar(
        passes, verbose=verbose, stateful_metrics=[metric.name], unit_name="measurement"
    )
    with DroppedChannels(
        channels, groups, examples, metric, batch_size, seed, passes, exclude
    ) as dropped:

        def value(*drop: Any) -> float:
            found = dropped.value(*drop)
            bar.add(1, [(metric.name, found)])
            return found

        baseline = value()
        _require_finite(baseline, metric.name, channels.model)
        values = [
            [value(group, rate) for _ in range(repeats)]
            for group, rate in zip(groups, rates.tolist(), strict=True)
        ]
    sign = 1.0 if metric.higher_is_better else -1.0
    found = []
    for group, slope, rate, own in zip(
        groups, slopes.tolist(), rates.tolist(), values, strict=True
    ):
        lost = rate * len(group.coupled) * slope / macs
        mean = float(np.mean(own))
        found.append(
            GroupUtilization(
                name=group.name,
                layers=tuple(member.path for member in group.members),
                width=len(group.coupled),
                macs_per_channel=slope,
                rate=rate,
                value=mean,
                spread=float(np.std(own)),
                ratio=sign * (baseline - mean) / lost,
            )
        )
    return UtilizationRatios(
        metric=metric.name,
        higher_is_better=metric.higher_is_better,
        baseline=baseline,
        macs=macs,
        examples=len(examples),
        repeats=repeats,
        groups=tuple(found),
    )


def require_measurable(channels: ChannelMap, groups: Sequence[Group]) -> None:
    """Refuses groups that have no ratio, before anything is trained or measured.

    Raises:
        InvalidArgument: the channels of a group take part in no multiply-adds that are counted.
        UnsupportedModel: the channels of a group cannot be dropped.
    """
    macs_by_channel(channels, groups)
    require_droppable(channels, groups)


def macs_by_channel(channels: ChannelMap, groups: Sequence[Group]) -> np.ndarray:
    """dF/dc: the multiply-adds of one more channel of some prunable groups, `(groups,)`.

    Raises:
        InvalidArgument: the channels of a group take part in no multiply-adds that are counted.
    """
    slopes = build_cost_model(channels).derivative("macs", full_widths(channels))
    by_name = dict(zip((one.name for one in prunable_groups(channels)), slopes, strict=True))
    for group in groups:
        if not by_name[group.name] > 0:
            raise InvalidArgument(
                f"The channels of layer '{group.name}' take part in no multiply-adds that are "
                "counted, so there is nothing that they could make good use of. Expected layers "
                f"with multiply-adds: pass `exclude=['{group.members[0].path}']`."
            )
    return np.array([by_name[group.name] for group in groups])


def require_base_rate(value: Any) -> float:
    """The probability that `base_rate` is.

    Raises:
        InvalidArgument: it is not one in (0, 0.5].
    """
    found = between(value, 0.0, 0.5)
    if not found:
        raise InvalidArgument(
            f"`base_rate` expects a probability in (0, 0.5]. Received: {value!r}."
        )
    return found


def _require_finite(baseline: float, metric: str, model: Any) -> None:
    if not math.isfinite(baseline):
        raise InvalidArgument(
            f"The {metric} of the whole model '{model.name}' is {baseline} on `data`, so it cannot "
            "get worse. Expected a finite number. Has the training diverged?"
        )
