"""The state of a training, taken into a backup and put back into a new process."""

from __future__ import annotations

import random
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import keras
import numpy as np

from keras_gcp import backend, keras_state
from keras_gcp.channels.trace import trace_as_planned
from keras_gcp.errors import InvalidArgument
from keras_gcp.keras_state import Transaction
from keras_gcp.sample import DrawnSample
from keras_gcp.sample.digest import digest_of
from keras_gcp.schedules.scheduler import Scheduler
from keras_gcp.selection.planning import keep_of
from keras_gcp.surgery.narrow import narrow_model
from keras_gcp.training.backup.folder import Backup
from keras_gcp.training.backup.memories import memories_for, memories_of, numbered
from keras_gcp.training.backup.saved_state import (
    Saved,
    SavedIdentity,
    set_numpy_state,
    set_python_state,
)
from keras_gcp.training.distillation import Teacher
from keras_gcp.training.pruning_run import PruningRun
from keras_gcp.training.step_times import StepTimes


@dataclass(frozen=True)
class Position:
    """Where a training is.

    Attributes:
        epoch: The epoch that is about to begin.
        step: Training steps done so far.
        seed: With which the sample was drawn, and which the criterion was given.
    """

    epoch: int
    step: int
    seed: int


@dataclass
class Training:
    """What goes into a backup, and is put back.

    Attributes:
        model: The living model.
        run: Its pruning run.
        scheduler: Where the schedule stands.
        other_callbacks: The other callbacks of the fit.
        teacher: The model before the first cut, if that is learnt from.
    """

    model: Any
    run: PruningRun
    scheduler: Scheduler
    other_callbacks: Sequence[Any]
    teacher: Teacher | None


# ---- whose backup it is


def identity_of(model: Any, settings: Mapping[str, str]) -> dict[str, Any]:
    """What makes a training the same one after a restart.

    Args:
        model: The model before the first cut, with its optimizer built.
        settings: How it is pruned, in words.
    """
    weights = [[v.path, list(v.shape), str(v.dtype)] for v in model.weights]
    optimizers = ", ".join(map(_chain_in_words, keras_state.optimizers_of(model)))
    words = {"backend": keras.config.backend(), "optimizer": optimizers, **settings}
    return {"settings": words, "weights": weights}


def _chain_in_words(optimizer: Any) -> str:
    return " of ".join(type(part).__name__ for part in keras_state.optimizer_chain(optimizer))


_BEFORE = {"normalize": "norm", "evenness": "0.0"}
"""Settings of backups from before they could be set."""


def check_identity(saved: SavedIdentity, own: Mapping[str, Any], folder: Any) -> None:
    """Refuses the backup of another training.

    Raises:
        InvalidArgument: it is one; the differences are named.
    """
    there = {**_BEFORE, **saved.settings}
    differences = [
        f"{name}: {there.get(name)} there, {value} here"
        for name, value in own["settings"].items()
        if there.get(name) != value
    ]
    differences += _differences_of_weights(saved.weights, own["weights"])
    if differences:
        raise InvalidArgument(
            f"The backup in '{folder}' belongs to another training: {'; '.join(differences)}. "
            "Give this training a `backup_dir` of its own, or delete that folder to start over."
        )


def _differences_of_weights(saved: Sequence[Any], own: Sequence[Any]) -> list[str]:
    for there, here in zip(map(list, saved), own, strict=False):
        if there != here:
            hint = _RENAMED if there[1:] == here[1:] else ""
            return [f"model: weight {_weight(there)} there, {_weight(here)} here{hint}"]
    if len(saved) != len(own):
        return [f"model: {len(saved)} weights there, {len(own)} here"]
    return []


_RENAMED = (
    " (Keras numbers layers without a name through all models of a process: name them, or call "
    "`keras.utils.clear_session()` before building the model)"
)


def _weight(entry: Sequence[Any]) -> str:
    path, shape, dtype = entry
    return f"'{path}' {tuple(shape)} {dtype}"


def check_epochs(position: Position, epochs: int, folder: Any) -> None:
    """Refuses to go on with a fit that ends before.

    Raises:
        InvalidArgument: the backup is that of a later epoch.
    """
    if position.epoch >= epochs:
        raise InvalidArgument(
            f"The backup in '{folder}' is that of a training before its epoch {position.epoch} "
            f"(counted from 0), but this fit has {epochs} epochs only. Train longer, or delete "
            "that folder to start over."
        )


# ---- out of the process


def capture(training: Training, position: Position, identity: Mapping[str, Any]) -> Backup:
    """Everything that a new process needs to go on.

    Args:
        training: The training.
        position: Where it is.
        identity: What `identity_of` said before the first cut.
    """
    model, run, teacher = training.model, training.run, training.teacher
    arrays = numbered("model", map(keras.ops.convert_to_numpy, model.variables))
    variables = keras_state.optimizer_variables(model)
    arrays |= numbered("optimizer", map(keras.ops.convert_to_numpy, variables))
    if teacher is not None and teacher.is_ready:
        arrays |= numbered("teacher", map(keras.ops.convert_to_numpy, teacher.weights))
    randomness, random_arrays = _random_state()
    memories, of_callbacks = memories_of(training.other_callbacks)
    arrays |= of_callbacks
    state = {
        "identity": identity,
        "position": [position.epoch, position.step, position.seed],
        "sample": _digest_of(run.sample),
        "guard": _digest_of(run.guard.sample if run.guard else None),
        "scheduler": training.scheduler.to_dict(),
        "plan": run.plan.to_json() if run.plan else None,
        "events": [event.to_dict() for event in run.events],
        "skipped": [asdict(skipped) for skipped in run.skipped],
        "times": run.times.to_list(),
        "events_seconds": run.events_seconds,
        "random": randomness,
        "other_callbacks": memories,
    }
    return Backup(state, arrays | random_arrays)


def position_of(saved: Saved) -> Position:
    """Where the training was."""
    return Position(*saved.state.position)


def _digest_of(sample: DrawnSample | None) -> str:
    """A short text that differs for other examples."""
    return digest_of([sample.x, sample.y] if sample else [])


def _random_state() -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """The random numbers of Python, NumPy, Keras and the framework, as far as they are global."""
    kind, key, position, has_gauss, gauss = np.random.get_state()
    state = {"python": random.getstate(), "numpy": [kind, position, has_gauss, gauss]}
    arrays = {"numpy-random": np.asarray(key)}
    keras_seed = keras_state.global_seed()
    if keras_seed is not None:
        arrays["keras-random"] = keras.ops.convert_to_numpy(keras_seed)
    framework = backend.random_state()
    if framework is not None:
        arrays["framework-random"] = framework
    return state, arrays


# ---- into the process


def restore(training: Training, saved: Saved) -> None:
    """Puts a training back where it was; the inverse of `capture`.

    Args:
        training: The training; its model as it was built, or as narrow as in the backup already.
        saved: A backup of it, by `check_identity`.

    Raises:
        InvalidArgument: the model is narrow in another way, or has other variables; or other
            callbacks cannot have remembered what the backup says.
    """
    model, run, teacher = training.model, training.run, training.teacher
    memories = memories_for(training.other_callbacks, saved)
    plan = saved.plan
    with Transaction() as transaction:
        if plan is None:
            _require_wide(run)
        elif run.plan is None or not plan.keeps_what_is_kept_by(run.plan):
            _require_wide(run)
            channels = trace_as_planned(model, in_place=True)
            keep = keep_of(plan, channels)
            narrow_model(channels, keep, transaction, in_fit=True)
        pairs = [
            *_pairs("model", model.variables, saved),
            *_pairs("optimizer", keras_state.optimizer_variables(model), saved),
        ]
    for variable, value in pairs:
        variable.assign(value)
    if teacher is not None and "teacher-0" in saved.arrays:
        teacher.take([value for _, value in _pairs("teacher", teacher.weights, saved)])
    _restore_run(run, saved)
    training.scheduler.restore(asdict(saved.state.scheduler))
    _restore_random_state(saved)
    for callback, attributes in memories:
        for name, value in attributes.items():
            setattr(callback, name, value)


def check_samples(run: PruningRun, saved: Saved) -> None:
    """Warns if held examples are others than before."""
    if saved.state.sample != _digest_of(run.sample):
        warnings.warn(
            "The sample is not the one from before the restart: the data set yields other "
            "examples now. Events to come score channels on these.",
            stacklevel=2,
        )
    if saved.state.guard != _digest_of(run.guard.sample if run.guard else None):
        warnings.warn(
            "The guard's data are not those from before the restart: the data set yields other "
            "examples now. Events to come compare the metric on both.",
            stacklevel=2,
        )


def _restore_run(run: PruningRun, saved: Saved) -> None:
    run.plan = saved.plan
    run.events = list(saved.state.events)
    run.skipped = list(saved.state.skipped)
    run.times = StepTimes.from_list([asdict(phase) for phase in saved.state.times])
    run.events_seconds = saved.state.events_seconds


def _require_wide(run: PruningRun) -> None:
    if run.plan is not None and run.plan.removed_channels:
        raise InvalidArgument(
            "This model has been cut in this process, in another way than in the backup. Build the "
            "model again, as at the first start, and call `fit` with a new callback."
        )


def _pairs(name: str, variables: Sequence[Any], saved: Saved) -> list[tuple[Any, np.ndarray]]:
    count = sum(key.startswith(f"{name}-") for key in saved.arrays)
    if count != len(variables):
        raise InvalidArgument(
            f"The backup {saved.source} has {count} {name} variables, the model {len(variables)} "
            "now. Expected the same as at the first start. Optimizers that `compile` does not know "
            "have to be built before `fit`: `optimizer.build(variables)`."
        )
    pairs = [(v, saved.arrays[f"{name}-{number}"]) for number, v in enumerate(variables)]
    for variable, value in pairs:
        if value.shape != tuple(variable.shape):
            raise InvalidArgument(
                f"The backup {saved.source} has shape {value.shape} for {name} variable "
                f"'{variable.path}' of shape {tuple(variable.shape)}. Was the model, or its "
                "optimizer, built in another way?"
            )
    return pairs


def _restore_random_state(saved: Saved) -> None:
    state, arrays = saved.state.random, saved.arrays
    if "keras-random" in arrays:  # Making Keras' generator draws from Python's, so it comes first.
        keras_state.set_global_seed(arrays["keras-random"])
    if "framework-random" in arrays:
        backend.set_random_state(arrays["framework-random"])
    set_python_state(random, state)
    set_numpy_state(np.random, state, arrays)
