"""Measurements on disk: JSON lines, written one by one, so that a killed run loses nothing."""

from __future__ import annotations

import contextlib
import json
import math
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from keras_gcp.errors import InvalidArgument, WriteFailed
from keras_gcp.storage.locks import Locked, turn
from keras_gcp.validation import require_path
from keras_gcp.validation.plain_data import DoesNotFit, check_finite, loaded, parsed

FORMAT = 1

Key = tuple[str | None, int | None]
"""Group and number of channels that it keeps."""

WHOLE: Key = (None, None)
"""The whole model."""


class Cache:
    """Values by key in a file whose first line says of what they are.

    What a killed process left of its last line is cut off.

    Args:
        path: The file; made if missing. None: nothing is kept.
        identity: What the values depend on, in words.

    Raises:
        InvalidArgument: the file holds values of something else, or something else altogether.
        WriteFailed: another process writes it and does not come to an end; from `put`, also where
            the disk is full.
    """

    def __init__(self, path: str | os.PathLike[str] | None, identity: Mapping[str, str]) -> None:
        self._path = None if path is None else Path(require_path("cache", path))
        self._values: dict[Key, float] = {}
        if self._path is None:
            return
        lines = self._opened({"format": FORMAT, "identity": dict(identity)})
        for number, line in enumerate(lines, 2):
            key, value = _value(line, self._path, number)
            self._values[key] = value

    def _opened(self, header: Mapping[str, Any]) -> list[str]:
        """The lines after the header, which is written if there is none."""
        assert self._path is not None
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            with _turn_at(self._path):  # Else a line that another process is writing looks torn.
                lines = _lines_of(self._path, header) if self._path.exists() else None
                if lines is None:
                    _append(self._path, header)
        except WriteFailed:
            raise
        except OSError as error:
            raise InvalidArgument(
                f"`cache` expects the path of a file to read and write: {error}."
            ) from error
        return lines or []

    def __len__(self) -> int:
        return len(self._values)

    def get(self, key: Key) -> float | None:
        """The value, if it is known."""
        return self._values.get(key)

    def put(self, key: Key, value: float) -> None:
        """Notes a value, on disk at once; there only if it is finite."""
        self._values[key] = value
        if self._path is None or not math.isfinite(value):
            return
        try:
            with _turn_at(self._path):
                _append(self._path, {"group": key[0], "kept": key[1], "value": value})
        except WriteFailed:
            raise
        except OSError as error:
            raise WriteFailed(
                f"A measurement cannot be written to the cache '{self._path}': {error}. Those "
                "before it are in the file. Make room, or let it be written, and run again: it "
                "goes on from there."
            ) from error


@contextlib.contextmanager
def _turn_at(path: Path) -> Iterator[None]:
    try:
        with turn(path.with_name(f"{path.name}.lock")):
            yield
    except Locked as error:
        raise WriteFailed(
            f"The cache '{path}' is being written by another process, and does not come free: "
            f"{error}. End that process, or name another file."
        ) from error


def _line(entry: Mapping[str, Any]) -> bytes:
    return json.dumps(entry).encode() + b"\n"


def _append(path: Path, entry: Mapping[str, Any]) -> None:
    """Adds a line to the disk, or nothing: after half a line the next one would be damaged."""
    line = _line(entry)
    with path.open("ab", buffering=0) as file:
        before = file.seek(0, os.SEEK_END)
        try:
            while line:
                line = line[file.write(line) :]
            os.fsync(file.fileno())
        except BaseException:
            file.truncate(before)
            raise


def _lines_of(path: Path, header: Mapping[str, Any]) -> list[str] | None:
    """The whole lines after the header, or None if there is not even that.

    What follows them is removed from the file; from one that is not ours, nothing.
    """
    content = path.read_bytes()
    whole = content.rfind(b"\n") + 1
    if whole:
        try:
            lines = content[:whole].decode("utf-8").splitlines()
        except UnicodeDecodeError as error:
            raise InvalidArgument(_no_cache(path, error)) from error
        _check_header(lines[0], header, path)
    elif not _line(header).startswith(content):
        raise InvalidArgument(_no_cache(path, "it has no header"))
    if whole < len(content):
        with path.open("r+b") as file:
            file.truncate(whole)
    return lines[1:] if whole else None


@dataclass(frozen=True)
class _Header:
    """The first line."""

    format: int
    identity: Mapping[str, str]


@dataclass(frozen=True)
class _Line:
    """Any other line."""

    group: str | None
    kept: int | None
    value: float


def _check_header(line: str, own: Mapping[str, Any], path: Path) -> None:
    data = _loaded(line, path, 1)
    if isinstance(data, dict) and data.get("format", FORMAT) != FORMAT:
        raise InvalidArgument(
            f"The cache '{path}' has format {data['format']!r}; expected {FORMAT}. Delete the "
            "file, or name another one."
        )
    saved: Mapping[str, str] = _parsed(_Header, data, path, 1).identity
    wanted = own["identity"]
    differences = [
        f"{what}: {saved.get(what)!r} there, {wanted.get(what)!r} here"
        for what in sorted(saved.keys() | wanted.keys())
        if saved.get(what) != wanted.get(what)
    ]
    if differences:
        raise InvalidArgument(
            f"The cache '{path}' is of another measurement ({'; '.join(differences)}). Expected "
            "one of the same model, data and settings. Delete the file, or name another one."
        )


def _value(line: str, path: Path, number: int) -> tuple[Key, float]:
    found: _Line = _parsed(_Line, _loaded(line, path, number), path, number)
    if (found.group is None) != (found.kept is None) or (found.kept or 0) < 0:
        reason = f"line {number} has the group {found.group!r} and keeps {found.kept!r} channels"
        raise InvalidArgument(_no_cache(path, reason))
    return (found.group, found.kept), float(found.value)


def _loaded(line: str, path: Path, number: int) -> Any:
    try:
        data = loaded(line)
        check_finite(data)
        return data
    except DoesNotFit as error:
        raise InvalidArgument(_no_cache(path, f"line {number}: {error}")) from error


def _parsed(hint: Any, data: Any, path: Path, number: int) -> Any:
    try:
        return parsed(hint, data)
    except DoesNotFit as error:
        raise InvalidArgument(_no_cache(path, f"line {number}: {error}")) from error


def _no_cache(path: Path, reason: object) -> str:
    return (
        f"File '{path}' is not a cache that `keras_gcp.sensitivity` wrote: {reason}. Delete the "
        "file, or name another one."
    )
