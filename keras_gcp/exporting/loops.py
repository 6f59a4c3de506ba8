"""Which layers a SavedModel computes in a loop, and what to say when the converter crashed."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import keras

from keras_gcp import keras_state
from keras_gcp.exporting.worker import WorkerDied

_LOOPS = ("While", "StatelessWhile")


def looping_layers(model: keras.Model, saved_model: Path) -> list[Any]:
    """The layers of a model that hold the loops of its SavedModel, in the order of the graph.

    Args:
        model: The model.
        saved_model: The folder of its SavedModel, in which names of nodes begin with those of the
            layers around them.
    """
    by_name = {layer.name: layer for layer in keras_state.sublayers(model)}
    found = {id(layer): layer for node in _loops_of(saved_model) if (layer := _of(node, by_name))}
    return list(found.values())


def death_in_words(model: keras.Model, kind: str, saved_model: Path, error: WorkerDied) -> str:
    """What happened, which layers are suspected, and what to do."""
    text = (
        f"The model '{model.name}' cannot be converted to {kind}: the process of TensorFlow's "
        f"converter {error.how}. It was one of its own, so this one goes on. "
    )
    layers = looping_layers(model, saved_model)
    if not layers:
        return text + "Take another format, or find the layer by exporting parts of the model."
    named = ", ".join(f"'{layer.name}' (class {type(layer).__name__})" for layer in layers)
    can_unroll = any(hasattr(layer, "unroll") for layer in layers)
    remedy = "with `unroll=True` (weights and outputs stay the same)" if can_unroll else "without"
    another = "'tflite_dynamic' or 'tflite'" if kind == "tflite_int8" else "'saved_model'"
    budget = ", or in a budget 'tflite_bytes'," if kind == "tflite_int8" else ""
    return text + (
        f"It computes in loops {named}, which the converter often cannot take. Build these layers "
        f"{remedy}, or take {another}{budget} instead."
    )


def _loops_of(saved_model: Path) -> list[str]:
    from tensorflow.core.protobuf.saved_model_pb2 import SavedModel

    graphs = SavedModel.FromString((saved_model / "saved_model.pb").read_bytes()).meta_graphs
    functions = [function for graph in graphs for function in graph.graph_def.library.function]
    return [node.name for f in functions for node in f.node_def if node.op in _LOOPS]


def _of(node: str, by_name: dict[str, Any]) -> Any:
    """The innermost layer around a node; None if it is in none."""
    for scope in reversed(node.split("/")):
        for name in (re.sub(r"_\d+$", "", scope), scope):  # Scopes of a second call are numbered.
            if name in by_name:
                return by_name[name]
    return None
