"""The public `compare`: what any models and files are worth, and what they cost, side by side."""

from __future__ import annotations

import tempfile
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import keras

from keras_gcp.classification.metrics import Metric, metric_for
from keras_gcp.errors import InvalidArgument, KerasGCPError
from keras_gcp.evaluation.comparison_result import ComparedModel, Comparison
from keras_gcp.evaluation.opened import Opened, counted_and_converted, kind_of, opened
from keras_gcp.exporting import compare_latency, latency, worker
from keras_gcp.exporting.timing import runs_for
from keras_gcp.resources.tflite_files import Workspace
from keras_gcp.sample import DrawnSample, draw_sample
from keras_gcp.storage.faults import FULL, told_of_the_disk
from keras_gcp.validation import (
    require_flag,
    require_integer,
    require_one_of,
    require_verbose,
)

ROUNDS = 11
"""Turns of every file, one after the other."""

TURN = 20.0
"""Milliseconds of a turn of the first file; the others are called as often."""

WARMUP = 3

Result = TypeVar("Result")


def compare(
    models_or_files: Any,
    data: Any = None,
    *,
    metric: Any = None,
    mode: str = "auto",
    measure_latency: bool = True,
    threads: int = 1,
    on_failure: str = "raise",
    verbose: int = 1,
) -> Comparison:
    """Compares any number of models and files: how good, how large, how fast.

    | | of Keras models, .keras and .h5 files | of .tflite and .onnx files | of SavedModels |
    |---|---|---|---|
    | metric | computed by Keras | by the file's runtime | by TensorFlow |
    | MACs, peak memory | as `keras_gcp.count`, and budgets | read from the file | as TFLite |
    | parameters | `count_params()` | weights in the file | its variables |
    | size | of the file; of models as TFLite | of the file | of the folder |
    | latency | of a TFLite file made for it | of the file | of a TFLite file made for it |

    TFLite files that are made for it have 32-bit floats; that needs TensorFlow. All latencies are
    measured in turns, on random inputs, so that a machine whose speed drifts hurts all alike.
    Whatever cannot be had is left empty, and the table says why.

    All is opened, and checked against the data, before anything is measured.

    Args:
        models_or_files: A list or a dict by name of `keras.Model`s and paths: `.keras`, `.h5`,
            `.tflite`, `.onnx` (needs the extra `[onnx]`) or the folder of a SavedModel. The first
            one is what the others are compared with.
        data: What to measure the metric on, with labels: `(x, y)`, a data set, or a
            `keras_gcp.Sample`, as in `keras_gcp.sensitivity`. None: no metric.
        metric: As in `keras_gcp.sensitivity`; by default the first metric that the first Keras
            model was compiled with, accuracy if it has none. Files are not compiled.
        mode: As in `keras_gcp.sensitivity`.
        measure_latency: Whether to measure it.
        threads: Threads of the runtimes.
        on_failure: What a file that is missing, corrupted, or does not fit the data leads to.
            `"raise"`: an error that names it. `"skip"`: a warning; its row says why, and all else
            is measured.
        verbose: 0 = silent, 1 = a progress bar.

    Returns:
        A `Comparison`: printed, a table; `.rows`, `.relative(name)`, `.pareto(cost)`,
        `.plot(path, cost)`, `.to_json()`.

    Raises:
        InvalidArgument: an argument is malformed; a file is missing or cannot be read; the data do
            not fit a model, or are not finite.
        UnsupportedModel: a model cannot be counted, or a file not be run.

    Example:

    ```python
    comparison = keras_gcp.compare(
        {"dense": model, "pruned": small, "pruned int8": "exported/net_int8.tflite"},
        (x_test, y_test),
    )
    print(comparison)
    comparison.plot("comparison.svg", cost="latency_ms")
    ```
    """
    things = named(models_or_files)
    measure_latency = require_flag("measure_latency", measure_latency)
    threads = require_integer("threads", threads, least=1)
    require_one_of("on_failure", on_failure, ("raise", "skip"))
    verbose = require_verbose(verbose)
    failures = _Failures(on_failure == "skip")
    for name, given in things.items():
        failures.of(name, partial(kind_of, name, given))
    worker.prepare()
    workspace = Workspace()
    folders = {name: workspace.path / str(i) for i, name in enumerate(things)}
    for folder in folders.values():
        folder.mkdir()
    bar = keras.utils.Progbar(3 * len(things), verbose=verbose, unit_name="step")
    measuring = _Measuring(things, folders, failures, bar)
    return measuring.comparison(data, metric, mode, measure_latency, threads)


class _Failures:
    """What failed, by name.

    Args:
        skip: Whether the rest goes on.
    """

    def __init__(self, skip: bool) -> None:
        self._skip = skip
        self.texts: dict[str, str] = {}

    def of(self, name: str, function: Callable[[], Result]) -> Result | None:
        """The result; None if it failed, or the row has failed before, and failures are skipped."""
        if name in self.texts:
            return None
        try:
            with told_of_the_disk(f"A file made of '{name}'", Path(tempfile.gettempdir()), FULL):
                return function()
        except KerasGCPError as error:
            if not self._skip:
                raise
            self.texts[name] = str(error)
            warnings.warn(
                f"{str(error).rstrip('.')}. It is left out of the comparison.", stacklevel=2
            )
            return None


class _Measuring:
    """One comparison, step by step; every step for all rows before the next."""

    def __init__(
        self,
        named: Mapping[str, Any],
        folders: Mapping[str, Path],
        failures: _Failures,
        bar: Any,
    ) -> None:
        self._named, self._folders, self._failures, self._bar = named, folders, failures, bar

    def comparison(
        self, data: Any, metric: Any, mode: str, measure_latency: bool, threads: int
    ) -> Comparison:
        rows = self._each(dict(self._named), lambda name, g: opened(name, g, self._folders[name]))
        reference = next((one for one in rows.values() if one.is_keras), None)
        if reference is not None:
            rows = self._each(rows, lambda _, one: one.in_order_of(reference.model), step=False)
        first = reference or next(iter(rows.values()), None)
        found: Metric | None = None
        samples: dict[str, DrawnSample] = {}
        if data is not None and first is not None:
            drawn = _drawn(first, data)
            samples = self._each(rows, lambda _, one: _fitted(drawn, one), step=False)
            found = metric_for(metric, first.model, drawn, mode)
        rows = self._each(
            {name: rows[name] for name in rows if name not in self._failures.texts},
            lambda name, one: counted_and_converted(
                one, samples.get(name), self._folders[name], measure_latency
            ),
        )
        values = {}
        if found is not None:
            values = self._each(
                rows, lambda name, one: _value(one, found, samples[name], first, mode)
            )
        done = {
            name: _row(one, values.get(name))
            for name, one in rows.items()
            if name not in self._failures.texts
        }
        if measure_latency:
            done = self._timed(done, rows, threads)
        self._bar.update(self._bar.target, finalize=True)
        return Comparison(
            tuple(done.get(name) or self._failed(name) for name in self._named),
            None if found is None else found.name,
            None if found is None else found.higher_is_better,
            len(next(iter(samples.values()))) if samples else None,
            threads,
        )

    def _each(
        self, items: Mapping[str, Any], function: Callable[[str, Any], Any], step: bool = True
    ) -> dict[str, Any]:
        found = {}
        for name, one in items.items():
            result = self._failures.of(name, partial(function, name, one))
            if result is not None:
                found[name] = result
            if step:
                self._bar.add(1)
        return found

    def _timed(
        self, done: Mapping[str, ComparedModel], rows: Mapping[str, Opened], threads: int
    ) -> dict[str, ComparedModel]:
        """The rows with their latencies, each file called alone first: one may not run at all."""
        files = {n: path for n in done if (path := rows[n].timed) is not None}
        runs = self._each(files, lambda _, path: runs_for(path, threads, TURN), step=False)
        timed = _latencies({name: files[name] for name in runs}, threads, runs)
        return {
            name: replace(row, **timed.get(name, {}))
            for name, row in done.items()
            if name not in self._failures.texts
        }

    def _failed(self, name: str) -> ComparedModel:
        given = self._named[name]
        path = str(given) if isinstance(given, str | Path) else None
        return ComparedModel(name, "unknown", path, error=self._failures.texts[name])


def named(models_or_files: Any) -> dict[str, Any]:
    """What is compared, by name: the user's, the model's or the file's own, each once.

    Raises:
        InvalidArgument: it is no list or dict of something.
    """
    given = models_or_files
    if isinstance(given, Mapping):
        pairs = list(given.items())
    elif isinstance(given, list | tuple):
        pairs = [(_own_name(one), one) for one in given]
    else:
        raise InvalidArgument(
            "`models_or_files` expects a list or a dict by name of models and paths. Received an "
            f"object of type {type(given).__name__}."
        )
    if not pairs or not all(isinstance(name, str) and name for name, _ in pairs):
        raise InvalidArgument(
            "`models_or_files` expects one model or path at least, with texts as names. Received: "
            f"{[name for name, _ in pairs]}."
        )
    found: dict[str, Any] = {}
    for name, one in pairs:
        number, unique = 1, name
        while unique in found:
            number, unique = number + 1, f"{name} ({number + 1})"
        found[unique] = one
    return found


def _own_name(one: Any) -> str:
    if isinstance(one, str | Path):
        return Path(one).name or str(one)
    return str(getattr(one, "name", type(one).__name__))


def _drawn(first: Opened, data: Any) -> DrawnSample:
    """The data, as the first model takes them."""
    several = not first.is_keras and len(first.model.inputs) > 1
    x = data[0] if isinstance(data, tuple) and data else data
    if several and not isinstance(x, Mapping):
        names = [symbol.name for symbol in first.model.inputs]
        raise InvalidArgument(
            f"{first.called} has several inputs, and sorts them as it likes. Expected `x` as a "
            f"dict by their names, {names}, or a Keras model in the comparison that has them."
        )
    return _naming(first, lambda: draw_sample(data, None, 0, first.model))


def _fitted(drawn: DrawnSample, one: Opened) -> DrawnSample:
    """The same examples, as a model takes them."""
    return _naming(one, lambda: draw_sample(drawn, None, 0, one.model))


def _naming(one: Opened, function: Callable[[], Result]) -> Result:
    try:
        return function()
    except InvalidArgument as error:
        raise InvalidArgument(f"The data do not fit {one.called}. {error}") from error


def _value(
    one: Opened, found: Metric, sample: DrawnSample, first: Opened | None, mode: str
) -> float:
    """Accuracies as each model's own output means them; other metrics as the first one has them."""
    own = found
    if found.name in ("accuracy", "acc") and one is not first:
        own = metric_for(found.name, one.model, sample, mode)
    return _naming(one, lambda: one.value(own, sample))


def _row(one: Opened, value: float | None) -> ComparedModel:
    return ComparedModel(
        one.name,
        one.kind,
        None if one.path is None else str(one.path),
        value,
        one.macs,
        one.parameters,
        one.bytes,
        peak_bytes=one.peak_bytes,
        notes=one.notes,
    )


def _latencies(
    files: Mapping[str, Path], threads: int, runs: Mapping[str, int]
) -> dict[str, dict[str, Any]]:
    """Fields of rows, by name."""
    if not files:
        return {}
    paths, calls = list(files.values()), next(iter(runs.values()))
    if len(paths) == 1:
        alone = latency(paths[0], threads, ROUNDS * calls, WARMUP)
        found: Sequence[Any] = [(alone, 1.0, (1.0, 1.0))]
    else:
        turns = compare_latency(paths, threads, rounds=ROUNDS, runs=calls, warmup=WARMUP)
        found = list(zip(turns.latencies, turns.speedups, turns.spreads, strict=True))
    return {
        name: {
            "latency_ms": one.milliseconds,
            "latency_spread": (one.p10, one.p90),
            "speedup": speedup,
            "speedup_spread": spread,
        }
        for name, (one, speedup, spread) in zip(files, found, strict=True)
    }
