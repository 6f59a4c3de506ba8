"""Kernels that are multiplied with the inputs of a layer place by place, before all else it does.

Recurrent layers, attention and einsums read every vector of channels by kernels of their own: of
gates, of heads. What a cut takes from such a product can be made up for without running the layer.
Recurrent kernels read what the layer itself computes, step after step, and are left as they are.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from keras import layers, ops

from keras_gcp import keras_state
from keras_gcp.backend.calls import as_floats
from keras_gcp.channels.patches import some_places
from keras_gcp.channels.rules.attention import sources_of
from keras_gcp.channels.rules.einsum import read_equation
from keras_gcp.channels.rules.recurrent import cells_of
from keras_gcp.compensation.least_squares import correction
from keras_gcp.compensation.place import Place, Values
from keras_gcp.graph import Tensor


@dataclass(frozen=True, eq=False)
class Reader:
    """A product of what enters a layer and a kernel.

    Attributes:
        source: The tensor that enters.
        kernel: The kernel.
        axis: Its axis of the channels that enter; all others are of what leaves.
        bias: What is added to the product; None if nothing is.
        intercept: Whether a constant can be added to each of its outputs, here or later.
    """

    source: Tensor
    kernel: Any
    axis: int
    bias: Any
    intercept: bool


def of_recurrent(place: Place) -> Iterator[Reader]:
    """The kernel of the first cell of each direction."""
    layer = place.layer
    both = isinstance(layer, layers.Bidirectional)
    for one in [layer.forward_layer, layer.backward_layer] if both else [layer]:
        cell = next(cells_of(one.cell))
        yield Reader(place.call.inputs[0], cell.kernel, 0, cell.bias, cell.bias is not None)


def of_attention(place: Place) -> Iterator[Reader]:
    """The projections of query, key and value."""
    sources = sources_of(place.call)
    for dense, name in keras_state.projections(place.layer).entering():
        yield Reader(sources[name], dense.kernel, 0, dense.bias, dense.bias is not None)


def of_einsum(place: Place) -> Iterator[Reader]:
    """The kernel, if channels are all that it sums over and has in common with the input."""
    layer, (source,) = place.layer, place.call.inputs
    equation = read_equation(layer.equation, len(source.shape))
    common = [letter for letter in equation.kernel if letter in equation.entering]
    if len(common) == 1:
        intercept = set(equation.kernel) - set(common) <= set(layer.bias_axes or "")
        yield Reader(source, layer.kernel, equation.kernel.index(common[0]), None, intercept)


def reconstructed(place: Place, readers: Iterator[Reader], bias: Any = None) -> Values:
    """Kernels and biases of readers, then the bias that is added to the layer's output.

    Args:
        place: The layer, in both networks.
        readers: Its readers.
        bias: That last bias, or None.
    """
    values: Values = {}
    if place.settings.method is None:
        return values
    if place.reads_removed:
        for reader in readers:
            values.update(_refitted(place, reader))
    if bias is not None:
        missing = as_floats(place.wide_output) - as_floats(place.run(values))
        old = ops.convert_to_numpy(bias)
        values[id(bias)] = (old + _mean_like(missing, old.shape)).astype(old.dtype)
    return values


def _refitted(place: Place, reader: Reader) -> Values:
    weight = place.channels.weights.get(id(reader.kernel))
    if weight is None or reader.axis not in weight.consumed:
        return {}
    coupled = weight.axes[reader.axis]
    kept = place.keep[coupled]
    axis = _axis_of(place.channels.tensors[reader.source.index])
    wide, narrow = (
        np.moveaxis(as_floats(x), axis, -1).reshape(-1, len(coupled))
        for x in place.values_of(reader.source)
    )
    (rows,) = some_places((len(wide),), int(kept.sum()), thorough=True)
    value = ops.convert_to_numpy(reader.kernel)
    kernel = np.moveaxis(value, reader.axis, 0).reshape(len(coupled), -1).astype(wide.dtype)
    wanted, left = wide[rows] @ kernel, narrow[rows][:, kept]
    new = np.where(kept[:, None], kernel, 0)
    if place.settings.method == "least_squares":
        missing = wanted - left @ new[kept]
        new[kept] += correction(left, missing, reader.intercept, place.ridge)
    shape = (len(coupled), *np.delete(value.shape, reader.axis))
    values = {id(reader.kernel): np.moveaxis(new.reshape(shape), 0, reader.axis)}
    values = {key: one.astype(value.dtype) for key, one in values.items()}
    if reader.bias is not None:
        shift = (wanted - left @ new[kept]).mean(axis=0, dtype=np.float64)
        values[id(reader.bias)] = _shifted(ops.convert_to_numpy(reader.bias), shift)
    return values


def _shifted(bias: np.ndarray, shift: np.ndarray) -> np.ndarray:
    """A bias with something added; a GRU may have one for inputs and one for states."""
    new = bias.copy()
    if bias.size == shift.size:
        new += shift.reshape(bias.shape).astype(bias.dtype)
    else:
        new[0] += shift.astype(bias.dtype)
    return new


def _axis_of(block: np.ndarray) -> int:
    """Where channels lie, batch axis counted."""
    varying = [axis + 1 for axis, size in enumerate(block.shape) if size > 1]
    return varying[0] if varying else block.ndim


def _mean_like(missing: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """The mean over all axes on which a bias of this shape does not depend."""
    first = missing.ndim - len(shape)
    axes = [a for a in range(missing.ndim) if a < first or shape[a - first] == 1]
    return missing.mean(axis=tuple(axes), dtype=np.float64, keepdims=True).reshape(shape)
