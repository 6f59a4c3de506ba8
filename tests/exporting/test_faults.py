"""Faults of the disk: each is told from those of the model, and costs no file that was there."""

from __future__ import annotations

import contextlib
import errno
import os
import subprocess

import keras
import pytest

from keras_gcp.errors import InvalidArgument, UnsupportedModel, WriteFailed
from keras_gcp.exporting import export
from keras_gcp.storage.faults import FULL, told_of_the_disk


def contents(folder):
    """Every file below a folder, with its bytes."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


@contextlib.contextmanager
def files_of_at_most(size):
    """As on a full disk: the system refuses to let files of this process grow beyond that."""
    resource = pytest.importorskip("resource", reason="limits are those of Unix")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@contextlib.contextmanager
def small_disk(folder, size):
    """A file system in memory of so many bytes."""
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={size}", "none", str(folder)]
    if subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("file systems cannot be mounted here")
    try:
        yield
    finally:
        subprocess.run(["umount", str(folder)], check=True)


@pytest.fixture(scope="module")
def large():
    """A network whose files take hundreds of kilobytes."""
    layers = [keras.Input((8, 8, 3)), keras.layers.Flatten(), keras.layers.Dense(300)]
    return keras.Sequential(layers, name="large")


@pytest.mark.parametrize(
    "form", ["keras", pytest.param("saved_model", marks=pytest.mark.needs_tensorflow("its own"))]
)
def test_a_full_disk_is_told_and_the_old_file_stays(large, images, tmp_path, form):
    export(large, tmp_path, [form], images)
    before = contents(tmp_path)
    told = f"The {form} file of 'large' cannot be written to '{tmp_path}': File too large.*room"
    with files_of_at_most(50_000), pytest.raises(WriteFailed, match=told):
        export(large, tmp_path, [form], images)
    assert contents(tmp_path) == before


@pytest.mark.slow
@pytest.mark.needs_tensorflow("TFLite files")
@pytest.mark.parametrize("form", ["keras", "saved_model", "tflite", "tflite_int8", "onnx"])
def test_a_small_disk_keeps_what_was_on_it(large, images, tmp_path, form):
    folder = tmp_path / "disk"
    with small_disk(folder, "96k"):
        (folder / "old").write_bytes(bytes(50_000))
        with pytest.raises(WriteFailed, match="No space left on device"):
            export(large, folder, [form], images)
        assert contents(folder) == {"old": bytes(50_000)}


@pytest.mark.slow
def test_a_file_system_to_read_only_is_told(plain, images, tmp_path):
    folder = tmp_path / "disk"
    with small_disk(folder, "1m"):
        subprocess.run(["mount", "-o", "remount,ro", str(folder)], check=True)
        for place in (folder, folder / "new"):
            with pytest.raises(WriteFailed, match="Read-only file system"):
                export(plain, place, ["keras"], images)


def test_a_folder_that_cannot_be_written_is_told_before_anything_is_written(
    plain, images, tmp_path, monkeypatch
):
    opened = os.open

    def refused(path, *more):
        if str(path).startswith(str(tmp_path)):
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return opened(path, *more)

    monkeypatch.setattr("keras_gcp.storage.locks.os.open", refused)
    told = f"A file cannot be written to '{tmp_path}': Permission denied.*can make and write"
    with pytest.raises(WriteFailed, match=told):
        export(plain, tmp_path, ["keras"], images)
    assert contents(tmp_path) == {}


def test_a_fault_is_found_in_what_libraries_say_and_behind_our_own_errors(tmp_path):
    said = RuntimeError("UNKNOWN: net.data; No space left on device")
    caught = pytest.raises(WriteFailed, match="A file cannot be .*: No space left on device")
    with caught, told_of_the_disk("A file", tmp_path):
        raise UnsupportedModel("no such format") from said


@pytest.mark.parametrize(
    "error",
    [
        UnsupportedModel("a layer that it does not know"),
        InvalidArgument("No space left on device"),  # It has been said what is wrong.
        OSError(errno.ECONNREFUSED, "Connection refused"),
        MemoryError(),
    ],
)
def test_other_errors_come_through_as_they_are(tmp_path, error):
    with pytest.raises(type(error)) as caught, told_of_the_disk("A file", tmp_path):
        raise error
    assert caught.value is error


def test_what_cannot_be_read_is_not_taken_for_what_cannot_be_written(tmp_path):
    with pytest.raises(PermissionError), told_of_the_disk("A file", tmp_path, FULL):
        raise PermissionError(errno.EACCES, "Permission denied")
