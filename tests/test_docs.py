"""The Python code of the documentation runs, page by page."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from keras_gcp import methods
from keras_gcp.channels import registry
from keras_gcp.criteria.relevance import rules

DOCS = Path(__file__).resolve().parents[1] / "docs"
PAGES = [page for page in sorted(DOCS.rglob("*.md")) if "```python" in page.read_text("utf-8")]

SLOW = {"budgets", "events", "export", "gates", "long_trainings", "prunenet", "stamp"}
"""Processes of their own, many files, or many trainings."""

MARKS = {
    **{page: [pytest.mark.slow] for page in SLOW},
    "tfmot": [pytest.mark.slow, pytest.mark.needs_tfmot],
}


@pytest.mark.parametrize(
    "page",
    [pytest.param(page, id=page.stem, marks=MARKS.get(page.stem, ())) for page in PAGES],
)
def test_the_code_of_the_page_runs(page, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(registry, "_RULES", dict(registry._RULES))
    monkeypatch.setattr(rules, "_RULES", dict(rules._RULES))
    blocks = re.findall(r"```python\n(.*?)```", page.read_text("utf-8"), re.DOTALL)
    exec(compile("\n".join(blocks), str(page), "exec"), {"__name__": page.stem})


def test_every_published_system_has_a_page():
    told = set(re.findall(r"docs/methods/(\w+)\.md", methods.__doc__))
    assert told == {page.stem for page in PAGES if page.parent.name == "methods"}


def test_there_is_a_page_on_own_layers():
    assert DOCS / "own_layers.md" in PAGES
