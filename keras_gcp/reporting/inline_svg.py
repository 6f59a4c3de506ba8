"""An SVG picture as a part of a page, in the colours of the page."""

from __future__ import annotations

import html
import re
from pathlib import Path

from keras_gcp.reporting.style import (
    BLUE,
    CARD,
    DENSE,
    EDGE,
    FAINT,
    GREEN,
    GRID,
    INK,
    ORANGE,
    TRACK,
    VERMILION,
)

_NAMES = {
    INK: "ink",
    FAINT: "faint",
    CARD: "card",
    EDGE: "edge",
    GRID: "grid",
    TRACK: "track",
    BLUE: "accent",
    DENSE: "dense",
    GREEN: "green",
    ORANGE: "orange",
    VERMILION: "event",
}
_VARIABLES = {color.lower(): f"var(--{name}, {color.lower()})" for color, name in _NAMES.items()}
# Verdana's letters are about as wide as those that the picture was laid out with.
_FONTS = "'DejaVu Sans', Verdana, sans-serif"


def inlined(path: Path, name: str, says: str) -> str:
    """The picture as an element of HTML.

    Its colours are variables of the page, so that it follows light and dark; its ids begin with its
    name, so that several pictures can stand on one page.

    Args:
        path: The SVG file, drawn with `keras_gcp.reporting.style`.
        name: A name that no other picture of the page has.
        says: What it shows, for those who do not see it.
    """
    text = path.read_text(encoding="utf-8")
    text = text[text.index("<svg") :]
    text = re.sub(r"\s*<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = re.sub(r"\s*<defs>\s*<style.*?</style>\s*</defs>", "", text, flags=re.DOTALL)
    text = re.sub(r'(\bid="|url\(#|xlink:href="#)', rf"\g<1>{name}-", text)
    text = re.sub(r"#[0-9a-f]{6}\b", lambda found: _VARIABLES.get(found[0], found[0]), text)
    text = text.replace("'DejaVu Sans'", _FONTS)
    label = html.escape(says, quote=True)
    return re.sub(
        r'<svg [^>]*?viewBox="([^"]*)"[^>]*>',
        rf'<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" '
        rf'viewBox="\g<1>" role="img" aria-label="{label}">',
        text,
        count=1,
    ).strip()
