"""What kind of classifier a model is: what its outputs say about which classes.

The output's shape and its last activation tell the kind; where they leave it open (no activation:
logits, or a regression?), the compiled loss does.

| output | last activation | loss | kind |
|---|---|---|---|
| `(batch, 2 or more)` | sigmoid | not a categorical cross-entropy | `"multi-label"` |
| `(batch, 2 or more)` | none | a binary cross-entropy | `"multi-label"` |
| `(batch, 2 or more)` | none | not a regression | `"multi-class"` |
| `(batch, 2 or more)` | anything else | | `"multi-class"` |
| `(batch, 1)` | sigmoid, or none | not a regression, if none | `"binary"` |
| `(batch, ..., classes)` | softmax | | `"multi-class"`, for every place |
| `(batch, ..., classes)` | sigmoid, or none | not a regression | as above, for every place |

Anything else is not a classifier: three colours of an image are not three classes. A loss that is
unknown, or none at all, leaves the decision to the labels: those that are not classes are refused.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import keras
from keras import losses

from keras_gcp.classification.asker import Asker
from keras_gcp.classification.labels import REGRESSION_LOSSES, loss_function
from keras_gcp.classification.operations import is_function, moves_values
from keras_gcp.errors import KerasGCPError
from keras_gcp.graph import Call, Graph

_SIGMOIDS = frozenset(keras.activations.get(name) for name in ("hard_sigmoid", "sigmoid"))
_SOFTMAXES = frozenset(
    keras.activations.get(name) for name in ("log_softmax", "softmax", "sparsemax")
)
_BY_NAME = {
    "HardSigmoid": "sigmoid",
    "Sigmoid": "sigmoid",
    "LogSoftmax": "softmax",
    "Softmax": "softmax",
    "Sparsemax": "softmax",
}
_AFFINE = frozenset({"BatchNormalization", "Cast", "Dropout", "Identity", "Rescaling"})

BINARY_LOSSES = frozenset({losses.binary_crossentropy, losses.binary_focal_crossentropy})
CATEGORICAL_LOSSES = frozenset(
    {
        losses.categorical_crossentropy,
        losses.categorical_focal_crossentropy,
        losses.sparse_categorical_crossentropy,
    }
)


@dataclass(frozen=True)
class Head:
    """The kind of a classifier.

    Attributes:
        kind: `"multi-class"` (one of several classes), `"binary"` (one number: class 1 or class
            0) or `"multi-label"` (any number of classes at once).
        shape: Shape of the output, batch axis first, classes last.
        activation: `"softmax"`, `"sigmoid"` or `"linear"`; another one's name for some multi-class
            heads.
        why: What the kind was told by, for messages.
        told: `"activation"` or `"loss"`; `"shape"` if neither says that these are classes, so that
            only labels can.
        ignored: Label of places without a class (the loss's `ignore_class`).
    """

    kind: str
    shape: tuple[int | None, ...]
    activation: str
    why: str
    told: str = "activation"
    ignored: int | None = None

    @property
    def classes(self) -> int:
        """Number of classes; a single output tells two apart."""
        size = self.shape[-1]
        assert size is not None
        return 2 if self.kind == "binary" else size

    @property
    def places(self) -> tuple[int | None, ...]:
        """Sizes of the axes between batch and classes: pixels, time steps; often there are none."""
        return self.shape[1:-1]

    @property
    def threshold(self) -> float:
        """Output above which a class counts as predicted, if it has an output of its own."""
        return 0.0 if self.activation == "linear" else 0.5

    @property
    def found(self) -> str:
        """A sentence for messages: what was found, and why."""
        kind = f"per-place {self.kind}" if self.places else self.kind
        if self.told == "shape":
            return f"This model may have a {kind} head: {self.why}, and no loss tells more."
        return f"This model has a {kind} head: {self.why}."


def find_head(model: Any, graph: Graph, asker: Asker) -> Head:
    """The kind of classifier that a model is.

    Args:
        model: The model; its compiled loss is looked at where the output leaves the kind open.
        graph: Its calls.
        asker: Who needs to know.

    Raises:
        UnsupportedModel: it is not a classifier, or has several outputs; or the asker's own error.
    """
    if len(graph.outputs) != 1:
        raise asker.error(
            f"This model has {len(graph.outputs)} outputs. {asker.name} needs a classifier with "
            f"one output. {asker.remedy}"
        )

    def no_classifier(reason: str, loss: str | None = None) -> KerasGCPError:
        compiled = "" if loss is None else f", compiled with the loss {loss}"
        return asker.error(
            f"The output has shape {shape} and {activation} activation{compiled}: {reason}. "
            f"{asker.name} needs a classifier: class scores or logits of shape (batch, classes), "
            "(batch, 1) for two classes, or (batch, ..., classes) for a class at every place. "
            f"{asker.remedy}"
        )

    shape = graph.outputs[0].shape
    last = _last_activated(graph)
    activation = "linear" if last is None else _activation_of(last)
    loss, settings = _loss_of(model)
    if len(shape) < 2 or shape[-1] is None:
        raise no_classifier("its last axis does not hold a number of classes")
    loss_name = getattr(loss, "__name__", None)
    why = f"its output has shape {shape}, its last activation is {activation}"
    kind, told = _kind(shape, activation, loss)
    if kind is None:
        raise no_classifier(told, loss_name)
    if len(shape) > 2 and last is not None and not _classes_are_last(last):
        raise no_classifier("its classes do not lie along the last axis")
    if told == "loss":
        why += f", and it is compiled with the loss {loss_name}"
    return Head(kind, shape, activation, why, told, settings.get("ignore_class"))


def last_function(graph: Graph, output: int = 0) -> str:
    """Name of the activation that an output of a model comes from; "linear" if there is none."""
    call = _last_activated(graph, output)
    if call is None:
        return "linear"
    operation: Any = getattr(call.operation, "layer", call.operation)  # TimeDistributed
    function = getattr(operation, "activation", None)
    if function is not None and function is not keras.activations.linear:
        return str(getattr(function, "__name__", type(function).__name__))
    kind = _activation_of(call)
    return "log_softmax" if type(operation).__name__ == "LogSoftmax" else kind


def _kind(shape: tuple[int | None, ...], activation: str, loss: Any) -> tuple[str | None, str]:
    """`(kind, what told it)`; without a kind, the reason."""
    several, flat = shape[-1] != 1, len(shape) == 2
    if activation == "sigmoid":
        if several and loss in CATEGORICAL_LOSSES:
            return "multi-class", "loss"
        if not flat and loss in REGRESSION_LOSSES:
            return None, "with such a loss its channels are quantities, such as colours"
        return ("multi-label" if several else "binary"), "activation"
    if activation == "linear":
        return _kind_of_linear(several, loss)
    if several and (flat or activation == "softmax"):
        return "multi-class", "activation"
    return None, "that is neither a softmax over 2 classes or more, nor a sigmoid, nor logits"


def _kind_of_linear(several: bool, loss: Any) -> tuple[str | None, str]:
    if loss in BINARY_LOSSES:
        return ("multi-label" if several else "binary"), "loss"
    if several and loss in CATEGORICAL_LOSSES:
        return "multi-class", "loss"
    if loss in REGRESSION_LOSSES | CATEGORICAL_LOSSES:
        return None, "a linear output with such a loss is a regression"
    return ("multi-class" if several else "binary"), "shape"


def _last_activated(graph: Graph, output: int = 0) -> Call | None:
    """The last call that computes something: after it values are only moved or averaged."""
    origin = {y.index: call for call in graph.calls for y in call.outputs}
    index, call = graph.outputs[output].index, None
    while index in origin:
        call = origin[index]
        if not moves_values(call) or len(call.inputs) != 1 or _activation_of(call) != "linear":
            return call
        index = call.inputs[0].index
    return call


def _activation_of(call: Call) -> str:
    operation: Any = getattr(call.operation, "layer", call.operation)  # TimeDistributed
    name = type(operation).__name__
    function = getattr(operation, "activation", None)
    if function is not None and function is not keras.activations.linear:
        if function in _SIGMOIDS:
            return "sigmoid"
        if function in _SOFTMAXES:
            return "softmax"
        return str(getattr(function, "__name__", type(function).__name__))
    if name in _BY_NAME:
        return _BY_NAME[name]
    return "linear" if function is not None or name in _AFFINE or not is_function(call) else name


def _classes_are_last(call: Call) -> bool:
    operation: Any = getattr(call.operation, "layer", call.operation)
    rank = len(call.outputs[0].shape)
    axis = getattr(operation, "axis", -1) if type(operation).__name__ in _BY_NAME else -1
    return (
        getattr(operation, "data_format", None) != "channels_first"
        and isinstance(axis, int)
        and axis % rank == rank - 1
    )


def _loss_of(model: Any) -> tuple[Any, dict[str, Any]]:
    """The compiled loss as a function, with its settings; None if there is none, or several."""
    found = keras.tree.flatten(model.loss) if getattr(model, "compiled", False) else []
    if len(found) != 1 or found[0] is None:
        return None, {}
    return loss_function(found[0])
