"""Files of an export: a place to work aside, a replacement in one step, and sizes."""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
from collections.abc import Iterator
from pathlib import Path

from keras_gcp.errors import InvalidArgument
from keras_gcp.storage.faults import told_of_the_disk
from keras_gcp.storage.locks import FileLock, Locked, NoLocks, lock, lock_of_the_dead

_PREFIX, _LOCK, _OLD = ".export-", ".lock", ".old"


@contextlib.contextmanager
def workspace(directory: Path) -> Iterator[Path]:
    """A folder inside `directory` (so a move stays on one disk), gone at the end.

    The folder of an export that was killed stays; the next one in the same place clears it,
    unless the file system has no locks that would tell it from the folder of a living process.

    Raises:
        InvalidArgument: `directory` is a file, or lies in one.
        WriteFailed: nothing can be written there.
    """
    with told_of_the_disk("A file", directory):
        try:
            directory.mkdir(parents=True, exist_ok=True)
        except (FileExistsError, NotADirectoryError) as error:
            raise InvalidArgument(
                f"`directory` expects the path of a folder, but '{directory}' is, or lies in, a "
                "file."
            ) from error
        _clear_after_the_dead(directory)
        folder, held = _new_folder(directory)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        _release(held, folder)


def replace(source: Path, target: Path) -> None:
    """Moves a finished file or folder to its place; what was there goes, or stays on failure.

    Files change in one step. A folder cannot; what was there lies in the workspace meanwhile, from
    where the next export puts it back, should this process be killed in between.
    """
    if not target.is_dir() and not source.is_dir():
        os.replace(source, target)
        return
    old = source.with_name(source.name + _OLD)
    if target.exists():
        target.rename(old)
    try:
        source.rename(target)
    except OSError:
        if old.exists():
            old.rename(target)
        raise


def _new_folder(directory: Path) -> tuple[Path, FileLock | None]:
    # The lock is there first: without one, another export might take the folder for a dead one's.
    while True:
        folder = directory / f"{_PREFIX}{secrets.token_hex(4)}"
        held = None
        with contextlib.suppress(NoLocks):
            try:
                held = lock(_lock_of(folder))
            except Locked:  # Another export has just tried whether we live.
                continue
        folder.mkdir()
        return folder, held


def _clear_after_the_dead(directory: Path) -> None:
    for path in directory.glob(f"{_PREFIX}*{_LOCK}"):
        held = lock_of_the_dead(path)
        if held is None:
            continue
        folder = path.with_suffix("")
        for old in folder.glob(f"*{_OLD}"):
            target = directory / old.name.removesuffix(_OLD)
            if not target.exists():
                old.rename(target)
        shutil.rmtree(folder, ignore_errors=True)
        held.release()


def _lock_of(folder: Path) -> Path:
    return folder.with_name(folder.name + _LOCK)


def _release(held: FileLock | None, folder: Path) -> None:
    if held is not None:
        held.release()
    else:
        _lock_of(folder).unlink(missing_ok=True)


def size_of(path: Path) -> int:
    """Bytes of a file, or of all files in a folder."""
    files = [path] if path.is_file() else [p for p in path.rglob("*") if p.is_file()]
    return sum(p.stat().st_size for p in files)
