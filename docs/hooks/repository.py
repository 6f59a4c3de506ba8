"""What the site shows of the rest of the repository: kept results, notebooks, three pages.

MkDocs calls the functions whose names begin with `on_`. Nothing here imports MkDocs before it
runs, so that the tests read the same navigation without it.
"""

from __future__ import annotations

import glob
import json
import posixpath
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
RESULTS = ROOT / "benchmarks" / "results"

PAGES_ELSEWHERE = {
    "CONTRIBUTING.md": "contributing.md",
    "CHANGELOG.md": "changelog.md",
    "README.md": "index.md",
    "benchmarks/README.md": "benchmarks/index.md",
}
"""Files of the repository and their pages. The site has a first page of its own."""

LINK = re.compile(r"\[([^\]]*)\]\(([^)\s#]+)(#[^)\s]*)?\)")
NUMBER = re.compile(r"[-+]?[\d.,]+\S{0,3}( (\(.*\)|of [\d,]+))?")
FENCED = re.compile(r"^```.*?^```$", re.DOTALL | re.MULTILINE)


# ----------------------------------------------------------------------------------- MkDocs calls


def on_config(config: Any) -> Any:
    """Fills in the entries of the navigation that have a star."""
    config.nav = with_all_pages(config.nav, {**written(), **generated()})
    return config


def on_files(files: Any, config: Any) -> Any:
    """Adds the pages that stand nowhere in docs/."""
    from mkdocs.structure.files import File

    for path, text in generated().items():
        files.append(File.generated(config, path, content=text))
    return files


def on_page_markdown(markdown: str, page: Any, config: Any, files: Any) -> str:
    """Turns links that lead out of docs/ to pages of the site; other files are only named."""
    return outside_code(markdown, lambda text: with_links_inside(text, page.file.src_uri))


# ------------------------------------------------------------------------------- pages, their order


def written() -> dict[str, str]:
    """The pages in docs/, by path, with their text."""
    return {
        path.relative_to(DOCS).as_posix(): path.read_text("utf-8")
        for path in sorted(DOCS.rglob("*.md"))
    }


def generated() -> dict[str, str]:
    """The pages that are made of other files, by path, with their text."""
    pages = {
        page: (ROOT / source).read_text("utf-8")
        for source, page in PAGES_ELSEWHERE.items()
        if page != "index.md"
    }
    pages.update({result_page(path): result_text(path) for path in results()})
    pages.update({notebook_page(path): notebook_text(path) for path in notebooks()})
    return pages


def with_all_pages(nav: list[Any], pages: dict[str, str]) -> list[Any]:
    """The navigation with a page for every one that an entry such as `methods/*.md` means."""
    named = {path for path in paths_in(nav) if "*" not in path}
    free = sorted(set(pages) - named)

    def filled(entries: list[Any]) -> Iterator[Any]:
        for entry in entries:
            if isinstance(entry, dict):
                yield {k: list(filled(v)) if isinstance(v, list) else v for k, v in entry.items()}
            elif "*" in entry:
                yield from (path for path in free if matches(path, entry))
            else:
                yield entry

    return list(filled(nav))


def matches(path: str, pattern: str) -> bool:
    """Whether a pattern means a page; its star means names, never folders."""
    return bool(re.fullmatch(glob.escape(pattern).replace("[*]", "[^/]*"), path))


def paths_in(nav: Any) -> Iterator[str]:
    """All that a navigation names."""
    if isinstance(nav, str):
        yield nav
    elif isinstance(nav, dict):
        for value in nav.values():
            yield from paths_in(value)
    else:
        for entry in nav:
            yield from paths_in(entry)


# ------------------------------------------------------------------------------------------- links


def outside_code(markdown: str, change: Any) -> str:
    """Changes a text, but for its blocks of code."""
    parts, at = [], 0
    for block in FENCED.finditer(markdown):
        parts += [change(markdown[at : block.start()]), block.group()]
        at = block.end()
    return "".join([*parts, change(markdown[at:])])


def with_links_inside(text: str, page: str) -> str:
    """The text with no link that leads out of the site.

    Raises:
        FileNotFoundError: a link leads to a file that the repository does not have.
    """
    source = source_of(page)

    def link(found: re.Match[str]) -> str:
        label, target, anchor = found.group(1), found.group(2), found.group(3) or ""
        if re.match(r"[a-z]+:", target):
            return found.group()
        path = posixpath.normpath(posixpath.join(posixpath.dirname(source), target))
        if not (ROOT / path).exists():
            raise FileNotFoundError(f"{source} links to {target}: there is no file {path}.")
        inside = page_of(path)
        if inside is None:
            return label
        return f"[{label}]({posixpath.relpath(inside, posixpath.dirname(page) or '.')}{anchor})"

    return LINK.sub(link, text)


def source_of(page: str) -> str:
    """The file of the repository that a page was made of, from the root on."""
    back = {made: source for source, made in PAGES_ELSEWHERE.items() if made != "index.md"}
    for path in (*results(), *notebooks()):
        made = result_page(path) if path.suffix != ".ipynb" else notebook_page(path)
        back[made] = path.relative_to(ROOT).as_posix()
    return back.get(page, f"docs/{page}")


def page_of(path: str) -> str | None:
    """The page of a file of the repository; None if it has none."""
    if path in PAGES_ELSEWHERE:
        return PAGES_ELSEWHERE[path]
    if path in ("benchmarks", "benchmarks/results"):
        return "benchmarks/index.md"
    if path.startswith("benchmarks/results/"):
        return result_page(Path(path))
    if path.endswith(".ipynb"):
        return notebook_page(Path(path))
    return path.removeprefix("docs/") if path.startswith("docs/") else None


# ----------------------------------------------------------------------------------------- results


def results() -> list[Path]:
    """The kept results: for each benchmark its Markdown where there is any, else its text."""
    found = {path.stem: path for path in sorted(RESULTS.glob("*.txt"))}
    found.update({path.stem: path for path in sorted(RESULTS.glob("*.md"))})
    return [found[name] for name in sorted(found)]


def result_page(path: Path) -> str:
    return f"benchmarks/{path.stem}.md"


def result_text(path: Path) -> str:
    """A page: the name, what was measured, and its tables as tables."""
    text = path.read_text("utf-8").strip()
    body = text if path.suffix == ".md" else "\n\n".join(blocks(text.split("\n")))
    heading = "" if body.startswith("# ") else f"# {title(path.stem)}\n\n"
    rows = f"`benchmarks/results/{path.stem}.jsonl` has every run of it."
    return f"{heading}{body}\n\n{rows}\n"


def title(name: str) -> str:
    words = name.replace("_", " ")
    for plain, written_so in (
        ("cifar10", "CIFAR-10"),
        ("resnet", "ResNet-"),
        ("torch pruning", "Torch-Pruning"),
    ):
        words = words.replace(plain, written_so)
    return words[:1].upper() + words[1:]


def blocks(lines: list[str]) -> Iterator[str]:
    """Paragraphs and tables of a text; a table is a heading, a rule of lines, and its rows."""
    at = 0
    while at < len(lines):
        if at + 1 < len(lines) and is_rule(lines[at + 1]):
            end = at + 2
            while end < len(lines) and lines[end].strip() and not is_prose(lines[end], lines[at]):
                end += 1
            yield table([lines[at], *lines[at + 2 : end]])
            at = end
        else:
            if lines[at].strip():
                yield lines[at].strip()
            at += 1


def is_rule(line: str) -> bool:
    return bool(line.strip()) and set(line.strip()) == {"─"}


def is_prose(line: str, heading: str) -> bool:
    """Whether a line below a table belongs to it no more: no columns, or longer than the table."""
    return "  " not in line.strip() or len(line) > len(heading) + 40


def table(lines: list[str]) -> str:
    """A table in Markdown; its columns lie between the gaps that all lines share."""
    width = max(map(len, lines))
    padded = [line.ljust(width) for line in lines]
    blank = "".join("." if all(line[i] == " " for line in padded) else "x" for i in range(width))
    spans = [(m.start(), m.end()) for m in re.finditer(r"x+(?:\.x+)*", blank)]
    cells = [[line[a:b].strip().replace("|", "\\|") for a, b in spans] for line in padded]
    numeric = [mostly_numbers([row[i] for row in cells[1:]]) for i in range(len(spans))]
    rule = ["---:" if right else "---" for right in numeric]
    return "\n".join("| " + " | ".join(row) + " |" for row in [cells[0], rule, *cells[1:]])


def mostly_numbers(texts: list[str]) -> bool:
    filled = [text for text in texts if text]
    return 2 * sum(bool(NUMBER.fullmatch(text)) for text in filled) > len(filled)


# --------------------------------------------------------------------------------------- notebooks


def notebooks() -> list[Path]:
    return sorted((DOCS / "notebooks").glob("*.ipynb"))


def notebook_page(path: Path) -> str:
    return f"notebooks/{path.stem}.md"


def notebook_text(path: Path) -> str:
    """A notebook as a page: its texts, its code, and what it printed when it was kept."""
    cells = json.loads(path.read_text("utf-8"))["cells"]
    first, *rest = [part for cell in cells for part in cell_parts(cell)]
    told = f"*A notebook: `{path.relative_to(ROOT).as_posix()}`.*"
    return "\n\n".join([first.replace("\n", f"\n\n{told}\n", 1), *rest]) + "\n"


def cell_parts(cell: dict[str, Any]) -> Iterator[str]:
    source = "".join(cell["source"]).strip()
    if cell["cell_type"] == "markdown":
        yield source
        return
    yield f"```python\n{source}\n```"
    printed = "".join("".join(output["text"]) for output in cell["outputs"])
    if printed.strip():
        yield f"```text\n{printed.strip(chr(10))}\n```"
