"""The figures of docs/systems.md, from the rows of `systems.py`."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import Any

from benchmarks.figures import INKS, drawing
from benchmarks.records import Row
from keras_gcp.reporting.style import BLUE, DENSE, GREEN, ORANGE


def draw(rows: Sequence[Row], share: float) -> None:
    """Both figures, light and dark; one without rows is left as it is."""
    good = [row for row in rows if "error" not in row]
    cut = [row for row in good if row["run"] == "cut" and row["share"] == share]
    cut = [row for row in cut if row["system"] != "auto"]  # it is one of the others
    trained = [row for row in good if row["run"] == "training" and row["share"] in (share, 1.0)]
    tuned = [row for row in good if row["run"] == "tuned" and row["share"] == share]
    dense = [row for row in good if row["run"] == "tuned" and row["system"] == "dense"]
    for scheme in INKS:
        if cut:
            _draw_criteria(cut, tuned, dense, scheme)
        if trained:
            _draw_trainings(trained, scheme)


def _draw_criteria(
    cut: Sequence[Row], tuned: Sequence[Row], dense: Sequence[Row], scheme: str
) -> None:
    """A line for each criterion: only cut, refitted, and trained on."""
    refitted = [row for row in cut if row["compensation"] == "compensated"]
    bare = [row for row in cut if row["compensation"] != "compensated"]
    names = _best_last(refitted)
    with drawing("systems_criteria", scheme, height=1.2 + 0.3 * len(names)) as figure:
        axes = figure.subplots()
        _lines(axes, names)
        _points(axes, names, bare, ORANGE, "cut, readers as they were", hollow=True)
        _points(axes, names, refitted, BLUE, "cut, readers refitted")
        if tuned:
            _points(axes, names, tuned, GREEN, "and three epochs of training")
        if dense:
            at = 100 * _mean(dense)
            axes.axvline(at, color=DENSE, linestyle=(0, (4, 3)), label="dense, the same epochs")
        axes.set(xlabel="test accuracy, %", xlim=(0, 93))
        figure.legend(loc="outside upper center", ncols=2, fontsize=9)


_FAR = 15
"""Points behind the best from which on a system stands at the edge: others would be in a heap."""


def _draw_trainings(rows: Sequence[Row], scheme: str) -> None:
    """A line for each system, what is left of the multiply-adds in its label, its mean beside."""
    names = _best_last(rows)
    means = {name: 100 * _mean(_of(name, rows)) for name in names}
    least = max(means.values()) - _FAR
    near = [row for row in rows if means[row["system"]] >= least]
    left = min(100 * row["accuracy"] for row in near) - 1.5
    with drawing("systems_training", scheme, height=0.9 + 0.33 * len(names)) as figure:
        axes = figure.subplots()
        _lines(axes, names)
        _points(axes, names, near, BLUE, "each seed")
        told = [f"{name}  ({_left(name, rows):.0%})" for name in names]
        axes.set_yticks(range(len(names)), told)
        for at, name in enumerate(names):
            place = (1.02, at)
            axes.annotate(
                f"{means[name]:.1f}", place, xycoords=("axes fraction", "data"), va="center"
            )
            if means[name] < least:
                axes.scatter([left + 0.4], [at], marker="<", s=30, color=BLUE)
        best = max(100 * row["accuracy"] for row in rows)
        axes.set(xlabel="test accuracy, %", xlim=(left, best + 1.5))


def _lines(axes: Any, names: Sequence[str]) -> None:
    axes.hlines(range(len(names)), 0, 100, color=DENSE, linewidth=0.6, alpha=0.4)
    axes.set_yticks(range(len(names)), names)
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_visible(False)


def _points(
    axes: Any,
    names: Sequence[str],
    rows: Sequence[Row],
    colour: str,
    label: str,
    hollow: bool = False,
) -> None:
    """Every seed, and a stroke at their mean."""
    places = {name: at for at, name in enumerate(names)}
    known = [row for row in rows if row["system"] in places]
    heights = [places[row["system"]] for row in known]
    fill = "none" if hollow else colour
    accuracies = [100 * row["accuracy"] for row in known]
    axes.scatter(accuracies, heights, s=26, facecolors=fill, edgecolors=colour, label=label)
    for name, at in places.items():
        own = _of(name, rows)
        if len(own) > 1:
            axes.plot([100 * _mean(own)] * 2, [at - 0.3, at + 0.3], color=colour, linewidth=2)


def _best_last(rows: Sequence[Row]) -> list[str]:
    """Names in the order of a vertical axis: the best one is the top one."""
    return sorted({row["system"] for row in rows}, key=lambda name: _mean(_of(name, rows)))


def _of(name: str, rows: Sequence[Row]) -> list[Row]:
    return [row for row in rows if row["system"] == name]


def _left(name: str, rows: Sequence[Row]) -> float:
    return statistics.mean(row["macs_share"] for row in _of(name, rows))


def _mean(rows: Sequence[Row]) -> float:
    return statistics.mean(row["accuracy"] for row in rows)
