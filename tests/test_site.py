"""The site of docs/: every page is in its menus, every link leads somewhere, nothing is fetched."""

from __future__ import annotations

import ast
import importlib.util
import inspect
import os
import posixpath
import re
import subprocess
import sys
import unicodedata
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

import keras_gcp
from keras_gcp import models, tfmot

yaml = pytest.importorskip("yaml", reason="comes with the docs extra")

ROOT = Path(__file__).resolve().parents[1]

_spec = importlib.util.spec_from_file_location("site_pages", ROOT / "docs/hooks/repository.py")
site = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(site)

CONFIG = yaml.safe_load((ROOT / "mkdocs.yml").read_text("utf-8"))


@pytest.fixture(scope="module")
def pages():
    """All pages by path, as the site is built of them: links that leave it are gone."""
    texts = {**site.written(), **site.generated()}
    return {
        path: site.outside_code(text, lambda part, path=path: site.with_links_inside(part, path))
        for path, text in texts.items()
    }


def test_every_page_stands_in_the_menus_once_and_every_entry_is_a_page(pages):
    named = Counter(site.paths_in(site.with_all_pages(CONFIG["nav"], pages)))
    assert sorted(named) == sorted(pages)
    assert set(named.values()) == {1}


def test_every_link_leads_to_a_page_and_a_heading(pages):
    anchors = {path: anchors_of(text) for path, text in pages.items()}
    broken = [
        f"{path}: {target}{anchor}"
        for path, text in pages.items()
        for target, anchor in links_of(text)
        if not leads_somewhere(path, target, anchor, anchors)
    ]
    assert not broken, "\n".join(["", *broken])


def test_a_link_that_leads_nowhere_is_found(pages):
    anchors = {path: anchors_of(text) for path, text in pages.items()}
    assert leads_somewhere("methods/catro.md", "../selection.md", "#in-rounds", anchors)
    assert not leads_somewhere("methods/catro.md", "../selection.md", "#in-round", anchors)
    assert not leads_somewhere("methods/catro.md", "selection.md", "", anchors)
    with pytest.raises(FileNotFoundError, match=r"docs/events\.md links to gone\.md"):
        site.with_links_inside("[here](gone.md)", "events.md")


def test_links_to_kept_results_lead_to_their_pages_and_other_files_are_only_named():
    text = "[trained](../benchmarks/results/trained.txt), [a test](../tests/test_site.py)"
    assert site.with_links_inside(text, "events.md") == "[trained](benchmarks/trained.md), a test"


def test_every_public_name_stands_in_the_reference(pages):
    described = {
        name
        for path, text in pages.items()
        if path.startswith("reference/")
        for name in re.findall(r"^::: ([\w.]+)", text, re.MULTILINE)
    }
    rooms = {name for name in keras_gcp.__all__ if inspect.ismodule(getattr(keras_gcp, name))}
    single = set(keras_gcp.__all__) - rooms - {"__version__"}
    expected = {f"keras_gcp.{name}" for name in single}
    expected |= {f"keras_gcp.tfmot.{name}" for name in tfmot.__all__}
    expected |= {f"keras_gcp.models.{name}" for name in models.__all__ if name[0].islower()}
    assert expected - described == set()
    begun = {name.split(".")[1] for name in described}
    assert rooms - begun == set()


def test_a_table_of_kept_results_becomes_one_with_the_same_cells():
    text = [
        "network      budget          at most   met",
        "──────────────────────────────────────────",
        "resnet8      macs          6,250,816   yes",
        "mobilenet    all of them       2,100",
        "Seconds are those of one run.",
    ]
    table, after = site.blocks(text)
    assert table.split("\n") == [
        "| network | budget | at most | met |",
        "| --- | --- | ---: | --- |",
        "| resnet8 | macs | 6,250,816 | yes |",
        "| mobilenet | all of them | 2,100 |  |",
    ]
    assert after == "Seconds are those of one run."


@pytest.mark.parametrize("path", site.results(), ids=lambda path: path.stem)
def test_every_kept_result_has_a_page_with_all_its_numbers(path):
    page = site.result_text(path)
    assert page.startswith("# ")
    assert Counter(re.findall(r"\d+", path.read_text("utf-8"))) <= Counter(re.findall(r"\d+", page))
    assert not re.search("─{3}", page)


@pytest.mark.slow
def test_the_site_is_built_strictly_and_fetches_nothing(tmp_path):
    pytest.importorskip("mkdocs", reason="comes with the docs extra")
    built = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--quiet", "--site-dir", tmp_path / "site"],
        cwd=ROOT,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
    )
    assert built.returncode == 0, built.stdout + built.stderr
    written = list((tmp_path / "site").rglob("*.html"))
    assert len(written) > len(site.written())
    for page in written:
        assert fetched_by(page.read_text("utf-8")) == [], page.name
    for page in (tmp_path / "site" / "reference").glob("*.html"):
        assert "<blockquote>" not in page.read_text("utf-8"), f"{page.name}: >>> is not code"


def test_what_a_page_would_fetch_is_found():
    page = '<link rel="stylesheet" href="https://x.org/a.css"><script src="//x.org/b.js"></script>'
    assert fetched_by(page) == ["https://x.org/a.css", "//x.org/b.js"]
    assert fetched_by('<a href="https://arxiv.org/abs/2002.09958">paper</a>') == []


# ----------------------------------------------------------------------------------------- reading


def links_of(text: str) -> list[tuple[str, str]]:
    """Target and anchor of every link of a page that does not lead into the net."""
    found: list[tuple[str, str]] = []

    def note(part: str) -> str:
        found.extend(re.findall(r"\]\(([^)\s#]*)(#[^)\s]*)?\)", re.sub(r"`[^`]*`", "", part)))
        return part

    site.outside_code(text, note)
    return [(target, anchor) for target, anchor in found if not re.match(r"[a-z]+:", target)]


def leads_somewhere(page: str, target: str, anchor: str, anchors: dict[str, set[str]]) -> bool:
    path = posixpath.normpath(posixpath.join(posixpath.dirname(page), target)) if target else page
    if not path.endswith(".md"):
        return (ROOT / "docs" / path).is_file()
    return path in anchors and (not anchor or anchor[1:] in anchors[path])


def anchors_of(text: str) -> set[str]:
    """The anchors of a page: its headings as Python-Markdown names them, and names of code."""
    headings: list[str] = []

    def note(part: str) -> str:
        headings.extend(re.findall(r"^#{1,6} (.+)$", part, re.MULTILINE))
        return part

    site.outside_code(text, note)
    found: set[str] = set()
    for heading in headings:
        name = slug(heading)
        number = 1
        while name in found:
            name, number = f"{slug(heading)}_{number}", number + 1
        found.add(name)
    return found | set(re.findall(r"^::: ([\w.]+)", text, re.MULTILINE))


def slug(heading: str) -> str:
    plain = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).replace("`", "").replace("*", "")
    letters = unicodedata.normalize("NFKD", plain).encode("ascii", "ignore").decode("ascii")
    return re.sub(r"[-\s]+", "-", re.sub(r"[^\w\s-]", "", letters).strip().lower())


def fetched_by(html: str) -> list[str]:
    """What a browser would load from the net by itself to show a page."""
    inside = (
        r"<(?:link|script|img|iframe|source|video)\b[^>]*?\b(?:href|src)=\"((?:https?:)?//[^\"]+)"
    )
    return re.findall(inside, html)


# ---------------------------------------------------------------------------------------- messages


def test_every_message_of_the_troubleshooting_page_is_one_that_keras_gcp_gives():
    said = "\0".join(texts_in(ROOT / "keras_gcp"))
    pieces = list(pieces_of_messages((ROOT / "docs/troubleshooting.md").read_text("utf-8")))
    assert len(pieces) > 40
    assert [piece for piece in pieces if piece not in said] == []


def pieces_of_messages(text: str) -> Iterator[str]:
    """What the first column of each table says, but for what `…` stands for."""
    for row in re.findall(r"^\| (`.+?`) \|", text, re.MULTILINE):
        quoted = [part.strip() for part in re.findall(r"``? ?(.+?) ?`?`(?= \||$| `)", row + " |")]
        for message in quoted:
            yield from (piece.strip(" ,.:") for piece in message.split("…") if piece.strip(" ,.:"))


def texts_in(package: Path) -> Iterator[str]:
    """All texts of a package's code, with what is filled in left out."""
    for path in sorted(package.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.JoinedStr):
                yield "".join(
                    part.value if isinstance(part, ast.Constant) else "\0" for part in node.values
                )
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                yield node.value
