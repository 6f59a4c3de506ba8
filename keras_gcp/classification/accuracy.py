"""The share of examples that a classifier gets right."""

from __future__ import annotations

from typing import Any

import numpy as np

from keras_gcp import backend
from keras_gcp.classification.head import Head, find_head
from keras_gcp.classification.targets import Targets, targets_of
from keras_gcp.errors import UnsupportedModel
from keras_gcp.graph import Graph
from keras_gcp.sample import DrawnSample


def classifier_head(model: Any, graph: Graph, argument: str) -> Head:
    """The kind of classifier that a model is, for an argument that needs one.

    Raises:
        UnsupportedModel: it is not a classifier.
    """
    try:
        return find_head(model, graph)
    except UnsupportedModel as error:
        shapes = ", ".join(str(tensor.shape) for tensor in graph.outputs)
        raise UnsupportedModel(
            f"{argument} needs a classifier with one output: class scores or logits of shape "
            f"(batch, classes), (batch, 1) or (batch, ..., classes). Model '{model.name}' has "
            f"outputs of shape {shapes}, and these or its loss say that it is not one. Leave "
            f"{argument} out."
        ) from error


def accuracy(model: Any, graph: Graph, sample: DrawnSample) -> float:
    """The share of right answers on some examples, in inference mode.

    Args:
        model: A classifier with one output.
        graph: Its calls.
        sample: Examples with labels.

    Raises:
        UnsupportedModel: the model is not a classifier.
        InvalidArgument: the labels do not fit it.
    """
    return right_share(find_head(model, graph), sample.y, backend.predict(model, sample.x))


def right_share(head: Head, y: Any, outputs: Any) -> float:
    """The share of outputs that are right.

    One class of several: the greatest output is the true class. Two classes, or several at once:
    outputs are on the right side of the threshold. Per place: counted over all places that have
    a class.

    Args:
        head: The kind of classifier.
        y: Labels of all examples.
        outputs: What the model predicts for them.

    Raises:
        InvalidArgument: the labels do not fit the classifier.
    """
    targets = targets_of(head, y)
    outputs = np.asarray(outputs, np.float32)
    if head.kind == "multi-label":
        labels = np.asarray(y).reshape(outputs.shape) > 0.5
        return float(((outputs > head.threshold) == labels).mean())
    classes = _class_of_each(head, targets)
    if head.kind == "binary":
        answers = (outputs[..., 0] > head.threshold).astype(classes.dtype)
    else:
        answers = outputs.argmax(axis=-1)
    return float((answers == classes)[classes != _NO_CLASS].mean())


_NO_CLASS = -1
"""What `Targets.places` has where a place has no class."""


def _class_of_each(head: Head, targets: Targets) -> np.ndarray:
    if not head.places:
        return targets.classes
    assert targets.places is not None
    return targets.places
