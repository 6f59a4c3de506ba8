"""What a search for the smallest model has tried, and found."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from keras_gcp.formatting import amount, table
from keras_gcp.selection.plan import Plan


@dataclass(frozen=True)
class Trial:
    """One candidate that was evaluated.

    Attributes:
        limit: Share of the resource that it was allowed.
        share: Share that it has.
        value: The metric.
        holds: Whether that is good enough.
        cut: Whether the candidate was really cut; otherwise its channels were masked.
    """

    limit: float
    share: float
    value: float
    holds: bool
    cut: bool


@dataclass(frozen=True, eq=False)
class Smallest:
    """The smallest model that was found to be good enough.

    Attributes:
        model: The narrow model, a plain `keras.Model` that is not compiled.
        plan: What it keeps.
        metric: The metric's name.
        at_least: What it had to reach.
        baseline: The metric of the model that was given.
        value: The metric of the narrow model itself, never worse than `at_least`.
        resource: What was to be small.
        trials: The candidates, in the order of their evaluation.
    """

    model: Any
    plan: Plan
    metric: str
    at_least: float
    baseline: float
    value: float
    resource: str
    trials: tuple[Trial, ...]

    def __repr__(self) -> str:
        return (
            f"<Smallest: {self.share:.1%} of the {self.resource}, {self.metric} {self.value:.4f} "
            f"(at least {self.at_least:.4f}, before {self.baseline:.4f})>"
        )

    @property
    def share(self) -> float:
        """Share of the resource that is left."""
        return share_left(self.plan, self.resource)

    def explain(self) -> str:
        """A text table of the candidates, and what came of it."""
        rows = [
            [
                f"{trial.limit:.1%}",
                f"{trial.share:.1%}",
                f"{trial.value:.4f}",
                "yes" if trial.holds else "no",
                "cut" if trial.cut else "masked",
            ]
            for trial in self.trials
        ]
        columns = [f"{self.resource} allowed", "left", self.metric, "good enough", "evaluated"]
        before, after = (
            amount(self.resource, costs[self.resource])
            for costs in (self.plan.before, self.plan.after)
        )
        return "\n".join(
            [
                table(columns, rows),
                f"{self.resource}: {before} -> {after} ({self.share:.1%})",
                f"{self.metric}: {self.baseline:.4f} -> {self.value:.4f} "
                f"(at least {self.at_least:.4f})",
            ]
        )

    def to_dict(self) -> dict[str, Any]:
        """Everything but the model and the plan, as a dict that `json.dumps` takes."""
        return {
            "metric": self.metric,
            "at_least": self.at_least,
            "baseline": self.baseline,
            "value": self.value,
            "resource": self.resource,
            "share": self.share,
            "trials": [asdict(trial) for trial in self.trials],
        }


def share_left(plan: Plan, resource: str) -> float:
    """Share of a resource that a plan leaves."""
    return plan.after[resource] / plan.before[resource]
