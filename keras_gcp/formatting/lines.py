"""Lines that fit the width of a terminal: broken between words, names shortened in the middle."""

from __future__ import annotations

import re
import textwrap
from collections import Counter
from collections.abc import Iterable, Sequence

LINE = 80
"""Characters of a line of what is printed or explained."""


def shortened(text: str, width: int, head: int | None = None) -> str:
    """A text of at most `width` characters: its middle goes, since both ends tell names apart.

    Args:
        text: The text.
        width: Characters that it may have.
        head: How many of them stand before the sign of what is missing; half of them if None.

    >>> shortened("stage3/block12/first_convolution", 16)
    'stage3/b…olution'
    """
    if len(text) <= width:
        return text
    head = width // 2 if head is None else head
    tail = width - 1 - head
    return f"{text[:head]}…{text[len(text) - tail :]}"


def shortened_names(names: Iterable[str], width: int) -> dict[str, str]:
    """Names of at most `width` characters. What goes is chosen so that different ones stay so.

    Args:
        names: The names.
        width: Characters that each may have.

    Returns:
        Name to what is shown of it.

    >>> shortened_names(["block11_expand_conv", "block12_expand_conv"], 11)
    {'block11_expand_conv': 'block11…onv', 'block12_expand_conv': 'block12…onv'}
    """
    every = list(dict.fromkeys(names))
    heads = sorted(range(width), key=lambda head: abs(head - width // 2))
    best: dict[str, str] = {}
    for head in heads:
        found = {name: shortened(name, width, head) for name in every}
        if not best or len(set(found.values())) > len(set(best.values())):
            best = found
        if len(set(best.values())) == len(every):
            break
    return best


def shortened_at_words(names: Iterable[str], width: int) -> dict[str, str]:
    """As `shortened_names`, but whole words go, where the names consist of words.

    >>> shortened_at_words(["stage2/block1/shortcut_conv"], 24)
    {'stage2/block1/shortcut_conv': 'stage2/…/shortcut_conv'}
    """
    every = list(dict.fromkeys(names))
    long = {name: _without_words(name, width) for name in every if len(name) > width}
    taken = Counter(every) + Counter(short for shorts in long.values() for short in set(shorts))
    found = {name: name for name in every}
    for name, shorts in long.items():
        own = (short for short in shorts if taken[short] == 1)  # of no other name
        found[name] = next(own, shortened(name, width))
    return found if len(set(found.values())) == len(every) else shortened_names(every, width)


def _without_words(name: str, width: int) -> list[str]:
    """The name without some neighbouring words, as few as can be, those in its middle first."""
    words = re.findall(r"[^_/.\-]+|[_/.\-]+", name)
    places = [i for i, word in enumerate(words) if word[0] not in "_/.-"]
    cuts = [(start, stop + 1) for start in places for stop in places if start <= stop]
    middle = len(words) / 2
    cuts.sort(key=lambda cut: (cut[1] - cut[0], abs((cut[0] + cut[1]) / 2 - middle)))
    texts = ("".join([*words[:start], "…", *words[stop:]]) for start, stop in cuts)
    return [text for text in texts if 1 < len(text) <= width]


def wrapped(text: str, width: int = LINE, indent: str = "  ") -> str:
    """Lines of at most `width` characters, broken between words; longer words are shortened.

    Args:
        text: One line, or several.
        width: Characters that a line may have.
        indent: What stands before all lines but the first.

    >>> print(wrapped("the budget is not met", 12))
    the budget
      is not met
    """
    return "\n".join(
        broken for line in text.splitlines() for broken in _broken(line, width, indent)
    )


def _broken(line: str, width: int, indent: str) -> list[str]:
    if len(line) <= width:
        return [line]
    room = width - len(indent)
    words = re.sub(r"\S+", lambda word: shortened(word[0], room), line)
    return textwrap.wrap(
        words,
        width,
        subsequent_indent=indent,
        break_long_words=False,
        break_on_hyphens=False,
    ) or [""]


def parts_line(parts: Sequence[str], width: int = LINE, indent: str = "  ") -> str:
    """Parts of a message with dots between them; a line is broken between parts where it can be.

    >>> print(parts_line(["MACs 20.1 M (25.0 %)", "parameters 134 k (50.0 %)"], 30))
    MACs 20.1 M (25.0 %) ·
      parameters 134 k (50.0 %)
    """
    lines: list[str] = []
    for number, part in enumerate(parts):
        text = f"{part} ·" if number + 1 < len(parts) else part
        if lines and len(lines[-1]) + 1 + len(text) <= width:
            lines[-1] += f" {text}"
        else:
            lines.append(f"{indent if lines else ''}{text}")
    return "\n".join(wrapped(line, width, indent) for line in lines)


def listed(names: Sequence[str], most: int) -> str:
    """The first names, and how many more there are.

    >>> listed(["a", "b", "c", "d"], 2)
    'a, b and 2 more'
    """
    more = len(names) - most
    return ", ".join(names[:most]) + (f" and {more} more" if more > 0 else "")
