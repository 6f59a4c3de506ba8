"""The picture of a training run: accuracy, loss and size over the epochs, events marked."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from keras_gcp import formatting
from keras_gcp.errors import InvalidArgument
from keras_gcp.reporting.axes_scales import all_positive, show_end_of
from keras_gcp.reporting.style import (
    BLUE,
    DENSE,
    GREEN,
    NARROW,
    ORANGE,
    VERMILION,
    figure,
)
from keras_gcp.training.event_records import Event

History = Mapping[str, Sequence[float]]

_LAST_EPOCH_WITH_MARKERS = 40


def training_curves(
    history: History,
    events: Sequence[Event],
    path: str | Path,
    reference_history: History | None = None,
    narrow: bool = False,
) -> Path:
    """Draws accuracy, loss, and the shares of MACs and parameters left, over the epochs.

    Epoch 0 ends at 1 on the horizontal axis, so an event before epoch 5 stands at 5. Axes show the
    end of the training: that of accuracies is stretched towards 100 % where they get there, and
    leaves out what only the first third of the epochs reached; that of losses is logarithmic.

    Args:
        history: `History.history` of the run: `loss` at least; `accuracy`, `val_loss`,
            `val_accuracy` (or another metric that ends in `accuracy`) are drawn if there.
        events: Its events.
        path: SVG, PDF or PNG file to write.
        reference_history: The same of a run without pruning, drawn in grey.
        narrow: Whether it is for a telephone.

    Returns:
        The path.

    Raises:
        InvalidArgument: The history has no `loss`.
        MissingPackage: Matplotlib is not installed.
    """
    if not len(history.get("loss", ())):
        raise InvalidArgument(
            f"The history has the entries {sorted(history)}. Expected `loss` with one value per "
            "epoch: pass `model.fit(...).history`."
        )
    panels: list[Callable[[Any], None]] = [
        partial(_draw_metric, name=name, history=history, reference=reference_history)
        for name in (accuracy_name(history), "loss")
        if name
    ]
    if events:
        panels.append(partial(_draw_size, events=events, epochs=len(history["loss"])))
    height = 0.9 + (3.2 if narrow else 2.6) * len(panels)
    title = _title(events, narrow)
    with figure(path, NARROW if narrow else 12.0, height, title) as drawing:
        grid = drawing.subplots(len(panels), 1, sharex=not narrow, squeeze=False)[:, 0]
        end = _longest(history, reference_history) + 0.3
        for axes, draw in zip(grid, panels, strict=True):
            draw(axes)
            _mark_events(axes, events)
            _place_legend(axes, narrow, below=-0.2 if axes is grid[-1] else -0.1)
            axes.set_xlim(0, end)
            axes.xaxis.get_major_locator().set_params(integer=True)
        grid[-1].set_xlabel("epochs trained")
    return Path(path)


def _place_legend(axes: Any, narrow: bool, below: float) -> None:
    if narrow:
        axes.legend(loc="upper left", bbox_to_anchor=(-0.05, below), fontsize=8.5)
    else:
        axes.legend(loc="upper left", bbox_to_anchor=(1.0, 1.03), fontsize=10)


def accuracy_name(history: History) -> str | None:
    """The name of the accuracy that the run recorded; None if there is none."""
    names = [n for n in history if not n.startswith("val_") and n.endswith(("accuracy", "acc"))]
    return names[0] if names else None


def size_steps(events: Sequence[Event], epochs: int, what: str) -> tuple[list[int], list[float]]:
    """Share of MACs or parameters left as a staircase.

    Args:
        events: In the order in which they took place.
        epochs: Length of the run.
        what: `"macs"` or `"parameters"`.

    Returns:
        Epochs trained and, from each of them on, the share of the original; the last entry
        closes the staircase at the end of the run.
    """
    original = getattr(events[0], f"{what}_before")
    places = [0, *(event.epoch for event in events), epochs]
    shares = [1.0, *(getattr(event, f"{what}_after") / original for event in events)]
    return places, [*shares, shares[-1]]


def _title(events: Sequence[Event], narrow: bool) -> str:
    if not events:
        return "Training without an event"
    what, name = _measured_sizes(events)[0]
    share = formatting.percent(size_steps(events, 0, what)[1][-1])
    times = "one event" if len(events) == 1 else f"{len(events)} events"
    start = "" if narrow else "One training run, "
    return f"{start}{times}, {share} of the {name} left"


def _measured_sizes(events: Sequence[Event]) -> list[tuple[str, str]]:
    """What is known of a model's size; not its MACs where the size of its input is open."""
    known = all(event.macs_after is not None for event in events)
    return [*([("macs", "MACs")] if known else []), ("parameters", "parameters")]


def _draw_metric(axes: Any, name: str, history: History, reference: History | None) -> None:
    factor, unit = (1.0, "") if name == "loss" else (100.0, " %")
    axes.set_title("Loss" if name == "loss" else "Accuracy")
    axes.set_ylabel(unit.strip())
    for run, color, values in (("dense", DENSE, reference or {}), ("pruned", BLUE, history)):
        for key, kind, style in ((name, "training", ":"), (f"val_{name}", "validation", "-")):
            if not len(values.get(key, ())):
                continue
            heights = [factor * value for value in values[key]]
            last = f"{heights[-1]:.2f}{unit}" if unit else f"{heights[-1]:.3g}"
            axes.plot(
                range(1, len(heights) + 1),
                heights,
                style,
                color=color,
                label=f"{run}, {kind}: {last} at the end",
                marker="o" if len(heights) <= _LAST_EPOCH_WITH_MARKERS else None,
                markersize=3.5,
            )
    lines = [list(line.get_ydata()) for line in axes.lines]
    if name != "loss":
        show_end_of(axes, lines)
    elif all_positive(lines):
        axes.set_yscale("log")
        axes.yaxis.set_major_formatter("{x:g}")


def _draw_size(axes: Any, events: Sequence[Event], epochs: int) -> None:
    for what, label in _measured_sizes(events):
        color = GREEN if what == "macs" else ORANGE
        places, shares = size_steps(events, epochs, what)
        left = f"{label}: {formatting.percent(shares[-1])} left"
        axes.step(places, [100 * s for s in shares], where="post", color=color, label=left)
    axes.set_title("Left of the original")
    axes.set_ylabel("%")
    axes.set_ylim(0, 105)


def _mark_events(axes: Any, events: Sequence[Event]) -> None:
    for i, event in enumerate(events):
        axes.axvline(
            event.epoch,
            color=VERMILION,
            linewidth=1.0,
            linestyle=(0, (4, 3)),
            zorder=1,
            label="event" if i == 0 else None,
        )


def _longest(history: History, reference: History | None) -> int:
    return max(len(history["loss"]), len((reference or {}).get("loss", ())))
