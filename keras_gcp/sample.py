"""The sample: the examples on which channels are scored and cuts are checked."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import count as count_up
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_gcp.errors import InvalidArgument
from keras_gcp.validation import integer, require_seed

SAMPLE_SIZE = 512
"""Examples drawn by default."""

_MAX_STRATA = 4096
"""More distinct labels than this are no classes; the subset is then drawn without strata."""


@dataclass(frozen=True, eq=False)
class Sample:
    """Examples with their labels.

    Attributes:
        x: Array `(examples, ...)`, or a list or dict of such arrays for several inputs.
        y: Labels, `(examples,)` or `(examples, classes)` or a structure of such arrays; None if
            none were needed and none given.
    """

    x: Any
    y: Any

    def __len__(self) -> int:
        return len(keras.tree.flatten(self.x)[0])


def draw_sample(
    source: Any,
    size: int | None,
    seed: int | None,
    model: Any,
    needs_labels: bool = True,
) -> Sample:
    """Draws examples once, and checks at once that they fit the model.

    Arrays: a random subset in which every class keeps its share (where labels are classes).
    `keras.utils.PyDataset`: batches in random order until there are enough examples. Other
    iterables of `(x, y)` or `(x, y, weight)`, such as `tf.data.Dataset`, batched or not: the first
    examples they yield; shuffle them beforehand if they are sorted.

    Args:
        source: `(x, y)` arrays, or one of the data sets above. `x` may be a list or a dict for
            models with several inputs.
        size: Number of examples; None takes all.
        seed: For the random choice; None draws differently each time.
        model: The model that the examples must fit.
        needs_labels: Whether missing labels are an error.

    Returns:
        The `Sample`, as NumPy arrays.

    Raises:
        InvalidArgument: a shape does not fit the model, `x` or labels are NaN, labels are missing,
            there are no examples, or `size` is no positive number.
    """
    size = checked_size(size)
    random = np.random.default_rng(require_seed(seed))
    if isinstance(source, Sample):
        source = (source.x, source.y)
    if hasattr(source, "shape"):
        source = (source, None)
    if _is_arrays(source):
        x, y = _arrays(*source)
        _check_lengths(x, y)
        x, y = _subset(x, y, size, random)
    else:
        x, y = _collect(_examples(source, size, model, random), size)
    sample = Sample(x, y)
    check_sample(sample, model, needs_labels)
    return sample


def checked_size(size: Any) -> int | None:
    """A number of examples to draw, as a plain number; None stands for all.

    Raises:
        InvalidArgument: it is no positive integer.
    """
    found = integer(size)
    if size is not None and (found is None or found < 1):
        raise InvalidArgument(
            f"The size of the sample must be a positive integer or None. Received: {size!r}."
        )
    return found


def check_sample(sample: Sample, model: Any, needs_labels: bool = True) -> None:
    """Checks a sample against a model.

    Raises:
        InvalidArgument: as for `draw_sample`.
    """
    _check_lengths(sample.x, sample.y)
    if len(sample) == 0:
        raise InvalidArgument("The sample has no examples. Expected one at least.")
    _check_inputs(sample.x, model)
    _check_labels(sample.y, needs_labels)


# ---------------------------------------------------------------------------------- arrays


def _is_arrays(source: Any) -> bool:
    """Whether the source is `(x, y)` or `(x, y, weight)`, rather than a list of batches."""
    if not isinstance(source, tuple | list) or len(source) not in (2, 3):
        return False
    return all(hasattr(leaf, "shape") for leaf in keras.tree.flatten(source[0]))


def _arrays(x: Any, y: Any = None, sample_weight: Any = None) -> tuple[Any, Any]:
    del sample_weight  # Scores treat examples alike; classes have weights of their own.
    if isinstance(y, list | tuple) and all(np.isscalar(label) for label in y):
        y = np.asarray(y)
    return keras.tree.map_structure(_array, x), keras.tree.map_structure(_array, y)


def _array(leaf: Any) -> np.ndarray | None:
    if leaf is None:
        return None
    return leaf if isinstance(leaf, np.ndarray) else np.asarray(ops.convert_to_numpy(leaf))


def _subset(x: Any, y: Any, size: int | None, random: np.random.Generator) -> tuple[Any, Any]:
    count = len(keras.tree.flatten(x)[0])
    if size is None or size >= count:
        return x, y
    rows = np.sort(_rows(_strata(y), count, size, random))
    return keras.tree.map_structure(lambda leaf: None if leaf is None else leaf[rows], (x, y))


def _strata(y: Any) -> np.ndarray | None:
    """One integer per example that tells its class, or None if labels are no classes."""
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


def _examples(
    source: Any, size: int | None, model: Any, random: np.random.Generator
) -> Iterator[tuple[Any, Any]]:
    """Batches `(x, y)` of a data set as arrays."""
    elements = _elements(source, size, random)
    rank = len(model.inputs[0].shape)
    for element in elements:
        x, y, _ = keras.utils.unpack_x_y_sample_weight(element)
        x, y = _arrays(x, y)
        if keras.tree.flatten(x)[0].ndim == rank - 1:  # One example: make it a batch of one.
            x, y = keras.tree.map_structure(
                lambda leaf: None if leaf is None else leaf[None], (x, y)
            )
        _check_lengths(x, y)
        yield x, y


def _elements(source: Any, size: int | None, random: np.random.Generator) -> Iterable[Any]:
    if isinstance(source, keras.utils.PyDataset):
        count = source.num_batches
        if count is None and size is None:
            raise InvalidArgument(_endless(source))
        if count is None:
            return (source[index] for index in count_up())
        return (source[int(index)] for index in random.permutation(count))
    if isinstance(source, str | bytes | dict) or not isinstance(source, Iterable):
        raise InvalidArgument(
            "The sample must be a pair of arrays (x, y), a `tf.data.Dataset` or a "
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


def _collect(examples: Iterator[tuple[Any, Any]], size: int | None) -> tuple[Any, Any]:
    pieces: list[tuple[Any, Any]] = []
    count = 0
    for x, y in examples:
        pieces.append((x, y))
        count += len(keras.tree.flatten(x)[0])
        if size is not None and count >= size:
            break
    if not pieces:
        raise InvalidArgument("The data set for the sample is empty. Expected one batch at least.")

    def join(*leaves: Any) -> Any:
        return None if leaves[0] is None else np.concatenate(leaves)[:size]

    return keras.tree.map_structure(join, *pieces)


# ----------------------------------------------------------------------------------- checks


def _check_lengths(x: Any, y: Any) -> None:
    lengths = {
        f"{name}{'' if single else f'[{i}]'}": len(leaf) if np.ndim(leaf) else None
        for name, part in (("x", x), ("y", y))
        for single in [len(keras.tree.flatten(part)) == 1]
        for i, leaf in enumerate(keras.tree.flatten(part))
        if leaf is not None
    }
    if len(set(lengths.values())) > 1 or None in lengths.values():
        shown = ", ".join(f"{name}: {length}" for name, length in lengths.items())
        raise InvalidArgument(
            "Inputs and labels of the sample must have the same number of examples. "
            f"Received {shown}."
        )


def _check_inputs(x: Any, model: Any) -> None:
    for name, leaf, expected in _paired_inputs(x, model):
        fits = leaf.ndim == len(expected) and all(
            size is None or size == given
            for size, given in zip(expected[1:], leaf.shape[1:], strict=True)
        )
        if not fits:
            raise InvalidArgument(
                f"The sample does not fit model '{model.name}': input '{name}' expects shape "
                f"{_shown(expected)}. Received an array of shape {_shown(leaf.shape)}."
            )
        if np.issubdtype(leaf.dtype, np.inexact) and not np.isfinite(leaf).all():
            bad = int((~np.isfinite(leaf.reshape(len(leaf), -1)).all(axis=1)).sum())
            raise InvalidArgument(
                f"The sample has NaN or infinite values in {bad} of {len(leaf)} examples of input "
                f"'{name}'. Expected finite numbers; remove those examples."
            )


def _paired_inputs(x: Any, model: Any) -> Iterator[tuple[str, np.ndarray, tuple[Any, ...]]]:
    """Each input's name, what the sample has for it, and the shape that the model expects."""
    tensors = model.inputs
    if isinstance(x, dict):
        missing = [tensor.name for tensor in tensors if tensor.name not in x]
        if missing:
            raise InvalidArgument(
                f"The sample's inputs are a dict with the keys {sorted(x)}. Model '{model.name}' "
                f"expects {sorted(tensor.name for tensor in tensors)}; missing: {missing}."
            )
        leaves = [x[tensor.name] for tensor in tensors]
    else:
        leaves = keras.tree.flatten(x)
        if len(leaves) != len(tensors):
            raise InvalidArgument(
                f"Model '{model.name}' has {len(tensors)} inputs "
                f"({', '.join(tensor.name for tensor in tensors)}). Received {len(leaves)} arrays."
            )
    for tensor, leaf in zip(tensors, leaves, strict=True):
        yield tensor.name, leaf, tuple(tensor.shape)


def _check_labels(y: Any, needed: bool) -> None:
    leaves = keras.tree.flatten(y)
    if not leaves or any(leaf is None for leaf in leaves):
        if needed:
            raise InvalidArgument(
                "The sample has no labels. Expected (x, y) with the true labels in y."
            )
        return
    for leaf in leaves:
        if np.issubdtype(leaf.dtype, np.inexact) and not np.isfinite(leaf).all():
            bad = int((~np.isfinite(leaf.reshape(len(leaf), -1)).all(axis=1)).sum())
            raise InvalidArgument(
                f"The labels of {bad} of {len(leaf)} examples of the sample are NaN or infinite. "
                "Expected a label for every example; remove those examples."
            )


def _shown(shape: Any) -> str:
    """A shape with the number of examples left open."""
    return f"({', '.join(['examples', *map(str, shape[1:])])})" if len(shape) else "()"
