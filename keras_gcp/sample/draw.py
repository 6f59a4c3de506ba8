"""Examples drawn from what the user passed: a sample, with every class of labels in it."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import count as count_up
from typing import Any

import keras
import numpy as np

from keras_gcp import keras_state
from keras_gcp.errors import InvalidArgument
from keras_gcp.sample.arrays import to_arrays
from keras_gcp.sample.forms import check_lengths, element, held_in_memory, joined
from keras_gcp.sample.inputs import as_argument, check_values, fitted_inputs
from keras_gcp.sample.request import Sample, checked_size
from keras_gcp.validation import require_seed

_MAX_STRATA = 4096
"""More distinct labels than this are not classes; the subset is then drawn without strata."""

_LEAST_TO_JUDGE = 16
"""So many examples of one class are no chance."""


@dataclass(frozen=True, eq=False)
class DrawnSample:
    """Examples with their labels.

    Attributes:
        x: Array `(examples, ...)`; for several inputs such arrays in the structure that the model
            was built with, so that `model(sample.x)` gives each input its own.
        y: Labels, `(examples,)` or `(examples, classes)` or a structure of such arrays; None if
            there are none.
        given: `x` as the user passed it, where the model has a loss or metrics of its own, which
            may look at that (a dict with more than the inputs); None: as `x`.
    """

    x: Any
    y: Any
    given: Any = None

    def __len__(self) -> int:
        return len(keras.tree.flatten(self.x)[0])

    def spread(self, count: int) -> DrawnSample:
        """Some of the examples, taken evenly: they may be sorted by class."""
        if count >= len(self):
            return self
        return self.rows(np.linspace(0, len(self) - 1, count).astype(int))

    def rows(self, rows: np.ndarray) -> DrawnSample:
        """Some of the examples, by their positions."""

        def taken(part: Any) -> Any:
            return keras.tree.map_structure(lambda x: None if x is None else x[rows], part)

        return DrawnSample(taken(self.x), taken(self.y), taken(self.given))

    @property
    def x_of_loss(self) -> Any:
        """The inputs as `compute_loss` and `compute_metrics` get them in `fit`."""
        return self.x if self.given is None else self.given


def draw_sample(
    source: Any,
    size: int | None,
    seed: int | None,
    model: Any,
    needs_labels: bool = True,
) -> DrawnSample:
    """Draws examples once, and checks at once that they fit the model.

    Arrays: a random subset in which every class keeps its share (where labels are classes).
    `keras.utils.PyDataset`: batches in random order until there are enough examples. Other
    iterables of batches or examples, such as `tf.data.Dataset`: the first ones they yield; there is
    a warning if these are of one class.

    Args:
        source: `x`, `(x, y)` or `(x, y, weight)`, or a data set that yields these, as for `fit`;
            for several inputs `x` is a list in the order of `model.inputs` or a dict by name. Lists
            are read as `keras_gcp.sample.forms` says. Or a `Sample`, which says the size, too.
        size: Number of examples of other sources; None takes all.
        seed: For the random choice; None draws differently each time.
        model: The model that the examples must fit.
        needs_labels: Whether missing labels are an error.

    Returns:
        The `DrawnSample`, as NumPy arrays.

    Raises:
        InvalidArgument: a shape does not fit the model, `x` or labels are NaN or no numbers, labels
            are missing, there are no examples, the source may be read in two ways, or `size` is no
            positive number.
    """
    if isinstance(source, Sample):
        source, size = source.data, source.size
    size = checked_size(size)
    random = np.random.default_rng(require_seed(seed))
    held = _held(source, model)
    wanted = None if size is None else keras_state.whole_batches(model, size)
    if held is not None:
        fitted_inputs(held[0], model)
        check_lengths(*held)
        x, y = _subset(*held, _whole([held[0]], wanted, model), random)
    else:
        pieces = _collected(source, wanted, model, random)
        x, y = joined(pieces, _whole([x for x, _ in pieces], wanted, model))
    ordered = fitted_inputs(x, model)
    sample = DrawnSample(as_argument(ordered, model), y, x if _looks_at_inputs(model) else None)
    _check_examples(sample)
    check_values(ordered, model)
    _check_labels(y, needs_labels)
    if held is None:
        _warn_if_sorted(y, model, source)
    return sample


def _whole(pieces: Sequence[Any], size: int | None, model: Any) -> int | None:
    """How many examples to take, in whole batches if the model has a fixed batch size."""
    batch = keras_state.fixed_batch(model)
    if batch is None:
        return size
    count = sum(len(keras.tree.flatten(x)[0]) for x in pieces)
    if count < batch:
        raise InvalidArgument(
            f"Model '{model.name}' takes batches of {batch} examples, no more and no fewer "
            f"(`keras.Input(batch_shape=...)`). The sample has {count}. Expected {batch} at least."
        )
    return keras_state.whole_batches(model, count if size is None else min(size, count))


def sample_of(source: Any, seed: int | None, model: Any) -> DrawnSample | None:
    """The sample that an argument `sample` stands for, which may be None, or drawn already.

    Labels may be missing: what reads them asks for them.
    """
    seed = require_seed(seed)
    if source is None or isinstance(source, DrawnSample):
        return source
    wanted = Sample.parse(source)
    return draw_sample(wanted.data, wanted.size, seed, model, needs_labels=False)


def is_data_set(source: Any) -> bool:
    """Whether a source yields examples, rather than holding them in arrays."""
    held = (DrawnSample, Mapping, list, tuple)
    return not hasattr(source, "shape") and not isinstance(source, held)


def _held(source: Any, model: Any) -> tuple[Any, Any] | None:
    if isinstance(source, DrawnSample):
        return to_arrays(source.x_of_loss), to_arrays(source.y)
    return held_in_memory(source, model)


def _looks_at_inputs(model: Any) -> bool:
    """Whether a loss or metrics of the model's own may look at its inputs."""
    return any(
        getattr(type(model), name) is not getattr(keras.Model, name)
        for name in ("compute_loss", "compute_metrics")
    )


# ---------------------------------------------------------------------------------- arrays


def _subset(x: Any, y: Any, size: int | None, random: np.random.Generator) -> tuple[Any, Any]:
    count = len(keras.tree.flatten(x)[0])
    if size is None or size >= count:
        return x, y
    rows = np.sort(_rows(_strata(y), count, size, random))
    return keras.tree.map_structure(lambda leaf: None if leaf is None else leaf[rows], (x, y))


def _strata(y: Any) -> np.ndarray | None:
    """One integer per example that tells its class, or None if labels are not classes."""
    numeric = isinstance(y, np.ndarray) and y.dtype.kind in "biuf"
    if not numeric or y.ndim not in (1, 2) or not np.isfinite(y).all():
        return None
    if y.ndim == 2 and y.shape[1] > 1:
        return np.argmax(y, axis=1)
    values, strata = np.unique(y.reshape(-1), return_inverse=True)
    return strata if len(values) <= min(_MAX_STRATA, len(y) // 2) else None


def _rows(
    strata: np.ndarray | None, count: int, size: int, random: np.random.Generator
) -> np.ndarray:
    """`size` of `count` rows. Shuffled, then every n-th in order of class: shares are kept."""
    shuffled = random.permutation(count)
    if strata is None:
        return shuffled[:size]
    by_class = shuffled[np.argsort(strata[shuffled], kind="stable")]
    offset = random.random()
    return by_class[np.floor((np.arange(size) + offset) * count / size).astype(int)]


# -------------------------------------------------------------------------------- data sets


def _collected(
    source: Any, size: int | None, model: Any, random: np.random.Generator
) -> list[tuple[Any, Any]]:
    """The examples of a data set, batch by batch, until there are enough."""
    pieces: list[tuple[Any, Any]] = []
    count = 0
    for one in _elements(source, size, random):
        x, y = element(one, model)
        check_lengths(x, y)
        pieces.append((x, y))
        count += len(keras.tree.flatten(x)[0])
        if size is not None and count >= size:
            break
    if not pieces:
        raise InvalidArgument("The data set for the sample is empty. Expected one batch at least.")
    return pieces


def _elements(source: Any, size: int | None, random: np.random.Generator) -> Iterable[Any]:
    if isinstance(source, keras.utils.PyDataset):
        count = source.num_batches
        if count is None and size is None:
            raise InvalidArgument(_endless(source))
        if count is None:
            return (source[index] for index in count_up())
        return (source[int(index)] for index in random.permutation(count))
    if isinstance(source, str | bytes) or not isinstance(source, Iterable):
        raise InvalidArgument(
            "The sample must be arrays (x, or a pair of arrays (x, y)), a `tf.data.Dataset` or a "
            f"`keras.utils.PyDataset`. Received an object of type {type(source).__name__}."
        )
    if size is None and _is_endless(source):
        raise InvalidArgument(_endless(source))
    return source


def _is_endless(source: Any) -> bool:
    cardinality = getattr(source, "cardinality", None)
    return cardinality is not None and int(cardinality()) == -1  # tf.data.INFINITE_CARDINALITY


def _endless(source: Any) -> str:
    return (
        f"The data set for the sample ({type(source).__name__}) is endless, and no size was given. "
        "Say how many examples to draw."
    )


# ----------------------------------------------------------------------------------- checks


def _check_examples(sample: DrawnSample) -> None:
    if len(sample) == 0:
        raise InvalidArgument("The sample has no examples. Expected one at least.")


def _check_labels(y: Any, needed: bool) -> None:
    leaves = keras.tree.flatten(y)
    if not leaves or any(leaf is None for leaf in leaves):
        if needed:
            raise InvalidArgument(
                "The sample has no labels. Expected (x, y) with the true labels in y."
            )
        return
    for leaf in leaves:
        if leaf.dtype.kind not in "biufcV":
            raise InvalidArgument(
                f"Labels must be numbers, such as the index of the class. Received an array of "
                f"dtype {leaf.dtype}. Number the classes first (`np.unique(y, "
                "return_inverse=True)[1]`), as for `fit`."
            )
        if np.issubdtype(leaf.dtype, np.inexact) and not np.isfinite(leaf).all():
            bad = int((~np.isfinite(leaf.reshape(len(leaf), -1)).all(axis=1)).sum())
            raise InvalidArgument(
                f"The labels of {bad} of {len(leaf)} examples of the sample are NaN or infinite. "
                "Expected a label for every example; remove those examples."
            )


def _warn_if_sorted(y: Any, model: Any, source: Any) -> None:
    """Says so if the first examples of a data set stand for one class, or for the first ones."""
    classes = classes_of(y)
    if classes is None or len(classes) < _LEAST_TO_JUDGE:
        return
    found = np.unique(classes)
    in_order = np.count_nonzero(np.diff(classes)) == len(found) - 1
    known = model.outputs[0].shape[-1] if len(model.outputs) == 1 else None
    if len(found) == 1:
        which = f"of one class ({found[0]})"
    elif in_order and known is not None and len(found) < known:
        which = f"of {len(found)} of {known} classes, in order"
    else:
        return
    warnings.warn(
        f"The {len(classes)} examples drawn from the {type(source).__name__} are all {which}, so "
        "they do not stand for the others. If it is sorted, shuffle all of it beforehand "
        "(`dataset.shuffle(...)`), or pass arrays, from which all classes are drawn.",
        stacklevel=3,
    )


def classes_of(y: Any) -> np.ndarray | None:
    """The class of each example, `(examples,)`; None if labels are not classes."""
    if not isinstance(y, np.ndarray) or y.ndim not in (1, 2):
        return None
    if y.ndim == 2 and y.shape[1] > 1:
        one_hot = np.isin(y, (0, 1)).all() and (y.sum(axis=1) == 1).all()
        return y.argmax(axis=1) if one_hot else None
    values = y.reshape(-1)
    whole = values.dtype.kind in "biu" or np.isin(values, (0, 1)).all()
    return values.astype(np.int64) if whole else None
