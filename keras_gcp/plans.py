"""Plans: which channels are kept, as plain data. Sees numbers and names, never layers."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from keras_gcp.costs import left_out
from keras_gcp.errors import InvalidArgument
from keras_gcp.formatting import amount, table
from keras_gcp.graph import Shapes
from keras_gcp.reporting.text import sizes_line
from keras_gcp.selection.spending import SPENT_COLUMNS, Spent

FORMAT = 1


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
        note: What else limits it, or None.
    """

    name: str
    members: tuple[PlannedMember, ...]
    positions: tuple[int, ...]
    anchored: str | None
    note: str | None = None


@dataclass(frozen=True)
class Totals:
    """Costs of a model as a whole.

    Attributes:
        macs: Multiply-adds for one example; None where sizes of the input are unknown.
        parameters: Entries of all weights.
        channels: Output channels that may be pruned.
        further: Cost by coin, for the further coins of a budget.
        activation_macs: Multiply-adds among `macs` that are between activations, without
            a kernel: attention, matrix products.
    """

    macs: int | None
    parameters: int
    channels: int
    further: Mapping[str, float] = dataclasses.field(default_factory=dict)
    activation_macs: int | None = 0

    def costs(self) -> dict[str, float]:
        """Cost by coin; without multiply-adds where they are unknown."""
        macs = {} if self.macs is None else {"macs": self.macs}
        return {**macs, "parameters": self.parameters, "channels": self.channels, **self.further}


@dataclass(frozen=True)
class Check:
    """A cost of the planned network, predicted and then measured on a real file.

    Attributes:
        coin: The coin.
        predicted: What the plan was chosen by.
        measured: What the file of the narrow network has.
        limit: What may remain.
    """

    coin: str
    predicted: float
    measured: float
    limit: float

    @property
    def error(self) -> float:
        """How far off the prediction was, as a share of what was measured."""
        return self.predicted / self.measured - 1

    def __str__(self) -> str:
        predicted, measured, limit = (
            amount(self.coin, cost) for cost in (self.predicted, self.measured, self.limit)
        )
        return (
            f"{self.coin} of the real file: {measured}, at most {limit} (predicted {predicted}, "
            f"{self.error:+.1%})"
        )


@dataclass(frozen=True, eq=False, repr=False)
class Plan:
    """What is kept of every layer, and why.

    Attributes:
        layers: Path of every layer with channels of its own to `(width,)` booleans over its
            output channels, True = kept.
        groups: The groups, in network order.
        before: Costs before the cut.
        after: Costs after the cut.
        budget: The budget in words.
        notes: Layer to why its channels could not be followed.
        spent: What became of every entry of the budget. Plans of older versions have none.
        checks: Costs that were measured on a real file of the narrow network.
        uncounted: Layer to why some of its multiply-adds are left out of the costs.
        outlooks: What other living models have to expect if the model is cut in place.
        counted_at: Sizes of the model's inputs, without batch axes, that costs were counted at,
            where the model leaves them open; empty where it does not, or none were known.
        criterion: What ranked the channels, and why that, if it was not named by the user.
    """

    layers: Mapping[str, np.ndarray]
    groups: tuple[PlannedGroup, ...]
    before: Totals
    after: Totals
    budget: str = ""
    notes: Mapping[str, str] = dataclasses.field(default_factory=dict)
    spent: tuple[Spent, ...] = ()
    checks: tuple[Check, ...] = ()
    uncounted: Mapping[str, str] = dataclasses.field(default_factory=dict)
    outlooks: tuple[str, ...] = ()
    counted_at: Shapes = ()
    criterion: str = ""

    def __repr__(self) -> str:
        macs = (
            ""
            if self.before.macs is None or self.after.macs is None
            else f"MACs {self.before.macs:,} -> {self.after.macs:,}, "
        )
        return (
            f"<Plan: {self.removed_channels} channels removed, {macs}"
            f"parameters {self.before.parameters:,} -> {self.after.parameters:,}>"
        )

    def kept(self, layer: Any) -> np.ndarray:
        """Original indices of the channels that a layer keeps.

        Args:
            layer: A layer, its name, or its path where models are nested.

        Returns:
            Integer array, ascending.

        Raises:
            InvalidArgument: the plan has no such layer.
        """
        return np.flatnonzero(self._mask(layer))

    def _mask(self, layer: Any) -> np.ndarray:
        path = layer if isinstance(layer, str) else getattr(layer, "name", None)
        if not isinstance(path, str):
            raise InvalidArgument(f"Expected a layer, or its name. Received: {layer!r}.")
        if path in self.layers:
            return self.layers[path]
        inner = [known for known in self.layers if known.endswith(f"/{path}")]
        if len(inner) == 1:
            return self.layers[inner[0]]
        known = ", ".join(repr(name) for name in list(self.layers)[:12])
        raise InvalidArgument(
            f"The plan has no layer {path!r}"
            + (f" of its own: it stands for {inner}" if inner else "")
            + f". Layers with channels of their own: {known}"
            + (" …" if len(self.layers) > 12 else "")
            + "."
        )

    @property
    def removed_channels(self) -> int:
        """Output channels that producing layers lose."""
        members = {m.path for group in self.groups for m in group.members}
        return int(sum((~self.layers[path]).sum() for path in members))

    def widths(self) -> dict[str, int]:
        """Producing layer to its width after the cut, in network order."""
        members = {m.path for group in self.groups for m in group.members}
        return {path: int(keep.sum()) for path, keep in self.layers.items() if path in members}

    def original_widths(self) -> dict[str, int]:
        """Producing layer to its width before the cut, in network order."""
        members = {m.path for group in self.groups for m in group.members}
        return {path: len(keep) for path, keep in self.layers.items() if path in members}

    def keeps_what_is_kept_by(self, other: Plan) -> bool:
        """Whether two plans for the same model are the same cut, whatever their budgets."""
        return all(np.array_equal(keep, other.layers[path]) for path, keep in self.layers.items())

    def then(self, later: Plan) -> Plan:
        """This plan followed by one for the narrowed model, as one plan for the original.

        What became of the later plan's budget is said of the later plan alone: it does not know
        what a block that this one removes would cost.

        Raises:
            InvalidArgument: `later` is not a plan for the model that this plan leaves.
        """
        check_plan(later)
        layers = {}
        for path, keep in self.layers.items():
            if path not in later.layers or len(later.layers[path]) != keep.sum():
                raise InvalidArgument(
                    f"The later plan does not continue this one: layer '{path}' keeps "
                    f"{int(keep.sum())} channels here, and has "
                    f"{len(later.layers.get(path, ()))} there."
                )
            combined = keep.copy()
            combined[keep] = later.layers[path]
            layers[path] = combined
        return dataclasses.replace(
            self,
            layers=layers,
            after=later.after,
            budget=later.budget,
            spent=tuple(
                dataclasses.replace(one, whole=one.whole and not self.removed_channels)
                for one in later.spent
            ),
            checks=later.checks,
        )

    def explain(self) -> str:
        """Text: what every group keeps, and why some stay whole; costs; which coin bound.

        A coin of the budget binds if putting back any one removed block of channels would break
        its limit. What is left of the others could not be spent because of it. After several
        events of a training this is about the blocks that are gone since the first one, and the
        last event's limits. An event can only take away, so a block that an earlier one has removed
        may fit again; then the coin binds in part.
        """
        rows = []
        for group in self.groups:
            keep = self.layers[group.members[0].path][list(group.positions)]
            kept, width = int(keep.sum()), len(group.positions)
            members = [m.path for m in group.members]
            shown = ", ".join(members[:4]) + (f", … ({len(members)})" if len(members) > 4 else "")
            share = f"{kept / width:.0%}" if width else ""
            rows.append(
                [group.name, f"{kept} of {width}", share, shown, group.anchored or group.note or ""]
            )
        lines = [
            table(
                ["group", "kept", "share", "members", "anchored because, or limited"],
                rows,
                title=None,
            ),
            _macs_line(self.before.macs, self.after.macs),
            *self._activation_line(),
            _totals_line("parameters", self.before.parameters, self.after.parameters),
            _totals_line("prunable channels", self.before.channels, self.after.channels),
        ]
        lines.extend(
            _totals_line(coin, self.before.further[coin], cost)
            for coin, cost in self.after.further.items()
            if coin in self.before.further
        )
        if self.counted_at:
            lines.append(sizes_line(self.counted_at))
        if self.budget:
            lines.append(f"budget: {self.budget}")
        if self.criterion:
            lines.append(f"criterion: {self.criterion}")
        if self.spent:
            lines.append(table(SPENT_COLUMNS, [one.row() for one in self.spent]))
        lines.extend(map(str, self.checks))
        lines.extend(left_out(self.uncounted))
        lines.extend(f"not followed: {reason}" for reason in self.notes.values())
        lines.extend(f"beside it: {outlook}" for outlook in self.outlooks)
        return "\n".join(lines)

    def _activation_line(self) -> list[str]:
        """The part of the multiply-adds that no kernel has, if there is one."""
        before, after = self.before.activation_macs, self.after.activation_macs
        if not before or after is None:
            return []
        return [_totals_line("of these between activations", before, after)]

    def to_json(self) -> str:
        """The plan as JSON text."""
        return json.dumps(
            {
                "format": FORMAT,
                "layers": {
                    path: {"width": len(keep), "kept": np.flatnonzero(keep).tolist()}
                    for path, keep in self.layers.items()
                },
                "groups": [dataclasses.asdict(group) for group in self.groups],
                "before": dataclasses.asdict(self.before),
                "after": dataclasses.asdict(self.after),
                "budget": self.budget,
                "notes": dict(self.notes),
                "spent": [dataclasses.asdict(one) for one in self.spent],
                "checks": [dataclasses.asdict(check) for check in self.checks],
                "uncounted": dict(self.uncounted),
                "outlooks": list(self.outlooks),
                "counted_at": self.counted_at,
                "criterion": self.criterion,
            },
            indent=1,
        )

    @staticmethod
    def from_json(text: str) -> Plan:
        """Reads a plan that `to_json` wrote.

        Raises:
            InvalidArgument: the text is no plan of a known format.
        """
        from keras_gcp.saved_plan import read

        return read(text)


def check_plan(plan: Any) -> None:
    """Refuses what is no plan.

    Raises:
        InvalidArgument: it is something else.
    """
    if not isinstance(plan, Plan):
        raise InvalidArgument(
            "`plan` expects what `keras_gcp.plan` returned, or `Plan.from_json` read. Received an "
            f"object of type {type(plan).__name__}."
        )


def _totals_line(name: str, before: float, after: float) -> str:
    share = f" ({after / before:.1%})" if before else ""
    return f"{name}: {amount(name, before)} -> {amount(name, after)}{share}"


def _macs_line(before: int | None, after: int | None) -> str:
    if before is None or after is None:
        return "MACs: not counted, since the size of the input is unknown"
    return _totals_line("MACs", before, after)
