"""Examples in docstrings are true, and whatever is public is documented."""

from __future__ import annotations

import doctest
import importlib
import inspect
import pkgutil
import re
from pathlib import Path
from types import ModuleType

import keras
import pytest

import keras_gcp

ROOT = Path(__file__).resolve().parents[1]
OF_NUMBERS = ("costs", "formatting", "schedules", "selection", "validation")
"""What decides: every one of these rooms shows by an example what it computes."""

EXPORTED = [name for name in keras_gcp.__all__ if name != "__version__"]


def modules() -> list[str]:
    found = pkgutil.walk_packages(keras_gcp.__path__, "keras_gcp.")
    return ["keras_gcp", *(module.name for module in found)]


def examples_in(module: ModuleType) -> list[doctest.DocTest]:
    finder = doctest.DocTestFinder(exclude_empty=True)
    found = finder.find(module, extraglobs={"keras_gcp": keras_gcp, "keras": keras})
    return [one for one in found if one.examples]


def with_examples() -> list[str]:
    files = {name: ROOT / name.replace(".", "/") for name in modules()}
    sources = {
        name: (path / "__init__.py" if path.is_dir() else path.with_suffix(".py")).read_text(
            "utf-8"
        )
        for name, path in files.items()
    }
    return [name for name, source in sources.items() if ">>> " in source]


@pytest.mark.parametrize("name", with_examples())
def test_examples_of_the_module_are_true(name):
    found = examples_in(importlib.import_module(name))
    assert found
    for one in found:
        told: list[str] = []
        doctest.DocTestRunner(verbose=False).run(one, out=told.append)
        assert not told, "".join(told)


@pytest.mark.parametrize("room", OF_NUMBERS)
def test_rooms_of_numbers_show_examples(room):
    assert any(name.split(".")[1:2] == [room] for name in with_examples())


def test_a_wrong_example_is_found(tmp_path, monkeypatch):
    (tmp_path / "wrong_example.py").write_text('"""Says:\n\n>>> 1 + 1\n3\n"""')
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(AssertionError, match=r"Expected:\s+3"):
        test_examples_of_the_module_are_true("wrong_example")


# ------------------------------------------------------------------------------- what is public


@pytest.mark.parametrize("name", EXPORTED)
def test_what_is_exported_says_what_it_is_and_what_its_arguments_are(name):
    exported = getattr(keras_gcp, name)
    text = inspect.getdoc(exported) or ""
    assert re.match(r"[A-Z`].*\.", text.partition("\n")[0]) or isinstance(exported, ModuleType)
    if isinstance(exported, ModuleType) or is_returned(exported):
        return
    for argument in inspect.signature(exported).parameters:
        assert re.search(
            rf"^ *\**{argument}: |[`{{]{argument}\b|Arguments as", text, re.MULTILINE
        ), argument


def is_returned(exported: object) -> bool:
    """What nobody makes by hand: errors, and records of results, which document attributes."""
    if isinstance(exported, type) and issubclass(exported, Exception):
        return True
    return "Attributes:" in (inspect.getdoc(exported) or "")


@pytest.mark.parametrize("name", EXPORTED)
def test_what_is_exported_stands_in_the_documentation(name):
    """By itself, or in the docstring of what returns it."""
    pages = [ROOT / "README.md", *(ROOT / "docs").glob("*.md")]
    texts = [page.read_text("utf-8") for page in pages if page.stem != "decisions"]
    texts += [
        inspect.getdoc(getattr(keras_gcp, other)) or "" for other in EXPORTED if other != name
    ]
    assert any(re.search(rf"keras_gcp\.{name}\b|`{name}\b", text) for text in texts)


def test_every_list_of_public_names_is_true():
    rooms = [name for name in modules() if (ROOT / name.replace(".", "/")).is_dir()]
    for name in rooms:
        module = importlib.import_module(name)
        public = getattr(module, "__all__", [])
        assert len(set(public)) == len(public), name
        assert [one for one in public if not hasattr(module, one)] == [], name
