"""What a search by Network Adjustment has tried: widths, costs, ratios. Sees numbers only."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from keras_gcp.errors import InvalidArgument
from keras_gcp.formatting import amount, html_table, metric, table, wrapped
from keras_gcp.methods.adjustment.utilization_result import UtilizationRatios
from keras_gcp.storage.writing import written_at_once
from keras_gcp.validation import require_path
from keras_gcp.validation.plain_data import DoesNotFit, fields_of, loaded, parsed, told_as

FORMAT = 1
FILE = "adjustment.json"
"""Name of the file with the rounds, in the folder with the models."""


@dataclass(frozen=True)
class AdjustmentRound:
    """A network that was trained and measured.

    Attributes:
        widths: Layer to its number of channels.
        macs: Multiply-adds for one example.
        parameters: Parameters.
        measured: What each layer makes of its multiply-adds, in the order of `widths`.
        file: Name of the `.keras` file with the trained model; None if there is no folder.
    """

    widths: Mapping[str, int]
    macs: int
    parameters: int
    measured: UtilizationRatios
    file: str | None = None

    @property
    def value(self) -> float:
        """The metric of the network, on the data held out."""
        return self.measured.baseline

    @property
    def ratios(self) -> dict[str, float]:
        """Layer to its utilization ratio."""
        return {
            layer: group.ratio
            for layer, group in zip(self.widths, self.measured.groups, strict=True)
        }


@dataclass(frozen=True, repr=False)
class NetworkAdjustment:
    """What a search for better widths at equal multiply-adds has tried.

    Printed, it is a table.

    Attributes:
        settings: What the search was asked for, in words that are the same in another process.
        rounds: The networks, in the order of their training.
    """

    settings: Mapping[str, str]
    rounds: tuple[AdjustmentRound, ...]

    def __repr__(self) -> str:
        if not self.rounds:
            return "<NetworkAdjustment: no rounds yet>"
        return (
            f"<NetworkAdjustment: {len(self.rounds)} rounds at {self.rounds[0].macs:,} MACs, "
            f"{self._metric} {self._shown(self.rounds[0])} -> {self._shown(self.best)}>"
        )

    def __str__(self) -> str:
        return self.explain()

    def _repr_html_(self) -> str:
        return html_table(self._columns(), self._rows(), self._lines())

    @property
    def best(self) -> AdjustmentRound:
        """The round with the best metric, the first of several.

        Raises:
            InvalidArgument: there is none.
        """
        known = [one for one in self.rounds if not math.isnan(one.value)]
        if not known:
            raise InvalidArgument("The search has no round yet, so there is no best one.")
        sign = 1.0 if known[0].measured.higher_is_better else -1.0
        return max(known, key=lambda one: sign * one.value)

    @property
    def widths(self) -> dict[str, int]:
        """Layer to its number of channels, of the best round."""
        return dict(self.best.widths)

    def explain(self) -> str:
        """A text table: every layer's width in every round, and what the network was worth."""
        text = table(self._columns(), self._rows())
        return "\n".join([text, *map(wrapped, self._lines())])

    def last_line(self) -> str:
        """The last round in one line."""
        last = self.rounds[-1]
        return (
            f"round {len(self.rounds) - 1}: {last.macs:,} MACs, {self._metric} {self._shown(last)}"
            f"; widths {', '.join(map(str, last.widths.values()))}"
        )

    @property
    def _metric(self) -> str:
        return self.rounds[0].measured.metric

    def _shown(self, one: AdjustmentRound) -> str:
        return metric(self._metric, one.value)

    def _columns(self) -> list[str]:
        return ["round", *map(str, range(len(self.rounds)))]

    def _rows(self) -> list[list[Any]]:
        if not self.rounds:
            return []
        layers = [
            [layer, *(one.widths[layer] for one in self.rounds)] for layer in self.rounds[0].widths
        ]
        macs = [amount("macs", one.macs) for one in self.rounds]
        return [*layers, ["MACs", *macs], [self._metric, *map(self._shown, self.rounds)]]

    def _lines(self) -> list[str]:
        if not self.rounds:
            return ["no rounds yet"]
        best = self.best
        ratios = sorted(best.ratios.items(), key=lambda pair: pair[1])
        return [
            f"best: round {self.rounds.index(best)}, {self._metric} {self._shown(best)}; its "
            f"multiply-adds are used least well in {ratios[0][0]}, best in {ratios[-1][0]}"
        ]

    def with_round(self, one: AdjustmentRound) -> NetworkAdjustment:
        """The same with a round more."""
        return replace(self, rounds=(*self.rounds, one))

    def to_dict(self) -> dict[str, Any]:
        """The rounds as a dict that `json.dumps` takes."""
        return {"format": FORMAT, **asdict(self)}

    @staticmethod
    def from_dict(values: Mapping[str, Any]) -> NetworkAdjustment:
        """The inverse of `to_dict`.

        Raises:
            InvalidArgument: it is not one of a known format.
        """
        with told_as("NetworkAdjustment.to_dict"):
            fields = fields_of(values, FORMAT)
            found: NetworkAdjustment = parsed(NetworkAdjustment, fields)
            for number, one in enumerate(found.rounds):
                if list(one.widths) != list(found.rounds[0].widths):
                    raise DoesNotFit(f"rounds[{number}] has other layers than the first round")
                if len(one.measured.groups) != len(one.widths):
                    raise DoesNotFit(f"rounds[{number}] has another number of ratios than layers")
            return found

    def save(self, directory: Any) -> None:
        """Writes the rounds into a folder, beside the models."""
        file = Path(require_path("directory", directory)) / FILE
        with written_at_once(file, file.with_suffix(".tmp"), to_disk=True) as handle:
            handle.write(json.dumps(self.to_dict(), indent=1).encode())

    @staticmethod
    def load(directory: Any) -> NetworkAdjustment:
        """Reads the rounds that `keras_gcp.methods.network_adjustment` wrote into its folder.

        Raises:
            InvalidArgument: there are none.
        """
        file = Path(require_path("directory", directory)) / FILE
        try:
            return NetworkAdjustment.from_dict(loaded(file.read_text("utf-8")))
        except (OSError, UnicodeDecodeError, DoesNotFit, InvalidArgument) as error:
            raise InvalidArgument(
                f"'{file}' is not a file that `keras_gcp.methods.network_adjustment` wrote: {error}"
            ) from error
