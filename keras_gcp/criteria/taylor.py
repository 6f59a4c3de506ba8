"""How much the loss would change, to first order, if a channel's filter were zero."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import keras
import numpy as np

from keras_gcp import backend
from keras_gcp.channels.map import ChannelMap, Weight
from keras_gcp.classification.labels import check_targets
from keras_gcp.criteria.base import prunable_layers
from keras_gcp.criteria.weights import by_channel, kernels, operations_by_path, own_weights
from keras_gcp.errors import InvalidArgument, UnsupportedModel
from keras_gcp.sample import DrawnSample


@dataclass(frozen=True)
class Taylor:
    """`(sum of weight * gradient over the channel's filter and bias) ** 2`.

    Molchanov et al., "Importance Estimation for Neural Network Pruning", CVPR 2019, equation 8,
    first order. The gradient is that of the compiled loss, averaged over the whole sample, in
    inference mode and without penalties on weights.

    Args:
        batch_size: Examples per pass; bounds the memory.
    """

    batch_size: int = 64

    name: ClassVar[str] = "taylor"
    needs_sample: ClassVar[bool] = True
    normalize: ClassVar[str] = "mean"

    def check(self, model: Any, channels: ChannelMap, sample: DrawnSample | None) -> None:
        """Raises if the model has no loss, or the sample no labels that fit it."""
        if not backend.has_loss(model):
            raise UnsupportedModel(
                f"Criterion 'taylor' needs the gradient of a loss, and model '{model.name}' is not "
                "compiled with one. Call `model.compile(optimizer, loss=...)` first, or take "
                "another criterion: 'l2_norm', 'l1_norm' or 'bn_scale'."
            )
        labels = [] if sample is None else keras.tree.flatten(sample.y)
        if all(y is None for y in labels):
            raise InvalidArgument(
                "Criterion 'taylor' needs labels for the loss. Expected sample=(x, y)."
            )
        check_targets(model, sample)

    def __call__(
        self, model: Any, channels: ChannelMap, sample: DrawnSample | None
    ) -> dict[str, np.ndarray]:
        assert sample is not None
        operations = operations_by_path(channels)
        layers = {
            path: _filters(channels, path, operations[path]) for path in prunable_layers(channels)
        }
        variables = {id(w.variable): w.variable for found in layers.values() for w, _ in found}
        _, gradients = backend.loss_gradients(
            model, sample.x_of_loss, sample.y, list(variables.values()), self.batch_size
        )
        products = {
            key: keras.ops.convert_to_numpy(variable).astype(np.float64) * gradient
            for (key, variable), gradient in zip(variables.items(), gradients, strict=True)
        }
        scores: dict[str, np.ndarray] = {}
        for path, found in layers.items():
            produced = channels.produced[path]
            parts = [
                by_channel(products[id(weight.variable)], weight.axes[axis], axis, produced)
                for weight, axis in found
            ]
            scores[path] = np.square(np.concatenate(parts, axis=1).sum(axis=1))
        return scores


def _filters(channels: ChannelMap, path: str, operation: Any) -> list[tuple[Weight, int]]:
    """All that computes a channel: kernel and bias, each with the axis of the channels."""
    found = kernels(channels, path, operation)
    known = {id(weight.variable) for weight, _ in found}
    produced = channels.produced[path]
    biases = [
        (weight, axis)
        for weight in own_weights(channels, operation)
        for axis, coupled in weight.axes.items()
        if id(weight.variable) not in known and _is_bias(weight, coupled, produced)
    ]
    return [*found, *biases]


def _is_bias(weight: Weight, coupled: np.ndarray, produced: np.ndarray) -> bool:
    """Whether a weight is added to each channel, or (of a recurrent layer) to each gate of it."""
    if len(weight.variable.shape) == 1 and np.array_equal(coupled, produced):
        return True
    return weight.variable.name == "bias" and bool(np.isin(produced, coupled).all())
