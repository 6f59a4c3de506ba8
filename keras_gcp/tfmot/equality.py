"""The proof that two models compute the same, call by call."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import keras
import numpy as np

from keras_gcp import keras_state
from keras_gcp.backend.calls import run_calls
from keras_gcp.backend.comparison import example_count, random_inputs, relative_difference
from keras_gcp.errors import VerificationFailed
from keras_gcp.graph import Call, Graph
from keras_gcp.surgery.verify import outputs_of, rounding_effect
from keras_gcp.tfmot.bridge import Bridge, argument

TOLERANCE = 1e-6
"""Largest difference, a share of the largest value that a layer or the network gives."""

_ROUNDING = 2.0**-22
_MOST_BY_ROUNDING = 1e-3


def prove(over: Bridge, model: Any, source: Any = None) -> None:
    """Compares a tf_keras model with a Keras 3 model on random inputs, in inference mode.

    Every layer is given what enters its twin in Keras 3, so that a difference is told where it
    arises. Then the networks are compared as a whole, where a little more is allowed if single
    roundings of the input explain it.

    Args:
        over: How the layers are called in tf_keras.
        model: The tf_keras model, as `bridge.build` makes it.
        source: The Keras 3 model, or a copy of it; None: the one that was bridged.

    Raises:
        VerificationFailed: they differ.
    """
    source = over.source if source is None else source
    graph = over.graph if source is over.source else keras_state.read_graph(source)
    given = random_inputs(source, example_count(source))
    arrays = keras_state.ordered_inputs(source, given)
    with keras.device("cpu:0"):  # A GPU may round convolutions to 10 bits.
        tensors = [keras.ops.convert_to_tensor(array) for array in arrays]
        known: Mapping[int, Any] = {
            x.index: tensor for x, tensor in zip(graph.inputs, tensors, strict=True)
        }
        for own, (call, known) in zip(
            over.graph.calls, run_calls(source, graph, tensors), strict=True
        ):
            layer = model.get_layer(over.name(own))
            found = layer(argument(call, known), training=False)
            _check_layer(call, found, known[call.outputs[0].index])
        outputs = keras.tree.flatten(model(tensors[0] if len(tensors) == 1 else tensors))
    whole = _difference(outputs, [known[x.index] for x in graph.outputs])
    if not whole <= TOLERANCE and not whole <= (allowed := _by_rounding(source, graph, given)):
        raise VerificationFailed(
            f"Model '{source.name}' and its twin in tf_keras differ by {whole:.2g} of the largest "
            f"output, allowed {allowed:.2g}, though no layer does by itself: they are connected in "
            "another way. Please report the network."
        )


def _by_rounding(source: Any, graph: Graph, given: Any) -> float:
    """What may become of one rounding at every layer: deep networks blow it up."""
    outputs = outputs_of(source, graph, given)
    effect = rounding_effect(source, graph, given, outputs, _ROUNDING)
    return max(TOLERANCE, min(math.sqrt(len(graph.calls)) * effect, _MOST_BY_ROUNDING))


def _check_layer(call: Call, found: Any, expected: Any) -> None:
    difference = _difference([found], [expected])
    if not difference <= TOLERANCE:
        kind = type(call.operation).__name__
        raise VerificationFailed(
            f"Layer '{call.path}' (class {kind}) differs in tf_keras: given the same input, by "
            f"{difference:.2g} of its largest output, allowed {TOLERANCE:.0e}. Nothing was "
            "changed. Replace the layer, or quantise without tfmot: `keras_gcp.export(model, "
            "directory, ['tflite_int8'], sample=x)`."
        )


def _difference(found: list[Any], expected: list[Any]) -> float:
    return relative_difference(
        [np.asarray(x) for x in found], [keras.ops.convert_to_numpy(x) for x in expected]
    )
