"""A training killed with `kill -9`, twenty times, ends as one that was never killed."""

import multiprocessing
import random
import signal
import time
import warnings

import pytest
from crash_training import train, train_and_tell

from keras_gcp.training.backup.folder import BackupFolder

CHOSEN = [
    [("event", 1), ("event", 2), ("write", 1, 0.5), ("event", 1), ("write", 2, 0.99)],
    [("write", 1, 0.0), ("moved", 2), ("write", 1, 0.1), ("event", 1), ("moved", 1)],
]
"""Moments at which the process kills itself, one chain of restarts each: ten in all."""

AT_RANDOM = [5, 5]
"""Chains of kills at any time: ten in all."""


@pytest.fixture(scope="module")
def processes():
    """New processes start as copies of one that has imported Keras, which takes seconds."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["keras", "keras_gcp"])
    return context


@pytest.fixture(scope="module")
def uninterrupted(processes, tmp_path_factory):
    """What a training without a kill comes to, and how long it takes."""
    folder = tmp_path_factory.mktemp("uninterrupted")
    process = processes.Process(target=train, args=(folder / "b", folder / "result"))
    process.start()
    wait_for(folder / "result.started", process)
    began = time.perf_counter()
    process.join()
    return (folder / "result").read_text(), time.perf_counter() - began


def wait_for(path, process):
    while not path.exists() and process.is_alive():
        time.sleep(0.005)


def assert_newest_can_be_read(folder):
    """No moment leaves a damaged backup: what is not whole is not in its place."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        BackupFolder(folder).newest()


def finish(processes, folder, uninterrupted):
    process = processes.Process(target=train, args=(folder / "b", folder / "result"))
    process.start()
    process.join()
    assert process.exitcode == 0
    assert (folder / "result").read_text() == uninterrupted[0]
    assert not (folder / "b").exists()


@pytest.mark.slow
def test_a_second_training_on_the_folder_is_refused_and_the_first_ends_as_if_alone(
    processes, uninterrupted, tmp_path
):
    first = processes.Process(target=train, args=(tmp_path / "b", tmp_path / "result"))
    first.start()
    wait_for(tmp_path / "result.started", first)
    told = tmp_path / "told"
    arguments = (tmp_path / "b", tmp_path / "second", told)
    second = processes.Process(target=train_and_tell, args=arguments)
    second.start()
    for process in (first, second):
        process.join()
    assert f"process {first.pid} on " in told.read_text()
    assert (tmp_path / "result").read_text() == uninterrupted[0]
    assert not (tmp_path / "second").exists() and not (tmp_path / "b").exists()


@pytest.mark.slow
@pytest.mark.parametrize("moments", CHOSEN, ids=["events first", "backups first"])
def test_killed_inside_events_and_backups(processes, uninterrupted, tmp_path, moments):
    for moment in moments:
        arguments = (tmp_path / "b", tmp_path / "result", moment)
        process = processes.Process(target=train, args=arguments)
        process.start()
        process.join()
        assert process.exitcode == -signal.SIGKILL, moment
        assert_newest_can_be_read(tmp_path / "b")
    finish(processes, tmp_path, uninterrupted)


@pytest.mark.slow
@pytest.mark.parametrize("chain", range(len(AT_RANDOM)))
def test_killed_at_any_time(processes, uninterrupted, tmp_path, chain):
    moments = random.Random(chain)
    for _ in range(AT_RANDOM[chain]):
        started = tmp_path / "result.started"
        started.unlink(missing_ok=True)
        process = processes.Process(target=train, args=(tmp_path / "b", tmp_path / "result"))
        process.start()
        wait_for(started, process)
        time.sleep(moments.uniform(0, 0.5) * uninterrupted[1])
        process.kill()
        process.join()
        assert process.exitcode == -signal.SIGKILL
        assert_newest_can_be_read(tmp_path / "b")
    finish(processes, tmp_path, uninterrupted)
