"""The configuration in an `.h5` file of Keras 2, as Keras 3 reads it. Sees plain data only.

Keras 2 wrote entries that Keras 3 refuses, all of them without a meaning there: a depthwise
convolution has `groups: 1`, since its class was a child of the ordinary one. They are left out if
they have that one value. Layers inside wrappers were written without their module, and calls of a
`Sequential` inside another model were counted from 1, as if its own input were the first of them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Set
from typing import Any

from keras_gcp.errors import UnsupportedModel

ANY = object()
"""For entries that only said how weights were made or trained, whatever their value."""

_OF_A_CONVOLUTION = {"groups": 1}
_OF_A_SEPARABLE = {
    "groups": 1,
    "kernel_initializer": ANY,
    "kernel_regularizer": ANY,
    "kernel_constraint": ANY,
}
_OF_A_RECURRENCE = {"time_major": False}
_OF_A_DROPOUT = {"noise_shape": None, "trainable": ANY}
_OF_ATTENTION = {
    **dict.fromkeys(("query_shape", "key_shape", "value_shape"), ANY),
    "softmax_robust_masking": False,
}

WITHOUT_MEANING: Mapping[str, Mapping[str, Any]] = {
    **dict.fromkeys(("DepthwiseConv1D", "DepthwiseConv2D"), _OF_A_CONVOLUTION),
    **dict.fromkeys((f"Conv{n}DTranspose" for n in (1, 2, 3)), _OF_A_CONVOLUTION),
    **dict.fromkeys(("SeparableConv1D", "SeparableConv2D"), _OF_A_SEPARABLE),
    **dict.fromkeys(("SimpleRNN", "LSTM", "GRU", "RNN", "ConvLSTM2D"), _OF_A_RECURRENCE),
    **dict.fromkeys((f"SpatialDropout{n}D" for n in (1, 2, 3)), _OF_A_DROPOUT),
    "MultiHeadAttention": _OF_ATTENTION,
}
"""Class to entries that Keras 3 refuses, and the value that they may have."""

RENAMED = {
    "BatchNormalizationV1": "BatchNormalization",
    "BatchNormalizationV2": "BatchNormalization",
    "SyncBatchNormalization": "BatchNormalization",
}
"""Classes that have another name in Keras 3, and compute the same once trained."""

GONE = frozenset(
    "TFOpLambda SlicingOpLambda ClassMethod InstanceMethod InstanceProperty ThresholdedReLU "
    "LocallyConnected1D LocallyConnected2D CuDNNLSTM CuDNNGRU DenseFeatures".split()
)
"""Classes that Keras 3 has not, and nothing that could stand for them."""

_INNER = ("layer", "forward_layer", "backward_layer", "cell")


def translated(config: Any) -> Any:
    """The configuration of a model, for Keras 3.

    Args:
        config: What Keras 2 wrote, as JSON gives it back.

    Raises:
        UnsupportedModel: it has layers that Keras 3 has not, or an entry with a meaning.
    """
    gone = [f"'{name}' (class {kind})" for name, kind in _layers_of(config) if kind in GONE]
    if gone:
        raise UnsupportedModel(
            f"Keras 3 has no layer for {', '.join(gone[:4])}{' …' if len(gone) > 4 else ''}, which "
            "Keras 2 wrote. Expected layers that both have. A TFOpLambda is a TensorFlow function "
            "between layers: build the model with a layer in its place (keras.layers.ReLU(6.0) for "
            "tf.nn.relu6), load the weights there, and save it again."
        )
    return _translated(config)


def _translated(config: Any) -> Any:
    if isinstance(config, list):
        return [_translated(item) for item in config]
    if not isinstance(config, dict):
        return config
    result = {key: _translated(value) for key, value in config.items()}
    if _is_object(config):
        kind = str(RENAMED.get(config["class_name"], config["class_name"]))
        entries = {k: v for k, v in result["config"].items() if not _is_left_out(kind, k, config)}
        for key in _INNER:
            if _is_object(entries.get(key)):
                entries[key] = {"module": "keras.layers", "registered_name": None, **entries[key]}
        if kind in ("Functional", "Model"):
            entries = _counted_from_0(entries)
        result |= {"class_name": kind, "config": entries}
    return result


def _counted_from_0(model: dict[str, Any]) -> dict[str, Any]:
    """A functional model, with calls of models inside it counted from 0.

    Where it says which calls give its outputs, Keras 3 does that itself, but for a `Sequential`.
    """
    with_own_input = {
        layer["config"]["name"]: layer["class_name"]
        for layer in model["layers"]
        if layer["class_name"] in ("Sequential", "Functional", "Model")
        and any(one["class_name"] == "InputLayer" for one in layer["config"]["layers"][:1])
    }
    sequential = {name for name, kind in with_own_input.items() if kind == "Sequential"}
    return model | {
        "layers": [
            layer | {"inbound_nodes": _renumbered(layer["inbound_nodes"], with_own_input.keys())}
            for layer in model["layers"]
        ],
        "output_layers": _renumbered(model["output_layers"], sequential),
    }


def _renumbered(config: Any, names: Set[str]) -> Any:
    """`[name of a layer, number of its call, ...]`, however nested, with one less for these."""
    if not isinstance(config, list):
        return config
    if len(config) >= 3 and isinstance(config[0], str) and isinstance(config[1], int):
        return [config[0], config[1] - (config[0] in names), *config[2:]]
    return [_renumbered(item, names) for item in config]


def _is_left_out(kind: str, key: str, config: Mapping[str, Any]) -> bool:
    allowed = WITHOUT_MEANING.get(kind, {})
    if key not in allowed:
        return False
    value = config["config"][key]
    if allowed[key] is not ANY and value != allowed[key]:
        raise UnsupportedModel(
            f"Layer '{config['config'].get('name')}' (class {kind}) was saved by Keras 2 with "
            f"{key}={value!r}, which Keras 3 has not. Expected {key}={allowed[key]!r}."
        )
    return True


def _layers_of(config: Any) -> Iterator[tuple[str, str]]:
    """Name and class of everything in a configuration that has a class."""
    if _is_object(config):
        yield str(config["config"].get("name")), config["class_name"]
    inside = config.values() if isinstance(config, dict) else config
    if isinstance(config, dict | list):
        for item in inside:
            yield from _layers_of(item)


def _is_object(config: Any) -> bool:
    return (
        isinstance(config, dict)
        and isinstance(config.get("class_name"), str)
        and isinstance(config.get("config"), dict)
    )
