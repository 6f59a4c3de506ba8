"""The texts of a report's cards and tables, made of numbers."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from keras_gcp import formatting
from keras_gcp.training.event_records import STAGES, Event

EMPTY = "–"

Pair = tuple[float, float]
"""Before and after."""

Spreads = tuple[tuple[float, float], tuple[float, float]]
"""10th and 90th percentile of what was measured before, and of what was measured after."""


@dataclass(frozen=True)
class Card:
    """One number in large type, what it was before, and the change in words."""

    name: str
    after: str
    before: str | None
    change: str


@dataclass(frozen=True)
class EventRow:
    """One event; sizes with their share of the original."""

    epoch: int
    progress: str
    channels: str
    macs: str
    macs_share: str
    parameters: str
    parameters_share: str
    loss: str
    seconds: tuple[str, ...]
    total: str


@dataclass(frozen=True)
class FileRow:
    """One format; factors greater than 1 mean smaller and faster."""

    format: str
    bytes_before: str
    bytes_after: str
    bytes_factor: str
    latency_before: str
    latency_after: str
    latency_factor: str


@dataclass(frozen=True)
class WidthRow:
    """One layer."""

    layer: str
    before: int
    after: int
    share: float
    kept: str


def card(name: str, before: float | None, after: float) -> Card:
    """The card of one summary entry; its name says what kind of number it is."""
    text, change = _kind_of(name)
    if before is None:
        return Card(name, text(after), None, "")
    return Card(name, text(after), text(before), change(before, after))


def event_rows(events: Sequence[Event]) -> list[EventRow]:
    """One row per event, in order."""
    stages = stages_of(events)
    return [_event_row(event, events[0], stages) for event in events]


def stages_of(events: Sequence[Event]) -> tuple[str, ...]:
    """The stages that took any time at any event: without a guard nothing is guarded."""
    return tuple(s for s in STAGES if any(event.seconds[s] > 0 for event in events))


def file_rows(
    sizes: Mapping[str, Pair], latencies: Mapping[str, Pair], spreads: Mapping[str, Spreads]
) -> list[FileRow]:
    """One row per format that has a size or a latency."""
    formats = [*sizes, *(name for name in latencies if name not in sizes)]
    return [
        FileRow(
            name,
            *_pair(sizes.get(name), formatting.file_size),
            *_latencies(latencies.get(name), spreads.get(name)),
        )
        for name in formats
    ]


def overlap(spreads: Spreads) -> bool:
    """Whether two spreads share values, so that which of the two is less is not known."""
    (low, high), (other_low, other_high) = spreads
    return low <= other_high and other_low <= high


def width_rows(before: Mapping[str, int], after: Mapping[str, int]) -> list[WidthRow]:
    """One row per layer, in the order of `before`."""
    return [
        WidthRow(
            layer,
            width,
            after[layer],
            after[layer] / width,
            formatting.percent(after[layer] / width),
        )
        for layer, width in before.items()
    ]


def _kind_of(name: str) -> tuple[Callable[[float], str], Callable[[float, float], str]]:
    if "accuracy" in name.lower():
        return formatting.percent, _points
    if "seconds" in name.lower():
        return formatting.seconds, _unsaid  # one run each: what differs may be noise
    if name.lower().endswith("_ms"):
        return formatting.milliseconds, _words("less", "more")
    if "bytes" in name.lower():
        return formatting.file_size, _words("smaller", "larger")
    return formatting.count, _words("fewer", "more")


def _points(before: float, after: float) -> str:
    return f"{100 * (after - before):+.1f} points".replace("-", "−")


def _unsaid(before: float, after: float) -> str:
    return ""


def _words(less: str, more: str) -> Callable[[float, float], str]:
    def change(before: float, after: float) -> str:
        if after <= before:
            return f"{formatting.factor(before, after)} {less}"
        return f"{formatting.factor(after, before)} {more}"

    return change


def _event_row(event: Event, first: Event, stages: Sequence[str]) -> EventRow:
    return EventRow(
        epoch=event.epoch,
        progress=formatting.percent(event.progress, 0),
        channels=f"{event.removed_channels:,}",
        macs=EMPTY if event.macs_after is None else formatting.count(event.macs_after),
        macs_share=_share(event.macs_after, first.macs_before),
        parameters=formatting.count(event.parameters_after),
        parameters_share=formatting.percent(event.parameters_after / first.parameters_before),
        loss=f"{_loss(event.loss_before)} → {_loss(event.loss_after)}",
        seconds=tuple(f"{event.seconds[stage]:.2f}" for stage in stages),
        total=f"{sum(event.seconds.values()):.2f}",
    )


def _share(now: int | None, original: int | None) -> str:
    return EMPTY if now is None or original is None else formatting.percent(now / original)


def _loss(value: float | None) -> str:
    return EMPTY if value is None else f"{value:.4g}"


def _latencies(values: Pair | None, spreads: Spreads | None) -> tuple[str, str, str]:
    """Both latencies with their spreads; no factor where these overlap."""
    before, after, factor = _pair(values, formatting.milliseconds)
    if values is None or spreads is None:
        return before, after, factor
    shown = [
        f"{text} ({formatting.three_digits(low)}–{formatting.three_digits(high)})"
        for text, (low, high) in zip((before, after), spreads, strict=True)
    ]
    return shown[0], shown[1], EMPTY if overlap(spreads) else factor


def _pair(values: Pair | None, text: Callable[[float], str]) -> tuple[str, str, str]:
    if values is None:
        return EMPTY, EMPTY, EMPTY
    before, after = values
    return text(before), text(after), formatting.factor(before, after)
