"""How far each setting stays behind the best one, by network: tables of what to take by default."""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from benchmarks.records import Row

Scores = Mapping[str, Mapping[str, float]]
"""Setting to network to mean score in points."""


@dataclass(frozen=True)
class Comparison:
    """A table of settings by networks.

    Attributes:
        columns: Headings.
        lines: The dense networks, then settings: those with most networks first, among them the
            one with the smallest worst regret.
    """

    columns: tuple[str, ...]
    lines: tuple[tuple[str, ...], ...]


def compared(rows: Sequence[Row]) -> Comparison:
    """The table of rows with `setting`, `network`, and `score` and `dense`, or `error`.

    Regret is what a setting is behind the best one on that network, in points. A cell is the mean
    over seeds; fewer seeds than elsewhere on that network stand in brackets. If one failed, so did
    the cell, and the network does not count in the regret.
    """
    found: dict[str, dict[str, list[Row]]] = defaultdict(lambda: defaultdict(list))
    for row in rows:
        found[row["setting"]][row["network"]].append(row)
    means = {
        setting: {name: _mean(cell) for name, cell in cells.items() if not _failed(cell)}
        for setting, cells in found.items()
    }
    regrets = {setting: _regrets(own, means) for setting, own in means.items()}
    dense = _dense(rows)
    most = {n: max(len(cells[n]) for cells in found.values() if n in cells) for n in dense}
    lines = [("dense", *(_number(dense[name]) for name in dense), "", "")]
    for setting in sorted(means, key=lambda s: (-len(means[s]), max(regrets[s], default=0.0))):
        own = [_cell(found[setting].get(name, []), most[name]) for name in dense]
        lines.append((setting, *own, *_worst_and_mean(regrets[setting])))
    return Comparison(("setting", *dense, "worst regret", "mean regret"), tuple(lines))


def markdown(comparison: Comparison, title: str) -> str:
    """The table as Markdown."""
    rows = [comparison.columns, ["---", *["---:"] * (len(comparison.columns) - 1)]]
    lines = [f"| {' | '.join(cells)} |" for cells in [*rows, *comparison.lines]]
    return "\n".join([f"**{title}**", "", *lines])


def _dense(rows: Sequence[Row]) -> dict[str, float | None]:
    """By network the score of the dense one; None where everything failed."""
    found: dict[str, float | None] = dict.fromkeys(row["network"] for row in rows)
    found.update({row["network"]: 100 * row["dense"] for row in rows if "dense" in row})
    return found


def _regrets(own: Mapping[str, float], means: Scores) -> list[float]:
    return [
        max(m[network] for m in means.values() if network in m) - own[network] for network in own
    ]


def _worst_and_mean(regrets: Sequence[float]) -> tuple[str, str]:
    if not regrets:
        return "", ""
    return _number(max(regrets)), _number(statistics.mean(regrets))


def _failed(rows: Sequence[Row]) -> bool:
    return any("error" in row for row in rows)


def _mean(rows: Sequence[Row]) -> float:
    return 100 * statistics.mean(row["score"] for row in rows)


def _cell(rows: Sequence[Row], most: int) -> str:
    if not rows:
        return ""
    if _failed(rows):
        return "error"
    return _number(_mean(rows)) + (f" ({len(rows)})" if len(rows) < most else "")


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.1f}"
