"""Copies of a model."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Container, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import keras

from keras_gcp import keras_state
from keras_gcp.channels.declared import carry_over
from keras_gcp.errors import UnsupportedModel

Instead = Callable[[Any], Any]
"""A layer to what stands in its place, or to None."""


def _itself(layer: Any) -> None:
    """No other layer stands in its place."""


def copy_model(model: Any, instead: Instead = _itself) -> Any:
    """A functional copy with layers and variables of its own, holding the same weights.

    The copy is a plain `keras.Model` (or `Sequential`), and so are models inside of it: classes of
    one's own (keras-hub's backbones, say) build themselves from settings that know nothing of
    narrow layers. It is not compiled: its optimizer would start from nothing, and a loss of the
    user's own cannot always be copied.

    Args:
        model: A functional or sequential model.
        instead: What a layer becomes in the copy: another layer with weights of the same shapes in
            the same order; None for a copy of itself.

    Raises:
        UnsupportedModel: a layer cannot be made again from its configuration.
    """
    with _taken_as_uncompiled(model):
        copy = _Copies(instead).of(model)
    copy.set_weights(model.get_weights())
    _finish(model, copy)
    return copy


Rewired = Callable[[Any, Any, tuple[Any, ...], dict[str, Any]], Any]
"""`(operation, its copy, args, kwargs)` of one call to what is called in its place."""


def rewired_copy(model: Any, call: Rewired) -> tuple[Any, Mapping[int, Any]]:
    """`copy_model` with other calls than the model's own: layers put between, or left out.

    Nested models are copied likewise, `Sequential` ones as functional ones: their layers are
    merely listed, so there is no call to change.

    Args:
        model: The model.
        call: Makes each call on symbolic tensors, and returns what came of it.

    Returns:
        The copy, and copies of layers and operations by `id` of the original.

    Raises:
        UnsupportedModel: a layer cannot be made again from its configuration.
    """
    copies = _Copies(rewired=call)
    copy = _copied_by_layer(model, copies)
    return copy, {id(original): one for original, one in copies.pairs}


def exchanged_copy(model: Any, exchanged: Mapping[int, Any]) -> Any:
    """`copy_model` with other layers in the place of some, under their names.

    Args:
        model: The model.
        exchanged: `id` of a layer to what takes its place, unbuilt. Its weights are the caller's
            to set.

    Raises:
        UnsupportedModel: a layer cannot be made again from its configuration.
    """
    return _copied_by_layer(model, _Copies(lambda layer: exchanged.get(id(layer))), exchanged)


def _copied_by_layer(model: Any, copies: _Copies, other: Container[int] = ()) -> Any:
    """The copy, with the weights of every layer but those whose `id` is among `other`."""
    with _taken_as_uncompiled(model):
        copy = copies.of(model)
    for original, one in copies.pairs:
        inner = keras_state.innermost(original) if keras_state.is_layer(original) else None
        if inner is None or id(original) in other:
            continue
        # Models have theirs from their layers; what is called no more is not built, and has none.
        if keras_state.functional_of(inner) is None and one.built:
            one.set_weights(original.get_weights())
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

    def __init__(self, instead: Instead = _itself, rewired: Rewired | None = None) -> None:
        self._known: dict[int, tuple[Any, Any]] = {}  # The original too: its id stays its own.
        self._originals: dict[int, Any] = {}
        self._instead, self._rewired = instead, rewired

    @property
    def pairs(self) -> list[tuple[Any, Any]]:
        """Originals and copies."""
        return list(self._known.values())

    def of(self, layer: Any) -> Any:
        """The copy of a layer or model."""
        if id(layer) not in self._known:
            copy = self._new(layer)
            self._known[id(layer)] = layer, copy
            self._originals[id(copy)] = layer
        return self._known[id(layer)][1]

    def _call(self, copy: Any, *args: Any, **kwargs: Any) -> Any:
        assert self._rewired is not None
        return self._rewired(self._originals[id(copy)], copy, args, kwargs)

    def _new(self, layer: Any) -> Any:
        other = self._instead(layer)
        if other is not None:
            return other
        functional = keras_state.functional_of(layer)
        if functional is not None and self._rewired is not None:
            return keras.models.clone_model(
                functional, clone_function=self.of, call_function=self._call
            )
        if functional is not None:
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
