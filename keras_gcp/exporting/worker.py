"""A process of its own for native code that may end the process it runs in.

TensorFlow's converter and the interpreters of its files are C++ that can crash on ordinary
networks. In here a crash is an error like any other, and a training continues.
"""

from __future__ import annotations

import atexit
import contextlib
import json
import os
import pickle
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Sequence
from multiprocessing import spawn
from typing import Any, TypeVar

import keras

from keras_gcp.errors import KerasGCPError, UnsupportedModel
from keras_gcp.exporting import serving

IDLE = 120.0
"""Seconds without work after which the process ends: it takes some hundred megabytes."""

_NEEDED = ("tensorflow", "keras_gcp.exporting.timing", "keras_gcp.exporting.conversion")

Result = TypeVar("Result")


class WorkerDied(UnsupportedModel):
    """The process was ended by what it ran.

    Attributes:
        how: How, in words that follow "it".
    """

    def __init__(self, how: str) -> None:
        super().__init__(
            f"The process in which files for devices are converted and run {how}. It is one of its "
            "own, so this one goes on."
        )
        self.how = how


class WorkerNotStarted(KerasGCPError, RuntimeError):
    """There can be no such process here."""


class RemoteError(Exception):
    """An exception there, of a class that need not exist here.

    Attributes:
        kind: Name of its class.
        text: What it said.
    """

    def __init__(self, kind: str, text: str) -> None:
        super().__init__(kind, text)
        self.kind, self.text = kind, text

    def __str__(self) -> str:
        return f"{self.kind}: {self.text}"


def in_words(error: Exception) -> str:
    """Class and text of an exception, wherever it was raised."""
    if isinstance(error, RemoteError):
        return str(error)
    return f"{type(error).__name__}: {str(error).strip()}"


def prepare() -> None:
    """Starts the process, if there is none, and lets it import what it needs meanwhile."""
    with _one_at_a_time:
        _running(_NEEDED)


def in_worker(function: Callable[..., Result], *arguments: Any) -> Result:
    """Calls a function in the process, which is started with the first call and kept for others.

    Args:
        function: A function of a module, which the process imports.
        *arguments: What can be pickled. No models: tensors may live on a device.

    Returns:
        What the function returns.

    Raises:
        WorkerDied: the process was ended. The next call has a new one.
        WorkerNotStarted: no process could be started.
        RemoteError: the function raised an exception of a library. Python's own exceptions and
            those of keras_gcp arrive as they are. What was printed meanwhile is a note on it.
    """
    with _one_at_a_time:
        try:
            return _running().ask(function, arguments)
        except _EndedItself:  # Idle for too long, just when it was wanted.
            pass
        try:
            return _running().ask(function, arguments)
        except _EndedItself as error:
            raise WorkerDied("ended itself twice") from error


class _EndedItself(Exception):
    pass


class _Worker:
    """The process, seen from the one that started it.

    Args:
        modules: What it is to import at once.
    """

    def __init__(self, modules: Sequence[str]) -> None:
        self.owner = os.getpid()
        self._is_ready = False
        self._log = tempfile.TemporaryFile()  # noqa: SIM115 (closed by `end`)
        try:
            self._process = subprocess.Popen(
                [os.fsdecode(spawn.get_executable()), "-P", serving.__file__, str(IDLE)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._log,
                env=_environment(),
            )
        except (OSError, TypeError) as error:
            self._log.close()
            raise WorkerNotStarted(f"{_NO_START}: {error}.") from error
        assert self._process.stdin is not None and self._process.stdout is not None
        self._requests, self._answers = self._process.stdin, self._process.stdout
        with contextlib.suppress(OSError):  # It has ended already, which `ask` will find.
            for line in (list(map(str, sys.path)), list(modules)):
                self._requests.write(json.dumps(line).encode() + b"\n")
            self._requests.flush()

    @property
    def is_alive(self) -> bool:
        return self._process.poll() is None

    def ask(self, function: Callable[..., Any], arguments: tuple[Any, ...]) -> Any:
        request = pickle.dumps((_working_folder(), function, arguments))
        begin = self._log.seek(0, os.SEEK_END)
        try:
            self._wait_until_ready()
            pickle.dump(request, self._requests)
            self._requests.flush()
            succeeded, answer = pickle.load(self._answers)
        except (EOFError, OSError, pickle.UnpicklingError) as error:
            raise self._death(begin) from error
        except BaseException:  # Such as Ctrl-C: nobody waits for its answer any more.
            self.end(at_once=True)
            raise
        if succeeded:
            return answer
        raised = answer if isinstance(answer, Exception) else RemoteError(*answer)
        raise self._with_what_was_printed(raised, begin)

    def end(self, at_once: bool = False) -> None:
        """Ends the process; it may end by itself for a moment, unless `at_once`."""
        if os.getpid() != self.owner:  # Forked off: it is the other's.
            return
        for stream in (self._requests, self._answers):
            with contextlib.suppress(OSError):  # There may be something that was not sent.
                stream.close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(timeout=0 if at_once else 1)
        self._process.kill()
        self._process.wait()
        self._log.close()

    def _wait_until_ready(self) -> None:
        if self._is_ready:
            return
        try:
            pickle.load(self._answers)
        except (EOFError, OSError, pickle.UnpicklingError) as error:
            self._process.wait()
            raise WorkerNotStarted(f"{_NO_START}. It said: {self._printed(0)}") from error
        self._is_ready = True

    def _death(self, begin: int) -> Exception:
        code = self._process.wait()
        if code == 0:
            return _EndedItself()
        return self._with_what_was_printed(WorkerDied(_death_in_words(code)), begin)

    def _with_what_was_printed(self, error: Exception, begin: int) -> Exception:
        if printed := self._printed(begin):
            error.add_note(f"Printed before the error:\n{printed}")
        return error

    def _printed(self, begin: int, characters: int = 2000) -> str:
        self._log.seek(begin)
        text = self._log.read().decode("utf-8", errors="replace")
        return text.split("Extension modules:")[0].strip()[-characters:]  # Hundreds of them.


_one_at_a_time = threading.Lock()
_current: list[_Worker] = []


def _running(modules: Sequence[str] = ()) -> _Worker:
    """The process, a new one if it has ended, or if this one was forked meanwhile."""
    usable = [one for one in _current if one.owner == os.getpid() and one.is_alive]
    if not usable:
        _end()
        usable = _current[:] = [_Worker(modules)]
    return usable[0]


@atexit.register
def _end() -> None:
    while _current:
        _current.pop().end()


def _working_folder() -> str | None:
    """Of this process; None if it was removed, and only absolute paths lead anywhere."""
    try:
        return os.getcwd()
    except OSError:
        return None


def _environment() -> dict[str, str]:
    """That of this process, without its accelerators and its place in a cluster."""
    own = {name: value for name, value in os.environ.items() if name != "TF_CONFIG"}
    hidden = {"CUDA_VISIBLE_DEVICES": "-1", "HIP_VISIBLE_DEVICES": "-1", "JAX_PLATFORMS": "cpu"}
    return {**own, **hidden, "KERAS_BACKEND": keras.backend.backend()}


def _death_in_words(code: int) -> str:
    if code > 0:
        return f"ended with exit code {code:#x}"
    name = signal.Signals(-code).name
    return f"was ended by signal {name}" + (", often: no memory left" if name == "SIGKILL" else "")


_NO_START = (
    "Files for devices are converted and run in a process of their own, since a crash there must "
    "not end this one. It could not be started with the Python that "
    "`multiprocessing.set_executable` names (this one, unless you call it)"
)
