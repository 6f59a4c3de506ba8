"""The proof that two models compute the same, call by call."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import keras
import numpy as np

from keras_gcp import keras_state
from keras_gcp.backend.calls import run_calls
from keras_gcp.backend.comparison import example_count, random_inputs, relative_difference
from keras_gcp.errors import VerificationFailed
from keras_gcp.graph import Call, Graph
from keras_gcp.tfmot.bridge import Bridge, argument

TOLERANCE = 1e-6
"""Largest difference, a share of the largest value that a layer or the network gives."""

_MOST_BY_ROUNDING = 1e-3


def prove(over: Bridge, model: Any, source: Any = None) -> None:
    """Compares a tf_keras model with a Keras 3 model on random inputs, in inference mode.

    Every layer is given what enters its twin in Keras 3, so that a difference is told where it
    arises. Then the networks are compared as a whole, where more is allowed if such differences of
    layers, blown up by the network, explain it.

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
    expected = [known[x.index] for x in graph.outputs]
    whole = _difference(outputs, expected)
    if not whole <= TOLERANCE and not whole <= (
        allowed := _by_rounding(source, graph, tensors, expected)
    ):
        raise VerificationFailed(
            f"Model '{source.name}' and its twin in tf_keras differ by {whole:.2g} of the largest "
            f"output, allowed {allowed:.2g}, though no layer does by itself: they are connected in "
            "another way. Please report the network."
        )


def _by_rounding(source: Any, graph: Graph, tensors: list[Any], expected: list[Any]) -> float:
    """What becomes of the outputs if every layer differs by as much as a layer may.

    The input alone would not do: where normalizations stand for larger inputs than the random
    ones, its roundings hardly reach the output, those of later layers do.
    """
    rng = np.random.default_rng(0)

    def shaken(output: Any) -> Any:
        values = keras.ops.convert_to_numpy(output)
        if not np.issubdtype(values.dtype, np.floating):
            return output
        most = TOLERANCE * np.abs(values).max(initial=0.0)
        noise = rng.uniform(-most, most, values.shape)
        return keras.ops.convert_to_tensor((values + noise).astype(values.dtype))

    known: Mapping[int, Any] = {}
    with keras.device("cpu:0"):
        for _, known in run_calls(source, graph, tensors, shaken):  # noqa: B007 (the last one)
            pass
    effect = _difference([known[x.index] for x in graph.outputs], expected)
    return max(TOLERANCE, min(effect, _MOST_BY_ROUNDING))


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
