"""Measurements on disk: JSON lines, written one by one, so that a killed run loses nothing."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import keras
import numpy as np

from keras_gcp.errors import InvalidArgument
from keras_gcp.validation import require_path

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
    """

    def __init__(self, path: str | os.PathLike[str] | None, identity: Mapping[str, str]) -> None:
        self._path = None if path is None else Path(require_path("cache", path))
        self._values: dict[Key, float] = {}
        if self._path is None:
            return
        header = {"format": FORMAT, "identity": dict(identity)}
        self._path.parent.mkdir(parents=True, exist_ok=True)
        lines = _lines_of(self._path, header) if self._path.exists() else None
        if lines is None:
            _append(self._path, header)
        else:
            self._values.update(_value(line, self._path) for line in lines)

    def __len__(self) -> int:
        return len(self._values)

    def get(self, key: Key) -> float | None:
        """The value, if it is known."""
        return self._values.get(key)

    def put(self, key: Key, value: float) -> None:
        """Notes a value, on disk at once."""
        self._values[key] = value
        if self._path is not None:
            _append(self._path, {"group": key[0], "kept": key[1], "value": value})


def digest_of(arrays: Iterable[Any]) -> str:
    """A short text that differs for other shapes or contents."""
    digest = hashlib.blake2b(digest_size=16)
    for leaf in keras.tree.flatten(list(arrays)):
        if leaf is not None:
            array = np.ascontiguousarray(leaf)
            digest.update(f"{array.dtype} {array.shape};".encode())
            digest.update(array.tobytes())
    return digest.hexdigest()


def _line(entry: Mapping[str, Any]) -> bytes:
    return json.dumps(entry).encode() + b"\n"


def _append(path: Path, entry: Mapping[str, Any]) -> None:
    with path.open("ab") as file:
        file.write(_line(entry))
        file.flush()
        os.fsync(file.fileno())


def _lines_of(path: Path, header: Mapping[str, Any]) -> list[str] | None:
    """The whole lines behind the header, or None if there is not even that.

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


def _check_header(line: str, own: Mapping[str, Any], path: Path) -> None:
    header = _parsed(line, path, {"format", "identity"})
    if header["format"] != FORMAT:
        raise InvalidArgument(
            f"The cache '{path}' has format {header['format']!r}; expected {FORMAT}. Delete the "
            "file, or name another one."
        )
    saved, wanted = header["identity"], own["identity"]
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


def _value(line: str, path: Path) -> tuple[Key, float]:
    entry = _parsed(line, path, {"group", "kept", "value"})
    return (entry["group"], entry["kept"]), float(entry["value"])


def _parsed(line: str, path: Path, keys: set[str]) -> dict[str, Any]:
    try:
        entry = json.loads(line)
    except ValueError as error:
        raise InvalidArgument(_no_cache(path, error)) from error
    if not isinstance(entry, dict) or set(entry) != keys:
        raise InvalidArgument(_no_cache(path, f"expected {sorted(keys)} in the line {line!r}"))
    return entry


def _no_cache(path: Path, reason: object) -> str:
    return (
        f"The file '{path}' is no cache that `keras_gcp.sensitivity` wrote: {reason}. Name "
        "another one."
    )
