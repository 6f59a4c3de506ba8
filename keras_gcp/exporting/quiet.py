"""Silence for converters that talk on the process's own output streams."""

from __future__ import annotations

import contextlib
import io
import os
import sys
import tempfile
from collections.abc import Iterator
from typing import IO, Any


@contextlib.contextmanager
def silenced() -> Iterator[None]:
    """Keeps what is printed inside the block off the terminal, native code included.

    Converters print from C++ (one line per captured variable, and log lines), which
    `contextlib.redirect_stdout` does not see; so the file descriptors themselves are turned
    aside. Other threads are silent for that time too. An exception passes through, with the
    end of what was printed attached as a note, since that often holds the reason.

    Example:

    ```python
    with silenced():
        converter.convert()
    ```
    """
    with tempfile.TemporaryFile(buffering=0) as aside:
        try:
            with contextlib.ExitStack() as stack:
                for descriptor, stream in ((1, sys.stdout), (2, sys.stderr)):
                    stack.enter_context(_turned_aside(descriptor, stream, aside))
                for redirect in (contextlib.redirect_stdout, contextlib.redirect_stderr):
                    stack.enter_context(_python_stream(redirect, aside))
                yield
        except Exception as error:
            _attach(error, _end_of(aside))
            raise


@contextlib.contextmanager
def _turned_aside(descriptor: int, stream: IO[str] | None, aside: IO[bytes]) -> Iterator[None]:
    try:
        kept = os.dup(descriptor)
    except OSError:  # a process without this stream has nothing to silence
        yield
        return
    _flush(stream)
    os.dup2(aside.fileno(), descriptor)
    try:
        yield
    finally:
        _flush(stream)
        os.dup2(kept, descriptor)
        os.close(kept)


@contextlib.contextmanager
def _python_stream(redirect: Any, aside: IO[bytes]) -> Iterator[None]:
    """Notebooks and test runners replace `sys.stdout` by objects without a descriptor."""
    original = sys.stdout if redirect is contextlib.redirect_stdout else sys.stderr
    detour = _Detour(aside, original)
    try:
        with redirect(detour):
            yield
    finally:
        detour.end()


class _Detour(io.TextIOBase):
    """A stream that leads aside, and to the original once it has ended.

    Log handlers made in the block keep the stream they found; they must not be left with a
    closed one.
    """

    def __init__(self, aside: IO[bytes], original: IO[str] | None) -> None:
        self._aside: IO[bytes] | None = aside
        self._original = original

    def end(self) -> None:
        self._aside = None

    def writable(self) -> bool:
        return True

    def write(self, text: str) -> int:
        if self._aside is not None:
            self._aside.write(text.encode("utf-8", errors="replace"))
        elif self._original is not None:
            self._original.write(text)
        return len(text)

    def flush(self) -> None:
        if self._aside is None:
            _flush(self._original)


def _flush(stream: IO[str] | None) -> None:
    if stream is not None:
        with contextlib.suppress(OSError, ValueError):
            stream.flush()


def _end_of(aside: IO[bytes], characters: int = 2000) -> str:
    aside.seek(0)
    return aside.read().decode("utf-8", errors="replace")[-characters:].strip()


def _attach(error: Exception, printed: str) -> None:
    if printed:
        error.add_note(f"Printed before the error:\n{printed}")
