"""Locks on files: one process holds one, and the system takes it away when that process ends."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import socket
import sys
import time
import weakref
from pathlib import Path

_TRIES = 50
"""Its last holder may remove a file between our opening and our locking it."""

_AFTER_TEXT = 1 << 20
"""On Windows a locked byte cannot be read: the one that is locked stands after the text."""


class Locked(Exception):
    """Another process holds the lock; the text says which one."""


class NoLocks(Exception):
    """The file was made, but its file system has no locks; the text is what the system says."""


class FileLock:
    """A lock that this process holds until `release`, or until nobody refers to this object.

    Args:
        path: The locked file.
        descriptor: By which it is locked.
    """

    def __init__(self, path: Path, descriptor: int) -> None:
        self._path, self._descriptor = path, descriptor
        self._end = weakref.finalize(self, _let_go, path, descriptor, os.getpid())

    @property
    def is_held(self) -> bool:
        """Whether it was not released yet, and nobody has removed the file."""
        return self._end.alive and _is_at(self._descriptor, self._path)

    def release(self) -> None:
        """Removes the file and lets go of it."""
        self._end()


_held: weakref.WeakValueDictionary[tuple[int, str], FileLock] = weakref.WeakValueDictionary()


def lock(path: Path) -> FileLock:
    """Locks a file for this process.

    The lock is the operating system's own, so it ends with a process that is killed, even if
    another process is soon given its number, and network file systems keep it between machines.
    What stands in the file is for messages only.

    Processes exclude each other, not the parts of one: a second call in the process that
    holds a lock is given the same object. Forked processes do not hold it.

    Args:
        path: The file; made if missing. Its folder has to exist.

    Raises:
        Locked: another process holds it.
        NoLocks: the file system has no locks.
        OSError: the file cannot be made or written.
    """
    held = _held_here(path)
    if held is None:
        held = _held[_key(path)] = FileLock(path, _locked(path))
    return held


def lock_of_the_dead(path: Path) -> FileLock | None:
    """Takes over the lock of a process that is no more.

    Args:
        path: The file.

    Returns:
        None if a process holds it, this one or another, or if that cannot be told.
    """
    if _held_here(path) is not None:
        return None
    try:
        return lock(path)
    except (Locked, NoLocks, OSError):
        return None


def _key(path: Path) -> tuple[int, str]:
    return os.getpid(), str(path.resolve())


def _held_here(path: Path) -> FileLock | None:
    # A second descriptor would not do: closing it takes the lock away from the first (POSIX).
    held = _held.get(_key(path))
    return held if held is not None and held.is_held else None


def _locked(path: Path) -> int:
    for _ in range(_TRIES):
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            _system_lock(descriptor)
            if _is_at(descriptor, path):
                _describe_holder(descriptor)
                return descriptor
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)
    raise Locked("processes that begin and end all the time")


def _let_go(path: Path, descriptor: int, holder: int) -> None:
    if os.getpid() != holder or not _is_at(descriptor, path):  # Forked off; or no more ours.
        os.close(descriptor)
        return
    if sys.platform == "win32":  # There no file can be removed while it is open.
        os.close(descriptor)
    with contextlib.suppress(OSError):
        path.unlink()
    if sys.platform != "win32":  # Not before: the next holder has its file at the same place.
        os.close(descriptor)


def _is_at(descriptor: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), os.stat(path))
    except FileNotFoundError:
        return False


def _describe_holder(descriptor: int) -> None:
    since = time.strftime("%Y-%m-%d %H:%M:%S")
    holder = {"pid": os.getpid(), "host": socket.gethostname(), "since": since}
    os.ftruncate(descriptor, 0)
    os.lseek(descriptor, 0, os.SEEK_SET)
    os.write(descriptor, json.dumps(holder).encode())
    os.fsync(descriptor)


def _holder(descriptor: int) -> str:
    """Who has locked the file, in words."""
    try:
        os.lseek(descriptor, 0, os.SEEK_SET)
        holder = json.loads(os.read(descriptor, 1000))
        return f"process {holder['pid']} on '{holder['host']}', since {holder['since']}"
    except (OSError, ValueError, KeyError, TypeError):
        return "a process that has not yet said which one it is"


if sys.platform == "win32":
    import msvcrt

    def _system_lock(descriptor: int) -> None:
        os.lseek(descriptor, _AFTER_TEXT, os.SEEK_SET)
        try:
            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
        except OSError as error:
            raise Locked(_holder(descriptor)) from error

else:
    import fcntl

    def _system_lock(descriptor: int) -> None:
        try:
            fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno in (errno.EACCES, errno.EAGAIN):
                raise Locked(_holder(descriptor)) from error
            raise NoLocks(str(error)) from error
