"""What an export leaves where it writes: finished files, and nothing else, even if it is killed."""

from __future__ import annotations

import signal
import subprocess
import sys

import keras
import pytest
from storage.test_locks import holder_of

from keras_gcp.exporting import export, files
from keras_gcp.storage.locks import NoLocks

KILLED = """
import os, pathlib, signal, sys
import keras
import keras_gcp

model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(3)], name="net")
keras_gcp.export(model, sys.argv[1], ["keras", "saved_model"])
rename = pathlib.Path.rename


def killed_before_the_new_one_is_in_place(source, target):
    if source.suffix != ".old" and pathlib.Path(target).parent == pathlib.Path(sys.argv[1]):
        os.kill(os.getpid(), signal.SIGKILL)
    return rename(source, target)


pathlib.Path.rename = killed_before_the_new_one_is_in_place
keras_gcp.export(model, sys.argv[1], ["keras", "saved_model"])
"""


def names(directory):
    return sorted(path.name for path in directory.iterdir())


def left_by(directory, name=".export-0123"):
    """The workspace of an export that was killed between moving the old one and the new one."""
    folder = directory / name
    (folder / "net_saved_model.old").mkdir(parents=True)
    (folder / "net_saved_model.old" / "saved_model.pb").write_bytes(b"old")
    (folder / "batch_of_one").mkdir()
    return folder


def test_the_workspace_of_a_living_process_stays_that_of_a_dead_one_is_cleared(tmp_path):
    theirs = left_by(tmp_path)
    with holder_of(tmp_path / ".export-0123.lock") as process:
        with files.workspace(tmp_path) as ours:
            assert len(names(tmp_path)) == 4  # two folders, two locks
            with files.workspace(tmp_path):  # In this very process, another export is no dead one.
                assert ours.exists()
        assert names(tmp_path) == [".export-0123", ".export-0123.lock"]
        process.kill()
        process.wait()
        with files.workspace(tmp_path):
            assert not theirs.exists()
    assert names(tmp_path) == ["net_saved_model"]
    assert (tmp_path / "net_saved_model" / "saved_model.pb").read_bytes() == b"old"


def test_an_older_folder_is_not_put_back_over_a_newer_one(tmp_path):
    left_by(tmp_path)
    (tmp_path / ".export-0123.lock").touch()
    (tmp_path / "net_saved_model").mkdir()
    (tmp_path / "net_saved_model" / "saved_model.pb").write_bytes(b"new")
    with files.workspace(tmp_path):
        pass
    assert names(tmp_path) == ["net_saved_model"]
    assert (tmp_path / "net_saved_model" / "saved_model.pb").read_bytes() == b"new"


def test_without_locks_nothing_is_taken_for_dead_and_ones_own_is_removed(tmp_path, monkeypatch):
    def none_here(path):
        path.touch()
        raise NoLocks("no locks")

    monkeypatch.setattr("keras_gcp.exporting.files.lock", none_here)
    monkeypatch.setattr("keras_gcp.storage.locks.lock", none_here)
    left_by(tmp_path)
    (tmp_path / ".export-0123.lock").touch()
    with files.workspace(tmp_path) as ours:
        assert ours.exists()
    assert names(tmp_path) == [".export-0123", ".export-0123.lock"]


@pytest.mark.slow
@pytest.mark.needs_tensorflow("it writes a SavedModel")
def test_a_killed_export_costs_no_file_and_the_next_one_clears_up(tmp_path):
    done = subprocess.run([sys.executable, "-c", KILLED, str(tmp_path)], capture_output=True)
    assert done.returncode == -signal.SIGKILL
    left = names(tmp_path)
    assert len(left) == 3 and "net.keras" in left and "net_saved_model" not in left
    model = keras.models.load_model(tmp_path / "net.keras")
    export(model, tmp_path, ["keras"], name="other")
    assert names(tmp_path) == ["net.keras", "net_saved_model", "other.keras"]
    assert (tmp_path / "net_saved_model" / "saved_model.pb").is_file()
