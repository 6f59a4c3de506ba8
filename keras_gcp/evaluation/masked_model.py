"""A model with channels masked: what a cut would leave, without cutting and without compiling."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import keras
import numpy as np

from keras_gcp import backend
from keras_gcp.channels.map import ChannelMap
from keras_gcp.classification.metrics import Metric
from keras_gcp.sample import DrawnSample
from keras_gcp.surgery.masking import masked_mixings, masked_values

Compensated = Callable[[np.ndarray], Mapping[int, np.ndarray]]
"""From the channels that a candidate keeps to what its other weights become, by `id`."""


def candidate_values(
    channels: ChannelMap, keep: np.ndarray, compensated: Mapping[int, np.ndarray]
) -> Iterator[tuple[Any, np.ndarray]]:
    """The weights with which a candidate is evaluated: one that keeps these channels only.

    The one place where weights of candidates are made. They have the wide model's shapes, with
    zeros in the rows that read what is removed.

    Args:
        channels: The model's channel map.
        keep: `(coupled_count,)` booleans, True = kept.
        compensated: What compensation makes of weights, by `id`. Rows of removed channels mean
            nothing.

    Yields:
        `(keras.Variable, value)` for every weight that is not the model's own.
    """
    masked = set()
    for variable, value in masked_values(channels, keep, compensated):
        masked.add(id(variable))
        yield variable, value
    for variable in channels.model.weights:
        if id(variable) in compensated and id(variable) not in masked:
            yield variable, compensated[id(variable)]


class MaskedModel:
    """Measures a model with any of its channels masked; the model itself does not change.

    The forward pass is compiled once, with the weights as arguments: a candidate is other values,
    no other program. Only where a layer mixes channels without weights (layer normalization), and
    some of them are masked, is it compiled for the candidate alone.

    Use as a context manager.

    Args:
        channels: The model's channel map.
        data: The examples to measure on.
        metric: What to measure.
        batch_size: Examples per batch.
        compensated: How the weights of a candidate are compensated; by default they are not.

    Attributes:
        evaluations: How often the metric has been measured.
    """

    def __init__(
        self,
        channels: ChannelMap,
        data: DrawnSample,
        metric: Metric,
        batch_size: int,
        compensated: Compensated = lambda keep: {},
    ) -> None:
        model = channels.model
        self._model, self._channels, self._data = model, channels, data
        self._metric, self._batch_size, self._compensated = metric, batch_size, compensated
        self._weights = backend.local_weights(model)
        self._places = {id(variable): place for place, variable in enumerate(model.weights)}
        self._predictor = backend.Predictor(model, batch_size)
        self.evaluations = 0

    def __enter__(self) -> MaskedModel:
        return self

    def __exit__(self, *error: object) -> None:
        self._predictor.__exit__(*error)

    def value(self, keep: np.ndarray) -> float:
        """The metric when only these channels are read, `(coupled_count,)`, True = kept."""
        self.evaluations += 1
        weights = list(self._weights)
        compensated = self._compensated(keep)
        for variable, value in candidate_values(self._channels, keep, compensated):
            place = self._places[id(variable)]
            weights[place] = keras.ops.convert_to_tensor(value, dtype=variable.dtype)
        with masked_mixings(self._channels, keep) as other_program:
            if not other_program:
                return self._measured(self._predictor, weights)
            worth = backend.worth_compiling(self._model, len(self._data), self._batch_size)
            with backend.Predictor(self._model, self._batch_size, worth) as predictor:
                return self._measured(predictor, weights)

    def _measured(self, predictor: Any, weights: list[Any]) -> float:
        return self._metric.measure(predictor.batches(weights, self._data.x_of_loss, self._data.y))
