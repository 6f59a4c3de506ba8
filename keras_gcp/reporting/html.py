"""One HTML page about a pruned model, its pictures, and the raw numbers as JSON."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from numbers import Integral, Real
from pathlib import Path
from typing import Any

from keras_gcp.errors import InvalidArgument
from keras_gcp.extras import imported
from keras_gcp.reporting import rows
from keras_gcp.reporting.cards import cards_of, file_cards
from keras_gcp.reporting.file_chart import files_chart
from keras_gcp.reporting.inline_svg import inlined
from keras_gcp.reporting.training_chart import History, training_curves
from keras_gcp.reporting.width_chart import width_bars
from keras_gcp.storage.writing import write_text
from keras_gcp.training.event_records import STAGE_NAMES, Event

_SAYS = {
    "training": "Accuracy, loss, and share of MACs and parameters left over the epochs",
    "widths": "Number of channels of every layer before and after",
    "files": "Size and latency of every file before and after",
}
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
    prunable: tuple[int, int] | None = None,
    controls: Mapping[str, Mapping[str, float]] | None = None,
    test_images: int | None = None,
    seeds: Sequence[int] = (),
) -> Path:
    """Writes `report.html`, its pictures as SVG files, and `report.json`.

    The page holds its pictures and its style; it loads nothing from anywhere, so it can be
    mailed as one file.

    Args:
        directory: Folder; made if missing.
        title: Heading of the page.
        summary: What to show in large type: name to value before and after (before may be
            None). A name with `accuracy` is shown in percent, beside its `controls`, with
            `seconds` as a duration (without a factor, since one run each has no spread), with
            `bytes` as a size, any other as a count.
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
        prunable: The prunable channels before and after, as `Plan.explain` counts them:
            `(plan.before.channels, plan.after.channels)`.
        controls: Accuracy of the summary to those of controls: what else the same effort leads to,
            such as the final widths trained from fresh weights.
        test_images: On how many images accuracies were measured. A difference that may be chance
            is called that.
        seeds: Of the runs.

    Returns:
        The path of `report.html`.

    Raises:
        InvalidArgument: Widths before and after name different layers, or the history has no
            `loss`.
        MissingPackage: Matplotlib or jinja2 is not installed.

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
    pictures = _Pictures(folder)
    if history is not None:
        pictures.draw("training", training_curves, history, events, dense_history)
    pictures.draw("widths", width_bars, widths_before, widths_after, prunable=prunable)
    if files or latencies:
        pictures.draw("files", files_chart, files, latencies, latency_spreads=spreads)
    cards = cards_of(summary, controls or {}, test_images, _seeds_in_words(seeds))
    page = template.render(
        title=title,
        cards=cards + file_cards(files, latencies, spreads),
        pictures=pictures.elements,
        stages=[STAGE_NAMES.get(stage, stage) for stage in rows.stages_of(events)],
        events=rows.event_rows(events),
        files=rows.file_rows(files, latencies, spreads),
        widths=rows.width_rows(widths_before, widths_after),
        prunable=None if prunable is None else [f"{number:,}" for number in prunable],
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
        "prunable_channels": prunable,
        "controls": controls,
        "test_images": test_images,
        "seeds": seeds,
        "notes": notes,
    }
    text = json.dumps(_plain(numbers), indent=1, allow_nan=False)
    write_text(folder / "report.json", text + "\n")
    write_text(folder / "report.html", page)
    return folder / "report.html"


def _template() -> Any:
    jinja2 = imported("jinja2", "The HTML report needs")
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_TEMPLATES),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("report.html.jinja")


class _Pictures:
    """Draws pictures into a folder, each for a desk and for a telephone; keeps their elements."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.elements: dict[str, tuple[str, str]] = {}

    def draw(
        self, name: str, chart: Callable[..., Path], one: Any, two: Any, *more: Any, **options: Any
    ) -> None:
        """Draws one; its path is the third argument of the chart."""
        wide, narrow = (
            chart(one, two, self._folder / f"{name}{end}.svg", *more, narrow=bool(end), **options)
            for end in ("", "_narrow")
        )
        says = _SAYS[name]
        self.elements[name] = inlined(wide, name, says), inlined(narrow, f"{name}-narrow", says)


def _seeds_in_words(seeds: Sequence[int]) -> str:
    if not seeds:
        return ""
    return f"{'seed' if len(seeds) == 1 else 'seeds'}\N{NO-BREAK SPACE}{', '.join(map(str, seeds))}"


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
