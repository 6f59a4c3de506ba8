"""One call of a network by itself, at any width."""

from __future__ import annotations

import copy
import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from keras_gcp import keras_state
from keras_gcp.channels.findings import Count
from keras_gcp.channels.map import ChannelMap
from keras_gcp.graph import Call, Tensor, map_structure
from keras_gcp.surgery.narrow import narrow_shape

# Settings of a layer that say nothing about what it computes, or how fast.
_IRRELEVANT = ("name", "trainable", "dtype", "build_config", "seed", "rate")
_IRRELEVANT_ENDS = ("_initializer", "_regularizer", "_constraint")

_HOLDS = (
    ("layer", "forward_layer"),
    ("layer", "layer"),
    ("backward_layer", "backward_layer"),
    ("cell", "cell"),
    ("cells", "cells"),
)
"""Where layers save the layers that they hold: argument of the constructor, and attribute."""


@dataclass(frozen=True, eq=False)
class OneCall:
    """A call as a function of tensors.

    Attributes:
        operation: A layer of its own, of the narrow width; or the operation itself.
        function: Takes the tensors that enter.
        shapes: Shape and dtype of each, with batch size 1 or the model's own.
        key: Says all that its time depends on: the same for equal layers of any network.
    """

    operation: Any
    function: Callable[..., Any]
    shapes: tuple[tuple[tuple[int, ...], str], ...]
    key: str


def one_call(call: Call, channels: ChannelMap, keep: np.ndarray) -> OneCall:
    """The call as it would be in a network that keeps the given coupled channels."""
    config = _narrow_config(call.operation, channels, keep)
    operation = _narrow_operation(call.operation, config, channels)
    entering = list({x.index: x for x in call.inputs}.values())
    place = {x.index: i for i, x in enumerate(entering)}
    args, kwargs = _narrow_arguments(call, channels, keep)

    def function(*tensors: Any) -> Any:
        def fill(leaf: Any) -> Any:
            return tensors[place[leaf.index]] if isinstance(leaf, Tensor) else leaf

        filled, named = map_structure(fill, (args, kwargs))
        return operation(*filled, **named)

    # What leaves a repeated model is as many examples as it has steps.
    steps = getattr(call.operation, "steps", None)
    shapes = tuple(
        (
            (x.shape[0] or steps or 1, *map(_size, narrow_shape(x, x.shape, channels, keep)[1:])),
            _dtype(x),
        )
        for x in entering
    )
    return OneCall(operation, function, shapes, _key(call, config, (args, kwargs), shapes))


def _narrow_operation(operation: Any, config: dict[str, Any], channels: ChannelMap) -> Any:
    """A layer of its own; of an operation without weights a copy, where sizes stand in it."""
    if keras_state.is_lambda(operation):
        return keras_state.copied_lambda(operation, dtype="float32")
    if keras_state.is_layer(operation):
        layer = type(operation).from_config({**config, "dtype": "float32"})
        for one in keras_state.stateful_layers(layer):
            one.stateful = False  # It takes as long, and becomes a graph of constants.
        return layer
    sites = [site for site in channels.configs if site.operation is operation]
    narrow = copy.copy(operation) if sites else operation
    for site in sites:
        if site.name is not None and site.attribute is not None:
            setattr(narrow, site.attribute, config[site.name])
    return narrow


def _narrow_config(operation: Any, channels: ChannelMap, keep: np.ndarray) -> dict[str, Any]:
    try:
        config = dict(operation.get_config())
    except NotImplementedError:  # An operation of `keras.ops` that cannot be saved by itself.
        config = {name: repr(value) for name, value in vars(operation).items() if name[0] != "_"}
    return _filled(operation, config, channels, keep)


def _filled(
    operation: Any, config: dict[str, Any], channels: ChannelMap, keep: np.ndarray
) -> dict[str, Any]:
    """The configuration with narrow widths, also in the layers that are saved inside it."""
    own = {
        site.name: _counted(site.value, keep)
        for site in channels.configs
        if site.operation is operation and site.name is not None
    }
    inner = {
        key: _mapped(getattr(operation, attribute), config[key], channels, keep)
        for key, attribute in _HOLDS
        if key in config and hasattr(operation, attribute)
    }
    return {**config, **inner, **own}


def _mapped(inner: Any, saved: Any, channels: ChannelMap, keep: np.ndarray) -> Any:
    """Saved layers without the shape they were built for, which would be the wide one."""
    if isinstance(saved, list) and isinstance(inner, list | tuple):
        pairs = zip(inner, saved, strict=True)
        return [_mapped(one, part, channels, keep) for one, part in pairs]
    if not isinstance(saved, dict):
        return saved
    parts = {name: value for name, value in saved.items() if name != "build_config"}
    config = {**saved.get("config", {}), "dtype": "float32"}
    return {**parts, "config": _filled(inner, config, channels, keep)}


def _narrow_arguments(call: Call, channels: ChannelMap, keep: np.ndarray) -> tuple[Any, Any]:
    args, kwargs = list(call.args), dict(call.kwargs)
    for site in channels.arguments:
        if site.node is not call.node:
            continue
        value = _counted(site.value, keep)
        if isinstance(site.position, str):
            kwargs[site.position] = value
        else:
            args[site.position] = value
    return tuple(args), kwargs


def _counted(value: Any, keep: np.ndarray) -> Any:
    return map_structure(
        lambda leaf: int(keep[leaf.ids].sum()) if isinstance(leaf, Count) else leaf, value
    )


def _size(known: int | None) -> int:
    return int(known or 1)


def _dtype(x: Tensor) -> str:
    return "float32" if "float" in x.dtype else x.dtype


def _key(call: Call, config: dict[str, Any], arguments: Any, shapes: Any) -> str:
    kind = type(call.operation).__name__
    settings = {
        name: value
        for name, value in config.items()
        if name not in _IRRELEVANT and not name.endswith(_IRRELEVANT_ENDS)
    }
    constants = map_structure(lambda x: "tensor" if isinstance(x, Tensor) else x, arguments)
    # Names differ from network to network; classes, settings and shapes do not.
    text = json.dumps([kind, settings, shapes, repr(constants)], sort_keys=True, default=repr)
    first = "x".join(str(n) for n in shapes[0][0][1:]) if shapes else ""
    return f"{kind} {first} {hashlib.sha256(text.encode()).hexdigest()[:16]}"
