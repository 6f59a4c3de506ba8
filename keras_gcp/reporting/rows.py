"""The texts of a report's tables, made of numbers."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from keras_gcp import formatting
from keras_gcp.training.event_records import STAGES, Event, when

EMPTY = "–"

Pair = tuple[float, float]
"""Before and after."""

Spreads = tuple[tuple[float, float], tuple[float, float]]
"""10th and 90th percentile of what was measured before, and of what was measured after."""


_FORMAT_NAMES = {
    "keras": "Keras",
    "saved_model": "SavedModel",
    "tflite": "TFLite float32",
    "tflite_float16": "TFLite float16",
    "tflite_dynamic": "TFLite int8 weights",
    "tflite_int8": "TFLite int8",
    "onnx": "ONNX",
}


def format_name(name: str) -> str:
    """A format of `keras_gcp.export` in words."""
    return _FORMAT_NAMES.get(name, name)


@dataclass(frozen=True)
class EventRow:
    """One event; sizes with their share of the original, seconds with those of all stages first."""

    number: str
    when: str
    progress: str
    channels: str
    macs: str
    macs_share: str
    parameters: str
    parameters_share: str
    loss: str
    total: str
    seconds: tuple[str, ...]


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


def event_rows(events: Sequence[Event]) -> list[EventRow]:
    """One row per event, in order."""
    stages = stages_of(events)
    return [_event_row(i + 1, event, events[0], stages) for i, event in enumerate(events)]


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
            format_name(name),
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


def _event_row(number: int, event: Event, first: Event, stages: Sequence[str]) -> EventRow:
    return EventRow(
        number=str(number),
        when=when(event.epoch, event.step),
        progress=formatting.percent(event.progress, 0),
        channels=f"{event.removed_channels:,}",
        macs=EMPTY if event.macs_after is None else formatting.count(event.macs_after),
        macs_share=_share(event.macs_after, first.macs_before),
        parameters=formatting.count(event.parameters_after),
        parameters_share=formatting.percent(event.parameters_after / first.parameters_before),
        loss=f"{_loss(event.loss_before)} → {_loss(event.loss_after)}",
        total=f"{sum(event.seconds.values()):.2f}",
        seconds=tuple(f"{event.seconds[stage]:.2f}" for stage in stages),
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
