"""Small files that commands read and write."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from keras_gcp.errors import InvalidArgument
from keras_gcp.storage import writing


def read_json(path: Path) -> Any:
    """What a JSON file holds.

    Raises:
        InvalidArgument: there is no such file, or it is not JSON.
    """
    try:
        return json.loads(read_text(path))
    except ValueError as error:
        raise InvalidArgument(f"'{path}' is not a JSON file: {error}.") from error


def read_text(path: Path) -> str:
    """What a text file holds.

    Raises:
        InvalidArgument: it cannot be read.
    """
    try:
        return path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not text"
        raise InvalidArgument(f"'{path}' cannot be read: {reason}.") from error


def write_text(path: Path, text: str) -> None:
    """Writes a text file as a whole, or not at all; folders on the way are made."""
    writing.write_text(path, text.rstrip("\n") + "\n")
