"""One look for all pictures: palette, type sizes, and a figure that knows no global state."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from keras_gcp.extras import imported

# Okabe and Ito's palette, which people with any kind of colour blindness can tell apart; the
# greys differ from it in lightness too, so the pictures survive a black-and-white printer.
BLUE = "#0072B2"
ORANGE = "#E69F00"
VERMILION = "#D55E00"
GREEN = "#009E73"
SKY = "#56B4E9"
PURPLE = "#CC79A7"
DENSE = "#8A939C"
TRACK = "#D5DBE1"
INK = "#1F2933"
FAINT = "#6B7682"
EDGE = "#B8C0C8"
GRID = "#E8ECEF"
CARD = "#FFFFFF"

DPI = 150
NARROW = 4.6
"""Inches of a picture for a telephone."""
_STYLE = {
    "font.family": "DejaVu Sans",
    "font.size": 11,
    "text.color": INK,
    "axes.edgecolor": EDGE,
    "axes.labelcolor": INK,
    "axes.titlesize": 12,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": GRID,
    "grid.linewidth": 0.8,
    "xtick.color": FAINT,
    "ytick.color": FAINT,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "legend.frameon": False,
    "lines.linewidth": 2.0,
    "figure.facecolor": CARD,
    "savefig.facecolor": CARD,
    "svg.fonttype": "none",  # Letters stay letters: they can be searched, copied and read aloud.
    "svg.hashsalt": "keras_gcp",
}
_SUFFIXES = (".svg", ".pdf")


@contextlib.contextmanager
def figure(path: str | Path, width: float, height: float, title: str) -> Iterator[Any]:
    """A figure to draw on; written to `path` when the block ends without an error.

    It belongs to no window and no `pyplot` state, so drawing inside a training run in a
    notebook disturbs nothing.

    Args:
        path: The file: SVG or PDF if it ends so, else PNG.
        width: Inches.
        height: Inches.
        title: Heading of the whole figure.

    Raises:
        MissingPackage: Matplotlib is not installed.
    """
    imported("matplotlib.figure", "Pictures need")
    matplotlib = imported("matplotlib", "Pictures need")
    with matplotlib.rc_context(_STYLE):
        drawing = matplotlib.figure.Figure(figsize=(width, height), dpi=DPI, layout="constrained")
        drawing.get_layout_engine().set(h_pad=0.08, w_pad=0.12)
        drawing.suptitle(
            title, x=0.012, ha="left", fontsize=14 if width > NARROW else 11, fontweight="bold"
        )
        yield drawing
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        suffix = Path(path).suffix.lower()
        kind = suffix[1:] if suffix in _SUFFIXES else "png"
        undated = {"svg": "Date", "pdf": "CreationDate"}.get(kind)
        drawing.savefig(path, format=kind, metadata={undated: None} if undated else None)
