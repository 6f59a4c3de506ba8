"""The page holds every number it was given, and needs nothing but itself."""

from __future__ import annotations

import importlib
import json
import re
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest

from keras_gcp.errors import InvalidArgument, MissingPackage
from keras_gcp.reporting import write_report
from keras_gcp.reporting.cards import points
from keras_gcp.training.event_records import Event


class Page(HTMLParser):
    """What stands on a page: rows of tables, cards with their badges, pictures, addresses, ids."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.rows: list[list[str]] = []
        self.headings: list[list[str]] = []
        self.cards: list[dict[str, str]] = []
        self.figures: list[str] = []
        self.said: list[str] = []
        self.ids: list[str] = []
        self.addresses: list[str] = []
        self._place: tuple[list[str] | dict[str, str], int | str] | None = None
        self.feed(page)

    def handle_starttag(self, tag, attributes):
        values = dict(attributes)
        kinds = (values.get("class") or "").split()
        self.addresses += [v for n, v in attributes if n in ("src", "href", "xlink:href")]
        self.ids += [values["id"]] if "id" in values else []
        if tag == "tr":
            self.rows.append([])
            self.headings.append([])
        elif tag in ("td", "th"):
            row = (self.rows if tag == "td" else self.headings)[-1]
            row.append("")
            self._place = row, -1
        elif tag == "div" and "card" in kinds:
            self.cards.append({})
        elif tag == "figure":
            self.figures += kinds
        elif tag == "svg":
            self.said.append(values["aria-label"])
        elif self.cards and kinds and kinds[0] in ("name", "value", "before", "badge", "note"):
            card, name = self.cards[-1], kinds[0]
            card[name] = f"{card[name]}; " if name in card else ""
            card.update({"verdict": kinds[1]} if name == "badge" else {})
            self._place = card, name

    def handle_endtag(self, tag):
        if tag in ("td", "th", "div"):
            self._place = None

    def handle_data(self, data):
        if self._place:
            where, what = self._place
            where[what] += data.strip()


def read(path) -> Page:
    return Page(path.read_text(encoding="utf-8"))


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
    page = read(write_report(tmp_path / "report", **arguments))

    seconds = ["40.50"] + [f"{0.5 + i:.2f}" for i in range(9)]
    assert [row for row in page.rows if row] == [
        ["1", "epoch 1", "50 %", "12", "30.0 M(75.0 %)", "180 k(90.0 %)", "0.25 → 0.5"],
        ["2", "epoch 3", "100 %", "12", "20.0 M(50.0 %)", "90.0 k(45.0 %)", "– → 0.5"],
        ["1", *seconds],
        ["2", *seconds],
        ["stem", "16", "16", "100.0 %", ""],
        ["block_conv", "32", "8", "25.0 %", ""],
        ["head", "10", "10", "100.0 %", ""],
        ["Keras", "2.00 MB", "1.00 MB", "2.00x", "–", "–", "–"],
        ["TFLite float32", "1.00 MB", "400 kB", "2.50x", "0.900 ms", "0.450 ms", "2.00x"],
    ]
    assert any(heading[:3] == ["event", "total", "trace"] for heading in page.headings)


def test_every_cell_says_on_a_telephone_what_it_is(tmp_path, arguments):
    page = write_report(tmp_path, **arguments).read_text(encoding="utf-8")
    for table in re.findall(r'<table class="stacks.*?</table>', page, re.DOTALL):
        assert len(re.findall("<td", table)) == len(re.findall(r'data-name="\w', table)) > 0


def test_cards_show_values_before_and_after_and_the_change(tmp_path, arguments):
    page = read(write_report(tmp_path, **arguments))
    shown = {card.pop("name"): card for card in page.cards}

    better = {"verdict": "better"}
    assert shown["MACs"] == {
        "value": "20.0 M",
        "before": "before:40.0 M",
        "badge": "2.00x fewer",
        **better,
    }
    assert shown["training seconds"] == {"value": "1 min 15 s"}
    assert shown["Keras file"]["badge"] == "2.00x smaller"
    assert shown["TFLite float32 file"]["before"] == "before:1.00 MB"
    assert shown["TFLite float32 latency"] == {
        "value": "0.450 ms",
        "before": "before:0.900 ms",
        "badge": "2.00x faster",
        **better,
    }
    text = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert all(note in text for note in arguments["notes"])


def test_beside_every_accuracy_stand_its_controls_the_images_and_the_seeds(tmp_path, arguments):
    arguments["summary"]["accuracy of the file"] = (None, 0.9)
    more = {
        "controls": {"test accuracy": {"same widths from scratch": 0.97}},
        "test_images": 500,
        "seeds": [0, 1],
    }
    page = read(write_report(tmp_path, **arguments, **more))
    shown = {card["name"]: card for card in page.cards}

    assert shown["test accuracy"]["before"] == "dense:98.10 %; same widths from scratch:97.00 %"
    assert shown["test accuracy"]["note"] == (
        "may be chance, 500 test images, seeds\N{NO-BREAK SPACE}0, 1"
    )
    assert shown["accuracy of the file"]["note"].endswith("no control was trained")
    assert "test images" not in shown["MACs"].get("note", "")
    numbers = json.loads((tmp_path / "report.json").read_text(encoding="utf-8"))
    assert (numbers["test_images"], numbers["seeds"], numbers["controls"]) == (
        500,
        [0, 1],
        more["controls"],
    )


@pytest.mark.parametrize(
    ("before", "after", "images", "verdict"),
    [
        (0.98, 0.99, 100_000, "better"),
        (0.99, 0.98, 100_000, "worse"),
        (0.99, 0.98, 500, "neither"),
        (0.99, 0.90, 500, "worse"),
        (0.98, 0.98, None, "neither"),
    ],
)
def test_accuracies_are_badged_by_more_than_chance(before, after, images, verdict):
    text, badged, chance = points(before, after, images)
    assert badged == verdict and text.endswith("points")
    assert bool(chance) == (verdict == "neither" and images is not None)


def test_worse_is_badged_as_worse_whatever_is_counted(tmp_path, arguments):
    arguments["summary"] = {"MACs": (10, 20), "tflite_bytes": (10, 20), "latency_ms": (1, 2)}
    arguments.update(files={"keras": (1e6, 2e6)}, latencies={"tflite": (0.4, 0.9)})
    page = read(write_report(tmp_path, **arguments))
    assert [card["verdict"] for card in page.cards] == ["worse"] * 5
    arguments["summary"] = {"MACs": (10, 10)}
    same = read(write_report(tmp_path, **arguments)).cards[0]
    assert (same["verdict"], same["badge"]) == ("neither", "unchanged")


def test_seconds_of_two_runs_are_shown_without_a_verdict(tmp_path, arguments):
    arguments["summary"] = {"training seconds": (34.0, 62.0)}
    card = read(write_report(tmp_path, **arguments)).cards[0]
    assert card == {"name": "training seconds", "value": "1 min 02 s", "before": "before:34 s"}


@pytest.mark.parametrize(
    ("spread", "factor"), [((0.44, 0.51), "2.00x"), ((0.44, 0.9), "–")], ids=["apart", "overlap"]
)
def test_latencies_have_their_spread_and_a_factor_only_beyond_it(
    tmp_path, arguments, spread, factor
):
    spreads = {"tflite": ((0.88, 0.95), spread)}
    page = read(write_report(tmp_path, **arguments, latency_spreads=spreads))

    (row,) = [row for row in page.rows if row and row[0] == "TFLite float32"]
    shown = f"0.450 ms ({spread[0]:.3f}–{spread[1]:.3f})"
    assert row[4:] == ["0.900 ms (0.880–0.950)", shown, factor]
    (card,) = [card for card in page.cards if card["name"] == "TFLite float32 latency"]
    assert card["badge"] == ("not told apart" if factor == "–" else "2.00x faster")


def test_the_page_stands_alone_and_escapes_what_it_is_given(tmp_path, arguments):
    page = write_report(tmp_path, **arguments).read_text(encoding="utf-8")

    assert "ResNet &lt;small&gt; &amp; more" in page
    parsed = Page(page)
    assert all(address.startswith("#") for address in parsed.addresses)
    assert not re.search(r"https?://(?!www\.w3\.org/)", page)
    assert {address[1:] for address in parsed.addresses} <= set(parsed.ids)
    assert len(parsed.ids) == len(set(parsed.ids))


def test_pictures_are_drawn_for_a_desk_and_for_a_telephone_in_the_colours_of_the_page(
    tmp_path, arguments
):
    page = write_report(tmp_path, **arguments).read_text(encoding="utf-8")
    parsed = Page(page)
    assert parsed.figures == ["wide", "narrow"] * 3
    assert len(set(parsed.said)) == 3 and all(parsed.said)
    colors = set(re.findall(r"(?:fill|stroke): ([^;\"]+)", "".join(page.split("<svg")[1:])))
    assert {color for color in colors if not color.startswith("var(--")} <= {"none"}


def test_the_count_of_channels_is_that_of_the_plan(tmp_path, arguments):
    page = write_report(tmp_path, **arguments, prunable=(48, 24)).read_text(encoding="utf-8")
    assert "Prunable channels: 48 → 24" in page
    assert page.count("24 of 48 prunable channels kept (50.0 %)") == 2


def test_pictures_and_raw_numbers_lie_beside_the_page(tmp_path, arguments):
    path = write_report(tmp_path, **arguments, dense_history={"loss": [1.0, float("nan")]})

    assert path == tmp_path / "report.html"
    for name in ("widths", "training", "files"):
        for file in (tmp_path / f"{name}.svg", tmp_path / f"{name}_narrow.svg"):
            assert ElementTree.parse(file).getroot().tag.endswith("svg")
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
    assert not Path(tmp_path / "files.svg").exists()


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
    with pytest.raises(MissingPackage, match=r"needs jinja2.*keras-gcp\[report\]"):
        write_report(tmp_path / "report", **arguments)
