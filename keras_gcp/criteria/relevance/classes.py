"""What feature relevance asks of a model and its labels: a classifier, and true classes."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np

from keras_gcp.errors import InvalidArgument, UnsupportedModel
from keras_gcp.graph import Graph

_OTHER_CRITERIA = "Take another criterion, e.g. criterion='taylor' or 'l2_norm'."


def class_count(graph: Graph) -> int:
    """Number of classes of a classifier.

    Raises:
        UnsupportedModel: the model has several outputs, or one that is not `(batch, classes)`.
    """
    if len(graph.outputs) != 1:
        raise UnsupportedModel(
            "feature_relevance needs a classifier with one output of shape (batch, classes). This "
            f"model has {len(graph.outputs)} outputs. {_OTHER_CRITERIA}"
        )
    shape = graph.outputs[0].shape
    if len(shape) != 2 or shape[1] is None or shape[1] < 2:
        raise UnsupportedModel(
            "feature_relevance needs a classifier, whose output has the shape (batch, classes) "
            f"with 2 classes or more. This model's output has shape {shape}. {_OTHER_CRITERIA}"
        )
    return int(shape[1])


def class_indices(y: Any, classes: int) -> np.ndarray:
    """The true class of each example.

    Args:
        y: Sparse labels `(examples,)` or `(examples, 1)`, or one row `(classes,)` per example: one
            at the true class, or probabilities (smoothed labels), whose greatest counts.
        classes: Number of classes.

    Returns:
        `(examples,)` integers.

    Raises:
        InvalidArgument: labels are of another shape, no classes of this model, or missing.
    """
    leaves = keras.tree.flatten(y)
    if len(leaves) != 1 or leaves[0] is None:
        raise InvalidArgument(
            "feature_relevance needs the true class of every example: one array of labels. "
            f"Received {'no labels' if y is None else f'{len(leaves)} arrays'}."
        )
    labels = np.asarray(leaves[0])
    if labels.dtype.kind not in "biuf":
        raise InvalidArgument(
            f"Labels must be numbers, the index of the class. Received dtype {labels.dtype}."
        )
    if labels.ndim == 2 and labels.shape[1] == classes and classes > 1:
        return _from_rows(labels)
    if labels.ndim == 2 and labels.shape[1] == 1:
        labels = labels[:, 0]
    if labels.ndim != 1:
        raise InvalidArgument(
            f"Labels must have shape (examples,) or (examples, {classes}) for this model. "
            f"Received {labels.shape}."
        )
    indices = labels.astype(np.int64)
    wrong = (indices != labels) | (indices < 0) | (indices >= classes)
    if wrong.any():
        raise InvalidArgument(
            f"Labels must be whole numbers from 0 to {classes - 1}, the classes of this model. "
            f"Received {labels[wrong][0]!r} and the like for {int(wrong.sum())} of {len(labels)} "
            "examples. feature_relevance needs a classifier; for other tasks take another "
            "criterion, e.g. criterion='taylor' or 'l2_norm'."
        )
    return indices


def _from_rows(labels: np.ndarray) -> np.ndarray:
    sums = labels.sum(axis=1, dtype=np.float64)
    if (labels < 0).any() or not np.allclose(sums, 1, atol=1e-3):
        raise InvalidArgument(
            "Labels with one column per class must be one-hot or probabilities: no number below "
            f"0, every row summing to 1. Received rows that sum to {sums.min():.4g} to "
            f"{sums.max():.4g}. feature_relevance needs a classifier; for other tasks take "
            "another criterion, e.g. criterion='taylor' or 'l2_norm'."
        )
    return np.argmax(labels, axis=1)
