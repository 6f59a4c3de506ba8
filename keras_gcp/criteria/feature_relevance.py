"""Feature relevance: how much a channel contributes to recognising the true class."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from keras_gcp.channels.map import ChannelMap
from keras_gcp.classification.head import find_head
from keras_gcp.classification.targets import targets_of
from keras_gcp.criteria.base import prunable_layers
from keras_gcp.criteria.relevance.backward_pass import Probe
from keras_gcp.criteria.relevance.backward_route import find_route
from keras_gcp.criteria.relevance.rules import RuleKind, relevance_rule_for
from keras_gcp.criteria.relevance.scoring import (
    ASKER,
    DEFAULT_BATCH_SIZE,
    output_probe,
    score_probes,
    tensor_probe,
)
from keras_gcp.criteria.relevance.statistics import checked_class_weights
from keras_gcp.errors import UnsupportedModel
from keras_gcp.graph import Call, Tensor
from keras_gcp.sample import DrawnSample


@dataclass(frozen=True, eq=False)
class FeatureRelevance:
    """Feature relevance scores at the outputs of the layers that produce channels.

    Aketi et al., "Gradual Channel Pruning While Training Using Feature Relevance Scores for
    Convolutional Neural Networks", IEEE Access, 2020; see `keras_gcp.relevance_scores`. As in the
    authors' program, a layer whose output goes into an addition, such as the last convolution of
    a residual block, is scored by the relevance of the sum.

    Args:
        class_weights: One weight per class; None: from the model's own accuracies on the sample.
        batch_size: Examples per pass; bounds the memory.
    """

    class_weights: Any = None
    batch_size: int = DEFAULT_BATCH_SIZE

    name: ClassVar[str] = "feature_relevance"
    needs_sample: ClassVar[bool] = True
    normalize: ClassVar[str] = "norm"

    def check(self, model: Any, channels: ChannelMap, sample: DrawnSample | None) -> None:
        """Raises if the model is not a classifier, labels are off, or a layer has no rule."""
        head = find_head(model, channels.graph, ASKER)
        assert sample is not None  # `criteria.check` asks for it.
        targets_of(head, sample.y, ASKER)
        if self.class_weights is not None:
            checked_class_weights(self.class_weights, head.classes)
        _require_relevance(channels, _probes(channels))

    def __call__(
        self, model: Any, channels: ChannelMap, sample: DrawnSample | None
    ) -> dict[str, np.ndarray]:
        assert sample is not None
        probes = _probes(channels)
        if not probes:
            return {}
        return score_probes(
            model,
            channels,
            probes,
            sample.x,
            sample.y,
            self.class_weights,
            self.batch_size,
        )


def _probes(channels: ChannelMap) -> dict[str, list[Probe]]:
    ends = {x.index for x in channels.graph.outputs}
    prunable = set(prunable_layers(channels))
    probes: dict[str, list[Probe]] = {}
    for call in channels.graph.calls:
        if call.path in prunable:
            own = probes.setdefault(call.path, [])
            if len(call.outputs) == 1:
                own.append(_probe(call, channels, ends))
            else:
                own.extend(_all_outputs(call, channels))
    return probes


def _all_outputs(call: Call, channels: ChannelMap) -> list[Probe]:
    """The outputs with the layer's channels: the states of a recurrent layer have them, too."""
    produced = channels.produced[call.path]
    found = [
        tensor_probe(call, y, channels)
        for y in call.outputs
        if np.array_equal(channels.tensors[y.index].reshape(-1), produced)
    ]
    return [probe for probe in found if probe is not None]


def _probe(call: Call, channels: ChannelMap, ends: set[int]) -> Probe:
    """The output of the layer, or the sum it goes into."""
    own = output_probe(call, channels)
    assert own is not None, f"'{call.path}' produces channels, so it has a channel axis"
    at: Tensor = call.outputs[0]
    readers = channels.graph.readers
    while at.index not in ends and len(readers.get(at.index, [])) == 1:
        (reader,) = readers[at.index]
        rule = relevance_rule_for(reader)
        if rule is not None and rule.kind is RuleKind.ADDITION:
            summed = output_probe(reader, channels)
            same = summed is not None and summed.channels == own.channels
            return summed if same and summed is not None else own
        if rule is None or rule.kind is not RuleKind.UNCHANGED:
            return own
        at = reader.outputs[0]
    return own


def _require_relevance(channels: ChannelMap, probes: dict[str, list[Probe]]) -> None:
    route = find_route(channels.graph, {p.tensor for found in probes.values() for p in found})
    for path, found in probes.items():
        if not any(probe.tensor in route.reached for probe in found):
            raise UnsupportedModel(
                f"No relevance reaches layer '{path}': nothing that it computes goes into the "
                "class scores by a way that relevance can follow. Exclude the layer, or take "
                "another criterion, e.g. criterion='taylor' or 'l2_norm'."
            )
