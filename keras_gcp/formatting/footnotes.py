"""Long cells of a table, told below it once."""

from __future__ import annotations

from collections.abc import Sequence

LONGEST = 24
"""Characters of a cell that stands in the table itself."""


def footnoted(texts: Sequence[str], longest: int = LONGEST) -> tuple[list[str], list[str]]:
    """Cells with numbers in place of long texts, and the numbered texts; equal ones share one.

    Args:
        texts: The cells of a column.
        longest: Characters of a cell that stays.

    >>> footnoted(["short", "a reason that takes a whole line", ""], 10)
    (['short', '[1]', ''], ['[1] a reason that takes a whole line'])
    """
    long = dict.fromkeys(text for text in texts if len(text) > longest)
    numbers = {text: f"[{i + 1}]" for i, text in enumerate(long)}
    return [numbers.get(text, text) for text in texts], [f"{n} {t}" for t, n in numbers.items()]
