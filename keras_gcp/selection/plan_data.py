"""What a plan consists of, as plain data. Sees numbers and names, never layers."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from keras_gcp.costs.costs import Costs
from keras_gcp.formatting import amount
from keras_gcp.graph import Shapes
from keras_gcp.selection.slack import Slack

FORMAT = 2
"""Of plans as JSON text. Format 1 said `coin` for `resource`; it is read, too."""


@dataclass(frozen=True)
class PlannedMember:
    """A layer that produces channels of a group.

    Attributes:
        path: Address of the layer (`model/layer` where models are nested).
        kind: Name of its class.
        width: How many of its output channels belong to the group.
    """

    path: str
    kind: str
    width: int


@dataclass(frozen=True)
class PlannedGroup:
    """Channels that live or die together, and the layers that produce them.

    Attributes:
        name: Path of the first producing layer.
        members: The producing layers.
        positions: Positions of the group's channels in the first member's output.
        anchored: Why none of it may be pruned, or None.
        note: What it has to keep, and why, or None.
        least: How many channels that are; 0 if it is not known (plans of older versions).
    """

    name: str
    members: tuple[PlannedMember, ...]
    positions: tuple[int, ...]
    anchored: str | None
    note: str | None = None
    least: int = 0

    def limit_of(self, kept: int) -> str:
        """Why it keeps what it keeps, if something forbids less; else an empty text."""
        if self.anchored:
            return self.anchored
        return (self.note or "") if not self.least or kept <= self.least else ""


@dataclass(frozen=True)
class Check:
    """A cost of the planned network, predicted and then measured on a real file.

    Attributes:
        resource: The resource.
        predicted: What the plan was chosen by.
        measured: What the file of the narrow network has.
        limit: What may remain.
    """

    resource: str
    predicted: float
    measured: float
    limit: float

    @property
    def error(self) -> float:
        """How far off the prediction was, as a share of what was measured."""
        return self.predicted / self.measured - 1

    def __str__(self) -> str:
        predicted, measured, limit = (
            amount(self.resource, cost) for cost in (self.predicted, self.measured, self.limit)
        )
        return (
            f"{self.resource} of the real file: {measured}, at most {limit} (predicted "
            f"{predicted}, {self.error:+.1%})"
        )


@dataclass(frozen=True, eq=False, repr=False)
class PlanData:
    """The fields of a `Plan`; see there."""

    layers: Mapping[str, np.ndarray]
    groups: tuple[PlannedGroup, ...]
    before: Costs
    after: Costs
    budget: str = ""
    notes: Mapping[str, str] = dataclasses.field(default_factory=dict)
    slack: tuple[Slack, ...] = ()
    checks: tuple[Check, ...] = ()
    uncounted: Mapping[str, str] = dataclasses.field(default_factory=dict)
    outlooks: tuple[str, ...] = ()
    counted_at: Shapes = ()
    criterion: str = ""
    predicted_losses: Mapping[str, float] = dataclasses.field(default_factory=dict)

    @property
    def predicted_loss(self) -> float | None:
        """How much the loss is expected to rise, before any training after the cut.

        None if the criterion does not predict it; `"loss_aware"` does. In units of the loss that
        the model is compiled with; of several cuts the sum.
        """
        return sum(self.predicted_losses.values()) if self.predicted_losses else None
