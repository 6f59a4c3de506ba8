"""Where files lie that the user has named no place for."""

from __future__ import annotations

import os
from pathlib import Path

import platformdirs


def cache_folder() -> Path:
    """What is measured once and kept for the next process; the user may delete it at any time.

    The folder that the environment variable `KERAS_GCP_CACHE` names, else where the system has its
    caches: `$XDG_CACHE_HOME/keras_gcp` or `~/.cache/keras_gcp` on Linux,
    `~/Library/Caches/keras_gcp` on macOS, `%LOCALAPPDATA%\\keras_gcp\\Cache` on Windows.
    """
    if own := os.environ.get("KERAS_GCP_CACHE"):
        return Path(own)
    return platformdirs.user_cache_path("keras_gcp", appauthor=False)
