"""Which channels are nothing but zeros wherever they are read, once some layers have closed them.

Removing a channel is exact if those that read it got zeros anyway. An activation may make something
of zero (sigmoid), a normalization between may add its shift; so each call is tried out: random
numbers go in, zeros at the channels that are zero by then, and what comes out as zero stays so.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import keras
import numpy as np

from keras_gcp import backend, keras_state
from keras_gcp.backend.calls import as_floats, batches_in, run_alone
from keras_gcp.backend.comparison import random_inputs
from keras_gcp.backend.sizes_to_run import sizes_to_run
from keras_gcp.channels.map import ChannelMap
from keras_gcp.criteria.readers import readers_of

_EXAMPLES = 4
"""Above and below zero by turns, so that no activation takes all of a map of one pixel for zero."""

Weights = Sequence[tuple[Any, Any]]
"""Pairs (variable, value)."""


def own_weights(model: Any) -> Weights:
    """A model's weights as they are: what is closed by them now."""
    return list(zip(model.weights, backend.local_weights(model), strict=True))


def trained_weights(model: Any, rng: np.random.Generator) -> Weights:
    """What training may make of a model's weights, as far as zeros go.

    Fresh biases and shifts are 0, and would be taken for silence.
    """
    return [(one, _unlike_fresh(value, rng)) for one, value in own_weights(model)]


def _unlike_fresh(value: Any, rng: np.random.Generator) -> Any:
    kind = keras.backend.standardize_dtype(value.dtype)
    array = as_floats(value) if "float" in kind else np.zeros(0)
    if not array.size or (array != array.flat[0]).any():
        return value
    drawn = (
        rng.normal(size=array.shape) if array.flat[0] == 0 else rng.uniform(0.5, 1.5, array.shape)
    )
    return keras.ops.convert_to_tensor(drawn, dtype=kind)


def where_read(
    channels: ChannelMap, closed: Mapping[int, np.ndarray], weights: Weights, seed: int = 0
) -> dict[int, str]:
    """Coupled channels that reach a reader as something else than zero, with its path.

    Args:
        channels: The model's channel map.
        closed: `id` of a layer to which channels of its output are zero, `(channels,)` booleans.
        weights: The model's.
        seed: For the random numbers.
    """
    model, graph = channels.model, channels.graph
    rng = np.random.default_rng(seed)
    readers: dict[int, list[Any]] = {}
    for reader in readers_of(channels):
        readers.setdefault(id(reader.call), []).append(reader)
    examples = keras_state.whole_batches(model, _EXAMPLES)
    given = random_inputs(model, examples, shapes=sizes_to_run(model, None))
    inputs = [
        keras.ops.convert_to_tensor(x, dtype=tensor.dtype)
        for x, tensor in zip(keras_state.ordered_inputs(model, given), graph.inputs, strict=True)
    ]
    batches = batches_in(model, inputs)
    values = {x.index: value for x, value in zip(graph.inputs, inputs, strict=True)}
    loud = {x.index: np.ones_like(channels.tensors[x.index], bool) for x in graph.inputs}
    found: dict[int, str] = {}
    for call in graph.calls:
        with backend.without_gradients():
            outputs = run_alone(model, call, values, weights, batches)
        for x, y in zip(call.outputs, outputs, strict=True):
            block = channels.tensors[x.index]
            own = closed.get(id(call.operation))
            loud[x.index] = _heard(y, block) if own is None else ~_laid_out(own, block)
            values[x.index] = _drawn_again(y, loud[x.index], rng)
        for reader in readers.get(id(call), ()):
            source = reader.source.index
            for coupled in np.unique(channels.tensors[source][loud[source]]).tolist():
                found.setdefault(coupled, call.path)
    return found


def _heard(y: Any, block: np.ndarray) -> np.ndarray:
    """Where along a block a tensor has anything but zeros."""
    if "float" not in keras.backend.standardize_dtype(y.dtype):
        return np.ones_like(block, bool)
    anything = (as_floats(y) != 0).any(axis=0)
    axes = tuple(axis for axis, size in enumerate(block.shape) if size == 1)
    return np.asarray(anything.any(axis=axes, keepdims=True)).reshape(block.shape)


def _laid_out(own: np.ndarray, block: np.ndarray) -> np.ndarray:
    return own.reshape([-1 if size > 1 else 1 for size in block.shape])


def _drawn_again(y: Any, loud: np.ndarray, rng: np.random.Generator) -> Any:
    """Random numbers of a tensor's shape: what comes of them is no accident of what came before."""
    kind = keras.backend.standardize_dtype(y.dtype)
    if "float" not in kind:
        return y
    sizes = np.abs(rng.normal(size=tuple(y.shape))) + 0.1
    signs = np.where(np.arange(len(sizes)) % 2, -1.0, 1.0)
    drawn = sizes * signs.reshape([-1] + [1] * (sizes.ndim - 1)) * loud[None]
    return keras.ops.convert_to_tensor(drawn, dtype=kind)
