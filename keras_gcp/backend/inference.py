"""A model at inference: predictions, loss, and the derivatives of the loss.

Nothing here touches the functions that `fit`, `evaluate` and `predict` have compiled, and no
variable of the model changes: everything runs in a `keras.StatelessScope`.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_gcp import keras_state
from keras_gcp.backend.dispatch import (
    compiled,
    forget_gradients,
    local_weights,
    runs_eagerly,
    vjp,
    without_gradients,
)

DEFAULT_BATCH_SIZE = 64

_COMPILE_FROM = 4
"""From this number of full batches on, compiling saves more time than it costs."""


def worth_compiling(model: Any, examples: int, batch_size: int) -> bool:
    """Whether to compile a function that runs the model on batches of this size."""
    return examples // batch_size >= _COMPILE_FROM or not runs_eagerly(model)


def predict(model: Any, x: Any, batch_size: int = DEFAULT_BATCH_SIZE) -> Any:
    """The model's outputs for many inputs, in inference mode, batch by batch.

    Args:
        model: A built `keras.Model`.
        x: Array of shape `(examples, ...)`, or the list or dict of arrays that the model takes.
        batch_size: Examples per batch; bounds the memory. A model of a fixed batch size gets
            batches of that size, the last one filled up.

    Returns:
        NumPy array of shape `(examples, ...)`, structured like the model's outputs.
    """
    count = len(keras.tree.flatten(x)[0])

    def outputs_of(weights: Sequence[Any], x: Any, y: Any) -> Any:
        with with_weights(model, weights), without_gradients():
            return model(keras_state.pack_inputs(model, x), training=False)

    batches = list(over_batches(outputs_of, model, x, None, batch_size))
    return keras.tree.map_structure(
        lambda *parts: np.concatenate([ops.convert_to_numpy(part) for part in parts])[:count],
        *(outputs for outputs, _ in batches),
    )


def sample_loss(model: Any, x: Any, y: Any, batch_size: int = DEFAULT_BATCH_SIZE) -> float | None:
    """The compiled loss on some examples, in inference mode, without regularisation.

    Penalties on weights are left out, since they fall whenever weights are removed and would
    hide what a cut costs.

    Args:
        model: A built `keras.Model`.
        x: Inputs, as for `predict`.
        y: Labels, structured as the compiled loss wants them.
        batch_size: Examples per batch.

    Returns:
        The mean over the examples, or None if the model is not compiled with a loss.
    """
    if not has_loss(model):
        return None

    def loss_of(weights: Sequence[Any], x: Any, y: Any) -> Any:
        with with_weights(model, weights), without_gradients():
            return _loss(model, x, y)

    batches = over_batches(loss_of, model, x, y, batch_size)
    return sum(share * float(ops.convert_to_numpy(loss)) for loss, share in batches)


def loss_gradients(
    model: Any,
    x: Any,
    y: Any,
    variables: Sequence[Any] | None = None,
    batch_size: int = DEFAULT_BATCH_SIZE,
) -> tuple[float, list[np.ndarray]]:
    """The loss of `sample_loss`, and its derivatives with respect to weights.

    Args:
        model: A built `keras.Model`, compiled with a loss.
        x: Inputs, as for `predict`.
        y: Labels.
        variables: The `keras.Variable`s to differentiate by, frozen ones allowed; the model's
            trainable variables if None.
        batch_size: Examples per batch.

    Returns:
        `(loss, gradients)`: the mean over the examples, and per variable an array of its shape.
    """
    chosen = list(model.trainable_variables if variables is None else variables)
    positions = {id(variable): place for place, variable in enumerate(model.weights)}
    places = [positions[id(variable)] for variable in chosen]

    def loss_and_gradients(weights: Sequence[Any], x: Any, y: Any) -> Any:
        def loss_of(*point: Any) -> Any:
            replaced = list(weights)
            for place, value in zip(places, point, strict=True):
                replaced[place] = value
            with with_weights(model, replaced):
                return _loss(model, x, y)

        loss, pullback = vjp(loss_of, *(weights[place] for place in places))
        return loss, pullback(ops.ones_like(loss))

    total = 0.0
    gradients = [np.zeros(variable.shape, np.float32) for variable in chosen]
    batches = over_batches(loss_and_gradients, model, x, y, batch_size)
    for (loss, parts), share in batches:
        total += share * float(ops.convert_to_numpy(loss))
        for gradient, part in zip(gradients, parts, strict=True):
            gradient += share * ops.convert_to_numpy(part)
    return total, gradients


class Predictor:
    """A model's outputs for any values of its weights: compiled once, run as often as needed.

    Weights are arguments of the compiled function, so other values need no new compilation. Use it
    as a context manager: leaving it lets go of the compiled code.

    Args:
        model: A built `keras.Model`.
        batch_size: Examples per batch; bounds the memory.
        compile: Whether to compile; not worth its time for a few batches (`worth_compiling`).
    """

    def __init__(
        self, model: Any, batch_size: int = DEFAULT_BATCH_SIZE, compile: bool = True
    ) -> None:
        def outputs_of(weights: Sequence[Any], x: Any) -> Any:
            with with_weights(model, weights), without_gradients():
                return model(keras_state.pack_inputs(model, x), training=False)

        self._run = compiled(outputs_of, model) if compile else outputs_of
        fixed = keras_state.fixed_batch(model)
        self._batch_size, self._fixed = fixed or batch_size, fixed is not None
        self._same_size = compile or self._fixed

    def __enter__(self) -> Predictor:
        return self

    def __exit__(self, *error: object) -> None:
        forget_gradients(self._run)

    def batches(self, weights: Sequence[Any], x: Any, y: Any) -> Iterator[tuple[Any, Any, Any]]:
        """Runs the model in inference mode.

        Args:
            weights: A tensor for every weight, in the order of `model.weights`.
            x: Inputs, as for `predict`.
            y: Labels, or a structure of them.

        Yields:
            `(x, y, outputs)` of every batch, as tensors.
        """
        count = len(keras.tree.flatten(x)[0])
        size = self._batch_size if self._fixed else min(self._batch_size, count)
        for start in range(0, count, size):
            end = min(start + size, count)
            inputs, labels = _rows(x, start, end), _rows(y, start, end)
            if end - start < size and self._same_size:
                outputs = self._run(weights, _filled_up(x, start, size))
                outputs = keras.tree.map_structure(lambda y, n=end - start: y[:n], outputs)
            else:
                outputs = self._run(weights, inputs)
            yield inputs, labels, outputs


def _filled_up(x: Any, start: int, size: int) -> Any:
    """The last rows, and the very last one again and again: another size would compile again."""

    def fill(leaf: Any) -> Any:
        if leaf is None:
            return None
        rows = np.minimum(np.arange(start, start + size), len(leaf) - 1)
        return np.asarray(leaf)[rows]

    return _rows(keras.tree.map_structure(fill, x), 0, size)


def has_loss(model: Any) -> bool:
    """Whether the model is compiled with a loss, or computes one of its own."""
    own = type(model).compute_loss is not keras.Model.compute_loss
    return bool(model.compiled) and (model.loss is not None or own)


def _loss(model: Any, x: Any, y: Any) -> Any:
    """The compiled loss of one batch, without penalties."""
    return loss_of_outputs(model, x, y, model(keras_state.pack_inputs(model, x), training=False))


def loss_of_outputs(model: Any, x: Any, y: Any, y_pred: Any, sample_weight: Any = None) -> Any:
    """The compiled loss of a batch whose outputs are known, without penalties on weights."""
    arguments: dict[str, Any] = {"x": x, "y": y, "y_pred": y_pred, "sample_weight": sample_weight}
    if "training" in inspect.signature(model.compute_loss).parameters:
        arguments["training"] = False
    loss = model.compute_loss(**arguments)
    for penalty in model.losses:
        loss = loss - ops.cast(ops.sum(penalty), loss.dtype)
    return loss


def with_weights(model: Any, values: Sequence[Any]) -> Any:
    """A scope in which weights have other values, and in which no variable is changed.

    Recurrent layers that go on where the last batch ended start again in it.
    """
    pairs = zip(model.weights, values, strict=True)
    return keras.StatelessScope(state_mapping=[*pairs, *keras_state.fresh_states(model)])


def over_batches(
    function: Callable[[Sequence[Any], Any, Any], Any],
    model: Any,
    x: Any,
    y: Any,
    size: int,
) -> Iterator[tuple[Any, float]]:
    """Results of `function(weights, x, y)` for batches, each with its share of all examples.

    Weights are arguments: compiled code that held them as constants would be slow to compile. Where
    the model has a fixed batch size, the last batch is filled up with its last example; a sample
    is made of whole batches.
    """
    count = len(keras.tree.flatten(x)[0])
    fixed = keras_state.fixed_batch(model)
    size = fixed or size
    weights = local_weights(model)
    fast = compiled(function, model) if worth_compiling(model, count, size) else function
    rest = function if runs_eagerly(model) else fast  # The rest alone is not worth compiling.
    try:
        for start in range(0, count, size):
            end = min(start + size, count)
            run = fast if end - start == size else rest
            parts = _filled_up((x, y), start, size) if fixed else _rows((x, y), start, end)
            yield run(weights, *parts), (end - start) / count
    finally:
        forget_gradients(fast)


def _rows(structure: Any, start: int, end: int) -> Any:
    """Some rows as tensors: NumPy's float64 becomes Keras' `floatx`, as in `fit`."""

    def convert(leaf: Any) -> Any:
        if leaf is None:
            return None
        wide = getattr(leaf, "dtype", None) == np.float64
        dtype = keras.config.floatx() if wide else None
        return ops.convert_to_tensor(leaf[start:end], dtype=dtype)

    return keras.tree.map_structure(convert, structure)
