"""Processes that train one model together, and what they have to agree on.

Each process holds the whole model and data of its own, and has to cut exactly what the others cut.
So scores are averaged over all processes before anything is selected, and a step that may fail
counts as done only where it succeeded everywhere: no process goes on alone, and none waits for one
that gave up. With one process, on any number of devices, nothing is exchanged.

Every function here is to be called by all processes, in the same order.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import numpy as np

from keras_gcp.backend.dispatch import gather_rows, process_count, process_index
from keras_gcp.errors import ReplicasDisagree

Result = TypeVar("Result")


def run_everywhere(model: Any, work: Callable[[], Result]) -> Result:
    """Runs something in every process, and fails everywhere if it fails anywhere.

    Args:
        model: The model that the processes train.
        work: What to do here. It must not exchange anything with other processes by itself.

    Returns:
        What `work` returned here.

    Raises:
        Exception: what `work` raised here.
        ReplicasDisagree: it raised in another process.
    """
    if process_count(model) == 1:
        return work()
    error: Exception | None = None
    try:
        result = work()
    except Exception as raised:
        error = raised
    failed = np.flatnonzero(_gather(model, np.array([error is not None], np.int32))[:, 0])
    if error is not None:
        raise error
    if len(failed):
        raise ReplicasDisagree(
            f"A step of pruning failed in process {_listed(failed)} and was taken back in this one "
            f"({process_index(model)} of {process_count(model)}), which had no error of its own. "
            "Look for the error in the output of that process."
        )
    return result


def mean_over_processes(
    model: Any, values: Mapping[str, np.ndarray], weight: float
) -> Mapping[str, np.ndarray]:
    """The mean of named arrays over all processes, the same numbers in every process.

    Args:
        model: The model that the processes train.
        values: Name to array.
        weight: How much this process counts, such as its number of examples.

    Raises:
        ReplicasDisagree: processes have other names or shapes.
    """
    if process_count(model) == 1:
        return values
    shapes = {name: np.shape(values[name]) for name in sorted(values)}
    assert_equal(model, "the layers that are scored", repr(shapes))
    flat = np.concatenate([np.ravel(values[name]) for name in shapes] or [np.zeros(0)])
    sent = np.concatenate([[weight], flat]).astype(np.float64)
    rows = _gather(model, sent.view(np.int32)).view(np.float64)  # integers arrive unrounded
    mean = (rows[:, :1] * rows[:, 1:]).sum(axis=0) / rows[:, 0].sum()
    ends = np.cumsum([int(np.prod(shape)) for shape in shapes.values()])
    parts = np.split(mean, ends)[:-1]  # What is behind the last one: nothing.
    return {name: part.reshape(shapes[name]) for name, part in zip(shapes, parts, strict=True)}


def assert_equal(model: Any, what: str, text: str) -> None:
    """Refuses to go on unless all processes have the same text.

    Args:
        model: The model that the processes train.
        what: What the text is, in the plural, for the message.
        text: The text of this process.

    Raises:
        ReplicasDisagree: it differs; in every process alike.
    """
    if process_count(model) == 1:
        return
    digest = np.frombuffer(hashlib.sha256(text.encode()).digest(), np.int32)
    rows = _gather(model, digest)
    other = np.flatnonzero((rows != rows[0]).any(axis=1))
    if len(other):
        raise ReplicasDisagree(
            f"Processes that train model '{model.name}' together differ in {what}: process "
            f"{_listed(other)} from process 0. Expected the same in all {len(rows)}; nothing was "
            "cut. Build the same model with the same weights, and give the same arguments, in "
            "every process."
        )


def _gather(model: Any, row: np.ndarray) -> np.ndarray:
    """`(processes, n)`: the row of every process, in the order of the processes."""
    own = np.concatenate([[process_index(model)], row]).astype(np.int32)
    received = gather_rows(model, own)  # a process may stand in it once for each of its devices
    _, first = np.unique(received[:, 0], return_index=True)
    return np.ascontiguousarray(received[first, 1:])


def _listed(processes: np.ndarray) -> str:
    return ", ".join(map(str, processes))
