"""Proof of a cut: the narrow model computes what the masked wide model computed.

Masked means: the kernel rows of the layers that *consume* removed channels are zero. That is
exact for any activation and any normalization constants of the removed channels. Layers
that mix channels without weights between them (layer normalization) compute from the kept ones.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import keras
import numpy as np

from keras_gcp import keras_state
from keras_gcp.backend.calls import without_activation
from keras_gcp.backend.comparison import outputs_in_inference, relative_difference
from keras_gcp.channels.map import ChannelMap
from keras_gcp.errors import VerificationFailed
from keras_gcp.graph import Graph, Neighbour
from keras_gcp.surgery.masking import masked

# Outputs are compared relative to the largest one. Leaving out channels that are multiplied by
# zero only changes the order of summation: a few hundred roundings at most.
_TOLERANCE = {"float64": 1e-9, "float32": 1e-4, "float16": 5e-2, "bfloat16": 2e-1}

# Deep networks, above all untrained ones, can blow up a single rounding of the input a thousand
# times. There, what a rounding at every layer would do is allowed (independent errors add up like
# the square root of their number); a misplaced channel does far more.
_ROUNDING = {"float64": 2.0**-51, "float32": 2.0**-22, "float16": 2.0**-9, "bfloat16": 2.0**-6}
_MOST_BY_ROUNDING = 0.05


@contextmanager
def _linear_outputs(graph: Graph) -> Iterator[None]:
    """Inside the context, output layers have no activation.

    A saturated softmax hides differences: outputs of 0 and 1 agree for very different logits.
    """
    ends = {x.index for x in graph.outputs}
    last = []
    for call in reversed(graph.calls):
        if ends & {x.index for x in call.outputs}:
            last.append(call.operation)
            if isinstance(call.operation, keras_state.ExamplesAsSteps):
                ends.add(call.inputs[0].index)  # The last layer of a repeated model.
    layers = {id(layer): layer for layer in map(keras_state.innermost, last)}
    with ExitStack() as linear:
        for layer in layers.values():
            linear.enter_context(without_activation(layer))
        yield


def outputs_of(model: Any, graph: Graph, inputs: Any) -> list[np.ndarray]:
    """The model's outputs in inference mode before their activation, flattened, as floats."""
    with _linear_outputs(graph):
        return outputs_in_inference(model, inputs)


def masked_outputs(
    channels: ChannelMap, keep: np.ndarray, inputs: Any, neighbour: Neighbour | None = None
) -> list[np.ndarray]:
    """What the model, or a neighbour of it, would compute without the removed channels."""
    one = neighbour or channels
    with masked(channels, keep):
        return outputs_of(one.model, one.graph, inputs)


def verify_narrow(
    channels: ChannelMap,
    inputs: Any,
    expected: list[np.ndarray],
    neighbour: Neighbour | None = None,
) -> float:
    """Compares the narrowed model with the masked model's outputs.

    Args:
        channels: The channel map of the wide model, which is narrow by now.
        inputs: What to compare on.
        expected: What the masked model computed.
        neighbour: A neighbour to compare in its place.

    Returns:
        The largest relative difference.

    Raises:
        VerificationFailed: it is larger than rounding explains.
    """
    one = neighbour or channels
    model, graph = one.model, one.graph
    actual = outputs_of(model, graph, inputs)
    difference = relative_difference(actual, expected)
    precision = min(_precisions(model), key=lambda name: -_TOLERANCE[name])
    if difference <= _TOLERANCE[precision]:
        return difference
    rounding = rounding_effect(model, graph, inputs, actual, _ROUNDING[precision])
    by_rounding = min(math.sqrt(len(channels.graph.calls)) * rounding, _MOST_BY_ROUNDING)
    allowed = max(_TOLERANCE[precision], by_rounding)
    if not difference <= allowed:
        raise VerificationFailed(
            f"After the cut, model '{model.name}' differs from the masked model by "
            f"{difference:.3g} of its largest output; expected at most {allowed:.3g} "
            f"({precision}; one rounding of the inputs changes the outputs by {rounding:.3g}). The "
            "cut is taken back. Please report the network; until then, name the layers around the "
            "cut in `exclude`."
        )
    return difference


def rounding_effect(
    model: Any, graph: Graph, inputs: Any, outputs: list[np.ndarray], step: float
) -> float:
    """How much the outputs change, relatively, if every input grows by a share of itself."""

    def grown(x: Any) -> Any:
        x = np.asarray(x)
        return (x * (1 + step)).astype(x.dtype) if np.issubdtype(x.dtype, np.floating) else x

    nearby = keras.tree.map_structure(grown, inputs)
    return relative_difference(outputs_of(model, graph, nearby), outputs)


def _precisions(model: Any) -> set[str]:
    found = {getattr(layer, "compute_dtype", None) for layer in keras_state.all_layers(model)}
    return {name for name in found if name in _TOLERANCE} or {"float32"}
