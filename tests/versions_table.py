"""Writes the results of `make test-versions` into a page of the documentation.

    python tests/versions_table.py docs/versions.md build/versions/3.12.xml build/versions/3.13.xml

Fails if a test failed, or if a version ran none.
"""

from __future__ import annotations

import datetime
import importlib.metadata
import platform
import re
import sys
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

BEGIN, END = "<!-- written by make test-versions -->", "<!-- end -->"


@dataclass(frozen=True)
class Result:
    version: str
    passed: int
    skipped: int
    failed: int
    failures: tuple[str, ...]


def read(path: Path) -> Result:
    """What pytest reported in the format of JUnit."""
    cases = list(ElementTree.parse(path).iter("testcase"))
    failed = [c for c in cases if c.find("failure") is not None or c.find("error") is not None]
    skipped = [c for c in cases if c.find("skipped") is not None]
    names = tuple(f"{case.get('classname', '')}::{case.get('name')}" for case in failed)
    return Result(
        installed(path),
        len(cases) - len(failed) - len(skipped),
        len(skipped),
        len(failed),
        names,
    )


def installed(path: Path) -> str:
    """The full version: that of the folder of packages which the run had in front."""
    folder = path.parents[1] / f"keras-{path.stem}"
    (found,) = importlib.metadata.distributions(name="keras", path=[str(folder)])
    return found.version


def tensorflow_version() -> str:
    for name in ("tensorflow-cpu", "tensorflow"):
        try:
            return importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    raise SystemExit("TensorFlow is not installed, so its version cannot be told.")


def table(results: list[Result]) -> str:
    lines = ["| Keras | passed | skipped | failed |", "|---|---|---|---|"]
    lines += [f"| {r.version} | {r.passed} | {r.skipped} | {r.failed} |" for r in results]
    when = datetime.date.today().isoformat()
    environment = f"TensorFlow {tensorflow_version()}, Python {platform.python_version()}, {when}."
    return "\n".join([*lines, "", environment])


def main(page: str, *reports: str) -> int:
    results = [read(Path(report)) for report in reports]
    text = Path(page).read_text("utf-8")
    pattern = re.compile(f"{re.escape(BEGIN)}.*?{re.escape(END)}", re.DOTALL)
    if not pattern.search(text):
        raise SystemExit(f"{page} has no place for the table: expected {BEGIN!r} and {END!r}.")
    written = table(results)
    Path(page).write_text(pattern.sub(f"{BEGIN}\n\n{written}\n\n{END}", text), "utf-8")
    print(written)
    for result in results:
        for name in result.failures:
            print(f"Keras {result.version}: {name} failed")
    return 1 if any(result.failed or not result.passed for result in results) else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
