"""Layers that hide other layers: channels cannot be followed through their Python code."""

from __future__ import annotations

from typing import Any

from keras import layers

from keras_gcp import keras_state
from keras_gcp.channels.registry import rule_for
from keras_gcp.graph import Graph

# Layers whose kernels hold most of a network's multiply-adds, and whose channels can be pruned.
WITH_KERNEL = (
    layers.Conv1D,
    layers.Conv2D,
    layers.Conv3D,
    layers.Conv1DTranspose,
    layers.Conv2DTranspose,
    layers.Conv3DTranspose,
    layers.DepthwiseConv1D,
    layers.DepthwiseConv2D,
    layers.SeparableConv1D,
    layers.SeparableConv2D,
    layers.Dense,
)


def is_composite(operation: Any) -> bool:
    """Whether an operation is a layer that calls layers of its own.

    Those of `keras.layers` (recurrent layers, attention, wrappers) are layers like any other
    here, and so are those that have a rule.
    """
    return (
        keras_state.is_layer(operation)
        and keras_state.functional_of(operation) is None
        and not keras_state.shipped_by_keras(operation)
        and bool(keras_state.sublayers(operation))
        and rule_for(operation) is None
    )


def hidden_kernels(operation: Any) -> list[str]:
    """Names of the convolutions and dense layers inside a composite layer."""
    if not is_composite(operation):
        return []
    inner = keras_state.sublayers(operation)
    return [layer.name for layer in inner if isinstance(layer, WITH_KERNEL)]


def opaque_layers(graph: Graph) -> dict[str, str]:
    """Composite layers that hide kernels: path to a description of the layer."""
    found: dict[str, str] = {}
    for call in graph.calls:
        if call.path not in found and (hidden := hidden_kernels(call.operation)):
            kind = type(call.operation).__name__
            found[call.path] = f"layer '{call.path}' (class {kind}) hides {_listed(hidden)}"
    return found


def _listed(names: list[str], most: int = 3) -> str:
    what = "layer" if len(names) == 1 else "layers"
    shown = ", ".join(repr(name) for name in names[:most]) + (", …" if len(names) > most else "")
    return f"{len(names)} convolution or dense {what} ({shown})"
