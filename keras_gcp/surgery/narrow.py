"""Makes a living model narrower, in place: layers, weights, optimizer, shapes, compiled code."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

import keras
import numpy as np

from keras_gcp import backend, keras_state
from keras_gcp.channels.findings import Count
from keras_gcp.channels.map import ChannelMap, kept_along, taken
from keras_gcp.graph import Call, Shape, Tensor, leaves, map_structure
from keras_gcp.keras_state import Transaction
from keras_gcp.surgery.optimizer import check_optimizer, narrow_slots


def narrow_model(
    channels: ChannelMap,
    keep: np.ndarray,
    transaction: Transaction,
    optimizers: Sequence[Any] = (),
    in_fit: bool = False,
) -> None:
    """Removes every channel that is not kept.

    Layers and variables stay the same Python objects; what is inside them changes. Other models
    that use some of the weights (submodels, nested models, neighbours) follow, with their
    optimizers.

    Args:
        channels: The model's channel map.
        keep: `(coupled_count,)` booleans, True = kept.
        transaction: Receives every change, so that all of it can be taken back.
        optimizers: Optimizers whose slots follow, besides those that the models hold.
        in_fit: Whether `model.fit` is running.
    """
    model = channels.model
    sharing = keras_state.models_sharing(model)
    optimizers = _optimizers(optimizers, [model, *sharing])
    for optimizer in optimizers:
        check_optimizer(optimizer)
    # Changes are taken back in reverse, so this comes last.
    transaction.on_rollback(partial(keras_state.retrack_torch_family, model))
    for optimizer in optimizers:
        narrow_slots(optimizer, channels, keep, transaction)
    for weight in channels.all_weights.values():
        if _is_cut(weight.axes, keep):
            value = keras.ops.convert_to_numpy(weight.variable)
            transaction.replace_value(weight.variable, taken(value, weight.axes, keep))
    for optimizer in optimizers:
        transaction.rekey_optimizer(optimizer)
    _narrow_configs(channels, keep, transaction)
    _narrow_shapes(channels, keep, transaction)
    for one in sharing:
        _renew(one, transaction, in_fit=one.train_function is not None)
    _renew(model, transaction, in_fit)


def _renew(model: Any, transaction: Transaction, in_fit: bool) -> None:
    """Lets a model find its new variables, and compile for them when it runs again."""
    keras_state.retrack_torch_parameters(model)
    for name in keras_state.COMPILED_FUNCTIONS:
        old = getattr(model, name, None)
        transaction.when_final(partial(backend.forget_gradients, old))
    transaction.renew_compiled_functions(model, in_fit)
    transaction.when_final(partial(keras_state.renew_state, model))


def _optimizers(given: Sequence[Any], models: Sequence[Any]) -> list[Any]:
    held = [optimizer for model in models for optimizer in keras_state.optimizers_of(model)]
    return list({id(optimizer): optimizer for optimizer in [*given, *held]}.values())


def _is_cut(axes: Any, keep: np.ndarray) -> bool:
    return any(not keep[coupled].all() for coupled in axes.values())


def _narrow_configs(channels: ChannelMap, keep: np.ndarray, transaction: Transaction) -> None:
    def filled(leaf: Any) -> Any:
        return int(keep[leaf.ids].sum()) if isinstance(leaf, Count) else leaf

    # Compared with what stands there, not with the counts' own cuts: `x[..., -4:]` and a split in
    # two equal parts change their meaning when channels elsewhere on the axis go.
    for config in channels.configs:
        value = map_structure(filled, config.value)
        if config.attribute is None:
            continue
        if value != getattr(config.operation, config.attribute):
            transaction.set_config(config.operation, config.name, config.attribute, value)
    for argument in channels.arguments:
        value, recorded = map_structure(filled, argument.value), argument.node.arguments
        by_keyword = isinstance(argument.position, str)
        if value != (recorded.kwargs if by_keyword else recorded.args)[argument.position]:
            transaction.set_argument(argument.node, argument.position, value)


def _narrow_shapes(channels: ChannelMap, keep: np.ndarray, transaction: Transaction) -> None:
    for symbol, x in (pair for graph in channels.graphs for pair in graph.symbols):
        old = tuple(symbol.shape)
        new = narrow_shape(x, old, channels, keep)
        if new != old:
            transaction.set_symbolic_shape(symbol, new)
    for layer, x in (pair for graph in channels.graphs for pair in graph.input_layers):
        new = narrow_shape(x, tuple(layer.batch_shape), channels, keep)
        transaction.set_input_layer_shape(layer, new)
    seen: set[int] = set()
    for layer, inputs, named in _layers_with_inputs(channels):
        if id(layer) in seen:
            continue  # A shared layer: every call sees the same channels.
        seen.add(id(layer))
        before = [x.shape for x in inputs]
        after = [narrow_shape(x, x.shape, channels, keep) for x in inputs]
        if before != after:
            places = {x.index: place for place, x in enumerate(inputs)}
            entering = {
                name: [(before[places[x.index]], after[places[x.index]]) for x in found]
                for name, found in named.items()
            }
            transaction.set_layer_inputs(layer, before, after, entering)
    for held in channels.held:
        narrowed = cut_shape(held.shape, keep[held.block])
        if narrowed != held.shape and id(held.layer) not in seen:
            seen.add(id(held.layer))
            transaction.set_layer_inputs(held.layer, [held.shape], [narrowed])


Named = dict[str, list[Tensor]]


def _layers_with_inputs(
    channels: ChannelMap,
) -> Iterator[tuple[Any, tuple[Tensor, ...], Named]]:
    """Layers, the tensors that enter, and which of these are which argument of `call`."""
    for graph in channels.graphs:
        for call in graph.calls:
            if keras_state.is_layer(call.operation):
                yield call.operation, call.inputs, _by_argument(call)
        for container in graph.containers:
            yield container.model, container.inputs, {}


def _by_argument(call: Call) -> Named:
    given = inspect.signature(call.operation.call).bind(*call.args, **call.kwargs).arguments
    return {
        name: [x for x in leaves(value) if isinstance(x, Tensor)] for name, value in given.items()
    }


def narrow_shape(x: Tensor, shape: Shape, channels: ChannelMap, keep: np.ndarray) -> Shape:
    """A tensor's shape after the cut; axes without channels keep their size."""
    return cut_shape(shape, keep[channels.tensors[x.index]])


def cut_shape(shape: Shape, block: np.ndarray) -> Shape:
    """A shape after the cut; `block` tells which positions of the tensor are kept."""
    sizes = list(shape)
    for axis, line in kept_along(block):
        sizes[axis] = int(line.sum())
    return tuple(sizes)
