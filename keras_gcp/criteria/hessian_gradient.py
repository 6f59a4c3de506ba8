"""How gradients change along themselves: the Hessian of the loss times its gradient."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_gcp import backend, keras_state
from keras_gcp.backend.calls import all_values
from keras_gcp.channels.map import ChannelMap
from keras_gcp.classification.asker import Asker
from keras_gcp.classification.head import Head, find_head
from keras_gcp.criteria.base import prunable_layers
from keras_gcp.criteria.weights import kernels, operations_by_path
from keras_gcp.errors import KerasGCPError

_LEAST_PROBABILITY = 1e-30
_NAMES = ("kernel", "embeddings")


@dataclass(frozen=True, eq=False)
class KernelGradients:
    """Of the kernels of a model, by `id` of the variable, as float64.

    Attributes:
        gradients: g, the gradient of the loss.
        products: H g, the Hessian of the loss times that.
    """

    gradients: Mapping[int, np.ndarray]
    products: Mapping[int, np.ndarray]


def kernels_of(channels: ChannelMap) -> list[Any]:
    """The kernels of a model: convolutions, dense layers, embeddings, recurrent layers.

    And whatever else it is that makes channels which may be pruned.
    """
    found = {
        id(variable): variable
        for call in channels.graph.calls
        for variable in call.weights
        if variable.name.endswith(_NAMES) and "float" in variable.dtype
    }
    operations = operations_by_path(channels)
    for path in prunable_layers(channels):
        for weight, _ in kernels(channels, path, operations[path]):
            found[id(weight.variable)] = weight.variable
    return list(found.values())


def find_classes(model: Any, channels: ChannelMap, asker: Asker) -> Head:
    """The head of a classifier with one class of several for each example.

    Raises:
        KerasGCPError: the asker's own error: the model is none.
    """
    head = find_head(model, channels.graph, asker)
    if head.kind != "multi-class" or head.places or head.activation not in ("softmax", "linear"):
        error: KerasGCPError = asker.error(
            f"{asker.name} needs one class of several for each example, by softmax or logits. "
            f"{head.found} {asker.remedy}"
        )
        raise error
    return head


def hessian_gradient(
    channels: ChannelMap,
    head: Head,
    variables: Sequence[Any],
    x: Any,
    classes: np.ndarray,
    temperature: float,
    batch_size: int,
) -> KernelGradients:
    """The gradient of the cross-entropy, and the Hessian times it.

    Batch normalization goes by the batch, as in training; all else, such as dropout, computes what
    it does at inference. No variable changes.

    Args:
        channels: The model's channel map.
        head: What its outputs mean.
        variables: The kernels to differentiate by.
        x: Inputs of the model, `(examples, ...)`.
        classes: `(examples,)`.
        temperature: What logits are divided by.
        batch_size: Most examples per pass; each pass takes every n-th one.
    """
    model = channels.model
    places = {id(variable): at for at, variable in enumerate(model.weights)}
    at = [places[id(variable)] for variable in variables]
    loss_at = _loss(channels, head, at, temperature)

    def gradient(weights: Sequence[Any], x: Any, classes: Any) -> list[Any]:
        loss, pullback = backend.vjp(
            lambda *point: loss_at(weights, point, x, classes), *(weights[one] for one in at)
        )
        return pullback(ops.ones_like(loss))

    def product(weights: Sequence[Any], direction: list[Any], x: Any, classes: Any) -> list[Any]:
        return backend.hessian_product(
            lambda *point: loss_at(weights, point, x, classes),
            [weights[one] for one in at],
            direction,
        )

    weights = backend.local_weights(model)
    batches = _batches(x, classes, batch_size)
    gradients = _total(gradient, model, [(weights, *one) for one in batches])
    direction = [
        ops.convert_to_tensor(total, dtype=keras.backend.standardize_dtype(weights[one].dtype))
        for total, one in zip(gradients, at, strict=True)
    ]
    products = _total(product, model, [(weights, direction, *one) for one in batches])
    keys = [id(variable) for variable in variables]
    return KernelGradients(
        dict(zip(keys, gradients, strict=True)), dict(zip(keys, products, strict=True))
    )


def _loss(
    channels: ChannelMap, head: Head, at: Sequence[int], temperature: float
) -> Callable[[Sequence[Any], Sequence[Any], Any, Any], Any]:
    """Cross-entropy of a batch, mean over it, as a function of some of the weights."""
    model, output = channels.model, channels.graph.outputs[0]

    def loss(weights: Sequence[Any], point: Sequence[Any], x: Any, classes: Any) -> Any:
        replaced = list(weights)
        for place, value in zip(at, point, strict=True):
            replaced[place] = value
        with backend.with_weights(model, replaced):
            inputs = keras_state.ordered_inputs(model, x)
            found = all_values(channels.graph, inputs, _by_the_batch)[output.index]
        if keras.backend.standardize_dtype(found.dtype) != "float64":
            found = ops.cast(found, "float32")
        if head.activation == "softmax":  # Up to a number that is the same for all classes.
            found = ops.log(ops.maximum(found, _LEAST_PROBABILITY))
        logarithms = ops.log_softmax(found / temperature, axis=-1)
        one_hot = ops.one_hot(classes, head.classes, dtype=logarithms.dtype)
        return -ops.sum(one_hot * logarithms) / classes.shape[0]

    return loss


def _by_the_batch(layer: Any) -> Callable[[Any], Any] | None:
    """Batch normalization as in training, written out; None for other layers.

    TensorFlow's own (2.21) leaves out a part of its second derivative: its variance takes the mean
    for a constant.
    """
    if not isinstance(layer, keras.layers.BatchNormalization):
        return None

    def normalized(x: Any) -> Any:
        axis = layer.axis % len(x.shape)
        others = tuple(one for one in range(len(x.shape)) if one != axis)
        along = [1] * len(x.shape)
        along[axis] = x.shape[axis]
        centred = x - ops.mean(x, axis=others, keepdims=True)
        variance = ops.mean(ops.square(centred), axis=others, keepdims=True)
        y = centred / ops.sqrt(variance + layer.epsilon)
        if layer.scale:
            y = y * ops.reshape(ops.cast(layer.gamma, x.dtype), along)
        return y + ops.reshape(ops.cast(layer.beta, x.dtype), along) if layer.center else y

    return normalized


def _batches(x: Any, classes: np.ndarray, size: int) -> list[tuple[Any, Any]]:
    """Batches of tensors; each takes every n-th example, so all classes are in each."""
    count = -(-len(classes) // size)
    found = []
    for first in range(count):
        rows = np.arange(first, len(classes), count)
        part = keras.tree.map_structure(lambda leaf, at=rows: ops.convert_to_tensor(leaf[at]), x)
        found.append((part, ops.convert_to_tensor(classes[rows], dtype="int32")))
    return found


def _total(
    function: Callable[..., list[Any]], model: Any, calls: Sequence[tuple[Any, ...]]
) -> list[np.ndarray]:
    """The results of a function, weighted by the examples of each call (its last argument)."""
    eager = backend.runs_eagerly(model)
    run = function if eager else backend.compiled(function, model)
    sizes = np.array([one[-1].shape[0] for one in calls])
    total: list[Any] | None = None
    for share, arguments in zip(sizes / sizes.sum(), calls, strict=True):
        found = [share * ops.convert_to_numpy(one).astype(np.float64) for one in run(*arguments)]
        total = found if total is None else [a + b for a, b in zip(total, found, strict=True)]
    if not eager:
        backend.forget_gradients(run)
    assert total is not None
    return total
