"""`keras-gcp report`: one HTML page about a model before and after pruning."""

from __future__ import annotations

import os
import platform
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from cyclopts import Parameter

import keras_gcp
from keras_gcp.cli.console import Answer, say
from keras_gcp.cli.data import Examples, read_data
from keras_gcp.cli.measuring import measure
from keras_gcp.cli.models import open_model
from keras_gcp.cli.options import DataOptions, ModelFile, ModelOptions, OutputOptions
from keras_gcp.errors import InvalidArgument
from keras_gcp.formatting import metric

Format = Literal["tflite", "tflite_float16", "tflite_dynamic", "tflite_int8"]
Pair = tuple[float, float]


def report(
    before: ModelFile,
    after: ModelFile,
    folder: Path,
    /,
    *,
    formats: Annotated[tuple[Format, ...], Parameter(consume_multiple=True)] = ("tflite",),
    title: str | None = None,
    options: ModelOptions = ModelOptions(),
    data: DataOptions = DataOptions(),
    shown: OutputOptions = OutputOptions(),
) -> Answer:
    """Write an HTML page: widths, costs, files and their latency, accuracy with labelled data.

    Args:
        before: The model before pruning, a .keras or .h5 file.
        after: The model after it.
        folder: Where the page goes, with its pictures and its numbers as JSON.
        formats: Files to make of both models, whose bytes and latency are compared.
        title: Heading of the page.
    """
    wide, narrow = open_model(before, options), open_model(after, options)
    from keras_gcp.reporting.html import write_report

    widths = _widths(before, wide, after, narrow)
    examples = read_data(data, wide, options.shape())
    files = _files(wide, narrow, folder, formats, examples)
    summary, notes = _summary(wide, narrow, options, examples)
    notes.append(f"Before: {before}; after: {after}.")
    page = write_report(
        folder,
        title=title or f"{before.stem}, pruned",
        summary=summary,
        widths_before=widths[0],
        widths_after=widths[1],
        files=files.bytes,
        latencies=files.latencies,
        latency_spreads=files.spreads,
        notes=[*notes, *files.notes],
    )
    lines = [f"{name}: {_shown(name, a)} -> {_shown(name, b)}" for name, (a, b) in summary.items()]
    facts = {"report": str(page), "summary": {name: list(pair) for name, pair in summary.items()}}
    return Answer("\n".join([*lines, f"report: {page}"]), facts)


@dataclass(frozen=True)
class _Files:
    """Files of both models.

    Attributes:
        bytes: Format to bytes.
        latencies: Format to milliseconds.
        spreads: Format to the 10th and 90th percentiles.
        notes: How they were measured.
    """

    bytes: dict[str, Pair]
    latencies: dict[str, Pair]
    spreads: dict[str, tuple[Pair, Pair]]
    notes: tuple[str, ...]


def _widths(
    before: Path, wide: Any, after: Path, narrow: Any
) -> tuple[dict[str, int], dict[str, int]]:
    found = keras_gcp.trace(wide).widths(), keras_gcp.trace(narrow).widths()
    if found[0].keys() != found[1].keys():
        others = sorted(found[0].keys() ^ found[1].keys())
        raise InvalidArgument(
            f"'{before}' and '{after}' have different layers: {', '.join(others[:4])}. Expected a "
            "model and a narrower one of the same layers."
        )
    return found


def _files(
    wide: Any, narrow: Any, folder: Path, formats: tuple[Format, ...], examples: Examples | None
) -> _Files:
    from keras_gcp.exporting import compare_latency

    say(f"writing {', '.join(formats)} of both")
    sample = None if examples is None else examples.train.x
    first, second = (
        keras_gcp.export(model, folder / part, formats, sample, name="model")
        for model, part in ((wide, "before"), (narrow, "after"))
    )
    pairs = {a.format: (a, b) for a, b in zip(first, second, strict=True)}
    say("measuring latency")
    timed = {name: compare_latency([a.path, b.path]).latencies for name, (a, b) in pairs.items()}
    one = next(iter(timed.values()))[0]
    return _Files(
        {name: (float(a.bytes), float(b.bytes)) for name, (a, b) in pairs.items()},
        {name: (a.milliseconds, b.milliseconds) for name, (a, b) in timed.items()},
        {name: ((a.p10, a.p90), (b.p10, b.p90)) for name, (a, b) in timed.items()},
        (
            f"Latency: TFLite files, batch 1, {one.threads} thread, in turns; median of "
            f"{one.runs:,} calls (10th to 90th percentile), {one.runtime}.",
            f"{os.cpu_count()} CPUs ({platform.machine()}).",
        ),
    )


def _summary(
    wide: Any, narrow: Any, options: ModelOptions, examples: Examples | None
) -> tuple[dict[str, Pair], list[str]]:
    """What the cards show, and what one has to know of it."""
    shape = options.shape()
    a, b = (keras_gcp.count(one, input_shape=shape) for one in (wide, narrow))
    summary: dict[str, Pair] = {}
    notes = []
    values = [measure(one, examples) for one in (wide, narrow)]
    if values[0] is not None and values[1] is not None:
        summary[values[0].name] = (values[0].value, values[1].value)
        notes.append(f"{values[0].name} on {values[0].examples:,} examples.")
    if a.macs is not None and b.macs is not None:
        summary["MACs"] = (a.macs, b.macs)
    summary["parameters"] = (a.parameters, b.parameters)
    return summary, notes


def _shown(name: str, value: float) -> str:
    return f"{value:,}" if isinstance(value, int) else metric(name, value)
