"""Every decision in docs/decisions.md has a date, and a test that guards it and exists."""

from __future__ import annotations

import ast
import functools
import re
from datetime import date
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "decisions.md"

LINE = re.compile(r"\*(\d{4}-\d{2}-\d{2}) · (guarded by|no test:) (\S[^*]*)\*")
EXPECTED = "`*2026-11-23 · guarded by `tests/test_x.py::test_y`*` or `*2026-11-23 · no test: why*`"


def problems_in(text: str) -> list[str]:
    """What is wrong with the lines below the headings, each with the heading."""
    sections = re.split(r"^## ", text, flags=re.MULTILINE)[1:]
    tests = files_by_test()
    return [
        f"{heading}: {problem}"
        for heading, _, body in (section.partition("\n") for section in sections)
        for problem in problems_of(body.lstrip().partition("\n\n")[0], tests)
    ]


def problems_of(line: str, tests: dict[str, set[str]]) -> list[str]:
    found = LINE.fullmatch(line)
    if not found:
        return [f"expected {EXPECTED} below the heading, received {line[:80]!r}"]
    day, kind, rest = found.groups()
    problems = [] if is_a_day(day) else [f"{day} is no day"]
    if kind == "no test:":
        return problems
    names = [name.strip() for name in rest.split(",")]
    quoted = all(re.fullmatch(r"`[^`]+`", name) for name in names)
    problems += [] if quoted else [f"expected names in backquotes with commas between: {rest}"]
    return problems + [p for name in names for p in problems_with(name.strip("`"), tests)]


def is_a_day(text: str) -> bool:
    try:
        return bool(date.fromisoformat(text))
    except ValueError:
        return False


def problems_with(name: str, tests: dict[str, set[str]]) -> list[str]:
    file, _, test = name.partition("::")
    if not test:
        return [] if any(file in files for files in tests.values()) else [f"no tests in {file}"]
    files = tests.get(test, set())
    if file in files:
        return []
    return [f"{test} is not in {file}, but in: {', '.join(sorted(files)) or 'no file of tests/'}"]


@functools.cache
def files_by_test() -> dict[str, set[str]]:
    """The files, from the root on, that have a test of that name."""
    tests: dict[str, set[str]] = {}
    for path in sorted((ROOT / "tests").rglob("test_*.py")):
        for node in ast.parse(path.read_text("utf-8")).body:
            if isinstance(node, ast.FunctionDef) and node.name.startswith("test_"):
                tests.setdefault(node.name, set()).add(path.relative_to(ROOT).as_posix())
    return tests


def test_every_decision_has_a_date_and_a_test_that_guards_it():
    text = PAGE.read_text("utf-8")
    assert text.count("\n## ") > 50
    assert not problems_in(text), "\n".join(["", *problems_in(text)])


def test_what_is_missing_or_elsewhere_is_named():
    here = f"tests/test_decisions.py::{test_what_is_missing_or_elsewhere_is_named.__name__}"
    good = f"# Decisions\n\n## One\n\n*2026-11-23 · guarded by `{here}`*\n\nText.\n"
    assert problems_in(good) == []
    assert problems_in(good.replace(f"`{here}`", "`tests/test_decisions.py`")) == []
    assert problems_in(good.replace(f"guarded by `{here}`", "no test: a rule of ours")) == []
    for old, new, told in [
        (f"*2026-11-23 · guarded by `{here}`*\n\n", "", "expected"),
        ("2026-11-23 · ", "", "expected"),
        ("2026-11-23", "2026-13-23", "no day"),
        (f"guarded by `{here}`", "no test: ", "expected"),
        (f"`{here}`", here, "backquotes"),
        ("test_decisions.py::", "test_docs.py::", "but in: tests/test_decisions.py"),
        ("is_named`", "is_gone`", "no file of tests/"),
        (here, "tests/test_gone.py", "no tests in tests/test_gone.py"),
    ]:
        (problem,) = problems_in(good.replace(old, new))
        assert problem.startswith("One: ") and told in problem
