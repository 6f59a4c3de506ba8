"""The frontier: one training that gets narrower step by step, every size kept as a model."""

from __future__ import annotations

import inspect
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras

from keras_gcp import backend
from keras_gcp.classification.metrics import metric_for
from keras_gcp.costs.budget import check_resource
from keras_gcp.errors import InvalidArgument, UnsupportedModel
from keras_gcp.evaluation.frontier_result import FILE, Frontier
from keras_gcp.evaluation.snapshots import Snapshots
from keras_gcp.sample import draw_sample
from keras_gcp.surgery.model_copy import copy_model
from keras_gcp.training.callback import GradualChannelPruning
from keras_gcp.validation import numbers_in, require_integer, require_path, require_verbose


def frontier(
    model: Any,
    data: Any,
    validation_data: Any,
    directory: str | os.PathLike[str],
    *,
    budgets: Sequence[float] = (0.8, 0.6, 0.4),
    epochs_each: int = 5,
    epochs_before: int = 0,
    resource: str = "macs",
    metric: Any = None,
    mode: str = "auto",
    callbacks: Sequence[Any] = (),
    fit_options: Mapping[str, Any] | None = None,
    verbose: int = 1,
    **pruning_options: Any,
) -> Frontier:
    """Trains once, getting narrower on the way, and keeps the model at every size.

    One `fit`: `epochs_before` epochs at full width, then for every budget, from the largest to the
    smallest, an event and `epochs_each` epochs. At the end of each stretch the model is measured on
    the validation data and saved: as it is after the last epoch, never the best one. So the curve
    of the metric against the size costs one training, not one for each size. A model that is small
    from the beginning, or that is cut once and trained as long, may get better or worse than the
    point of its size.

    Args:
        model: A built and compiled `keras.Model`. It is trained and cut in place, and has the size
            of the last budget in the end.
        data: Training data: `(x, y)` or `(x, y, sample_weight)` arrays, a `tf.data.Dataset` or a
            `keras.utils.PyDataset`. The sample on which channels are scored is drawn from it, too,
            unless `sample` is given.
        validation_data: What to measure on: arrays or data sets likewise, held in memory.
        directory: Folder for the models and `frontier.json`; one with a frontier is refused.
        budgets: Shares of the original that may remain, in (0, 1).
        epochs_each: Epochs after each event.
        epochs_before: Epochs before the first event; 0 for a model that is trained already.
        resource: What budgets count: `"macs"`, or another resource of `keras_gcp.plan`. Bytes of
            files and latencies are predicted, and for the last size checked on a real file.
        metric: As in `keras_gcp.sensitivity`; by default the first compiled metric.
        mode: As in `keras_gcp.sensitivity`.
        callbacks: Further callbacks of the fit.
        fit_options: Further arguments of `Model.fit`, such as `{"batch_size": 128}`.
        verbose: 0 = silent, 1 = a line per event and per size, and Keras' progress bars.
        **pruning_options: Further arguments of `GradualChannelPruning`, such as `criterion`,
            `sample`, `selection`, `exclude` and `seed`.

    Returns:
        A `Frontier`: `.points`, `.best(within=0.01)`, `.explain()`, `.plot(path)`. The models are
        plain `.keras` files that are not compiled. `keras_gcp.Frontier.load(directory)` reads the
        points again; they are written after every stretch.

    Raises:
        InvalidArgument: an argument is malformed, or the folder holds a frontier.
        ImpossibleBudget: floors and anchored layers do not let the smallest budget be met.

    Example:

    ```python
    frontier = keras_gcp.frontier(
        model, (x_train, y_train), (x_val, y_val), "sizes", budgets=(0.7, 0.5, 0.3), epochs_each=10
    )
    print(frontier.explain())
    small = keras.models.load_model(frontier.best(within=0.01).path)
    ```
    """
    shares = _checked_budgets(budgets)
    check_resource(resource)
    epochs_each = require_integer("epochs_each", epochs_each, least=1)
    epochs_before = require_integer("epochs_before", epochs_before, least=0)
    verbose = require_verbose(verbose)
    callbacks = _checked_callbacks(callbacks)
    fit_options = _checked_options(fit_options)
    _check_model(model)
    examples = draw_sample(validation_data, None, None, model)
    measured = metric_for(metric, model, examples, mode)
    ends = {epochs_before + i * epochs_each: share for i, share in enumerate([1.0, *shares])}
    _check_options_of_pruning(pruning_options)
    pruning = GradualChannelPruning(
        sample=pruning_options.pop("sample", _without_weights(data)),
        budget={resource: shares[-1]},
        schedule=_Steps(
            {
                epochs_before + i * epochs_each: (1 - share) / (1 - shares[-1])
                for i, share in enumerate(shares)
            }
        ),
        verbose=verbose,
        **pruning_options,
    )
    folder = _new_folder(directory)
    snapshots = Snapshots(pruning, examples, measured, resource, ends, folder, verbose)
    model.fit(
        **_fit_data(data),
        epochs=max(ends),
        callbacks=[*callbacks, snapshots.lines, pruning, snapshots],
        verbose="auto" if verbose else 0,
        **fit_options,
    )
    return snapshots.frontier


@dataclass(frozen=True)
class _Steps:
    """Events before the given epochs."""

    progress: Mapping[int, float]
    # Every budget is a point, however close to the next: no event is put together with another.
    min_step: float = 0.0

    def events(self) -> dict[int, float]:
        return dict(self.progress)


def _check_model(model: Any) -> None:
    """Refuses now what could not be trained, or not be saved after hours of training."""
    if not getattr(model, "compiled", False):
        raise InvalidArgument(
            f"Model '{getattr(model, 'name', model)}' is not compiled. Call `model.compile` first: "
            "`keras_gcp.frontier` trains it."
        )
    if backend.process_count(model) > 1:
        raise UnsupportedModel(
            f"{backend.process_count(model)} processes train model '{model.name}' together, and "
            "each would write the same files. Expected one process."
        )
    copy_model(model)


def _fit_data(data: Any) -> dict[str, Any]:
    """Training data as arguments of `fit`."""
    if isinstance(data, tuple | list):
        return dict(zip(("x", "y", "sample_weight"), data, strict=False))
    return {"x": data}


def _without_weights(data: Any) -> Any:
    return tuple(data[:2]) if isinstance(data, tuple | list) else data


def _new_folder(directory: Any) -> Path:
    folder = Path(require_path("directory", directory))
    if (folder / FILE).exists():
        raise InvalidArgument(
            f"The folder '{folder}' holds a frontier already; its models would be overwritten. "
            "Name another folder, or delete that one."
        )
    return folder


def _checked_budgets(budgets: Any) -> list[float]:
    """The budgets, from large to small."""
    shares = sorted(numbers_in(budgets) or [], reverse=True)
    if not shares or not all(0 < s < 1 for s in shares) or len(set(shares)) < len(shares):
        raise InvalidArgument(
            "`budgets` expects different shares of the original that may remain, between 0 and 1, "
            f"both excluded, such as (0.8, 0.6, 0.4). Received: {budgets!r}."
        )
    return shares


def _checked_callbacks(callbacks: Any) -> list[Any]:
    """The callbacks in a list; None lists none."""
    found = [] if callbacks is None else callbacks
    if not isinstance(found, list | tuple) or not all(
        isinstance(one, keras.callbacks.Callback) for one in found
    ):
        raise InvalidArgument(
            f"`callbacks` expects a list of `keras.callbacks.Callback`. Received: {callbacks!r}."
        )
    return list(found)


def _check_options_of_pruning(options: Mapping[str, Any]) -> None:
    """Refuses what the callback does not know, or what is set here."""
    own = {"budget", "schedule", "verbose"}
    known = set(inspect.signature(GradualChannelPruning).parameters) - own
    unknown = sorted(options.keys() - known)
    if unknown:
        raise InvalidArgument(
            f"`keras_gcp.frontier` does not take {unknown}: further arguments are those of "
            f"`GradualChannelPruning` but {sorted(own)}, which it sets itself."
        )


def _checked_options(fit_options: Any) -> dict[str, Any]:
    options = {} if fit_options is None else fit_options
    if not isinstance(options, Mapping) or not all(isinstance(key, str) for key in options):
        raise InvalidArgument(
            "`fit_options` expects a dict of arguments of `Model.fit`, such as "
            f"{{'batch_size': 128}}. Received: {fit_options!r}."
        )
    taken = {"x", "y", "epochs", "callbacks", "verbose"} & set(options)
    if taken:
        raise InvalidArgument(
            f"`fit_options` has {sorted(taken)}, which `keras_gcp.frontier` sets itself. Expected "
            "other arguments of `Model.fit`, such as {'batch_size': 128}."
        )
    return dict(options)
