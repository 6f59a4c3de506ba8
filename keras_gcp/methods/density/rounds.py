"""What trainings at some widths were, from one cut to the next. Sees numbers and names only."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from keras_gcp.formatting import table


@dataclass(frozen=True)
class Round:
    """Training at some widths, from one cut to the next.

    Attributes:
        epochs: How many epochs it took.
        steps: How many training steps.
        macs: Multiply-adds of the model for one example; None where sizes are unknown.
        parameters: Parameters of the model.
        widths: Layer to its number of channels.
        densities: Group of layers to its activation density at the end of the round.
        metric: The metric at the end of the round; None if it was not measured.
        taken_back: Whether the metric was below the floor, so that the cut before was taken back.
    """

    epochs: int
    steps: int
    macs: int | None
    parameters: int
    widths: Mapping[str, int]
    densities: Mapping[str, float]
    metric: float | None = None
    taken_back: bool = False


def rounds_table(rounds: Sequence[Round], metric: str) -> str:
    """A line for each round; `metric` is the heading of its column."""
    lines = [[str(number), *_cells(one)] for number, one in enumerate(rounds)]
    return table(["round", "epochs", "MACs", "parameters", "densities", metric, ""], lines)


def _cells(one: Round) -> list[str]:
    values = list(one.densities.values()) or [1.0]
    return [
        str(one.epochs),
        "?" if one.macs is None else f"{one.macs:,}",
        f"{one.parameters:,}",
        f"{min(values):.2f} to {max(values):.2f}",
        "" if one.metric is None else f"{one.metric:.4f}",
        "cut taken back" if one.taken_back else "",
    ]
