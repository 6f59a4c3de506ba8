"""How long a .tflite or .onnx file takes for one example, alone or against others."""

from __future__ import annotations

import importlib.metadata
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from keras_gcp.errors import InvalidArgument, KerasGCPError, UnsupportedModel
from keras_gcp.exporting import foreign_files, runtime
from keras_gcp.exporting.worker import WorkerDied, in_words, in_worker
from keras_gcp.validation import require_integer

Result = TypeVar("Result")


@dataclass(frozen=True)
class Latency:
    """Time of one call at the file's own batch size (1 for files of `export`).

    Args:
        path: The measured file.
        milliseconds: Median over the runs.
        p10: 10th percentile, milliseconds.
        p90: 90th percentile, milliseconds.
        threads: Threads the runtime was given.
        runs: Number of timed calls.
        runtime: Name and version of the runtime.
    """

    path: Path
    milliseconds: float
    p10: float
    p90: float
    threads: int
    runs: int
    runtime: str


@dataclass(frozen=True)
class LatencyComparison:
    """Latencies taken in turns, so that a drifting machine hurts all files alike.

    Args:
        latencies: One per file, in the order given.
        speedups: How many times as fast as the first file each one is: the median over
            rounds of the ratio of the two medians within that round. The first is 1.
        spreads: 10th and 90th percentile of that ratio over the rounds.
        rounds: Number of rounds.
    """

    latencies: tuple[Latency, ...]
    speedups: tuple[float, ...]
    spreads: tuple[tuple[float, float], ...]
    rounds: int


def latency(path: str | Path, threads: int = 1, runs: int = 300, warmup: int = 30) -> Latency:
    """Measures one .tflite or .onnx file on random inputs.

    For a ratio of two files use `compare_latency`: single measurements minutes apart differ by
    what else the machine does.

    Args:
        path: The file; its name ends in .onnx if it is one for ONNX Runtime.
        threads: Threads of the runtime.
        runs: Timed calls.
        warmup: Calls before them, not timed.

    Returns:
        A `Latency`, in milliseconds.

    Example:

    ```python
    latency("exported/net.tflite").milliseconds
    ```
    """
    threads, runs = require_integer("threads", threads, 1), require_integer("runs", runs, 1)
    return _run([path], _latency, path, threads, runs, warmup)


def compare_latency(
    paths: Sequence[str | Path],
    threads: int = 1,
    rounds: int = 15,
    runs: int = 40,
    warmup: int = 30,
) -> LatencyComparison:
    """Measures several .tflite or .onnx files in turns: A B C, A B C, ...

    Args:
        paths: At least two files; the first is what the others are compared with.
        threads: Threads of the runtime.
        rounds: How many times each file has its turn.
        runs: Timed calls per turn.
        warmup: Calls before the first round, not timed.

    Returns:
        A `LatencyComparison`.

    Example:

    ```python
    compare_latency(["dense.tflite", "pruned.tflite"]).speedups[1]
    ```
    """
    if isinstance(paths, str | Path) or len(paths) < 2:
        raise InvalidArgument(f"Expected at least two paths to compare. Received: {paths!r}")
    threads, runs = require_integer("threads", threads, 1), require_integer("runs", runs, 1)
    rounds = require_integer("rounds", rounds, 1)
    return _run(paths, _comparison, tuple(paths), threads, rounds, runs, warmup)


def _run(paths: Sequence[str | Path], function: Callable[..., Result], *arguments: Any) -> Result:
    for path in paths:
        runtime.require_file(path)
    named = ", ".join(f"'{path}'" for path in paths)
    try:
        return in_worker(function, *arguments)
    except WorkerDied as error:
        raise UnsupportedModel(f"{named} cannot be run. {error}") from error
    except KerasGCPError:
        raise
    except Exception as error:  # Interpreters raise Python's own exceptions.
        raise InvalidArgument(
            f"{named} cannot be run. Expected .tflite files whose operators are built in. The "
            f"reason given: {in_words(error)}"
        ) from error


def steady_milliseconds(
    path: Path | str, threads: int = 1, rounds: int = 5, turn: float = 10.0
) -> float:
    """Time of one call that neighbours on the machine disturb little: the fastest turn's median.

    Args:
        path: The .tflite file.
        threads: Threads of the runtime.
        rounds: Number of turns.
        turn: Milliseconds that a turn lasts, at least 3 and at most 200 calls.
    """
    return in_worker(_steady_milliseconds, path, threads, rounds, turn)


def runs_for(path: Path | str, threads: int, milliseconds: float) -> int:
    """How many calls of a file fit into a time, at least 3 and at most 200."""
    return in_worker(_runs_for, path, threads, milliseconds)


# ---- in the worker, as interpreters may end their process


def _latency(path: str | Path, threads: int, runs: int, warmup: int) -> Latency:
    return _summary(path, _timed(_ready(path, threads, warmup), runs), threads)


def _comparison(
    paths: Sequence[str | Path], threads: int, rounds: int, runs: int, warmup: int
) -> LatencyComparison:
    calls = [_ready(path, threads, warmup) for path in paths]
    turns = [[_timed(call, runs) for call in calls] for _ in range(rounds)]
    times = np.asarray(turns)  # (rounds, files, runs), milliseconds
    medians = np.median(times, axis=2)
    ratios = medians[:, :1] / medians
    return LatencyComparison(
        latencies=tuple(
            _summary(path, times[:, i].ravel(), threads) for i, path in enumerate(paths)
        ),
        speedups=tuple(float(r) for r in np.median(ratios, axis=0)),
        spreads=tuple((float(a), float(b)) for a, b in np.percentile(ratios, (10, 90), axis=0).T),
        rounds=rounds,
    )


def _steady_milliseconds(path: Path | str, threads: int, rounds: int, turn: float) -> float:
    call = _ready(path, threads, warmup=2)
    runs = _runs_in(turn, call)
    return min(statistics.median(_timed(call, runs)) for _ in range(rounds))


def _runs_for(path: Path | str, threads: int, milliseconds: float) -> int:
    return _runs_in(milliseconds, _ready(path, threads, warmup=2))


Call = Callable[[], object]
"""Runs a file once, on inputs that it has already."""


def _runs_in(milliseconds: float, call: Call) -> int:
    once = min(_timed(call, 3))
    return int(min(max(milliseconds / once, 3), 200))


def _ready(path: str | Path, threads: int, warmup: int) -> Call:
    call = _onnx_call(path, threads) if _is_onnx(path) else _tflite_call(path, threads)
    for _ in range(warmup):
        call()
    return call


def _is_onnx(path: str | Path) -> bool:
    return Path(path).suffix == ".onnx"


def _tflite_call(path: str | Path, threads: int) -> Call:
    interpreter = runtime.load_interpreter(path, threads)
    generator = np.random.default_rng(0)
    for details in interpreter.get_input_details():
        interpreter.set_tensor(details["index"], _random_input(generator, details))
    invoke: Call = interpreter.invoke
    return invoke


def _random_input(generator: np.random.Generator, details: dict[str, Any]) -> np.ndarray:
    shape, dtype = details["shape"], np.dtype(details["dtype"])
    is_index = np.issubdtype(dtype, np.integer) and details["quantization"][0] == 0
    if is_index or dtype.kind == "b":
        return np.zeros(shape, dtype)  # 0 is a valid index of any table
    return runtime.to_stored(generator.standard_normal(shape), details)


def _onnx_call(path: str | Path, threads: int) -> Call:
    session = foreign_files.onnx_session(str(path), threads)
    generator = np.random.default_rng(0)
    feed = {}
    for end in map(foreign_files.onnx_end, session.get_inputs()):
        shape = [size or 1 for size in end.shape]
        numbers = generator.standard_normal(shape) if "float" in end.dtype else np.zeros(shape)
        feed[end.name] = numbers.astype(end.dtype)
    return lambda: session.run(None, feed)


def _timed(call: Call, runs: int) -> list[float]:
    milliseconds = []
    for _ in range(runs):
        begin = time.perf_counter_ns()
        call()
        milliseconds.append((time.perf_counter_ns() - begin) / 1e6)
    return milliseconds


def _summary(path: str | Path, times: Sequence[float] | np.ndarray, threads: int) -> Latency:
    return Latency(
        path=Path(path),
        milliseconds=float(statistics.median(times)),
        p10=float(np.percentile(times, 10)),
        p90=float(np.percentile(times, 90)),
        threads=threads,
        runs=len(times),
        runtime=_runtime_of(path),
    )


def _runtime_of(path: str | Path) -> str:
    if _is_onnx(path):
        return f"onnxruntime {importlib.metadata.version('onnxruntime')}"
    return runtime.runtime_name()
