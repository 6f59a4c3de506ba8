"""Times of single layers, kept on disk: one file per machine, runtime and number of threads."""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
import os
import platform
import time
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path

from keras_gcp.exporting.runtime import runtime_name
from keras_gcp.storage.locks import Locked, turn
from keras_gcp.storage.writing import written_at_once

UNFINISHED = 3600.0
"""Seconds after which a file that was not moved into place never will be."""

METHOD = 1
"""Changes whenever times are taken in another way, so that old files are not read."""


def fingerprint(threads: int) -> dict[str, str]:
    """What a time depends on, besides the layer."""
    return {
        "processor": processor(),
        "cpus": str(os.cpu_count()),
        "threads": str(threads),
        "runtime": runtime_name(),
        "method": str(METHOD),
    }


def processor() -> str:
    """The name of the processor."""
    try:
        lines = Path("/proc/cpuinfo").read_text("utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


class TimeCache:
    """Milliseconds by description of a layer.

    Args:
        folder: Where the file lies; made when the first time is kept.
        machine: What the times depend on, see `fingerprint`.
    """

    def __init__(self, folder: Path, machine: Mapping[str, str]) -> None:
        self._machine = dict(machine)
        text = json.dumps(self._machine, sort_keys=True)
        self.path = folder / f"latency-{hashlib.sha256(text.encode()).hexdigest()[:12]}.json"
        self._times = self._read()
        self._new: dict[str, float] = {}

    def get(self, key: str, measure: Callable[[], float]) -> float:
        """The time kept under a key; measured if there is none."""
        if key not in self._times:
            self._times[key] = self._new[key] = measure()
        return self._times[key]

    def save(self) -> None:
        """Writes new times, in one step, beside what other processes have written meanwhile.

        Times that cannot be kept are good all the same: there is a warning, and the next process
        measures again.
        """
        if not self._new:
            return
        try:
            self._save()
        except (OSError, Locked) as error:
            warnings.warn(
                f"Measured times of layers cannot be kept in '{self.path}', so the next plan will "
                f"measure again: {error}. Expected a folder that can be written; name another one "
                "in `keras_gcp.timed(..., cache_dir=...)` or in KERAS_GCP_CACHE.",
                stacklevel=2,
            )
            return
        self._new = {}

    def _save(self) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with turn(self.path.with_suffix(".lock")):
            times = {**self._read(), **self._new}
            text = json.dumps({"machine": self._machine, "milliseconds": times}, indent=1)
            self._clear_unfinished()
            with written_at_once(self.path) as file:
                file.write(text.encode())

    def _clear_unfinished(self) -> None:
        """Removes what processes that were killed while writing, which takes no time, have left."""
        for path in self.path.parent.glob(f"{self.path.stem}*.tmp"):
            with contextlib.suppress(OSError):
                if time.time() - path.stat().st_mtime > UNFINISHED:
                    path.unlink()

    def _read(self) -> dict[str, float]:
        try:
            content = json.loads(self.path.read_text("utf-8"))
            if content["machine"] != self._machine:
                return {}
            times = {str(key): float(value) for key, value in content["milliseconds"].items()}
            return {key: value for key, value in times.items() if 0 < value < math.inf}
        except FileNotFoundError:
            return {}
        except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
            return {}  # A damaged file is measured again, and replaced.
