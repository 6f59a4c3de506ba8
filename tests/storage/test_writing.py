"""Files are written whole or not at all, and lie where the system has its caches."""

from __future__ import annotations

import errno
import sys
from pathlib import Path

import pytest

from keras_gcp.storage.places import cache_folder
from keras_gcp.storage.writing import write_text, written_at_once


def test_a_file_is_written_whole_or_not_at_all(tmp_path):
    target, aside = tmp_path / "numbers.json", tmp_path / "numbers.tmp"
    target.write_text("old")
    with written_at_once(target, aside, to_disk=True) as file:
        file.write(b"new")
        assert target.read_text() == "old"
    assert target.read_text() == "new"

    with pytest.raises(KeyboardInterrupt), written_at_once(target, aside) as file:
        file.write(b"half of")
        raise KeyboardInterrupt
    assert target.read_text() == "new"
    assert list(tmp_path.iterdir()) == [target]


def test_a_full_disk_costs_neither_the_old_file_nor_leaves_half_of_the_new_one(
    tmp_path, monkeypatch
):
    target = tmp_path / "new" / "notes.txt"
    write_text(target, "old")

    def full(*args):
        raise OSError(errno.ENOSPC, "No space left on device")

    with (
        pytest.raises(OSError, match="No space left"),
        written_at_once(target, to_disk=True) as file,
    ):
        file.write(b"half of")
        monkeypatch.setattr("keras_gcp.storage.writing.os.fsync", full)
    assert target.read_text() == "old"
    assert list(target.parent.iterdir()) == [target]


def test_two_writers_of_one_file_do_not_write_into_each_other(tmp_path):
    target = tmp_path / "notes.txt"
    with written_at_once(target) as first, written_at_once(target) as second:
        first.write(b"first")
        second.write(b"second")
    assert target.read_text() == "first"  # It was the last one to end.
    assert list(tmp_path.iterdir()) == [target]


def test_the_variable_names_the_folder_of_caches(tmp_path, monkeypatch):
    monkeypatch.setenv("KERAS_GCP_CACHE", str(tmp_path / "own"))
    assert cache_folder() == tmp_path / "own"


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the rule of XDG")
def test_without_it_caches_lie_where_the_system_has_them(tmp_path, monkeypatch):
    monkeypatch.delenv("KERAS_GCP_CACHE", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_folder() == tmp_path / "keras_gcp"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cache_folder() == Path(tmp_path) / ".cache" / "keras_gcp"
