"""Opens up nested models and composite layers: the same network as one flat functional model.

The graph of the model is run again on new symbolic inputs. A nested model is run likewise. A
composite layer (one with sublayers, called by its own Python code) is opened by calling its `call`
on symbolic tensors while the calls of its sublayers are caught. Every layer that is not opened, a
leaf, is represented by a twin: another object with the same variables, so that the given model's
layers keep their names and their graph.

What the Python code of a composite layer does besides calling layers and `keras.ops` would be
lost, so such a layer is left whole: see `_Flattener._closed_because` and `_Flattener._open`.
"""

from __future__ import annotations

import inspect
import warnings
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

import keras

from keras_gcp import keras_state
from keras_gcp.backend.comparison import outputs_in_inference, random_inputs, relative_difference
from keras_gcp.backend.sizes_to_run import sizes_to_run
from keras_gcp.channels.declared import find_names
from keras_gcp.channels.opaque import hidden_kernels, is_composite
from keras_gcp.errors import InvalidArgument, UnsupportedModel, VerificationFailed, in_short
from keras_gcp.validation import require_flag

VERIFY_EXAMPLES = 2
_TOLERANCE = 1e-5  # The very same operations run in the same order; only fusion may differ.


def flatten(model: Any, pyramid: bool = False) -> Any:
    """The same network without nested models and composite layers, sharing the variables.

    Channels cannot be followed through layers that call other layers in Python code, such as the
    blocks of most keras-hub backbones. The flat model is a plain functional `keras.Model` that
    calls the inner layers directly. It holds the same `keras.Variable` objects: training either
    model trains both. Its layers are other objects than the model's, so set `trainable` on the
    flat model, or before flattening. An inner layer keeps its name if no other layer has it; else
    the names of the layers around it are put in front.

    `keras_gcp.prune` and `keras_gcp.apply` on the flat model leave the given model intact, since
    they copy. The callback and `keras_gcp.narrow` work in place: they narrow the shared variables,
    and the given model, whose layers still expect the old widths, cannot be used any more.

    A composite layer is left whole, as one layer, if opening it could change what it computes:
    if it has weights, metrics or random states of its own, looks at `training`, passes a constant
    `training` on, reads the weights of a sublayer, makes layers with weights when it is called,
    receives a mask, or cannot run on symbolic tensors at all. There is a warning if it hides
    convolutions or dense layers; tracing the flat model then asks to name it in `exclude`. Layers
    of `keras.layers`, and layers with a rule of their own (`register_rule`), are not opened.

    The outputs of both models are compared on random inputs if the sizes of the inputs are known.

    Args:
        model: A built functional or sequential `keras.Model`. It stays as it is.
        pyramid: Whether to return the feature maps of a backbone (its `pyramid_outputs`, a dict
            by level) instead of its outputs.

    Returns:
        A new `keras.Model`, not compiled.

    Raises:
        UnsupportedModel: the model has no functional graph, or uses a weight outside of layers.
        InvalidArgument: `pyramid` is set for a model that has no `pyramid_outputs`.
        VerificationFailed: the flat model computes something else.

    Example:

    ```python
    inputs = keras.Input((32, 32, 3))
    block = keras.Sequential([keras.layers.Conv2D(16, 3), keras.layers.ReLU()], name="block")
    model = keras.Model(inputs, block(inputs))
    flat = keras_gcp.flatten(model)
    flat.summary()  # conv2d, re_lu
    ```
    """
    pyramid = require_flag("pyramid", pyramid)
    source = _with_pyramid_outputs(model) if pyramid else model
    find_names(keras_state.read_graph(source))
    inputs = keras_state.new_inputs(source)
    flattener = _Flattener(source)
    outputs = flattener.run(inputs)
    _refuse_loose_weights(source, inputs, outputs)
    flattener.rename(inputs, outputs)
    flat = keras.Model(inputs, outputs, name=model.name)
    _verify(source, flat)
    keras_state.supersede(model, flat)
    for layer, reason in flattener.closed.items():
        warnings.warn(f"`keras_gcp.flatten` leaves layer '{layer}' whole: {reason}.", stacklevel=2)
    return flat


def _with_pyramid_outputs(model: Any) -> Any:
    levels = getattr(model, "pyramid_outputs", None)
    if not isinstance(levels, dict) or not levels:
        raise InvalidArgument(
            f"`pyramid=True` asks for the feature maps of a backbone, but model "
            f"'{getattr(model, 'name', model)}' (class {type(model).__name__}) has no "
            "`pyramid_outputs`. Expected a backbone with feature levels; leave `pyramid` out to "
            "flatten the model with the outputs it has."
        )
    return keras.Model(model.input, dict(levels), name=model.name)


class _Closed(Exception):
    """A composite layer cannot be opened; says why."""


class _Training:
    """Stands for `training` in the code of a composite layer, which may only hand it on."""

    def _looked_at(self, *_: Any) -> NoReturn:
        raise _Closed("its `call` depends on `training`")

    __bool__ = __eq__ = __ne__ = __int__ = _looked_at
    __hash__ = None  # type: ignore[assignment]


_TRAINING = _Training()


class _Flattener:
    """One replay of a model's graph."""

    def __init__(self, model: Any) -> None:
        self.closed: dict[str, str] = {}
        self._model = model
        self._known = {id(variable) for variable in model.variables}
        self._twins: dict[int, tuple[Any, Any]] = {}  # original id -> (original, twin)
        self._place: dict[int, tuple[str, ...]] = {}  # operation id -> names of what is around it
        self._scope: tuple[str, ...] = ()
        self._catching = True

    def run(self, inputs: Any) -> Any:
        """The outputs of the flat graph."""
        with keras_state.layer_calls(self._caught):
            return self._run_graph(self._model, keras.tree.flatten(inputs))

    # ---- calls

    def _caught(self, original: Any, layer: Any, args: Any, kwargs: Any) -> Any:
        """A call of a layer by the code of a composite layer."""
        if not self._catching or not _symbols((args, kwargs)):
            return original(layer, *args, **kwargs)
        args, kwargs = _without_training(args, kwargs)
        return self._visit(layer, args, kwargs, original)

    def _in_graph(self, operation: Any, args: Any, kwargs: Any) -> Any:
        """A call in the graph of a functional model. `fit` and `predict` set `training` again."""
        kwargs = {key: value for key, value in kwargs.items() if key != "training"}
        return self._visit(operation, args, kwargs, None)

    def _visit(self, operation: Any, args: Any, kwargs: Any, original: Any) -> Any:
        if keras_state.functional_of(operation) is not None:
            return self._nested_model(operation, args, kwargs)
        if is_composite(operation):
            return self._composite(operation, args, kwargs, original)
        if keras_state.is_repeatable(operation, args, kwargs):
            return self._leaf(operation, args, kwargs, original, self._repeating(operation))
        return self._leaf(operation, args, kwargs, original)

    def _leaf(
        self, operation: Any, args: Any, kwargs: Any, original: Any, instead: Any = None
    ) -> Any:
        """A call of a layer that is not opened: of its twin, or of another layer instead."""
        if _hands_through(operation, args, kwargs):
            return args[0]
        if _is_lambda(operation) and len(args) == 1 and not kwargs:
            # Keras saves no lambdas; the operations that it consists of can be saved.
            return operation.activation(args[0])
        twin = self._twin(operation) if instead is None else instead
        before, self._catching = self._catching, False
        try:
            # A `__call__` of the layer's own has run already if its sublayer call was caught.
            outputs = original(twin, *args, **kwargs) if original else twin(*args, **kwargs)
        finally:
            self._catching = before
        if any(id(variable) not in self._known for variable in getattr(twin, "variables", ())):
            raise _Closed(f"its `call` makes a layer with weights of its own ('{operation.name}')")
        return outputs

    def _twin(self, operation: Any) -> Any:
        if id(operation) not in self._twins:
            twin = keras_state.twin(operation)
            self._twins[id(operation)] = operation, twin
            self._place[id(twin)] = self._scope
        return self._twins[id(operation)][1]

    def _nested_model(self, model: Any, args: Any, kwargs: Any) -> Any:
        extra = any(x is not None for x in keras.tree.flatten(kwargs))  # Keras records empty masks.
        expected = keras_state.input_symbols(model)
        given = keras_state.ordered_inputs(model, args[0]) if len(args) == 1 else []
        if extra or len(_symbols(given)) != len(expected):
            raise UnsupportedModel(
                f"Nested model '{model.name}' is called with other arguments than its "
                f"{len(expected)} inputs: {args!r}, {kwargs!r}. Expected `model(inputs)`."
            )
        # A model casts what enters it to the type of its inputs.
        entering = [
            x if x.dtype == symbol.dtype else keras.ops.cast(x, symbol.dtype)
            for x, symbol in zip(given, expected, strict=True)
        ]
        return self._inside(model.name, lambda: self._run_graph(model, entering))

    def _repeating(self, wrapper: Any) -> Any:
        """A `TimeDistributed` of the flat form of the model that another one repeats."""
        if id(wrapper) in self._twins:
            return self._twins[id(wrapper)][1]
        inner = wrapper.layer
        if keras_state.functional_of(inner) is None:
            flat = self._repeating(inner)
        else:
            flat = self._inside(wrapper.name, lambda: self._flat_model(inner))
        settings = {k: v for k, v in wrapper.get_config().items() if k != "layer"}
        self._twins[id(wrapper)] = wrapper, type(wrapper)(flat, **settings)
        self._place[id(self._twins[id(wrapper)][1])] = self._scope
        return self._twins[id(wrapper)][1]

    def _flat_model(self, model: Any) -> Any:
        if id(model) not in self._twins:
            inputs = keras_state.new_inputs(model)
            outputs = self._inside(
                model.name, lambda: self._run_graph(model, keras.tree.flatten(inputs))
            )
            self.rename(inputs, outputs)
            self._twins[id(model)] = model, keras.Model(inputs, outputs, name=model.name)
        return self._twins[id(model)][1]

    def _run_graph(self, model: Any, inputs: Sequence[Any]) -> Any:
        return keras_state.run_graph(model, inputs, self._in_graph)

    def _inside(self, name: str, action: Callable[[], Any]) -> Any:
        before, self._scope = self._scope, (*self._scope, name)
        try:
            return action()
        finally:
            self._scope = before

    # ---- composite layers

    def _composite(self, layer: Any, args: Any, kwargs: Any, original: Any) -> Any:
        reason = self._closed_because(layer, args, kwargs)
        if reason is None:
            try:
                return self._inside(layer.name, lambda: self._open(layer, args, kwargs))
            except _Closed as error:
                reason = str(error)
            except Exception as error:  # Whatever the layer's own code raises.
                reason = f"its `call` does not run on symbolic tensors ({in_short(error)})"
        if hidden_kernels(layer):
            self.closed.setdefault(layer.name, reason)
        return self._leaf(layer, args, kwargs, original)

    def _closed_because(self, layer: Any, args: Any, kwargs: Any) -> str | None:
        """What is known without opening the layer."""
        if own := keras_state.own_state(layer):
            return f"it has weights or random states of its own ({', '.join(own)})"
        if getattr(layer, "activity_regularizer", None) is not None:
            return "it has an activity regularizer"
        if getattr(layer, "quantization_mode", None) is not None:
            return "it is quantized"
        if any(keras_state.carries_mask(x) for x in _symbols((args, kwargs))):
            return "it receives a mask"
        training = inspect.signature(layer.call).parameters.get("training")
        if training is not None and training.default is True:
            return "its `call` trains unless told otherwise"
        return None

    def _open(self, layer: Any, args: Any, kwargs: Any) -> Any:
        args, kwargs = keras.tree.map_structure(
            lambda x: layer.dtype_policy.convert_input(x, layer.autocast, layer.input_dtype),
            (args, kwargs),
        )
        if "training" in inspect.signature(layer.call).parameters:
            kwargs = {**kwargs, "training": _TRAINING}
        outputs = layer.call(*args, **kwargs)
        flat = keras.tree.flatten(outputs)
        if not flat or len(_symbols(flat)) != len(flat):
            raise _Closed("its `call` returns something else than symbolic tensors")
        for operation, arguments in keras_state.calls_between(_symbols((args, kwargs)), flat):
            self._place.setdefault(id(operation), self._scope)
            if any(_is_value(x) for x in arguments):
                raise _Closed(
                    f"its `call` hands a weight or a computed tensor to '{operation.name}'"
                )
            if keras_state.has_unknown_size(operation):
                raise _Closed(
                    f"its `call` computes with the batch size, or another size that is unknown "
                    f"when the graph is made ('{operation.name}')"
                )
        return outputs

    # ---- names

    def rename(self, inputs: Any, outputs: Any) -> None:
        """Gives the operations of the flat graph different names."""
        flat = keras.tree.flatten(inputs), keras.tree.flatten(outputs)
        calls = reversed(keras_state.calls_between(*flat))
        operations = list({id(operation): operation for operation, _ in calls}.values())
        taken = {symbol.name for symbol in flat[0]}
        count = Counter([*taken, *(operation.name for operation in operations)])
        taken |= {name for name, times in count.items() if times == 1}
        for operation in sorted(operations, key=lambda o: len(self._place.get(id(o), ()))):
            if count[operation.name] > 1:
                operation.name = _free_name(
                    operation.name, self._place.get(id(operation), ()), taken
                )
                taken.add(operation.name)


def _hands_through(operation: Any, args: Any, kwargs: Any) -> bool:
    """Whether a layer returns its input as it is, as the placeholders of composite layers do."""
    if not keras_state.is_layer(operation) or len(args) != 1 or kwargs or operation.weights:
        return False
    plain = list(inspect.signature(operation.call).parameters) == ["inputs"]
    if not plain or getattr(operation, "activity_regularizer", None) is not None:
        return False
    try:
        return isinstance(args[0], keras.KerasTensor) and operation.call(args[0]) is args[0]
    except Exception:  # Not every function of `keras.activations` takes symbolic tensors.
        return False


def _is_lambda(operation: Any) -> bool:
    """Whether a layer does nothing but apply a lambda of `keras.ops`."""
    function = getattr(operation, "activation", None)
    name = getattr(function, "__name__", None)
    return name == "<lambda>" and type(operation) is keras.layers.Activation


def _free_name(name: str, around: Sequence[str], taken: set[str]) -> str:
    if not around and name not in taken:
        return name
    for outer in reversed(around):
        name = name if name.startswith(outer) else f"{outer}_{name}"
    numbered, number = name, 0
    while numbered in taken:
        number += 1
        numbered = f"{name}_{number}"
    return numbered


def _symbols(structure: Any) -> list[Any]:
    return [x for x in keras.tree.flatten(structure) if isinstance(x, keras.KerasTensor)]


def _is_value(leaf: Any) -> bool:
    return isinstance(leaf, keras.Variable) or bool(keras.ops.is_tensor(leaf))


def _without_training(args: Any, kwargs: Any) -> tuple[Any, Any]:
    """The arguments of a sublayer's call without the `training` that is handed on."""
    training = kwargs.get("training")
    handed_on = training is None or training is _TRAINING
    if not handed_on or any(x is _TRAINING for x in args):
        raise _Closed("its `call` sets `training` for a sublayer")
    return args, {key: value for key, value in kwargs.items() if key != "training"}


def _refuse_loose_weights(model: Any, inputs: Any, outputs: Any) -> None:
    """A weight that an operation of the graph uses directly belongs to no layer of a flat model."""
    for operation, arguments in keras_state.calls_between(
        keras.tree.flatten(inputs), keras.tree.flatten(outputs)
    ):
        if any(isinstance(x, keras.Variable) for x in arguments):
            raise UnsupportedModel(
                f"In model '{model.name}', operation '{operation.name}' (class "
                f"{type(operation).__name__}) uses a weight directly, outside of any layer; the "
                "flat model would not train or save it. Expected weights inside of layers: put "
                "the operation into a layer of your own."
            )


def _verify(model: Any, flat: Any) -> None:
    try:
        shapes = sizes_to_run(model, None)
    except UnsupportedModel:
        return  # It takes sizes that nobody has told; a cut will be proved at those of its sample.
    inputs = random_inputs(model, VERIFY_EXAMPLES, shapes=shapes)
    difference = relative_difference(
        outputs_in_inference(flat, inputs), outputs_in_inference(model, inputs)
    )
    if not difference <= _TOLERANCE:
        raise VerificationFailed(
            f"The flat form of model '{model.name}' differs from it by {difference:.3g} of its "
            f"largest output on random inputs; expected at most {_TOLERANCE:g}. One of its "
            "composite layers does something else when it is called on symbolic tensors. Please "
            "report the network; a rule of your own for that layer (`keras_gcp.register_rule`) "
            "leaves it whole."
        )
