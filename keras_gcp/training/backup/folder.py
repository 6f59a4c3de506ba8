"""Backups of a training as files: written whole or not at all, and checked when read."""

from __future__ import annotations

import json
import os
import re
import warnings
import zipfile
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from keras_gcp.errors import BackupFailed, InvalidArgument
from keras_gcp.storage.locks import FileLock, Locked, NoLocks, lock
from keras_gcp.storage.writing import written_at_once
from keras_gcp.validation import require_path

FORMAT = 2
"""Number of the layout of backup files. Format 1 has older names of settings, and is refused."""

KEPT = 2
"""How many backups are kept: one can be damaged."""

_NAME = "backup-{:06d}.zip"
_PATTERN = re.compile(r"backup-(\d{6,})\.zip")
_UNFINISHED = "unfinished-{}.tmp"
_LOCK = "in-use.lock"
_STATE = "state.json"


@dataclass(frozen=True)
class Backup:
    """A state of a training.

    Attributes:
        state: Plain data, as `json.dumps` takes it.
        arrays: Arrays by name.
        path: The file that it was read from.
    """

    state: Mapping[str, Any]
    arrays: Mapping[str, np.ndarray]
    path: Path | None = None


class BackupFolder:
    """A folder with the last backups of one training.

    A backup is written beside its place, forced to the disk, and moved into place, which file
    systems do whole or not at all. Reading checks every byte (the check sums of ZIP files), and
    falls back to the backup before. Only one process at a time writes here.

    Args:
        path: The folder; made by `claim`. It has to be local, or mounted.

    Raises:
        InvalidArgument: it is not a path, or that of an existing file.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = _as_folder(path)
        self._lock: FileLock | None = None
        self._is_claimed = False

    def claim(self) -> None:
        """Makes the folder, tries to write into it, and keeps other processes out of it.

        Raises:
            InvalidArgument: it cannot be made, or not be written.
            BackupFailed: another process trains with it.
        """
        try:
            self._claim()
        except OSError as error:
            raise InvalidArgument(
                f"Backups cannot be written to the folder '{self.path}': {error}. Expected "
                "`backup_dir` to be a folder that can be made and written by this process."
            ) from error

    def _claim(self) -> None:
        if self._is_claimed and (self._lock is None or self._lock.is_held):
            return
        self._lock = None
        try:
            self._lock = _locked(self.path)
        except Locked as error:
            raise BackupFailed(
                f"Another training has its backups in '{self.path}': {error}. Two in one folder "
                "would destroy each other's. Give this one a `backup_dir` of its own, or end that "
                "process first."
            ) from error
        except NoLocks as error:
            warnings.warn(
                f"The file system of '{self.path}' has no locks ({error}). Make sure that no other "
                "training has the same `backup_dir`: it would go unnoticed.",
                stacklevel=2,
            )
        self._is_claimed = True

    def files(self) -> list[Path]:
        """The backups, newest first."""
        found = [path for path in self.path.glob("*") if _PATTERN.fullmatch(path.name)]
        return sorted(found, key=lambda path: int(path.name[7:-4]), reverse=True)

    def write(self, number: int, backup: Backup) -> None:
        """Adds a backup, and removes those before the last `KEPT`.

        Args:
            number: Larger for later backups.
            backup: What to save.

        Raises:
            BackupFailed: it cannot be written, or another process does; earlier backups are as
                they were.
        """
        unfinished = self.path / _UNFINISHED.format(os.getpid())
        try:
            self._claim()
            self.path.mkdir(parents=True, exist_ok=True)
            with written_at_once(self.path / _NAME.format(number), unfinished, True) as file:
                _write(file, backup)
            _force_names_to_disk(self.path)
        except OSError as error:
            kept = [path.name for path in self.files()]
            raise BackupFailed(
                f"The backup before epoch {number} cannot be written to '{self.path}': {error}. "
                f"The last ones are still there: {', '.join(kept) or 'none'}."
            ) from error
        self._tidy(number)

    def newest(self) -> Backup | None:
        """The newest backup that can be read; None if there are none.

        Raises:
            BackupFailed: there are some, and none of them can be read.
        """
        errors: list[str] = []
        for path in self.files():
            try:
                backup = _read(path)
            except MemoryError:
                raise
            except Exception as error:  # Damaged bytes make readers raise nearly anything.
                errors.append(f"'{path.name}' ({type(error).__name__}: {error})")
                continue
            if errors:
                warnings.warn(
                    f"Damaged backups in '{self.path}' are passed over: {'; '.join(errors)}. "
                    f"'{path.name}' is used.",
                    stacklevel=2,
                )
            return backup
        if errors:
            raise BackupFailed(
                f"None of the backups in '{self.path}' can be read: {'; '.join(errors)}. Delete "
                "the folder to start the training over."
            )
        return None

    def clear(self) -> None:
        """Removes the backups, if this process is the one that writes them.

        The folder goes, too, if nothing else is in it.
        """
        if not self._is_claimed:
            return
        for path in [*self.files(), *self._unfinished()]:
            path.unlink(missing_ok=True)
        if self._lock is not None:
            self._lock.release()
        self._is_claimed = False
        with suppress(OSError):
            self.path.rmdir()

    def _tidy(self, newest: int) -> None:
        """Removes what is too old, and what a training that was killed left unfinished."""
        earlier = [path for path in self.files() if int(path.name[7:-4]) <= newest]
        with suppress(OSError):
            for path in [*earlier[KEPT:], *self._unfinished()]:
                path.unlink(missing_ok=True)

    def _unfinished(self) -> list[Path]:
        """What no living process is writing: with the lock, all of it; else what is our own."""
        whose = "*" if self._lock is not None else os.getpid()
        return list(self.path.glob(_UNFINISHED.format(whose)))


def _as_folder(path: Any) -> Path:
    text = require_path("backup_dir", path)
    if "://" in text:
        raise InvalidArgument(
            "`backup_dir` expects the path of a folder on a local or mounted file system, "
            f"since backups are moved into place. Received: {path!r}."
        )
    folder = Path(text)
    if folder.exists() and not folder.is_dir():
        raise InvalidArgument(
            f"`backup_dir` expects a folder. Received: '{folder}', which is a file."
        )
    return folder


def _locked(folder: Path) -> FileLock:
    """The lock of a folder; makes both."""
    for _ in range(10):
        folder.mkdir(parents=True, exist_ok=True)
        with suppress(FileNotFoundError):  # A training has ended, and removed its folder.
            return lock(folder / _LOCK)
    raise Locked("trainings that begin and end all the time")


def _write(file: Any, backup: Backup) -> None:
    kinds = {name: array.dtype.name for name, array in backup.arrays.items()}
    state = {"format": FORMAT, "dtypes": kinds, "state": backup.state}
    with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
        archive.writestr(_STATE, json.dumps(state, default=_plain))
        for name, array in backup.arrays.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                np.lib.format.write_array(member, _as_numbers(array), allow_pickle=False)


def _read(path: Path) -> Backup:
    with zipfile.ZipFile(path) as archive:
        damaged = archive.testzip()
        if damaged:
            raise ValueError(f"wrong check sum of {damaged}")
        content = json.loads(archive.read(_STATE))
        if content["format"] != FORMAT:
            raise ValueError(
                f"it has format {content['format']}, expected {FORMAT}: another version of "
                "keras_gcp wrote it, which can continue from it"
            )
        arrays = {}
        for name, kind in content["dtypes"].items():
            with archive.open(f"{name}.npy") as member:
                array = np.lib.format.read_array(member, allow_pickle=False)
            arrays[name] = array.view(np.dtype(kind))
    return Backup(content["state"], arrays, path)


def _as_numbers(array: np.ndarray) -> np.ndarray:
    """Types that NumPy's files do not know, such as bfloat16, as integers of the same bits."""
    return array if array.dtype.kind in "biufc" else array.view(f"u{array.dtype.itemsize}")


def _plain(value: Any) -> Any:
    """What JSON lacks: NumPy's numbers as numbers, anything else as text."""
    return value.tolist() if hasattr(value, "tolist") else str(value)


def _force_names_to_disk(folder: Path) -> None:
    with suppress(OSError):  # Windows and some file systems do not do this.
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
