"""A model of which one group of channels after the other is dropped by chance, and measured."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import keras
import numpy as np

from keras_gcp import backend, gates
from keras_gcp.channels.map import ChannelMap, Group
from keras_gcp.classification.metrics import Metric
from keras_gcp.errors import UnsupportedModel
from keras_gcp.gates.channel_dropout import ChannelDropout
from keras_gcp.gates.reads import Reads, reads_of
from keras_gcp.sample import DrawnSample

_SEEDS = 2**30
"""Some backends add the two numbers of a seed, as 32-bit integers."""


class DroppedChannels:
    """Measures a model while channels of one group are dropped; the model itself does not change.

    The forward pass of a gated copy is compiled once: which group, how often and which channels are
    values of weights. Every batch has channels of its own dropped.

    Use as a context manager.

    Args:
        channels: The model's channel map.
        groups: The groups that are to be measured.
        data: The examples to measure on.
        metric: What to measure.
        batch_size: Examples per batch.
        seed: Seed of what is dropped.
        passes: How many measurements there will be.
        exclude: What the channel map was traced with.

    Raises:
        UnsupportedModel: a gate cannot be put on a group.
    """

    def __init__(
        self,
        channels: ChannelMap,
        groups: Sequence[Group],
        data: DrawnSample,
        metric: Metric,
        batch_size: int,
        seed: int | None,
        passes: int,
        exclude: Sequence[str] = (),
    ) -> None:
        model = channels.model
        gated, found = _gated(channels, groups, exclude)
        self._data, self._metric = data, metric
        self._random = np.random.default_rng(seed)
        self._weights = backend.local_weights(gated)
        self._gated = gated
        places = {id(variable): place for place, variable in enumerate(gated.weights)}
        self._places = {
            name: [[places[id(one)] for one in gate.measuring_state] for gate in own]
            for name, own in found.items()
        }
        worth = backend.worth_compiling(model, len(data) * passes, batch_size)
        self._predictor = backend.Predictor(gated, batch_size, worth)

    def __enter__(self) -> DroppedChannels:
        return self

    def __exit__(self, *error: object) -> None:
        self._predictor.__exit__(*error)

    def value(self, group: Group | None = None, rate: float = 0.0) -> float:
        """The metric while each channel of a group is dropped with a probability.

        Args:
            group: The group; None: nothing is dropped.
            rate: The probability.
        """
        return self._metric.measure(self._batches(group, rate))

    def _batches(self, group: Group | None, rate: float) -> Iterator[tuple[Any, Any, Any]]:
        weights = list(self._weights)
        if group is None:
            yield from self._predictor.batches(weights, self._data.x_of_loss, self._data.y)
            return
        self._draw(weights, group, rate)
        for batch in self._predictor.batches(weights, self._data.x_of_loss, self._data.y):
            yield batch
            self._draw(weights, group, rate)  # The next batch is run with what the list holds then.

    def _draw(self, weights: list[Any], group: Group, rate: float) -> None:
        for places in self._places[group.name]:
            values = (rate, 1.0, self._random.integers(_SEEDS, size=2))
            for place, value in zip(places, values, strict=True):
                dtype = self._gated.weights[place].dtype
                weights[place] = keras.ops.convert_to_tensor(value, dtype=dtype)


def require_droppable(channels: ChannelMap, groups: Sequence[Group]) -> Reads:
    """Refuses groups that no gate can be put on; returns where all others are read.

    Raises:
        UnsupportedModel: there is such a group.
    """
    reads = reads_of(channels)
    missing = [group for group in groups if group.name in reads.refused]
    if missing:
        first = missing[0]
        raise UnsupportedModel(
            f"The channels of layer '{first.name}' cannot be dropped to measure what they are worth"
            f": {reads.refused[first.name]}. Pass `exclude=['{first.members[0].path}']`, or leave "
            "it out of `widths`; the layer, and all that is tied to it, is then left as it is."
        )
    return reads


def _gated(
    channels: ChannelMap, groups: Sequence[Group], exclude: Sequence[str]
) -> tuple[Any, dict[str, list[ChannelDropout]]]:
    """A copy of a model with gates, and those of each group by its name."""
    reads = require_droppable(channels, groups)
    made: list[ChannelDropout] = []

    def gate(count: int, name: str) -> ChannelDropout:
        made.append(ChannelDropout(count, rate=0.0, name=name))
        return made[-1]

    with warnings.catch_warnings():  # Of groups without a gate, which are not asked for here.
        warnings.simplefilter("ignore", UserWarning)
        gated = gates.insert(channels.model, gate, exclude=exclude)
    by_part = dict(zip(reads.parts, made, strict=True))
    return gated, {group.name: _of_group(group, by_part) for group in groups}


def _of_group(group: Group, by_part: Mapping[str, ChannelDropout]) -> list[ChannelDropout]:
    """The gate of a group, or those of its stretches, if channels of others stand between them."""
    if group.name in by_part:
        return [by_part[group.name]]
    found: list[ChannelDropout] = []
    while sum(int(one.channels or 0) for one in found) < len(group.coupled):
        found.append(by_part[f"{group.name}_{len(found) + 1}"])
    return found
