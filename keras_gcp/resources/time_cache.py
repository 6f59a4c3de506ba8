"""Times of single layers, kept on disk: one file per machine, runtime and number of threads."""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
import os
import platform
import secrets
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from keras_gcp.exporting.files import written_at_once
from keras_gcp.exporting.runtime import runtime_name

UNFINISHED = 3600.0
"""Seconds after which a file that was not moved into place never will be."""

METHOD = 1
"""Changes whenever times are taken in another way, so that old files are not read."""


def default_folder() -> Path:
    """Where times are kept unless the user says otherwise."""
    if own := os.environ.get("KERAS_GCP_CACHE"):
        return Path(own)
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "keras_gcp"


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
        """Writes new times, in one step, beside what other processes have written meanwhile."""
        if not self._new:
            return
        self.path.parent.mkdir(parents=True, exist_ok=True)
        times = {**self._read(), **self._new}
        text = json.dumps({"machine": self._machine, "milliseconds": times}, indent=1)
        self._clear_unfinished()
        aside = self.path.with_name(f"{self.path.stem}-{secrets.token_hex(4)}.tmp")
        with written_at_once(self.path, aside) as file:
            file.write(text.encode())
        self._new = {}

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
