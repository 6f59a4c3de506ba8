"""What TensorBoard shows of pruning, where its callback is in the same fit."""

from __future__ import annotations

import io
import math
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import keras

from keras_gcp.backend.event_files import EventFile
from keras_gcp.extras import imported, is_installed, missing_text
from keras_gcp.selection.plan import Plan
from keras_gcp.training.event_records import STAGES, Event, SkippedEvent, when

RUN = "pruning"
"""The folder in that of the callback, and the name of the run beside `train` and `validation`."""

_PALE, _DARK = "#D5DBE1", "#0072B2"


class EventLog:
    """Writes events to the folders of TensorBoard callbacks.

    Args:
        callbacks: The other callbacks of the fit.
        writes: Whether this process writes; of several that train together, one does.
    """

    def __init__(self, callbacks: Sequence[Any], writes: bool = True) -> None:
        found = [one for one in callbacks if isinstance(one, keras.callbacks.TensorBoard)]
        self._files = [EventFile(Path(one.log_dir) / RUN) for one in found if writes]
        self._retraced: list[Event] = []
        if self._files and not is_installed("matplotlib"):
            needing = "TensorBoard gets no pictures of the widths: they need"
            warnings.warn(missing_text(["matplotlib"], needing), stacklevel=2)

    def begin(self, shares_left: Mapping[str, float], epoch: int, step: int | None) -> None:
        """What is left when training begins: where the curves start."""
        self._scalars(_left(shares_left), epoch if step is None else step)

    def event(self, event: Event, shares_left: Mapping[str, float], plan: Plan | None) -> None:
        """What an event did, and what is left."""
        at = event.epoch if event.step is None else event.step
        self._scalars({**_left(shares_left), **_numbers(event)}, at)
        if plan is None or not self._files:
            return
        text = f"{when(event.epoch, event.step)}\n\n```\n{plan.explain()}\n```"
        picture = _widths_picture(plan, list(event.widths))
        for file in self._files:
            file.text("plan", text, at)
            if picture is not None:
                file.picture("widths", picture, at)
            file.flush()

    def skipped(self, skipped: SkippedEvent) -> None:
        """Why an event removed nothing."""
        at = skipped.epoch if skipped.step is None else skipped.step
        for file in self._files:
            file.text("skipped", f"{when(skipped.epoch, skipped.step)}: {skipped.error}", at)
            file.flush()

    def retraced(self, events: Sequence[Event]) -> None:
        """What compiling again took, which is known some steps after an event."""
        for event in events[len(self._retraced) :]:
            if event.seconds["retrace"] > 0:
                at = event.epoch if event.step is None else event.step
                self._scalars({"seconds/retrace": event.seconds["retrace"]}, at)
        self._retraced = list(events)

    def close(self) -> None:
        """Ends the files."""
        for file in self._files:
            file.close()

    def _scalars(self, values: Mapping[str, float], at: int) -> None:
        for file in self._files:
            for name, value in values.items():
                file.scalar(name, value, at)
            file.flush()


def _left(shares: Mapping[str, float]) -> dict[str, float]:
    return {f"{resource}_left": share for resource, share in shares.items()}


def _numbers(event: Event) -> dict[str, float]:
    """The numbers of an event, by the names of their curves."""
    values = {
        "macs": event.macs_after,
        "parameters": event.parameters_after,
        "removed_channels": event.removed_channels,
        "sample_loss/before": event.loss_before,
        "sample_loss/after": event.loss_after,
        f"guarded_{event.metric}/before": event.metric_before,
        f"guarded_{event.metric}/after": event.metric_after,
        "seconds/total": sum(event.seconds[stage] for stage in STAGES),
        **{f"seconds/{stage}": event.seconds[stage] or None for stage in STAGES},
    }
    return {name: float(value) for name, value in values.items() if value is not None}


def _widths_picture(plan: Plan, layers: Sequence[str]) -> bytes | None:
    """Channels of layers, kept ones dark, as PNG; None without Matplotlib."""
    if not is_installed("matplotlib"):  # Told when training began.
        return None
    Figure = imported("matplotlib.figure", "Pictures need").Figure
    names = [name for name in layers if name in plan.layers]
    whole = [len(plan.layers[name]) for name in names]
    kept = [int(plan.layers[name].sum()) for name in names]
    columns = math.ceil(len(names) / 40)
    rows = math.ceil(len(names) / columns)
    picture = Figure(figsize=(6.5 * columns, 0.9 + 0.22 * rows), dpi=110, layout="constrained")
    picture.suptitle(f"{sum(kept):,} of {sum(whole):,} channels kept", fontsize=11)
    for i, axes in enumerate(picture.subplots(1, columns, squeeze=False)[0]):
        part = slice(i * rows, (i + 1) * rows)
        places = range(len(names[part]))
        axes.barh(places, whole[part], color=_PALE)
        axes.barh(places, kept[part], color=_DARK)
        labels = zip(names[part], kept[part], whole[part], strict=True)
        axes.set_yticks(places, [f"{name}  {k} of {n}" for name, k, n in labels], fontsize=8)
        axes.set_ylim(rows - 0.4, -0.6)
        axes.tick_params(axis="x", labelsize=8)
        axes.spines[["top", "right"]].set_visible(False)
    png = io.BytesIO()
    picture.savefig(png, format="png")
    return png.getvalue()
