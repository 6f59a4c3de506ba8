"""How wide the columns of a text table are, and what of long names is shown in them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from keras_gcp.formatting.lines import shortened_names

GAP = 2
"""Characters between two columns."""

_LEAST_NAME = 8
_SHORT_NAME = 14  # What is left of other names before those in the first column are shortened.
_LEAST_TEXT = 14  # Of cells of several words: narrower ones become towers.


@dataclass(frozen=True)
class Column:
    """A column of texts.

    Attributes:
        heading: Its heading.
        cells: Its cells.
        numbers: Whether they are numbers, which are never wrapped or shortened.
        width: Characters that it gets; 0 until they are known.
    """

    heading: str
    cells: tuple[str, ...]
    numbers: bool
    width: int = 0

    @property
    def natural(self) -> int:
        """Characters of the longest cell."""
        return max(map(len, (self.heading, *self.cells)))

    @property
    def longest_word(self) -> int:
        """Characters of the longest part that is not to be broken."""
        cells = self.cells if self.numbers else _words(self.cells)
        return max(map(len, (*_words([self.heading]), *cells)), default=0)

    def least(self, longest_name: int) -> int:
        """Characters that it needs if names have at most so many."""
        if self.numbers:
            return self.longest_word
        several = any(" " in cell for cell in self.cells)
        return max(min(self.longest_word, longest_name), several * min(self.natural, _LEAST_TEXT))

    def with_names(self, longest: int) -> Column:
        """The same with names of at most so many characters."""
        if self.numbers:
            return self
        shown = shortened_names((w for w in _words(self.cells) if len(w) > longest), longest)
        cells = (re.sub(r"\S+", lambda m: shown.get(m[0], m[0]), cell) for cell in self.cells)
        return replace(self, cells=tuple(cells))


def fitted(columns: Sequence[Column], width: int) -> list[Column]:
    """The columns with widths that together fit, and names short enough for them.

    Args:
        columns: The columns.
        width: Characters of the table.
    """
    room = width - GAP * (len(columns) - 1)
    longest = _longest_names(columns, room)
    short = [column.with_names(length) for column, length in zip(columns, longest, strict=True)]
    widths = [column.least(length) for column, length in zip(short, longest, strict=True)]
    spare = max(0, room - sum(widths))
    needs = [column.natural - width for column, width in zip(short, widths, strict=True)]
    order = sorted(range(len(short)), key=needs.__getitem__)
    for served, i in enumerate(order):  # Those that need little first; the rest is for the others.
        granted = min(needs[i], spare // (len(order) - served))
        widths[i] += granted
        spare -= granted
    return [replace(column, width=width) for column, width in zip(short, widths, strict=True)]


def _longest_names(columns: Sequence[Column], room: int) -> list[int]:
    """How many characters names may have in each column, so that all columns fit.

    The first column says what a row is about, so its names are shortened last.
    """
    first, others = columns[0], columns[1:]
    longest = max(_LEAST_NAME, *(column.longest_word for column in columns))
    for length in range(longest, _SHORT_NAME - 1, -1):
        if first.least(longest) + sum(column.least(length) for column in others) <= room:
            return [longest, *(length for _ in others)]
    left = room - sum(column.least(_SHORT_NAME) for column in others)
    if left >= _SHORT_NAME:
        return [left, *(_SHORT_NAME for _ in others)]
    for length in range(longest, _LEAST_NAME, -1):
        if sum(column.least(length) for column in columns) <= room:
            return [length for _ in columns]
    return [_LEAST_NAME for _ in columns]


def _words(texts: Iterable[str]) -> list[str]:
    return [word for text in texts for word in text.split()]
