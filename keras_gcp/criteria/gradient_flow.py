"""What becomes of the gradients of a network at initialization without a channel."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import Any, ClassVar

import keras
import numpy as np
from keras import ops

from keras_gcp.channels.map import ChannelMap
from keras_gcp.classification.asker import Asker
from keras_gcp.classification.targets import targets_of
from keras_gcp.criteria.base import prunable_layers
from keras_gcp.criteria.hessian_gradient import find_classes, hessian_gradient, kernels_of
from keras_gcp.criteria.weights import by_channel, kernels, operations_by_path
from keras_gcp.errors import InvalidArgument
from keras_gcp.sample import DrawnSample
from keras_gcp.sample.digest import digest_of
from keras_gcp.validation import between, require_flag, require_integer

TEMPERATURE = 200.0
"""Makes all classes nearly alike, so that labels hardly matter."""

_ASKER = Asker(
    "Criterion 'gradient_flow'",
    "Take a criterion that goes with any model: 'l2_norm', 'compensation_aware' or 'taylor'.",
)


@dataclass(frozen=True)
class GradientFlow:
    """Channels without which gradients would flow less.

    For a network that is not trained yet. With g the gradient of the loss by all kernels, H its
    Hessian and theta the kernels, removing the weight q changes |g|^2 by about 2 S_q, where `S =
    -theta * H g`: GraSP prunes the weights with the greatest S. A channel's S_c is the sum over the
    kernels that make it, of tied channels over all of them; that is minus the derivative of
    |g|^2 / 2 by a gate on these kernels. The score is -S_c.

    With `signed=False` it is |S_c|: channels stay that change the flow of gradients most, whichever
    way, as in the structured form of Early-CroP. That is worth a try where batch normalization
    follows every convolution: the loss does not depend on the scale of such a filter, so that S_c
    is the square of the filter's gradient, never negative, and the signed form keeps the filters
    with the smallest gradients.

    Logits are divided by `temperature`; batch normalization goes by the batch.

    Wang et al., "Picking Winning Tickets Before Training by Preserving Gradient Flow", ICLR 2020
    (arXiv 2002.07376), equation 8; the form for channels is ours (docs/methods/grasp.md).

    Args:
        signed: Whether it matters which way the flow changes.
        temperature: What logits are divided by.
        per_class: At most so many examples of each class are used.
        batch_size: Most examples per pass; bounds the memory.

    Example:

    ```python
    model = keras_gcp.models.resnet20()  # not trained
    small = keras_gcp.prune(model, {"macs": 0.5}, "gradient_flow", (x, y), compensation=None)
    ```
    """

    signed: bool = True
    temperature: float = TEMPERATURE
    per_class: int = 10
    batch_size: int = 256

    name: ClassVar[str] = "gradient_flow"
    needs_sample: ClassVar[bool] = True
    normalize: ClassVar[str] = "none"
    ranking: ClassVar[str] = "score"

    def __post_init__(self) -> None:
        require_flag("signed", self.signed)
        require_temperature(self.temperature)
        require_integer("per_class", self.per_class, least=1)
        require_integer("batch_size", self.batch_size, least=2)

    def check(self, model: Any, channels: ChannelMap, sample: DrawnSample | None) -> None:
        """Raises if the model is no classifier of one class of several, or labels do not fit."""
        head = find_classes(model, channels, _ASKER)
        assert sample is not None  # `criteria.check` asks for it.
        targets_of(head, sample.y, _ASKER)

    def __call__(
        self, model: Any, channels: ChannelMap, sample: DrawnSample | None
    ) -> dict[str, np.ndarray]:
        assert sample is not None
        head = find_classes(model, channels, _ASKER)
        classes = targets_of(head, sample.y, _ASKER).classes
        rows = _balanced(sample, classes, self.per_class)
        products = weight_scores(
            channels, sample.rows(rows).x, classes[rows], self.temperature, self.batch_size
        )
        operations = operations_by_path(channels)
        total = np.zeros(channels.coupled_count)
        for path in prunable_layers(channels):
            for weight, axis in kernels(channels, path, operations[path]):
                values = products[id(weight.variable)]
                own = by_channel(values, weight.axes[axis], axis, channels.produced[path])
                np.add.at(total, channels.produced[path], own.sum(axis=1))
        scores = -total if self.signed else np.abs(total)
        return {path: scores[channels.produced[path]] for path in prunable_layers(channels)}


def weight_scores(
    channels: ChannelMap, x: Any, classes: np.ndarray, temperature: float, batch_size: int
) -> dict[int, np.ndarray]:
    """`S = -theta * H g` of every weight of the kernels, by `id` of the variable.

    Args:
        channels: The model's channel map.
        x: Inputs of the model.
        classes: `(examples,)`.
        temperature: What logits are divided by.
        batch_size: Most examples per pass.
    """
    head = find_classes(channels.model, channels, _ASKER)
    variables = kernels_of(channels)
    found = hessian_gradient(channels, head, variables, x, classes, temperature, batch_size)
    return {
        id(one): -ops.convert_to_numpy(one).astype(np.float64) * found.products[id(one)]
        for one in variables
    }


def require_temperature(temperature: Any) -> float:
    """What logits are divided by.

    Raises:
        InvalidArgument: it is no positive number.
    """
    found = between(temperature, 0.0, sys.float_info.max)
    if not found:
        raise InvalidArgument(
            f"`temperature` expects a positive number, such as 200. Received: {temperature!r}."
        )
    return found


def _balanced(sample: DrawnSample, classes: np.ndarray, most: int) -> np.ndarray:
    """Rows of the same number of examples of each class, as far as there are; in turn by class.

    Which ones, and their order, goes by what they are, not by where they stand in the sample.
    """
    leaves = keras.tree.flatten(sample.x)
    digests = np.array([digest_of(leaf[row] for leaf in leaves) for row in range(len(sample))])
    order = np.lexsort([digests, classes])
    turns = np.concatenate([np.arange(n) for n in np.unique(classes, return_counts=True)[1]])
    chosen = turns < most
    rows: np.ndarray = order[chosen][np.lexsort([classes[order][chosen], turns[chosen]])]
    return rows
