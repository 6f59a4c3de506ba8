"""Files that are written whole or not at all."""

from __future__ import annotations

import contextlib
import os
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO


@contextlib.contextmanager
def written_at_once(
    target: Path, aside: Path | None = None, to_disk: bool = False
) -> Iterator[BinaryIO]:
    """A file that stands at `target` when the context ends, whole, or not at all.

    A reader, also after this process was killed, finds the old file or the new one.

    Args:
        target: Where it is to be; what was there goes. Its folder has to exist.
        aside: Where it is written, in the same folder: a name that no other process writes to. It
            is gone afterwards, unless the process was killed. None: `aside_of(target)`.
        to_disk: Whether its content has to be on the disk, not only in the system's memory, before
            it takes its place.
    """
    beside = aside_of(target) if aside is None else aside
    try:
        with beside.open("wb") as file:
            yield file
            if to_disk:
                file.flush()
                os.fsync(file.fileno())
        os.replace(beside, target)
    except BaseException:
        with contextlib.suppress(OSError):
            beside.unlink(missing_ok=True)
        raise


def write_text(target: Path, text: str) -> None:
    """Writes a text file in UTF-8 as `written_at_once`; folders on the way are made."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with written_at_once(target) as file:
        file.write(text.encode())


def aside_of(target: Path) -> Path:
    """A name for the unfinished file: of this target, and of no other process or thread."""
    return target.with_name(f"{target.name}-{secrets.token_hex(4)}.tmp")
