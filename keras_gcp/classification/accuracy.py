"""The share of examples that a classifier gets right."""

from __future__ import annotations

from typing import Any

import numpy as np

from keras_gcp.classification.asker import Asker
from keras_gcp.classification.head import Head
from keras_gcp.classification.targets import Targets, targets_of


def right_share(head: Head, y: Any, outputs: Any, asker: Asker) -> float:
    """The share of outputs that are right.

    One class of several: the greatest output is the true class. Two classes, or several at once:
    outputs are on the right side of the threshold. Per place: counted over all places that have
    a class.

    Args:
        head: The kind of classifier.
        y: Labels of all examples.
        outputs: What the model predicts for them.
        asker: Who needs it.

    Raises:
        InvalidArgument: the labels do not fit the classifier.
    """
    right, counted = right_answers(head, y, outputs, asker)
    return float(right[counted].mean())


def right_answers(head: Head, y: Any, outputs: Any, asker: Asker) -> tuple[np.ndarray, np.ndarray]:
    """Which outputs are right, and which of them count; as `right_share`.

    Returns:
        Two arrays of booleans, `(examples, ...)`: an entry for each example, for each place, or for
        each output of a multi-label classifier. Places without a class do not count.
    """
    targets = targets_of(head, y, asker)
    outputs = np.asarray(outputs, np.float32)
    if head.kind == "multi-label":
        labels = np.asarray(y).reshape(outputs.shape) > 0.5
        return (outputs > head.threshold) == labels, np.ones(outputs.shape, bool)
    classes = _class_of_each(head, targets)
    if head.kind == "binary":
        answers = (outputs[..., 0] > head.threshold).astype(classes.dtype)
    else:
        answers = outputs.argmax(axis=-1)
    return answers == classes, classes != _NO_CLASS


_NO_CLASS = -1
"""What `Targets.places` has where a place has no class."""


def _class_of_each(head: Head, targets: Targets) -> np.ndarray:
    if not head.places:
        return targets.classes
    assert targets.places is not None
    return targets.places
