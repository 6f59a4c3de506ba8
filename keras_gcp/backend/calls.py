"""Runs recorded calls of a model, one by one, in inference mode."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_gcp import backend, keras_state
from keras_gcp.graph import Call, Graph, Tensor, map_structure
from keras_gcp.sample import DrawnSample
from keras_gcp.sample.input_sizes import has_open_sizes, sizes_in


def run_call(call: Call, values: Mapping[int, Any]) -> list[Any]:
    """What a call returns, flattened.

    Args:
        call: The call.
        values: Tensor index to value, at least for the call's inputs.
    """

    def fill(leaf: Any) -> Any:
        return values[leaf.index] if isinstance(leaf, Tensor) else leaf

    args, kwargs = map_structure(fill, (call.args, call.kwargs))
    kwargs.pop("training", None)  # What was true while the model was built need not be true now.
    if "training" in inspect.signature(call.operation.call).parameters:
        kwargs["training"] = False
    return list(keras.tree.flatten(call.operation(*args, **kwargs)))


def all_values(
    graph: Graph,
    inputs: Sequence[Any],
    instead: Callable[[Any], Callable[[Any], Any] | None] = lambda operation: None,
) -> dict[int, Any]:
    """Every tensor of a model by its index; differentiable, with the weights as they are.

    Args:
        graph: The model's calls.
        inputs: Its inputs, in order.
        instead: What an operation of one input is to compute; None: what it does at inference.
    """
    values = {
        tensor.index: ops.convert_to_tensor(value, dtype=tensor.dtype)
        for tensor, value in zip(graph.inputs, inputs, strict=True)
    }
    for call in graph.calls:
        other = instead(call.operation)
        if other is None:
            outputs = run_call(call, values)
        else:
            outputs = [other(values[call.inputs[0].index])]
        values.update({y.index: v for y, v in zip(call.outputs, outputs, strict=True)})
    return values


def run_alone(
    model: Any,
    call: Call,
    values: Mapping[int, Any],
    weights: Sequence[tuple[Any, Any]],
    batches: int = 1,
) -> list[Any]:
    """`run_call` with other values of weights, compiled where the model runs only that way.

    No variable changes. Recurrent layers start again in each batch.

    Args:
        model: The model.
        call: One of its calls.
        values: Tensor index to value, at least for the call's inputs.
        weights: Pairs (variable, value), at least for the weights of the call's layer.
        batches: How many batches the values are (`batches_in`).
    """
    entering = {x.index: values[x.index] for x in call.inputs}
    # Only the layer's own: to enter a scope with all of them takes longer than many a layer.
    own = {id(variable) for variable in call.weights}
    mapping = [pair for pair in weights if id(pair[0]) in own]
    mapping += _fresh_states(call.operation)
    if batches == 1:
        return _run_once(model, call, entering, mapping)
    parts = [
        _run_once(model, call, _part(entering, number, batches), mapping)
        for number in range(batches)
    ]
    return [ops.concatenate(pieces) for pieces in zip(*parts, strict=True)]


def run_calls(
    model: Any,
    graph: Graph,
    inputs: Sequence[Any],
    altered: Callable[[Any], Any] = lambda output: output,
) -> Iterator[tuple[Call, Mapping[int, Any]]]:
    """Runs a model call by call, without derivatives; no variable changes.

    Args:
        model: The model.
        graph: Its calls.
        inputs: Its input tensors.
        altered: What becomes of a call's output before others read it.

    Yields:
        `(call, values)` after each call: tensor index to value, at least for what enters the call
        and what it returns. Tensors are let go after their last use.
    """
    last, batches = last_uses(graph), batches_in(model, inputs)
    values = {x.index: value for x, value in zip(graph.inputs, inputs, strict=True)}
    weights = list(zip(model.weights, backend.local_weights(model), strict=True))
    for at, call in enumerate(graph.calls):
        with backend.without_gradients():
            outputs = [altered(y) for y in run_alone(model, call, values, weights, batches)]
        values.update({y.index: v for y, v in zip(call.outputs, outputs, strict=True)})
        yield call, values
        for x in call.inputs:
            if last.get(x.index) == at:
                values.pop(x.index, None)


def batches_in(model: Any, inputs: Sequence[Any]) -> int:
    """How many batches its input tensors are, if the model has a fixed batch size; else one."""
    batch = keras_state.fixed_batch(model)
    return 1 if batch is None else len(inputs[0]) // batch


def _fresh_states(operation: Any) -> list[tuple[Any, Any]]:
    return keras_state.fresh_states(operation) if keras_state.is_layer(operation) else []


def _part(values: Mapping[int, Any], number: int, batches: int) -> dict[int, Any]:
    """One batch. Inside a repeated model there are several rows for each example."""
    sizes = {key: len(x) // batches for key, x in values.items()}
    return {key: x[number * sizes[key] : (number + 1) * sizes[key]] for key, x in values.items()}


def _run_once(
    model: Any, call: Call, values: Mapping[int, Any], mapping: Sequence[tuple[Any, Any]]
) -> list[Any]:
    with keras.StatelessScope(state_mapping=list(mapping)):
        if backend.runs_eagerly(model):
            return run_call(call, values)
        indices = sorted(values)

        def function(*tensors: Any) -> list[Any]:
            return run_call(call, dict(zip(indices, tensors, strict=True)))

        return list(backend.compiled(function, model)(*(values[index] for index in indices)))


def last_uses(graph: Graph) -> dict[int, int]:
    """Tensor index to the position of the last call that reads it; outputs of the model never."""
    found = {x.index: at for at, call in enumerate(graph.calls) for x in call.inputs}
    ends = {x.index for x in graph.outputs}
    return {index: at for index, at in found.items() if index not in ends}


def input_tensors(model: Any, graph: Graph, x: Any, count: int) -> list[Any]:
    """Some examples as the model's input tensors, taken evenly: they may be sorted by class.

    Whole batches, if the model has a fixed batch size.
    """
    total = len(keras_state.ordered_inputs(model, x)[0])
    return tensors_of(model, graph, x, evenly(total, keras_state.whole_batches(model, count)))


def tensors_of(model: Any, graph: Graph, x: Any, rows: np.ndarray) -> list[Any]:
    """Examples as the model's input tensors."""
    return [
        ops.convert_to_tensor(array[rows], dtype=tensor.dtype)
        for array, tensor in zip(keras_state.ordered_inputs(model, x), graph.inputs, strict=True)
    ]


def evenly(total: int, count: int) -> np.ndarray:
    """`count` rows of `total`, at the same distances."""
    return np.linspace(0, total - 1, count).astype(int)


MOST_NUMBERS = 2**27
"""Of the largest tensor, all examples together: some 512 MB."""


def inputs_that_fit(
    model: Any, graph: Graph, sample: DrawnSample, count: int | None = None
) -> list[Any]:
    """`input_tensors` of as many examples as fit into some 512 MB per tensor.

    Args:
        model: The model.
        graph: Its graph.
        sample: Examples.
        count: At most so many; None for as many as there are.
    """
    most = len(sample) if count is None else min(count, len(sample))
    return input_tensors(model, graph, sample.x, min(most, examples_that_fit(model, graph, sample)))


def examples_that_fit(model: Any, graph: Graph, sample: DrawnSample) -> int:
    """How many examples may run at once; at least one."""
    return max(1, MOST_NUMBERS // max(numbers_by_call(model, graph, sample)))


def numbers_by_call(model: Any, graph: Graph, sample: DrawnSample) -> list[int]:
    """How many numbers the largest tensor of every call has, for one example."""
    # At the sample's own size, where the model leaves it open; costs may be counted at another.
    sizes = sizes_in(model, sample) if has_open_sizes(model) else None
    calls = graph.calls if sizes is None else keras_state.read_graph(model, sizes).calls
    return [
        max(
            math.prod(size or 1 for size in (*call.repeats, *x.shape[1:]))
            for x in (*call.inputs, *call.outputs)
        )
        for call in calls
    ]


def as_floats(x: Any) -> np.ndarray:
    """A tensor as NumPy's float32, or float64 if it is that."""
    kind = keras.backend.standardize_dtype(x.dtype)
    return ops.convert_to_numpy(x if kind == "float64" else ops.cast(x, "float32"))


@contextmanager
def without_activation(layer: Any) -> Iterator[Callable[[Any], Any]]:
    """Inside the context, a layer has no activation; gives the activation.

    That of a recurrent layer is its cell's, and no function of what the layer computes: it stays.
    """
    activation = getattr(layer, "activation", None)
    of_cell = isinstance(getattr(type(layer), "activation", None), property)
    if not callable(activation) or of_cell:
        yield lambda x: x
        return
    layer.activation = keras.activations.linear
    try:
        yield activation
    finally:
        layer.activation = activation
