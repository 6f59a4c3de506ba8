"""What cannot be handed to tfmot: found before anything is built, with the reason and a better way.

Looks at the Keras 3 model alone, so it answers where tfmot is not even installed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from keras_gcp import keras_state
from keras_gcp.errors import UnsupportedModel
from keras_gcp.graph import Call, Graph, Tensor, leaves
from keras_gcp.tfmot import layers

SHOWN = 5
"""So many problems are told at once; the first ones are enough to choose another way."""

AFTER_TRAINING = (
    "For int8 files without tfmot: `keras_gcp.export(model, directory, ['tflite_int8'], "
    "sample=x)` quantises after training and takes any network."
)


@dataclass(frozen=True)
class Problem:
    """One thing that cannot be handed over.

    Attributes:
        path: The layer's name, after those of the nested models around it.
        kind: Its class.
        reason: Why not.
        instead: What to do about it.
    """

    path: str
    kind: str
    reason: str
    instead: str

    def __str__(self) -> str:
        return f"'{self.path}' (class {self.kind}): {self.reason}. {self.instead}"


def read(model: Any, purpose: str, more: Callable[[Graph], Iterator[Problem]]) -> Graph:
    """The graph of a model that can be handed to tfmot.

    Args:
        model: The Keras 3 model.
        purpose: What is asked of tfmot, as a name of a function.
        more: Finds what this purpose does not allow.

    Raises:
        UnsupportedModel: it cannot.
    """
    graph = keras_state.read_graph(model)
    problems = [*bridge_problems(model, graph), *more(graph)]
    if problems:
        told = problems[:SHOWN]
        rest = f"\n… and {len(problems) - SHOWN} more." if len(problems) > SHOWN else ""
        raise UnsupportedModel(
            f"Model '{model.name}' cannot be handed to `keras_gcp.tfmot.{purpose}`:\n"
            + "\n".join(f"- {problem}" for problem in told)
            + rest
        )
    return graph


# --- on the way to tf_keras ----------------------------------------------------------------------


def bridge_problems(model: Any, graph: Graph) -> Iterator[Problem]:
    """What has no counterpart in tf_keras."""
    for tensor, symbol in zip(graph.inputs, model.inputs, strict=True):
        if None in tensor.shape[1:]:
            yield Problem(
                symbol.name,
                "InputLayer",
                f"it leaves sizes open, {tensor.shape}",
                "Give it one: `keras.models.clone_model(model, input_tensors="
                "keras.Input((96, 96, 3)))`, then `set_weights`",
            )
    seen: set[int] = set()
    for call in graph.calls:
        if id(call.operation) not in seen:
            seen.add(id(call.operation))
            yield from _problems_of(call)
        yield from _problems_of_arguments(call)


def _problems_of(call: Call) -> Iterator[Problem]:
    operation, kind = call.operation, kind_of(call)
    if not keras_state.is_layer(operation):
        if kind not in layers.OPERATIONS:
            yield Problem(
                call.path,
                kind,
                "tf_keras has no layer for this operation",
                f"Use a layer instead. Known operations: {', '.join(layers.OPERATIONS)}",
            )
        return
    if not keras_state.shipped_by_keras(operation):
        yield Problem(
            call.path,
            kind,
            "it is a class of your own, which tf_keras does not have",
            f"Replace it with layers of Keras. {AFTER_TRAINING}",
        )
        return
    if kind not in layers.BRIDGED:
        yield Problem(
            call.path,
            kind,
            "tf_keras has no such layer, or another one of that name, or tfmot cannot treat it",
            AFTER_TRAINING,
        )
        return
    yield from _problems_of_settings(call)


def _problems_of_settings(call: Call) -> Iterator[Problem]:
    layer, kind = call.operation, kind_of(call)
    precision = str(layer.dtype_policy.name)
    if precision != "float32":
        yield Problem(
            call.path,
            kind,
            f"it computes with the policy '{precision}', and tfmot needs float32 throughout",
            "Rebuild the model with `keras.config.set_dtype_policy('float32')` and `set_weights`",
        )
    name = activation_of(layer)
    if name is not None and name not in layers.ACTIVATIONS:
        yield Problem(
            call.path,
            kind,
            f"tf_keras does not have the activation '{name}', or means another function by it",
            f"Use one of {', '.join(layers.ACTIVATIONS)}. {AFTER_TRAINING}",
        )
    if getattr(layer, "data_format", None) == "channels_first":
        yield Problem(
            call.path,
            kind,
            "it has channels first, which neither TFLite nor TensorFlow on a CPU has",
            "Rebuild the network with `data_format='channels_last'`",
        )
    if getattr(layer, "mask_zero", False):
        yield Problem(
            call.path, kind, "it makes a mask, which layers of tfmot do not pass on", AFTER_TRAINING
        )


def _problems_of_arguments(call: Call) -> Iterator[Problem]:
    given = [x for x in leaves(call.args) if not isinstance(x, Tensor)]
    given += [
        x
        for name, value in call.kwargs.items()
        if name != "training"  # What `fit` and `evaluate` say counts, in Keras 3, too.
        for x in leaves(value)
        if x is not None and not (isinstance(x, Tensor) and name != "mask")
    ]
    if given:
        yield Problem(
            call.path,
            kind_of(call),
            f"it is called with {given[0]!r} besides tensors",
            "Expected a call on tensors alone; use `keras.layers.Rescaling` for constants",
        )


def kind_of(call: Call) -> str:
    """The class of a layer or operation."""
    return type(call.operation).__name__


def activation_of(layer: Any) -> str | None:
    """Name of the activation of a layer; None if it has none."""
    if not hasattr(layer, "activation"):
        return None
    name = layer.get_config().get("activation")
    return name if isinstance(name, str) else getattr(layer.activation, "__name__", "?")


# --- what single techniques do not allow ---------------------------------------------------------


def without_kernels(kinds: Mapping[str, str], told: str) -> Callable[[Graph], Iterator[Problem]]:
    """For techniques that treat kernels, and need at least one."""

    def find(graph: Graph) -> Iterator[Problem]:
        if not any(kind_of(call) in kinds for call in graph.calls):
            yield Problem(
                "model", "Functional", told, f"tfmot treats {', '.join(kinds)} and no other layers"
            )

    return find


def quantization_problems(graph: Graph) -> Iterator[Problem]:
    """What tfmot cannot train for rounding."""
    calls: dict[int, int] = {}
    for call in graph.calls:
        calls[id(call.operation)] = calls.get(id(call.operation), 0) + 1
    makers = {x.index: call for call in graph.calls for x in call.outputs}
    for call in graph.calls:
        kind = as_layer(call)
        if kind not in layers.BRIDGED:  # Told by the bridge.
            continue
        if calls[id(call.operation)] > 1:
            calls[id(call.operation)] = 1
            yield Problem(
                call.path,
                kind_of(call),
                "it is called more than once, and tfmot cannot learn one range for several uses",
                f"Give each call a layer of its own. {AFTER_TRAINING}",
            )
        elif kind.startswith("Separable"):
            yield Problem(
                call.path,
                kind_of(call),
                "tfmot takes minutes to hours over separable convolutions, or does not end",
                "Build it as a DepthwiseConv2D and a Conv2D of size 1, its pointwise kernel",
            )
        elif kind == "BatchNormalization":
            yield from _normalization_problems(call, makers, graph)
        elif kind not in layers.QUANTIZED:
            yield Problem(
                call.path, kind_of(call), "tfmot does not know how devices round it", AFTER_TRAINING
            )
        else:
            yield from _activation_problems(call)


def as_layer(call: Call) -> str:
    """The layer of tf_keras that stands for a call."""
    kind = kind_of(call)
    return kind if keras_state.is_layer(call.operation) else layers.OPERATIONS.get(kind, kind)


def _normalization_problems(
    call: Call, makers: Mapping[int, Call], graph: Graph
) -> Iterator[Problem]:
    before = makers.get(call.inputs[0].index)
    fits = (
        before is not None
        and kind_of(before) in layers.NORMALIZED
        and activation_of(before.operation) == "linear"
        and len(graph.readers[before.outputs[0].index]) == 1
        and before.outputs[0].index not in {x.index for x in graph.outputs}
    )
    if not fits:
        expected = ", ".join(sorted(layers.NORMALIZED))
        yield Problem(
            call.path,
            kind_of(call),
            f"tfmot knows batch normalization only right after one of {expected} without an "
            "activation, where nothing else reads what that gives",
            AFTER_TRAINING,
        )


def _activation_problems(call: Call) -> Iterator[Problem]:
    name = activation_of(call.operation)
    if name is None or name not in layers.ACTIVATIONS:
        return
    if kind_of(call) == "Activation" and name == "relu6":
        return  # The bridge makes a layer ReLU of it.
    if layers.ACTIVATIONS[name] not in layers.QUANTIZED_ACTIVATIONS:
        hint = "Put `keras.layers.ReLU(6.0)` behind it instead" if name == "relu6" else ""
        yield Problem(
            call.path,
            kind_of(call),
            f"tfmot does not know how devices round the activation '{name}'",
            hint or AFTER_TRAINING,
        )
