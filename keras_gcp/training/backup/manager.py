"""The backups of one training as its callback sees them: found, checked, put back, written."""

from __future__ import annotations

import os
import warnings
import zlib
from collections.abc import Mapping
from dataclasses import is_dataclass
from typing import Any

from keras_gcp import backend, keras_state, schedules
from keras_gcp.errors import BackupFailed, ReplicasDisagree
from keras_gcp.selection.prior import Prior
from keras_gcp.training.backup import saved_state, state
from keras_gcp.training.backup.folder import BackupFolder
from keras_gcp.training.pruning_run import PruningRun


class BackupManager:
    """Lets a training go on where a killed process left it.

    Args:
        path: The folder of the backups; None: there are none, and all of this does nothing.
        on_failure: What a backup that cannot be written leads to: `"raise"` or `"skip"`.
    """

    def __init__(self, path: str | os.PathLike[str] | None, on_failure: str) -> None:
        self._folder = None if path is None else BackupFolder(path)
        self._on_failure = on_failure
        self._identity: dict[str, Any] = {}
        self._found: saved_state.Saved | None = None  # until the training has gone on from it

    @property
    def wanted(self) -> bool:
        """Whether backups are written at all."""
        return self._folder is not None

    def find(self, model: Any) -> state.Position | None:
        """Where the newest backup says that the training is; the same in all processes.

        From now on, no other training can have the folder.
        """
        self._found = backend.run_everywhere(model, lambda: self._newest(model))
        position = None if self._found is None else state.position_of(self._found)
        backend.assert_equal(model, "the backups that they find", str(position))
        return position

    def _newest(self, model: Any) -> saved_state.Saved | None:
        if self._folder is None:
            return None
        if backend.process_index(model) == 0:  # the one that is to write there
            self._folder.claim()
        newest = self._folder.newest()
        return None if newest is None else saved_state.read(newest)

    def identify(self, model: Any, settings: Mapping[str, object]) -> None:
        """Notes which training this is; before the first cut."""
        words = {name: in_words(value) for name, value in settings.items()}
        self._identity = state.identity_of(model, words)

    def prepare(self, model: Any, run: PruningRun, epochs: int) -> None:
        """Checks the backup that was found, if any, and lets `fit` begin with its epoch."""
        if self._folder is None or self._found is None:
            return
        position = state.position_of(self._found)
        state.check_identity(self._found.state.identity, self._identity, self._folder.path)
        state.check_epochs(position, epochs, self._folder.path)
        if backend.process_index(model) == 0:  # whose sample it was
            state.check_samples(run, self._found)
        keras_state.set_initial_epoch(model, position.epoch)

    def go_on(self, training: state.Training) -> state.Position | None:
        """Puts everything back as it was when it was saved; None if nothing was found."""
        if self._found is None:
            return None
        state.restore(training, self._found)
        keras_state.set_initial_epoch(training.model, None)  # Later fits start where they say.
        position = state.position_of(self._found)
        self._found = None
        return position

    def write(self, training: state.Training, position: state.Position) -> None:
        """Adds a backup; one of all processes does, as they are in the same state."""
        if self._folder is None:
            return
        try:
            backend.run_everywhere(training.model, lambda: self._write(training, position))
        except (BackupFailed, ReplicasDisagree) as error:
            if self._on_failure == "raise":
                raise
            warnings.warn(f"{error} The training continues.", stacklevel=2)

    def _write(self, training: state.Training, position: state.Position) -> None:
        assert self._folder is not None
        if backend.process_index(training.model) == 0:  # All find the same folder.
            backup = state.capture(training, position, self._identity)
            self._folder.write(position.epoch, backup)

    def clear(self) -> None:
        """Removes the backups of a training that has ended."""
        if self._folder is not None:
            self._folder.clear()


def in_words(setting: object) -> str:
    """A setting in words that are the same in another process."""
    if isinstance(setting, schedules.Schedule | schedules.AdaptiveSchedule):
        return schedules.in_words(setting)
    if isinstance(setting, Prior):
        return f"{zlib.crc32(repr(setting).encode()):08x}"
    if callable(setting) and not is_dataclass(setting):  # a user's criterion
        return getattr(setting, "__qualname__", type(setting).__qualname__)
    return str(setting)
