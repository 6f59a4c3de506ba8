"""Locks on files: processes exclude each other, and one that is killed leaves nothing behind."""

from __future__ import annotations

import errno
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import pytest

from keras_gcp.exporting import locks
from keras_gcp.exporting.locks import Locked, NoLocks, lock, lock_of_the_dead

HOLDER = """
import importlib.util, os, pathlib, sys
spec = importlib.util.spec_from_file_location("locks", sys.argv[1])
locks = importlib.util.module_from_spec(spec)
spec.loader.exec_module(locks)
held = locks.lock(pathlib.Path(sys.argv[2]))
if hasattr(os, "fork"):
    child = os.fork()
    if not child:
        sys.exit()  # All that it has inherited is cleaned up.
    os.waitpid(child, 0)
print("held", flush=True)
sys.stdin.read()
"""


@contextmanager
def holder_of(path: Path):
    """Another process that holds a lock, without the seconds that Keras takes to import."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDER, locks.__file__, str(path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout.readline() == "held\n"
        yield process
    finally:
        process.kill()
        process.communicate()


def test_another_process_is_kept_out_until_it_is_killed_and_is_told_who_holds_it(tmp_path):
    path = tmp_path / "lock"
    with holder_of(path) as process:
        with pytest.raises(Locked, match=rf"process {process.pid} on '.+', since 20\d\d-"):
            lock(path)
        assert lock_of_the_dead(path) is None
        process.kill()
        process.wait()
        assert path.exists()  # Nobody was left to remove it.
        held = lock_of_the_dead(path)
        assert held is not None and held.is_held
        held.release()
    assert not path.exists()


def test_in_one_process_all_get_the_same_lock_and_none_is_taken_for_dead(tmp_path):
    path = tmp_path / "lock"
    held = lock(path)
    assert lock(tmp_path / "." / "lock") is held
    assert lock_of_the_dead(path) is None
    held.release()
    again = lock(path)
    assert again is not held and again.is_held and not held.is_held


def test_a_lock_whose_file_is_gone_does_not_count_nor_take_its_successors_file_along(tmp_path):
    path = tmp_path / "lock"
    first = lock(path)
    path.unlink()
    assert not first.is_held
    second = lock(path)
    first.release()
    assert path.exists() and second.is_held


def test_a_file_system_without_locks_is_told_from_a_lock_that_is_held(tmp_path, monkeypatch):
    fcntl = pytest.importorskip("fcntl")

    def none_here(*args):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "lockf", none_here)
    with pytest.raises(NoLocks, match="No locks available"):
        lock(tmp_path / "lock")
    assert lock_of_the_dead(tmp_path / "lock") is None
