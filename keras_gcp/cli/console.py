"""What goes where: the result to stdout, all else that is said on the way to stderr."""

from __future__ import annotations

import contextlib
import os
import sys
import textwrap
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, field
from shutil import get_terminal_size
from typing import Any, TextIO

WIDTH = 80
"""Columns of what is printed, if the terminal has no fewer."""


@dataclass(frozen=True)
class Answer:
    """What a command has found.

    Attributes:
        text: For people.
        data: For programs, as `json.dumps` takes it.
    """

    text: str
    data: dict[str, Any] = field(default_factory=dict)


def say(text: str) -> None:
    """One line about what is going on."""
    print(text, file=sys.stderr, flush=True)


def wrapped(text: str) -> str:
    """A text in lines that fit the terminal; nothing is cut off."""
    width = min(get_terminal_size((WIDTH, 24)).columns, WIDTH)
    fold = textwrap.TextWrapper(width, break_long_words=False, break_on_hyphens=False)
    return "\n".join(fold.fill(line) if len(line) > width else line for line in text.splitlines())


@contextlib.contextmanager
def stdout_for_the_result() -> Iterator[TextIO]:
    """Sends to stderr whatever is printed inside, by native code and other processes, too.

    Yields:
        The true stdout.
    """
    with contextlib.ExitStack() as stack:
        result = stack.enter_context(_true_stdout())
        stack.enter_context(contextlib.redirect_stdout(sys.stderr))
        stack.enter_context(warnings.catch_warnings())
        warnings.showwarning = _show_warning
        yield result


@contextlib.contextmanager
def _true_stdout() -> Iterator[TextIO]:
    """A stream to where file descriptor 1 leads; meanwhile that leads to where 2 does.

    What only stands for `sys.stdout` (notebooks, test runners) is taken as it is.
    """
    try:
        descriptor = sys.stdout.fileno()
    except (OSError, ValueError, AttributeError):
        descriptor = None
    if descriptor != 1:
        yield sys.stdout
        return
    sys.stdout.flush()
    kept = os.dup(1)
    os.dup2(2, 1)
    try:
        with open(kept, "w", encoding=sys.stdout.encoding, closefd=False) as stream:
            yield stream
    finally:
        os.dup2(kept, 1)
        os.close(kept)


@contextlib.contextmanager
def native_stderr_closed() -> Iterator[None]:
    """Drops what native code prints to stderr inside; exceptions of Python pass."""
    sys.stderr.flush()
    kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)


def _show_warning(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    say(wrapped(f"warning: {message}"))
