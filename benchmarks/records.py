"""Rows of results as JSON lines, written one by one: a benchmark can be cut off and resumed."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras

Row = dict[str, Any]


class Records:
    """A file of rows, each with the values of its key columns.

    Args:
        path: The JSON lines file; made with its folder when the first row is added.
        keys: Columns that tell rows apart.
        today: Gives a row that an earlier version wrote the columns of today.
    """

    def __init__(
        self, path: Path, keys: tuple[str, ...], today: Callable[[Row], Row] = lambda row: row
    ) -> None:
        self.path, self._keys, self._today = path, keys, today

    def rows(self) -> list[Row]:
        """All rows."""
        if not self.path.exists():
            return []
        lines = self.path.read_text("utf-8").splitlines()
        return [self._today(json.loads(line)) for line in lines if line]

    def find(self, **key: Any) -> Row | None:
        """The row with these key values, or None."""
        for row in self.rows():
            if all(row[name] == key[name] for name in self._keys):
                return row
        return None

    def get(self, make: Callable[[], Row], **key: Any) -> Row:
        """The row with these key values; made, and written at once, if it is missing."""
        row = self.find(**key)
        if row is None:
            row = {**key, **make()}
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self.path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(row) + "\n")
        return row


def machine() -> str:
    """What the figures were measured on."""
    return (
        f"{os.cpu_count()} CPUs ({_processor()}), Python {platform.python_version()}, Keras "
        f"{keras.__version__} on {keras.config.backend()}{_convolutions()}"
    )


def _convolutions() -> str:
    """TensorFlow decides by the processor whether oneDNN computes convolutions, unless told.

    On one without AVX-512 it is off, and a step of VGG-16 takes six times as long.
    """
    chosen = os.environ.get("TF_ENABLE_ONEDNN_OPTS")
    on_tensorflow = keras.config.backend() == "tensorflow"
    return f", TF_ENABLE_ONEDNN_OPTS={chosen}" if chosen and on_tensorflow else ""


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text("utf-8").splitlines()
    except OSError:
        return platform.machine()
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()
