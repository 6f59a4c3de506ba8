"""What a backup holds besides arrays, checked as a whole before any of it is put back."""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from keras_gcp.errors import InvalidArgument
from keras_gcp.selection.plan import Plan
from keras_gcp.training.backup.folder import Backup
from keras_gcp.training.event_records import Event, SkippedEvent
from keras_gcp.training.step_times import Phase
from keras_gcp.validation.plain_data import DoesNotFit, parsed


@dataclass(frozen=True)
class SavedIdentity:
    """Which training it is: its settings in words, and path, shape and type of every weight."""

    settings: Mapping[str, str]
    weights: list[tuple[str, list[int], str]]


@dataclass(frozen=True)
class SavedScheduler:
    """Where the schedule stands, see `Scheduler.to_dict`."""

    put_off: int
    progress: float
    values: list[str]


@dataclass(frozen=True)
class SavedRandomness:
    """The states of the random numbers of Python and of NumPy, the latter without its array."""

    python: tuple[int, list[int], float | None]
    numpy: tuple[str, int, int, float]


@dataclass(frozen=True)
class SavedMemory:
    """What another callback remembers: class, values by attribute, and how many weights."""

    kind: str
    values: Mapping[str, Any]
    weights: int | None


@dataclass(frozen=True)
class SavedState:
    """Everything in a backup but arrays; the fields are those of its file.

    Attributes:
        identity: Which training it is.
        position: Epoch that is about to begin, steps done, and the seed.
        sample: Digest of the sample.
        guard: Digest of the guard's data.
        scheduler: Where the schedule stands.
        plan: All cuts so far as `Plan.to_json` writes them; None before the first.
        events: The events so far.
        skipped: Those that failed or were refused.
        times: How long steps took.
        events_seconds: What all events took.
        random: Random states.
        other_callbacks: What other callbacks remember.
    """

    identity: SavedIdentity
    position: tuple[int, int, int]
    sample: str
    guard: str
    scheduler: SavedScheduler
    plan: str | None
    events: list[Event]
    skipped: list[SkippedEvent]
    times: list[Phase]
    events_seconds: float
    random: SavedRandomness
    other_callbacks: list[SavedMemory]


@dataclass(frozen=True)
class Saved:
    """A backup that has been looked through.

    Attributes:
        state: All but the arrays.
        plan: The plan in it.
        arrays: Arrays by name.
        source: Name of the file, for messages.
    """

    state: SavedState
    plan: Plan | None
    arrays: Mapping[str, np.ndarray]
    source: str


def read(backup: Backup) -> Saved:
    """Looks a backup through.

    Raises:
        InvalidArgument: a field is missing, unknown, or not what it should be; it is named, with
            the file.
    """
    source = f"'{backup.path}'"
    try:
        state = parsed(SavedState, backup.state)
        _check_numbers(state)
        _check_random_states(state.random, backup.arrays)
        _check_arrays(state, backup.arrays)
        plan = _plan_of(state)
    except DoesNotFit as error:
        raise InvalidArgument(
            f"The backup {source} is not one that this version wrote: {error}. Delete that file to "
            "go on from the backup before it, or the folder to start the training over."
        ) from error
    return Saved(state, plan, backup.arrays, source)


def _plan_of(state: SavedState) -> Plan | None:
    try:
        return None if state.plan is None else Plan.from_json(state.plan)
    except InvalidArgument as error:
        raise DoesNotFit(f"plan: {error}") from error


def _check_numbers(state: SavedState) -> None:
    for name, number in zip(("epoch", "steps", "seed"), state.position, strict=True):
        if number < 0:
            raise DoesNotFit(f"position has the {name} {number}, expected 0 or more")
    for value in state.scheduler.values:
        try:
            float(value)
        except ValueError as error:
            raise DoesNotFit(f"scheduler.values has {value!r}, expected a number") from error


def _check_random_states(saved: SavedRandomness, arrays: Mapping[str, np.ndarray]) -> None:
    """Tries them on generators of their own: the global ones are set when all else is in place."""
    try:
        set_python_state(random.Random(), saved)
        set_numpy_state(np.random.RandomState(), saved, arrays)
    except KeyError as error:
        raise DoesNotFit(f"the array {error} is missing") from error
    except (IndexError, TypeError, ValueError, OverflowError) as error:
        raise DoesNotFit(f"random: {error}") from error


def set_python_state(generator: Any, saved: SavedRandomness) -> None:
    """Puts back the state of Python's random numbers, of the module or of a generator."""
    version, numbers, gauss = saved.python
    generator.setstate((version, tuple(numbers), gauss))


def set_numpy_state(
    generator: Any, saved: SavedRandomness, arrays: Mapping[str, np.ndarray]
) -> None:
    """Puts back the state of NumPy's random numbers, of the module or of a generator."""
    kind, position, has_gauss, cached = saved.numpy
    generator.set_state((kind, arrays["numpy-random"], position, has_gauss, cached))


def _check_arrays(state: SavedState, arrays: Mapping[str, np.ndarray]) -> None:
    """Those of a kind are numbered without gaps, and hold numbers."""
    for name in ("model", "optimizer", "teacher"):
        count = sum(key.startswith(f"{name}-") for key in arrays)
        _require(arrays, [f"{name}-{number}" for number in range(count)])
    for number, memory in enumerate(state.other_callbacks):
        places = range(memory.weights or 0)
        _require(arrays, [f"callback{number}-{place}" for place in places])
    for name, array in arrays.items():
        if array.dtype.kind in "OSUMm":
            raise DoesNotFit(f"the array '{name}' is of {array.dtype}, expected numbers")


def _require(arrays: Mapping[str, np.ndarray], names: list[str]) -> None:
    for name in names:
        if name not in arrays:
            raise DoesNotFit(f"the array '{name}' is missing")
