"""Faults of the disk, told from those of the model: what cannot be written where, and why."""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Collection, Iterator
from pathlib import Path

from keras_gcp.errors import InvalidArgument, WriteFailed

FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS})
"""A full disk, a quota, a limit of the size of files, a file system to read only."""

ANY = FULL | {errno.EACCES, errno.EPERM, errno.EIO, errno.ENOTDIR, errno.EEXIST}
"""Besides, what keeps a process from writing; it may also keep one from reading."""


@contextlib.contextmanager
def told_of_the_disk(what: str, folder: Path, faults: Collection[int] = ANY) -> Iterator[None]:
    """Turns errors of the disk into `WriteFailed`, and lets all others through.

    Args:
        what: What is written, as the message begins: "The keras file of 'net'".
        folder: Where to.
        faults: Numbers of the system's errors that are meant.

    Raises:
        WriteFailed: it cannot be written there.
    """
    try:
        yield
    except (WriteFailed, InvalidArgument):
        raise
    except Exception as error:
        reason = _fault_behind(error, faults)
        if reason is None:
            raise
        raise WriteFailed(
            f"{what} cannot be written to '{folder}': {reason}. What was there is as it was. "
            "Expected a folder that this process can make and write, on a disk with room for it."
        ) from error


def _fault_behind(error: BaseException, faults: Collection[int]) -> str | None:
    """What the system says, if a fault of the disk is what an error comes from.

    Libraries in C++ and those that write archives wrap the system's error into their own, of which
    only the text is left; so do our own errors, with the other one as their cause.
    """
    if isinstance(error, OSError) and error.errno is not None and error.errno in faults:
        return os.strerror(error.errno)
    said = [os.strerror(number) for number in sorted(FULL)]
    found = next((text for text in said if text in str(error)), None)
    if found is None and error.__cause__ is not None:
        return _fault_behind(error.__cause__, FULL)
    return found
