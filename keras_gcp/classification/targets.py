"""Targets of relevance: every example, with every class that is present in it, is one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_gcp.classification.asker import Asker
from keras_gcp.classification.head import Head
from keras_gcp.errors import InvalidArgument


@dataclass(frozen=True, eq=False)
class Targets:
    """What relevance starts from, one pass each.

    Attributes:
        examples: `(targets,)`, index of the example.
        classes: `(targets,)`, the class present in it.
        places: What tells where a class is present: the class of every place, `(examples, ...)`,
            or a truth value for every place and class, `(examples, ..., classes)`; None if classes
            belong to whole examples.
        by_class: Whether `places` has an axis of classes.
    """

    examples: np.ndarray
    classes: np.ndarray
    places: np.ndarray | None = None
    by_class: bool = False

    def __len__(self) -> int:
        return len(self.examples)

    def mask(self, rows: np.ndarray) -> np.ndarray:
        """Where the classes of some targets are present, `(rows, ...)`, float32."""
        if self.places is None:
            return np.ones(len(rows), np.float32)
        examples, classes = self.examples[rows], self.classes[rows]
        if self.by_class:
            found = [self.places[e][..., c] for e, c in zip(examples, classes, strict=True)]
            return np.stack(found).astype(np.float32)
        shape = (-1,) + (1,) * (self.places.ndim - 1)
        return (self.places[examples] == classes.reshape(shape)).astype(np.float32)


def targets_of(head: Head, y: Any, asker: Asker) -> Targets:
    """The targets of labelled examples.

    Args:
        head: The kind of classifier.
        y: Labels. Multi-class: `(examples,)` or `(examples, 1)` integers, or rows `(examples,
            classes)`, one-hot or probabilities (smoothed labels), whose greatest counts. Binary: 0
            or 1, `(examples,)` or `(examples, 1)`. Multi-label: rows of 0 and 1, `(examples,
            classes)`; an example may have none, and is left out then. Per place: the same with
            the axes of the places between.
        asker: Who needs them.

    Raises:
        InvalidArgument: labels are missing, or do not fit the head.
    """
    labels = _array(head, y, asker)
    if head.kind == "multi-label":
        _check_shape(head, labels, asker, [(*head.places, head.classes)])
        present = _zeros_and_ones(head, labels, asker).astype(bool)
        examples, found = np.nonzero(present.reshape(len(labels), -1, head.classes).any(axis=1))
        places = present if head.places else None
        targets = Targets(examples, found, places, by_class=True)
        return _required(head, targets, len(labels), asker)
    classes = _class_of_each(head, labels, asker)
    if not head.places:
        return Targets(np.arange(len(classes)), classes)
    present_in = [np.unique(row[row != -1]) for row in classes]
    examples = np.repeat(np.arange(len(classes)), [len(found) for found in present_in])
    targets = Targets(examples, np.concatenate(present_in).astype(np.int64), classes)
    return _required(head, targets, len(labels), asker)


def start(head: Head, classes: Any, mask: Any, outputs: Any) -> Any:
    """Relevance at the output, of its shape: one in total for each target.

    Args:
        head: The kind of classifier.
        classes: `(targets,)` tensor.
        mask: `(targets, ...)` tensor, where the classes are present.
        outputs: What the model predicts.
    """
    if head.kind == "binary":
        ones = ops.ones((*classes.shape, 1), dtype="float32")
    else:
        ones = ops.one_hot(classes, outputs.shape[-1], dtype="float32")
    if not head.places:
        return ones
    places = tuple(outputs.shape[1:-1])
    if not _agree(places, tuple(mask.shape[1:])):
        raise InvalidArgument(
            f"Labels must have a class for each of the {places} places of the model's output. "
            f"Received {tuple(mask.shape[1:])} places. {head.found}"
        )
    axes = tuple(range(1, len(mask.shape)))
    share = mask / ops.sum(mask, axis=axes, keepdims=True)
    apart = (ones.shape[0], *(1 for _ in axes), ones.shape[-1])
    return ops.expand_dims(share, -1) * ops.reshape(ones, apart)


def _agree(places: tuple[int | None, ...], given: tuple[int, ...]) -> bool:
    """Whether labels have a class for each place; sizes may be unknown while one compiles."""
    return len(places) == len(given) and all(
        a in (None, b) for a, b in zip(places, given, strict=True)
    )


def negated(head: Head, classes: Any) -> Any:
    """`(targets,)` booleans: whether relevance is that of minus the output; None if never."""
    return ops.equal(classes, 0) if head.kind == "binary" else None


def hits(head: Head, classes: Any, mask: Any, outputs: Any) -> tuple[Any, Any]:
    """`(how often each target's class was recognised, how often it could have been)`.

    Multi-class: it has the greatest output. Binary and multi-label: the output is above 0.5, for
    logits above 0 (for class 0 of a binary head: not above). Per place: counted over the places
    where the class is present.
    """
    apart = ops.reshape(classes, (-1, *(1 for _ in range(len(mask.shape) - 1))))
    if head.kind == "multi-class":
        right = ops.equal(ops.argmax(outputs, axis=-1), ops.cast(apart, "int32"))
    elif head.kind == "binary":
        right = ops.equal(outputs[..., 0] > head.threshold, apart > 0)
    else:
        chosen = ops.sum(
            ops.where(
                ops.equal(ops.arange(outputs.shape[-1]), ops.expand_dims(apart, -1)), outputs, 0.0
            ),
            axis=-1,
        )
        right = chosen > head.threshold
    axes = tuple(range(1, len(mask.shape)))
    counted = ops.cast(right, "float32") * mask
    return (ops.sum(counted, axis=axes), ops.sum(mask, axis=axes)) if axes else (counted, mask)


# ---------------------------------------------------------------------------------- labels


def _array(head: Head, y: Any, asker: Asker) -> np.ndarray:
    leaves = keras.tree.flatten(y)
    if len(leaves) != 1 or leaves[0] is None:
        raise InvalidArgument(
            f"The sample has {'no labels' if y is None else f'{len(leaves)} arrays of labels'}. "
            f"{asker.name} needs the true class of every example: one array of labels."
        )
    labels = np.asarray(leaves[0])
    if labels.dtype.kind not in "biuf":
        raise InvalidArgument(
            f"Labels must be numbers, the index of the class. Received dtype {labels.dtype}. "
            f"{head.found}"
        )
    return labels


def _class_of_each(head: Head, labels: np.ndarray, asker: Asker) -> np.ndarray:
    """Class of each example, or of each of its places; -1 where there is none."""
    rank = 1 + len(head.places)
    if head.kind == "multi-class" and labels.shape[rank:] == (head.classes,):
        _check_shape(head, labels, asker, [(*head.places, head.classes)])
        return _from_rows(head, labels, asker)
    if labels.ndim == rank + 1 and labels.shape[-1] == 1:
        labels = labels[..., 0]
    rows = [(*head.places, head.classes)] if head.kind == "multi-class" else []
    _check_shape(head, labels, asker, [head.places, *rows], [head.places])
    if head.kind == "binary":
        return _zeros_and_ones(head, labels, asker).astype(np.int64)
    return _whole_numbers(head, labels, asker)


def _check_shape(
    head: Head,
    labels: np.ndarray,
    asker: Asker,
    expected: Sequence[tuple[int | None, ...]],
    allowed: Sequence[tuple[int | None, ...]] | None = None,
) -> None:
    given = labels.shape[1:]
    for shape in expected if allowed is None else allowed:
        sizes_fit = len(shape) == len(given) and all(
            size is None or size == own for size, own in zip(shape, given, strict=True)
        )
        if labels.ndim and sizes_fit:
            return
    shown = " or ".join(_shown(shape) for shape in expected)
    raise InvalidArgument(
        f"{asker.name} needs labels of shape {shown} for this model. Received {labels.shape}. "
        f"{head.found}"
    )


def _shown(shape: Sequence[int | None]) -> str:
    return f"({', '.join(['examples', *map(str, shape)])}{'' if shape else ','})"


def _whole_numbers(head: Head, labels: np.ndarray, asker: Asker) -> np.ndarray:
    with np.errstate(invalid="ignore"):
        indices = labels.astype(np.int64)
    ignored = np.zeros(labels.shape, bool)
    if head.places and head.ignored is not None:
        ignored = labels == head.ignored
    wrong = ((indices != labels) | (indices < 0) | (indices >= head.classes)) & ~ignored
    if wrong.any():
        raise InvalidArgument(
            f"Labels must be whole numbers from 0 to {head.classes - 1}, the classes of this "
            f"model. Received {labels[wrong][0].item()!r} and the like for {int(wrong.sum())} of "
            f"{labels.size} {_places(head)}. {head.found} {asker.name} needs a classifier. "
            f"{asker.remedy}"
        )
    return np.where(ignored, -1, indices) if head.places else indices


def _zeros_and_ones(head: Head, labels: np.ndarray, asker: Asker) -> np.ndarray:
    wrong = (labels != 0) & (labels != 1)
    if wrong.any():
        raise InvalidArgument(
            f"Labels must be 0 or 1. Received {labels[wrong][0].item()!r} and the like for "
            f"{int(wrong.sum())} of {labels.size} labels. {head.found} {asker.name} needs a "
            f"classifier. {asker.remedy}"
        )
    return labels


def _from_rows(head: Head, labels: np.ndarray, asker: Asker) -> np.ndarray:
    sums = labels.sum(axis=-1, dtype=np.float64)
    if (labels < 0).any() or not np.allclose(sums, 1, atol=1e-3):
        raise InvalidArgument(
            "Labels with one column per class must be one-hot or probabilities: no number below "
            f"0, every row summing to 1. Received rows that sum to {sums.min():.4g} to "
            f"{sums.max():.4g}. {head.found} Several classes at once need a multi-label head: a "
            f"sigmoid, or logits compiled with a binary cross-entropy. {asker.remedy}"
        )
    if head.told == "shape" and not np.isin(labels, (0, 1)).all():
        raise InvalidArgument(
            "Labels are fractions that sum to 1, and neither the last activation nor the loss says "
            f"that they are probabilities of classes. {head.found} Compile with a categorical "
            f"cross-entropy, or pass one-hot labels. {asker.remedy}"
        )
    return np.argmax(labels, axis=-1)


def _places(head: Head) -> str:
    return "places" if head.places else "examples"


def _required(head: Head, targets: Targets, examples: int, asker: Asker) -> Targets:
    if not len(targets):
        raise InvalidArgument(
            f"None of the {examples} examples has a class, and {asker.name} needs some that have. "
            f"{head.found} {asker.remedy}"
        )
    return targets
