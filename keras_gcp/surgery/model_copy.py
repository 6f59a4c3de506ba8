"""Copies of a model."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from types import MappingProxyType
from typing import Any

import keras

from keras_gcp import keras_state
from keras_gcp.channels.declared import carry_over
from keras_gcp.errors import UnsupportedModel


def copy_model(model: Any) -> Any:
    """A functional copy with layers and variables of its own, holding the same weights.

    The copy is a plain `keras.Model` (or `Sequential`), and so are models inside of it: classes of
    one's own (keras-hub's backbones, say) build themselves from settings that know nothing of
    narrow layers. It is not compiled: its optimizer would start from nothing, and a loss of the
    user's own cannot always be copied.

    Raises:
        UnsupportedModel: a layer cannot be made again from its configuration.
    """
    with _taken_as_uncompiled(model):
        copy = _Copies().of(model)
    copy.set_weights(model.get_weights())
    _finish(model, copy)
    return copy


def exchanged_copy(model: Any, exchanged: Mapping[int, Any]) -> Any:
    """`copy_model` with other layers in the place of some, under their names.

    Args:
        model: The model.
        exchanged: `id` of a layer to what takes its place, unbuilt. Its weights are the caller's
            to set.

    Raises:
        UnsupportedModel: a layer cannot be made again from its configuration.
    """
    copies = _Copies(exchanged)
    with _taken_as_uncompiled(model):
        copy = copies.of(model)
    for layer in keras_state.sublayers(model):
        whole = keras_state.functional_of(layer) is None and id(layer) not in exchanged
        if whole and copies.has(layer):
            copies.of(layer).set_weights(layer.get_weights())
    _finish(model, copy)
    return copy


def _finish(model: Any, copy: Any) -> None:
    _copy_flags(model, copy)
    for layer in keras_state.sublayers(copy):
        if hasattr(layer, "finalize_state"):  # Normalization keeps what it computes from weights.
            layer.finalize_state()


def _copy_flags(layer: Any, copy: Any) -> None:
    """What Keras forgets of models: whether they are frozen, their precision; and declarations.

    Freezing a layer freezes its layers; so from the outside inwards, where they may differ. By the
    precision, `compile` decides whether to scale the loss.
    """
    carry_over(layer, copy)
    if not keras_state.is_layer(layer):
        return
    _copy_assets(layer, copy)
    copy.trainable = layer.trainable
    if copy.dtype_policy != layer.dtype_policy:
        copy.dtype_policy = layer.dtype_policy
    layers, copies = ({one.name: one for one in _inside(of)} for of in (layer, copy))
    for name in layers.keys() & copies.keys():
        _copy_flags(layers[name], copies[name])


def _copy_assets(layer: Any, copy: Any) -> None:
    """What a layer has learnt besides its weights, such as a vocabulary: as a saved file has it."""
    if not hasattr(layer, "save_assets"):
        return
    store: dict[str, Any] = {}
    layer.save_own_variables(store)
    copy.load_own_variables(store)
    with tempfile.TemporaryDirectory() as folder:
        layer.save_assets(folder)
        copy.load_assets(folder)


def _inside(layer: Any) -> list[Any]:
    network = keras_state.functional_of(layer)
    return keras_state.sublayers(layer) if network is None else network.operations


class _Copies:
    """One copy of each layer, wherever it is called: in a model, in a nested one, in a wrapper."""

    def __init__(self, known: Mapping[int, Any] = MappingProxyType({})) -> None:
        self._known: dict[int, Any] = dict(known)

    def has(self, layer: Any) -> bool:
        """Whether a layer was copied by itself, not as a part of another."""
        return id(layer) in self._known

    def of(self, layer: Any) -> Any:
        """The copy of a layer or model."""
        if id(layer) not in self._known:
            self._known[id(layer)] = self._new(layer)
        return self._known[id(layer)]

    def _new(self, layer: Any) -> Any:
        if keras_state.functional_of(layer) is not None:
            return keras.models.clone_model(layer, clone_function=self.of)
        if keras_state.is_lambda(layer):
            return keras_state.copied_lambda(layer)
        if keras_state.is_wrapper(layer):
            inner = self.of(layer.layer)
            settings = {k: v for k, v in layer.get_config().items() if k != "layer"}
            return type(layer)(inner, **settings)
        return _from_config(layer)


def _from_config(layer: Any) -> Any:
    try:
        return type(layer).from_config(layer.get_config())
    except Exception as error:
        kind = type(layer).__name__
        raise UnsupportedModel(
            f"Layer '{layer.name}' (class {kind}) cannot be copied: `{kind}.from_config("
            f"layer.get_config())` raises {type(error).__name__}: {error}. Expected a layer that "
            "its own `get_config` describes, as saving needs it, too. Correct it, or prune "
            "the model itself: `keras_gcp.narrow(model, plan)`, or the callback."
        ) from error


@contextmanager
def _taken_as_uncompiled(model: Any) -> Iterator[None]:
    """`clone_model` copies compile settings by serialization, which fails for plain functions."""
    compiled = model.compiled
    model.compiled = False
    try:
        yield
    finally:
        model.compiled = compiled
