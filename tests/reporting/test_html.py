"""The page holds every number it was given, and needs nothing but itself."""

from __future__ import annotations

import importlib
import json
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from keras_gcp.errors import InvalidArgument
from keras_gcp.reporting import write_report
from keras_gcp.reporting.style import PlottingUnavailable
from keras_gcp.training.event_records import Event


class Tables(HTMLParser):
    """The cells of every table body, row by row, and the addresses of all resources."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.rows: list[list[str]] = []
        self.resources: list[str] = []
        self._in_cell = False
        self.feed(page)

    def handle_starttag(self, tag, attributes):
        self.resources += [value for name, value in attributes if name in ("src", "href")]
        if tag == "tr":
            self.rows.append([])
        if tag == "td":
            self.rows[-1].append("")
            self._in_cell = True

    def handle_endtag(self, tag):
        if tag == "td":
            self._in_cell = False

    def handle_data(self, data):
        if self._in_cell:
            self.rows[-1][-1] += data.strip()


@pytest.fixture
def arguments(history, events, widths):
    return {
        "title": "ResNet <small> & more",
        "summary": {
            "MACs": (np.int64(40_000_000), 20_000_000),
            "test accuracy": (0.981, np.float32(0.976)),
            "training seconds": (None, 75.0),
        },
        "widths_before": widths[0],
        "widths_after": widths[1],
        "history": history,
        "events": events,
        "files": {"keras": (2_000_000, 1_000_000), "tflite": (1_000_000, 400_000)},
        "latencies": {"tflite": (0.9, 0.45)},
        "notes": ["seed 0", "2 cores"],
    }


def test_every_event_file_and_layer_has_its_row(tmp_path, arguments):
    path = write_report(tmp_path / "report", **arguments)
    rows = [row for row in Tables(path.read_text(encoding="utf-8")).rows if row]

    seconds = [f"{0.5 + i:.2f}" for i in range(9)] + ["40.50"]
    assert rows == [
        ["1", "50 %", "12", "30.0 M(75.0 %)", "180 k(90.0 %)", "0.25 → 0.5", *seconds],
        ["3", "100 %", "12", "20.0 M(50.0 %)", "90.0 k(45.0 %)", "– → 0.5", *seconds],
        ["stem", "16", "16", "100.0 %", ""],
        ["block_conv", "32", "8", "25.0 %", ""],
        ["head", "10", "10", "100.0 %", ""],
        ["keras", "2.00 MB", "1.00 MB", "2.00x", "–", "–", "–"],
        ["tflite", "1.00 MB", "400 kB", "2.50x", "0.900 ms", "0.450 ms", "2.00x"],
    ]


def test_cards_show_values_before_and_after_and_the_change(tmp_path, arguments):
    page = write_report(tmp_path, **arguments).read_text(encoding="utf-8")

    assert re.findall(r'class="value">(.*?)<', page) == ["20.0 M", "97.6 %", "1 min 15 s"]
    assert re.findall(r'class="before">(.*?)<', page) == ["before: 40.0 M", "before: 98.1 %"]
    assert re.findall(r'class="badge">(.*?)<', page) == ["2.00x fewer", "−0.5 points"]
    assert [note in page for note in arguments["notes"]] == [True, True]


def test_seconds_of_two_runs_are_shown_without_a_verdict(tmp_path, arguments):
    arguments["summary"]["training seconds"] = (34.0, 62.0)
    page = write_report(tmp_path, **arguments).read_text(encoding="utf-8")

    assert re.findall(r'class="before">(.*?)<', page)[-1] == "before: 34 s"
    assert re.findall(r'class="badge">(.*?)<', page) == ["2.00x fewer", "−0.5 points"]


@pytest.mark.parametrize(
    ("spread", "factor"), [((0.44, 0.51), "2.00x"), ((0.44, 0.9), "–")], ids=["apart", "overlap"]
)
def test_latencies_have_their_spread_and_a_factor_only_beyond_it(
    tmp_path, arguments, spread, factor
):
    spreads = {"tflite": ((0.88, 0.95), spread)}
    page = write_report(tmp_path, **arguments, latency_spreads=spreads).read_text(encoding="utf-8")

    (row,) = [row for row in Tables(page).rows if row and row[0] == "tflite"]
    shown = f"0.450 ms ({spread[0]:.3f}–{spread[1]:.3f})"
    assert row[4:] == ["0.900 ms (0.880–0.950)", shown, factor]


def test_the_page_stands_alone_and_escapes_what_it_is_given(tmp_path, arguments):
    page = write_report(tmp_path, **arguments).read_text(encoding="utf-8")

    assert "ResNet &lt;small&gt; &amp; more" in page
    assert len(Tables(page).resources) == 3
    assert all(address.startswith("data:image/png;base64,") for address in Tables(page).resources)
    assert "http" not in re.sub(r'"data:[^"]*"', "", page)


def test_pictures_and_raw_numbers_lie_beside_the_page(tmp_path, arguments):
    path = write_report(tmp_path, **arguments, dense_history={"loss": [1.0, float("nan")]})

    assert path == tmp_path / "report.html"
    for name in ("widths.png", "training.png", "files.png"):
        assert (tmp_path / name).read_bytes().startswith(b"\x89PNG")
    numbers = json.loads((tmp_path / "report.json").read_text(encoding="utf-8"))
    assert numbers["summary"]["MACs"] == [40_000_000, 20_000_000]
    assert numbers["dense_history"]["loss"] == [1.0, None]
    assert numbers["latencies_milliseconds"] == {"tflite": [0.9, 0.45]}
    assert [Event.from_dict(event) for event in numbers["events"]] == arguments["events"]


def test_runs_without_events_or_files_have_a_report_too(tmp_path, arguments):
    arguments.update(events=[], files={}, latencies={}, notes=())
    page = write_report(tmp_path, **arguments).read_text(encoding="utf-8")

    assert "No event took place." in page
    assert 'id="files"' not in page
    assert not Path(tmp_path / "files.png").exists()


def test_an_empty_summary_is_refused(tmp_path, arguments):
    arguments["summary"] = {}
    with pytest.raises(InvalidArgument, match="`summary` is empty"):
        write_report(tmp_path / "report", **arguments)


def test_missing_jinja2_is_an_error_that_names_the_extra(tmp_path, arguments, monkeypatch):
    imported = importlib.import_module

    def without_jinja2(name: str) -> object:
        if name == "jinja2":
            raise ImportError(name)
        return imported(name)

    monkeypatch.setattr(importlib, "import_module", without_jinja2)
    with pytest.raises(PlottingUnavailable, match=r"keras-gcp\[examples\]"):
        write_report(tmp_path / "report", **arguments)
