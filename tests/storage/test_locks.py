"""Locks on files: processes exclude each other, and one that is killed leaves nothing behind."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from pathlib import Path

import pytest

from keras_gcp.storage import locks
from keras_gcp.storage.locks import Locked, NoLocks, lock, lock_of_the_dead, turn

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

    monkeypatch.setattr(fcntl, "flock", none_here)
    with pytest.raises(NoLocks, match="No locks available"):
        lock(tmp_path / "lock")
    assert lock_of_the_dead(tmp_path / "lock") is None


ORPHANS = """
import importlib.util, os, pathlib, sys, time
spec = importlib.util.spec_from_file_location("locks", sys.argv[1])
locks = importlib.util.module_from_spec(spec)
spec.loader.exec_module(locks)
held = locks.lock(pathlib.Path(sys.argv[2]))
if not os.fork():  # As a worker that loads data.
    assert not held.is_held
    print(os.getpid(), flush=True)
time.sleep(60)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there are no forks here")
def test_a_forked_worker_that_outlives_its_parent_does_not_hold_its_lock(tmp_path):
    path = tmp_path / "lock"
    command = [sys.executable, "-c", ORPHANS, locks.__file__, str(path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as parent:
        worker = int(parent.stdout.readline())
        try:
            with pytest.raises(Locked, match=f"process {parent.pid} "):
                lock(path)
            parent.kill()
            parent.wait()
            os.kill(worker, 0)  # It lives.
            held = lock(path)
            assert held.is_held
            held.release()
        finally:
            os.kill(worker, signal.SIGKILL)


def test_threads_take_turns_and_leave_no_file(tmp_path):
    path, inside, most = tmp_path / "turn.lock", [], []

    def work():
        for _ in range(5):
            with turn(path):
                inside.append(1)
                most.append(len(inside))
                time.sleep(0.001)
                inside.pop()

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == [1] * 20
    assert not path.exists()


def test_a_turn_waits_for_another_process_and_says_who_did_not_come_to_an_end(tmp_path):
    path = tmp_path / "turn.lock"
    with holder_of(path) as process:
        with pytest.raises(Locked, match=f"process {process.pid} "), turn(path, patience=0.1):
            raise AssertionError("two at a time")
        killer = threading.Timer(0.2, process.kill)
        killer.start()
        with turn(path, patience=30.0):
            assert process.wait() == -signal.SIGKILL
    assert not path.exists()


def test_where_there_are_no_locks_a_turn_comes_at_once(tmp_path, monkeypatch):
    def none_here(path):
        path.touch()
        raise NoLocks("no locks")

    monkeypatch.setattr(locks, "lock", none_here)
    with turn(tmp_path / "turn.lock"):
        pass
    assert list(tmp_path.iterdir()) == []
