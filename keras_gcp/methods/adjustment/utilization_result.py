"""Utilization ratios: what each group of layers makes of its multiply-adds. Sees numbers only."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from keras_gcp.errors import InvalidArgument
from keras_gcp.formatting import html_table, table, wrapped
from keras_gcp.selection.prior import LEAST_WEIGHT, check_weighable
from keras_gcp.validation.plain_data import check_finite, fields_of, parsed, told_as

FORMAT = 1

MOST_DROPPED = 0.5
"""Largest rate of a dropout that measures: a cheap layer would have to lose more than it has."""


@dataclass(frozen=True)
class GroupUtilization:
    """What one group of layers with the same channels makes of its multiply-adds.

    Attributes:
        name: The group's name.
        layers: The layers that produce its channels.
        width: Its number of channels.
        macs_per_channel: dF/dc, what one channel more costs: in these layers, and in all that read
            them.
        rate: Probability with which each channel was dropped.
        value: The metric with that dropout, the mean over the repeats.
        spread: Standard deviation of the metric over the repeats.
        ratio: By how much the metric gets worse per share of the model's multiply-adds that the
            dropout takes away. Large = the layer uses them well.
    """

    name: str
    layers: tuple[str, ...]
    width: int
    macs_per_channel: float
    rate: float
    value: float
    spread: float
    ratio: float


@dataclass(frozen=True, repr=False)
class UtilizationRatios:
    """What each group of layers makes of its multiply-adds.

    Printed, it is a table. It is also a prior: `keras_gcp.Selection(prior=ratios)`.

    Attributes:
        metric: The metric's name.
        higher_is_better: Whether larger values are better.
        baseline: The metric of the model without dropout.
        macs: Multiply-adds of the model.
        examples: Number of examples it was measured on.
        repeats: How often each group was measured, with other channels dropped.
        groups: The groups, in network order.
    """

    metric: str
    higher_is_better: bool
    baseline: float
    macs: int
    examples: int
    repeats: int
    groups: tuple[GroupUtilization, ...]

    @property
    def ratios(self) -> dict[str, float]:
        """Group to its ratio."""
        return {group.name: group.ratio for group in self.groups}

    def __repr__(self) -> str:
        return (
            f"<UtilizationRatios: {len(self.groups)} groups, {self.metric} {self.baseline:.4g} on "
            f"{self.examples:,} examples>"
        )

    def __str__(self) -> str:
        return self.explain()

    def _repr_html_(self) -> str:
        return html_table(self._columns(), self._rows(), [self._line()])

    def explain(self) -> str:
        """A text table: every group, and what it makes of its multiply-adds."""
        return f"{table(self._columns(), self._rows())}\n{wrapped(self._line())}"

    def _columns(self) -> list[str]:
        return ["group", "channels", "MACs per channel", "dropped", self.metric, "ratio"]

    def _rows(self) -> list[list[Any]]:
        return [
            [
                group.name,
                group.width,
                round(group.macs_per_channel),
                f"{group.rate:.1%}",
                f"{group.value:.4g} ± {group.spread:.2g}",
                f"{group.ratio:.3g}",
            ]
            for group in self.groups
        ]

    def _line(self) -> str:
        return (
            f"ratio: by how much {self.metric} gets worse than {self.baseline:.4g} per share of "
            f"the {self.macs:,} MACs that the dropout of a group takes away; on "
            f"{self.examples:,} examples, {self.repeats} times"
        )

    def weighted(self, scores: np.ndarray, groups: Mapping[str, np.ndarray]) -> np.ndarray:
        """Scores times the loss that was measured for each channel's removal.

        A group's weight is its ratio times what one of its channels costs, so the drop of the
        metric per channel, as `Sensitivity.weighted` has it from curves. With
        `ranking="score_per_cost"` channels then leave by their score times the ratio. A hundredth
        of the mean is added, so that groups whose loss did not show are still ranked by scores.

        Args:
            scores: One score per set of coupled channels, larger = keep.
            groups: Name of each group that may be pruned to its coupled channels.

        Returns:
            Scores of the same shape; those outside of all groups are unchanged.

        Raises:
            InvalidArgument: a group was not measured, or scores are negative.
        """
        known = {group.name: group for group in self.groups}
        # The only channel of a group stays anyway, and has not been measured.
        groups = {name: coupled for name, coupled in groups.items() if len(coupled) > 1}
        found = np.array(scores, np.float64)
        for name, coupled in groups.items():
            if name not in known:
                raise InvalidArgument(
                    f"The prior was measured on another model, or on a part of this one: group "
                    f"'{name}' was not measured. Expected the result of "
                    "`keras_gcp.methods.utilization_ratios` for this model, with the same "
                    "`exclude`."
                )
            check_weighable(name, found[coupled])
        drops = {n: max(0.0, known[n].ratio * known[n].macs_per_channel) for n in groups}
        counts = np.array([len(coupled) for coupled in groups.values()], np.float64)
        mean = np.average(list(drops.values()), weights=counts) if groups else 0.0
        for name, coupled in groups.items():
            found[coupled] *= drops[name] / mean + LEAST_WEIGHT if mean > 0 else 1.0
        return found

    def to_dict(self) -> dict[str, Any]:
        """The measurements as a dict that `json.dumps` takes."""
        return {"format": FORMAT, **asdict(self)}

    @staticmethod
    def from_dict(values: Mapping[str, Any]) -> UtilizationRatios:
        """The inverse of `to_dict`.

        Raises:
            InvalidArgument: it is not one of a known format.
        """
        with told_as("UtilizationRatios.to_dict"):
            fields = fields_of(values, FORMAT)
            check_finite(fields, but=("value", "spread", "ratio"))
            found: UtilizationRatios = parsed(UtilizationRatios, fields)
            return found


def rates_of_equal_cost(
    widths: Sequence[float] | np.ndarray,
    macs_per_channel: Sequence[float] | np.ndarray,
    base_rate: float,
) -> np.ndarray:
    """Dropout rates at which every layer is expected to lose the same number of multiply-adds.

    `p_i = base_rate * mean_j(c_j dF/dc_j) / (c_i dF/dc_i)`, and no more than one half: of a layer
    that costs little, not even all of it would be that much.

    Args:
        widths: Channels of each layer, c.
        macs_per_channel: dF/dc of each; more than 0.
        base_rate: The rate of a layer that costs as much as the layers on average.

    >>> rates_of_equal_cost([10, 10], [300, 100], 0.1).round(3).tolist()
    [0.067, 0.2]
    """
    costs = np.asarray(widths, np.float64) * np.asarray(macs_per_channel, np.float64)
    rates: np.ndarray = np.minimum(base_rate * costs.mean() / costs, MOST_DROPPED)
    return rates
