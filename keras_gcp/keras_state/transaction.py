"""Changes to a living model: made, and taken back."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import MappingProxyType
from typing import Any

import keras
import numpy as np
from keras.src.ops.symbolic_arguments import SymbolicArguments
from keras.src.utils import tracking

from keras_gcp.errors import UnsupportedModel
from keras_gcp.graph import Shape
from keras_gcp.keras_state.optimizers import optimizer_chain
from keras_gcp.keras_state.retiring import retire

COMPILED_FUNCTIONS = ("train_function", "test_function", "predict_function")
"""Where `fit`, `evaluate` and `predict` keep their compiled code."""


@contextmanager
def replaced_call(operation: Any, function: Callable[..., Any]) -> Iterator[None]:
    """Inside the context, a layer or operation computes another function."""
    vars(operation)["call"] = function  # Found before the method of the class.
    try:
        yield
    finally:
        del vars(operation)["call"]


class Transaction:
    """Changes to a living model that can be taken back as a whole.

    Used as a context manager: leaving it by an exception rolls everything back; leaving it
    without one makes the changes final, and lets go of how things were.
    """

    def __init__(self) -> None:
        self._undo: list[Callable[[], None]] = []
        self._when_final: list[Callable[[], None]] = []
        self._replaced: list[Any] = []  # values of variables, as they were before

    def __enter__(self) -> Transaction:
        return self

    def __exit__(self, kind: Any, error: Any, traceback: Any) -> None:
        if kind is not None:
            self.rollback()
        else:
            self.commit()

    def commit(self) -> None:
        """Makes the changes final, and lets go of how things were."""
        self._undo.clear()
        retire(self._replaced)
        self._replaced.clear()
        while self._when_final:
            self._when_final.pop()()

    def rollback(self) -> None:
        """Restores everything that was changed, latest change first."""
        self._when_final.clear()
        self._replaced.clear()
        while self._undo:
            self._undo.pop()()

    def on_rollback(self, action: Callable[[], None]) -> None:
        """Registers what else is to be done when the changes are taken back."""
        self._undo.append(action)

    def when_final(self, action: Callable[[], None]) -> None:
        """Registers what is to be done once the changes can no longer be taken back."""
        self._when_final.append(action)

    def set(self, owner: Any, name: str, value: Any) -> None:
        """Sets an attribute."""
        old = getattr(owner, name)
        self._undo.append(lambda: _set_untracked(owner, name, old))
        _set_untracked(owner, name, value)

    def set_item(self, mapping: dict[str, Any], key: str, value: Any) -> None:
        """Sets an entry of a dict."""
        old = mapping[key]
        self._undo.append(lambda: mapping.__setitem__(key, old))
        mapping[key] = value

    def replace_value(self, variable: Any, value: np.ndarray) -> None:
        """Gives a `keras.Variable` a value of another shape; the object stays the same."""
        old_value, old_shape = variable._value, variable._shape

        def undo() -> None:
            variable._value, variable._shape = old_value, old_shape

        self._undo.append(undo)
        self._replaced.append(old_value)
        variable._value = _backend_value(variable, value)
        variable._shape = tuple(int(size) for size in value.shape)

    def set_config(self, operation: Any, name: str | None, attribute: str, value: Any) -> None:
        """Sets a configuration entry of a layer or of a `keras.ops` operation.

        Args:
            operation: The layer or operation.
            name: Name of the constructor's argument; None if it has none for this.
            attribute: Name of the attribute.
            value: The new value.
        """
        self.set(operation, attribute, value)
        recorded = getattr(getattr(operation, "_auto_config", None), "config", None)
        if recorded is not None and name is not None and name in recorded:
            self.set_item(recorded, name, value)

    def set_argument(self, node: Any, position: int | str, value: Any) -> None:
        """Sets an argument of a recorded call: a positional one by its place, or by keyword."""
        args, kwargs = list(node.arguments.args), dict(node.arguments.kwargs)
        if isinstance(position, str):
            kwargs[position] = value
        else:
            args[position] = value
        self.set(node, "arguments", SymbolicArguments(*args, **kwargs))

    def set_symbolic_shape(self, symbol: Any, shape: Shape) -> None:
        """Sets the shape of a symbolic tensor."""
        self.set(symbol, "_shape", tuple(shape))

    def set_input_layer_shape(self, layer: Any, shape: Shape) -> None:
        """Sets the shape that the input layer of a nested model accepts."""
        self.set(layer, "_batch_shape", tuple(shape))

    def set_layer_inputs(
        self,
        layer: Any,
        wide: Sequence[Shape],
        narrow: Sequence[Shape],
        named: Mapping[str, Sequence[tuple[Shape, Shape]]] = MappingProxyType({}),
    ) -> None:
        """Brings a layer's input specification and recorded build shapes up to date.

        Args:
            layer: The layer.
            wide: Shapes of the tensors that enter, before the cut.
            narrow: After it.
            named: Pairs of shapes, before and after, by the argument of `call` that they are.
        """
        self._set_input_spec(layer, wide, narrow)
        built = getattr(layer, "_build_shapes_dict", None)
        if not built:
            return
        several = len(built) > 1  # Then Keras has named them by the arguments of `call`.
        renewed = {}
        for key, shapes in dict(built).items():
            pairs = named.get(key.removesuffix("_shape"), []) if several else []
            before, after = zip(*pairs, strict=True) if pairs else (wide, narrow)
            renewed[key] = _renewed_shapes(shapes, before, after)
        if renewed != dict(built):
            self.set(layer, "_build_shapes_dict", renewed)

    def _set_input_spec(self, layer: Any, wide: Sequence[Shape], narrow: Sequence[Shape]) -> None:
        if isinstance(layer, keras.Model) or getattr(layer, "input_spec", None) is None:
            return  # A model's input specification is derived from its inputs.
        specs = layer.input_spec
        several = isinstance(specs, list | tuple)
        renewed = [
            _renewed_spec(spec, new)
            for spec, new in zip(specs if several else [specs], narrow, strict=False)
        ]
        self.set(layer, "input_spec", renewed if several else renewed[0])

    def rekey_optimizer(self, optimizer: Any) -> None:
        """Renews the slot index of an optimizer after its variables got new values."""
        for part in optimizer_chain(optimizer):
            if not part.built:
                continue
            before = {index: key for key, index in part._trainable_variables_indices.items()}
            after = {part._var_key(v): i for i, v in enumerate(part._trainable_variables)}
            self.set(part, "_trainable_variables_indices", after)
            new_key = {before[index]: key for key, index in after.items() if index in before}
            chosen = getattr(part, "_var_to_optimizer_idx", None)  # of MultiOptimizer
            if chosen:
                renewed = {new_key.get(key, key): inner for key, inner in chosen.items()}
                self.set(part, "_var_to_optimizer_idx", renewed)
            excluded = getattr(part, "_exclude_from_weight_decay", None)
            if excluded:
                keys = {new_key.get(key, key) for key in excluded}
                self.set(part, "_exclude_from_weight_decay", keys)
            if getattr(part, "_exclude_from_weight_decay_cache", None):
                self.set(part, "_exclude_from_weight_decay_cache", {})

    def renew_compiled_functions(self, model: Any, in_fit: bool) -> None:
        """Drops compiled code that captured the old variables.

        Args:
            model: The model that `fit` runs on.
            in_fit: Whether a fit is running: it looks `train_function` up at every step, so a
                new one must be there when the callback returns.
        """
        for name in COMPILED_FUNCTIONS:
            self.set(model, name, None)
        if in_fit:
            model.make_train_function(force=True)


def _set_untracked(owner: Any, name: str, value: Any) -> None:
    with tracking.DotNotTrackScope():
        setattr(owner, name, value)


def _renewed_spec(spec: Any, shape: Shape) -> Any:
    if spec is None:
        return None
    axes = {axis: shape[axis] for axis in spec.axes} if spec.axes else spec.axes
    fixed = None
    if getattr(spec, "shape", None) is not None:
        fixed = tuple(
            None if old is None else new for old, new in zip(spec.shape, shape, strict=True)
        )
    return keras.InputSpec(
        dtype=spec.dtype,
        shape=fixed,
        ndim=spec.ndim,
        max_ndim=spec.max_ndim,
        min_ndim=spec.min_ndim,
        axes=axes,
        optional=getattr(spec, "optional", False),
    )


def _renewed_shapes(shapes: Any, wide: Sequence[Shape], narrow: Sequence[Shape]) -> Any:
    """Builds shapes with the sizes that surgery changed; others (batch, space) stay."""
    if shapes is None:
        return None
    if all(size is None or isinstance(size, int) for size in shapes):
        return _renewed_shape(shapes, wide[0], narrow[0])
    if isinstance(shapes, dict):
        return {
            key: _renewed_shape(shape, w, n)
            for (key, shape), w, n in zip(shapes.items(), wide, narrow, strict=False)
        }
    return [_renewed_shape(s, w, n) for s, w, n in zip(shapes, wide, narrow, strict=True)]


def _renewed_shape(shape: Any, wide: Shape, narrow: Shape) -> tuple[Any, ...]:
    return tuple(
        new if old != new else size for size, old, new in zip(shape, wide, narrow, strict=True)
    )


def _backend_value(variable: Any, value: np.ndarray) -> Any:
    backend = keras.config.backend()
    old = variable._value
    if backend == "tensorflow":
        import tensorflow as tf

        strategy = getattr(old, "_distribute_strategy", None) or tf.distribute.get_strategy()
        with tf.init_scope(), strategy.scope():
            return tf.Variable(
                value,
                dtype=old.dtype,
                trainable=old.trainable,  # the tape's flag; the layer's may be off for now
                name=variable.name,
                aggregation=variable._map_aggregation(variable.aggregation),
                synchronization=variable._map_synchronization(variable.synchronization),
            )
    if backend == "jax":
        import jax

        value = value.astype(old.dtype)
        if len(old.sharding.device_set) == 1:
            return jax.device_put(value)
        # Unlike `device_put`, without asking the other processes, one of which may have failed.
        return jax.make_array_from_callback(value.shape, old.sharding, lambda i: value[i])
    if backend == "torch":
        import torch

        tensor = torch.as_tensor(value, dtype=old.dtype, device=old.device)
        if isinstance(old, torch.nn.Parameter):
            return torch.nn.Parameter(tensor, requires_grad=old.requires_grad)
        return tensor
    raise UnsupportedModel(
        f"Backend '{backend}' cannot change a variable's shape. Expected one of 'tensorflow', "
        "'jax', 'torch'."
    )


def retrack_torch_parameters(model: Any) -> None:
    """PyTorch keeps parameters in a dictionary of its own; point it at the new ones."""
    if keras.config.backend() != "torch":
        return
    for layer in model._flatten_layers():
        if hasattr(layer, "_torch_params"):
            layer._track_variables()
