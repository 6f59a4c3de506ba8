"""Plans: which channels are kept, as plain data. Sees numbers and names, never layers."""

from __future__ import annotations

import dataclasses
import hashlib
from dataclasses import dataclass
from typing import Any

import numpy as np

from keras_gcp.errors import InvalidArgument
from keras_gcp.selection import plan_json, plan_text
from keras_gcp.selection.plan_data import PlanData


@dataclass(frozen=True, eq=False, repr=False)
class Plan(PlanData):
    """What is kept of every layer, and why.

    Attributes:
        layers: Path of every layer with channels of its own to `(width,)` booleans over its
            output channels, True = kept.
        groups: The groups, in network order.
        before: Costs before the cut.
        after: Costs after the cut.
        budget: The budget in words.
        notes: Layer to why its channels could not be followed.
        slack: What became of every entry of the budget. Plans of older versions have none.
        checks: Costs that were measured on a real file of the narrow network.
        uncounted: Layer to why some of its multiply-adds are left out of the costs.
        outlooks: What other living models have to expect if the model is cut in place.
        counted_at: Sizes of the model's inputs, without batch axes, that costs were counted at,
            where the model leaves them open; empty where it does not, or none were known.
        criterion: What ranked the channels, and why that, if it was not named by the user.
        predicted_losses: Prunable group to how much the loss is expected to rise by what it loses,
            before any training; empty if the criterion does not predict it.
    """

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
        """Whether two plans for the same model are the same cut, even for different budgets."""
        return self.layers.keys() == other.layers.keys() and all(
            np.array_equal(keep, other.layers[path]) for path, keep in self.layers.items()
        )

    def digest(self) -> str:
        """A short text: the same for plans that are the same cut, whatever else they say."""
        digest = hashlib.blake2b(digest_size=16)
        for path, keep in self.layers.items():
            digest.update(f"{path} {len(keep)};".encode())
            digest.update(np.packbits(keep).tobytes())
        return digest.hexdigest()

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
            slack=tuple(
                dataclasses.replace(one, whole=one.whole and not self.removed_channels)
                for one in later.slack
            ),
            checks=later.checks,
            predicted_losses=summed_losses(self, later),
        )

    def __str__(self) -> str:
        return self.explain()

    def _repr_html_(self) -> str:
        return plan_text.html(self)

    def explain(self) -> str:
        """Text: what every group keeps, and why some stay whole; costs; which resource is binding.

        A resource of the budget is binding if putting back any one removed block of channels would
        break its limit. What is left of the others could not be used because of it. After several
        events of a training this is about the blocks that are gone since the first one, and the
        last event's limits. An event can only take away, so a block that an earlier one has removed
        may fit again; then the resource is binding in part.
        """
        return plan_text.explanation(self)

    def to_json(self) -> str:
        """The plan as JSON text."""
        return plan_json.written(self)

    @staticmethod
    def from_json(text: str) -> Plan:
        """Reads a plan that `to_json` wrote.

        Raises:
            InvalidArgument: the text is not a plan of a known format.
        """
        return Plan(**plan_json.read(text))


def check_plan(plan: Any) -> None:
    """Refuses what is not a plan.

    Raises:
        InvalidArgument: it is something else.
    """
    if not isinstance(plan, Plan):
        raise InvalidArgument(
            "`plan` expects what `keras_gcp.plan` returned, or `Plan.from_json` read. Received an "
            f"object of type {type(plan).__name__}."
        )


def summed_losses(first: Plan, later: Plan) -> dict[str, float]:
    """By group the predicted losses of two cuts; nothing, if only one of them predicts any."""
    cuts = [one.predicted_losses for one in (first, later) if one.removed_channels]
    if not all(cuts):
        return {}
    names = dict.fromkeys(name for losses in cuts for name in losses)
    return {name: sum(losses.get(name, 0.0) for losses in cuts) for name in names}
