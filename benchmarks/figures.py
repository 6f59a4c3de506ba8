"""Figures of the docs: one for light pages, and one for dark ones."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import matplotlib
import matplotlib.figure

IMAGES = Path(__file__).resolve().parents[1] / "docs" / "images"

INKS = {"light": "#1F2933", "dark": "#E3E7EB"}
"""Schemes, and the colour of letters and axes in them."""


@contextmanager
def drawing(name: str, scheme: str, folder: Path = IMAGES, height: float = 2.9) -> Iterator[Any]:
    """A figure without a background, whose letters suit light or dark pages."""
    ink = INKS[scheme]
    style = {
        "font.family": "DejaVu Sans",
        "font.size": 11,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "legend.frameon": False,
        "svg.fonttype": "none",
        "svg.hashsalt": "keras_gcp",
        **dict.fromkeys(("text.color", "axes.labelcolor", "xtick.color", "ytick.color"), ink),
        "axes.edgecolor": ink,
    }
    with matplotlib.rc_context(style):
        figure = matplotlib.figure.Figure(figsize=(5.8, height), layout="constrained")
        yield figure
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"{name}-{scheme}.svg"
        figure.savefig(path, transparent=True, metadata={"Date": None})
