"""One HTML page about a pruned model, its pictures, and the raw numbers as JSON."""

from __future__ import annotations

import base64
import importlib
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from numbers import Integral, Real
from pathlib import Path
from typing import Any

from keras_gcp.errors import InvalidArgument
from keras_gcp.reporting import rows
from keras_gcp.reporting.file_chart import files_chart
from keras_gcp.reporting.style import PlottingUnavailable
from keras_gcp.reporting.training_chart import History, training_curves
from keras_gcp.reporting.width_chart import width_bars
from keras_gcp.training.event_records import Event

_TEMPLATES = Path(__file__).with_name("templates")


def write_report(
    directory: str | Path,
    *,
    title: str,
    summary: Mapping[str, tuple[float | None, float]],
    widths_before: Mapping[str, int],
    widths_after: Mapping[str, int],
    history: History | None = None,
    events: Sequence[Event] = (),
    files: Mapping[str, tuple[float, float]],
    latencies: Mapping[str, tuple[float, float]],
    notes: Iterable[str] = (),
    dense_history: History | None = None,
    latency_spreads: Mapping[str, rows.Spreads] | None = None,
) -> Path:
    """Writes `report.html`, its pictures as PNG files, and `report.json`.

    The page holds its pictures and its style; it loads nothing from anywhere, so it can be
    mailed as one file.

    Args:
        directory: Folder; made if missing.
        title: Heading of the page.
        summary: What to show in large type: name to value before and after (before may be
            None). A name with `accuracy` is shown in percent, with `seconds` as a duration
            (without a factor, since one run each has no spread), with `bytes` as a size, any
            other as a count.
        widths_before: Layer to number of output channels, in the order to show.
        widths_after: The same layers after pruning.
        history: `History.history` of the pruned run; None if there was no training.
        events: Its events.
        files: Format to bytes before and after.
        latencies: Format to milliseconds per example before and after; may be empty.
        notes: What an honest reader wants to know: machine, seeds, what was compared with what.
        dense_history: `History.history` of a run without pruning.
        latency_spreads: Format to the 10th and 90th percentile of the calls before, and after;
            shown beside `latencies`, and no factor is named where the two overlap.

    Returns:
        The path of `report.html`.

    Raises:
        InvalidArgument: Widths before and after name different layers, or the history has no
            `loss`.
        PlottingUnavailable: Matplotlib or jinja2 is not installed.

    Example:

    ```python
    write_report(
        "report",
        title="ResNet-20 on digits",
        summary={"MACs": (40.8e6, 18.3e6), "test accuracy": (0.981, 0.978)},
        widths_before=before,
        widths_after=after,
        history=history.history,
        events=callback.events,
        files={"tflite": (1_101_120, 512_000)},
        latencies={"tflite": (0.953, 0.512)},
        latency_spreads={"tflite": ((0.949, 0.971), (0.508, 0.530))},
        notes=["2 cores of ...", "seed 0"],
    )
    ```
    """
    folder = Path(directory)
    notes, spreads = list(notes), latency_spreads or {}
    if not summary:
        raise InvalidArgument("`summary` is empty. Expected a name and two values at least.")
    template = _template()
    folder.mkdir(parents=True, exist_ok=True)
    pictures = {"widths": width_bars(widths_before, widths_after, folder / "widths.png")}
    if history is not None:
        path = folder / "training.png"
        pictures["curves"] = training_curves(history, events, path, dense_history)
    if files or latencies:
        pictures["files"] = files_chart(files, latencies, folder / "files.png", spreads)
    page = template.render(
        title=title,
        cards=[rows.card(name, *values) for name, values in summary.items()],
        pictures={name: _embedded(path) for name, path in pictures.items()},
        stages=rows.stages_of(events),
        events=rows.event_rows(events),
        files=rows.file_rows(files, latencies, spreads),
        widths=rows.width_rows(widths_before, widths_after),
        notes=notes,
    )
    numbers = {
        "title": title,
        "summary": summary,
        "widths_before": widths_before,
        "widths_after": widths_after,
        "history": history,
        "dense_history": dense_history,
        "events": [event.to_dict() for event in events],
        "files_bytes": files,
        "latencies_milliseconds": latencies,
        "latency_spreads_milliseconds": spreads,
        "notes": notes,
    }
    text = json.dumps(_plain(numbers), indent=1, allow_nan=False)
    (folder / "report.json").write_text(text + "\n", encoding="utf-8")
    (folder / "report.html").write_text(page, encoding="utf-8")
    return folder / "report.html"


def _template() -> Any:
    try:
        jinja2 = importlib.import_module("jinja2")
    except ImportError as error:
        raise PlottingUnavailable(
            "The HTML report needs jinja2, which cannot be imported. "
            "Install it with `pip install keras-gcp[examples]`."
        ) from error
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_TEMPLATES),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("report.html.jinja")


def _embedded(picture: Path) -> str:
    return "data:image/png;base64," + base64.b64encode(picture.read_bytes()).decode("ascii")


def _plain(value: Any) -> Any:
    """What JSON knows: NumPy numbers become Python's, NaN and infinity become null."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if value is None or isinstance(value, str | bool):
        return value
    if isinstance(value, Integral):
        return int(value)
    if isinstance(value, Real):
        return float(value) if math.isfinite(value) else None
    return [_plain(item) for item in value]
