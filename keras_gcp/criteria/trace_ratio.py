"""How well sets of channels separate classes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from keras_gcp import keras_state
from keras_gcp.backend.calls import examples_that_fit
from keras_gcp.channels.map import ChannelMap
from keras_gcp.criteria.base import prunable_layers
from keras_gcp.criteria.class_moments import ClassMoments
from keras_gcp.criteria.readers import Reader, readers_with_inputs, require_readers
from keras_gcp.criteria.trace_ratio_set import trace_ratio_set
from keras_gcp.errors import InvalidArgument
from keras_gcp.sample import DrawnSample, classes_of

_LEAST = 1e-30


@dataclass(frozen=True)
class TraceRatio:
    """Scatter of a channel's features between classes, against that within classes.

    The features of a channel are its values wherever a layer with weights reads it, position by
    position. Over the examples of the sample their scatter between classes is b_c, that within
    classes w_c, both summed over the positions, and over all tensors that are read if channels are
    tied. A set S of channels separates classes as well as `J(S) = sum_S b_c / sum_S w_c`.

    Given how many channels a group keeps, those with the greatest J stay
    (`keras_gcp.methods.trace_ratio_set`): that is a choice of a set, not of the best scores. How
    many it keeps goes by scores, `(b_c - J w_c) / sum w`, with J and the sum of the whole layer:
    what J would lose with the channel. Scores are worth dividing by costs. A channel that only
    varies within classes scores below zero, one that does not vary at all scores zero.

    Only the classes in the sample count: with the examples of some of them, channels are chosen
    that tell these apart. `rounds=` of `keras_gcp.plan` looks at the features of the network as it
    is cut so far.

    CATRO: Hu et al., 2021 (arXiv 2110.10921); what is ours in it stands in docs/methods/catro.md.

    Args:
        examples: At most so many examples are used.
        batch_size: Examples per pass; bounds the memory.

    Example:

    ```python
    chosen = np.isin(y, (3, 8))
    small = keras_gcp.prune(model, {"macs": 0.5}, "trace_ratio", (x[chosen], y[chosen]))
    ```
    """

    examples: int = 512
    batch_size: int = 64

    name: ClassVar[str] = "trace_ratio"
    needs_sample: ClassVar[bool] = True
    normalize: ClassVar[str] = "none"
    ranking: ClassVar[str] = "score_per_cost"

    def check(self, model: Any, channels: ChannelMap, sample: DrawnSample | None) -> None:
        """Raises without labels of two classes or more, or if nothing reads a layer's channels."""
        classes = None if sample is None else classes_of(sample.y)
        if classes is None:
            raise InvalidArgument(
                "Criterion 'trace_ratio' needs a class for every example. Expected sample=(x, y) "
                "with y the index of the class, or one-hot rows."
            )
        found, counts = np.unique(classes, return_counts=True)
        if len(found) < 2 or counts.max() < 2:
            raise InvalidArgument(
                "Criterion 'trace_ratio' compares classes with each other, and examples within a "
                f"class. Received {len(classes)} examples of {len(found)} classes, at most "
                f"{counts.max()} of one. Expected two classes or more, and tens of examples of "
                "each."
            )
        require_readers(self.name, channels)

    def __call__(
        self, model: Any, channels: ChannelMap, sample: DrawnSample | None
    ) -> dict[str, np.ndarray]:
        return self.scores_of(self.evidence(model, channels, sample), channels)

    def evidence(self, model: Any, channels: ChannelMap, sample: DrawnSample | None) -> np.ndarray:
        """`(coupled_count, 2)`: scatter between and within classes, per example."""
        assert sample is not None
        count = keras_state.whole_batches(model, min(self.examples, len(sample)))
        few = sample.spread(count)
        moments: dict[int, ClassMoments] = {}
        places: dict[int, np.ndarray] = {}
        for reader, x, labels in self._read(model, channels, few):
            index = reader.source.index
            moments.setdefault(index, ClassMoments()).add(x.reshape(len(x), -1), labels)
            places[index] = np.broadcast_to(channels.tensors[index], x.shape[1:]).reshape(-1)
        found = np.zeros((channels.coupled_count, 2))
        for index, own in moments.items():
            for column, scatter in enumerate(own.scatter()):
                np.add.at(found[:, column], places[index], scatter / len(few))
        return found

    def _read(
        self, model: Any, channels: ChannelMap, sample: DrawnSample
    ) -> Iterator[tuple[Reader, np.ndarray, np.ndarray]]:
        """Every tensor that is read, once, batch by batch in order of class, with the classes."""
        classes = classes_of(sample.y)
        assert classes is not None
        order = np.argsort(classes, kind="stable")
        size = min(self.batch_size, examples_that_fit(model, channels.graph, sample))
        size = keras_state.whole_batches(model, size)
        for start in range(0, len(order), size):
            rows = order[start : start + size]
            part, seen = sample.rows(rows), set()
            for reader, x in readers_with_inputs(model, channels, part, len(rows)):
                if reader.source.index not in seen:
                    seen.add(reader.source.index)
                    # Inside a repeated model there are several rows for each example.
                    yield reader, x, np.repeat(classes[rows], len(x) // len(rows))

    def scores_of(self, evidence: np.ndarray, channels: ChannelMap) -> dict[str, np.ndarray]:
        """What the ratio of the whole layer would lose with a channel."""
        scores = {}
        for path in prunable_layers(channels):
            between, within = evidence[channels.produced[path]].T
            whole = max(float(within.sum()), _LEAST)
            scores[path] = (between - between.sum() / whole * within) / whole
        return scores

    def best_set(self, evidence: np.ndarray, count: int) -> np.ndarray:
        """The channels that separate classes best together."""
        indices, _ = trace_ratio_set(evidence[:, 0], evidence[:, 1], count)
        return indices
