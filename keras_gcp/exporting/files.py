"""Files on disk: a place to work aside, a replacement in one step, and sizes."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from keras_gcp.errors import InvalidArgument


@contextlib.contextmanager
def workspace(directory: Path) -> Iterator[Path]:
    """A folder inside `directory` (so a move stays on one disk), gone at the end."""
    try:
        directory.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError) as error:
        raise InvalidArgument(
            f"`directory` expects the path of a folder, but '{directory}' is, or lies in, a file."
        ) from error
    folder = Path(tempfile.mkdtemp(prefix=".export-", dir=directory))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def replace(source: Path, target: Path) -> None:
    """Move a finished file or folder to its place; what was there goes, or stays on failure."""
    old = source.with_name(source.name + ".old")
    if target.exists():
        target.rename(old)
    try:
        source.rename(target)
    except OSError:
        if old.exists():
            old.rename(target)
        raise


def size_of(path: Path) -> int:
    """Bytes of a file, or of all files in a folder."""
    files = [path] if path.is_file() else [p for p in path.rglob("*") if p.is_file()]
    return sum(p.stat().st_size for p in files)
