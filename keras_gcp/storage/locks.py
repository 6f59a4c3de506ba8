"""Locks on files: one process holds one, and the system takes it away when that process ends."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import sys
import threading
import time
import weakref
from collections.abc import Iterator
from pathlib import Path

import filelock

_TRIES = 50
"""Its last holder may remove a file between our opening and our locking it."""

_AFTER_LOCKED_BYTE = 1
"""On Windows the first byte is what is locked, and others cannot read it."""

PATIENCE = 60.0
"""Seconds that `turn` waits: what is done in a turn takes no time."""

_PAUSE = 0.02


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
        self._end = weakref.finalize(self, _let_go, path, descriptor)
        _open.add(self)

    @property
    def is_held(self) -> bool:
        """Whether it was not released yet, and nobody has removed the file."""
        return self._end.alive and _is_at(self._descriptor, self._path)

    def release(self) -> None:
        """Removes the file and lets go of it."""
        self._end()

    def forget(self) -> None:
        """Closes what a forked process has inherited: the lock stays with its parent alone."""
        if self._end.detach():
            os.close(self._descriptor)


_open: weakref.WeakSet[FileLock] = weakref.WeakSet()
_held: weakref.WeakValueDictionary[str, FileLock] = weakref.WeakValueDictionary()
_one_thread = threading.Lock()


def _after_fork() -> None:
    global _one_thread
    for held in list(_open):
        held.forget()
    _held.clear()
    _one_thread = threading.Lock()  # Of a thread that was not forked along, perhaps.


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


def lock(path: Path) -> FileLock:
    """Locks a file for this process.

    The lock is the operating system's own (by way of `filelock`), so it ends with a process that is
    killed, even if another process is soon given its number, and network file systems keep it
    between machines. What stands in the file is for messages only.

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


@contextlib.contextmanager
def turn(path: Path, patience: float = PATIENCE) -> Iterator[None]:
    """Waits for its turn: of all processes and threads, one is in such a block at a time.

    For what takes no time, such as reading a file, adding to it and writing it back. Where the file
    system has no locks, the threads of this process take turns, and other processes are not kept
    out.

    Args:
        path: A file that is there during the block only; its folder has to exist.
        patience: Seconds to wait.

    Raises:
        Locked: another process has not come to its end in that time.
        OSError: the file cannot be made.
    """
    with _one_thread:
        held = _waited_for(path, time.monotonic() + patience)
        try:
            yield
        finally:
            if held is not None:
                held.release()


def _waited_for(path: Path, until: float) -> FileLock | None:
    while True:
        try:
            return lock(path)
        except NoLocks:
            path.unlink(missing_ok=True)
            return None
        except Locked:
            if time.monotonic() > until:
                raise
            time.sleep(_PAUSE)


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


def _key(path: Path) -> str:
    return str(path.resolve())


def _held_here(path: Path) -> FileLock | None:
    # A second descriptor would not do: to the system it is as good as another process.
    held = _held.get(_key(path))
    return held if held is not None and held.is_held else None


def _locked(path: Path) -> int:
    for _ in range(_TRIES):
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            _lock_descriptor(descriptor)
            if _is_at(descriptor, path):
                _describe_holder(descriptor)
                return descriptor
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)
    raise Locked("processes that begin and end all the time")


def _lock_descriptor(descriptor: int) -> None:
    try:
        is_ours = filelock.lock_descriptor(descriptor, blocking=False)
    except OSError as error:
        raise NoLocks(str(error)) from error
    if not is_ours:
        raise Locked(_holder(descriptor))


def _let_go(path: Path, descriptor: int) -> None:
    if not _is_at(descriptor, path):  # No more ours.
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
    text = b" " * _AFTER_LOCKED_BYTE + json.dumps(holder).encode()
    os.lseek(descriptor, 0, os.SEEK_SET)
    os.write(descriptor, text)
    os.ftruncate(descriptor, len(text))
    os.fsync(descriptor)


def _holder(descriptor: int) -> str:
    """Who has locked the file, in words."""
    try:
        os.lseek(descriptor, _AFTER_LOCKED_BYTE, os.SEEK_SET)
        holder = json.loads(os.read(descriptor, 1000))
        return f"process {holder['pid']} on '{holder['host']}', since {holder['since']}"
    except (OSError, ValueError, KeyError, TypeError):
        return "a process that has not yet said which one it is"
