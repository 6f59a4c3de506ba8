"""The only file that touches private state of Keras.

Reading: `read_graph` turns a functional model into plain data (`keras_gcp.graph`).
Replaying: what `keras_gcp.flatten` needs to run a model's graph again on other symbolic tensors.
Writing: `Transaction` changes variables, layers, optimizer slots and symbolic shapes of a
*living* model, remembers how each of them was, and takes all of it back on request.

`keras_gcp.versions` says which versions of Keras have it. What each piece of state is for:

- `Variable._value`, `Variable._shape`: the backend's tensor and its recorded shape. `assign`
  refuses another shape, so surgery replaces both.
- `Layer._build_shapes_dict`: written to `.keras` files; when stale, saving works, loading fails.
- `KerasTensor._shape`: what `summary()`, `layer.output` and submodels built later see.
- `BaseOptimizer._trainable_variables_indices`: slot positions; on TensorFlow keyed by the inner
  `tf.Variable`, so it is stale after a replacement.
- `train_function`, `test_function`, `predict_function`: compiled code that captured the old
  variables. If kept, TensorFlow goes on training the old, wide variables without any error.
"""

from __future__ import annotations

import gc
import inspect
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import keras
import numpy as np
from keras.src.backend.common import global_state
from keras.src.ops.symbolic_arguments import SymbolicArguments
from keras.src.random.seed_generator import global_seed_generator
from keras.src.utils import tracking

from keras_gcp.errors import UnsupportedModel
from keras_gcp.graph import Call, Container, Graph, Shape, Tensor, leaves, map_structure

COMPILED_FUNCTIONS = ("train_function", "test_function", "predict_function")
"""Where `fit`, `evaluate` and `predict` keep their compiled code."""

# ------------------------------------------------------------------------------- reading


def functional_of(model: Any) -> Any | None:
    """The functional graph inside a model, or None if there is none (yet)."""
    if isinstance(model, keras.Sequential):
        return model._functional
    return model if hasattr(model, "_nodes_by_depth") else None


def input_structure(model: Any) -> Any:
    """The model's symbolic inputs: one tensor, a list or a dict."""
    structure = _require_functional(model)._inputs_struct
    single = isinstance(model, keras.Sequential) and isinstance(structure, list | tuple)
    return structure[0] if single else structure


def pack_inputs(model: Any, x: Any) -> Any:
    """Inputs in the structure that the model was built with.

    A model built with `[input]` warns when it is called with a single tensor.
    """
    structure, flat = input_structure(model), keras.tree.flatten(x)
    if len(keras.tree.flatten(structure)) != len(flat):
        return x  # Calling the model says what is wrong.
    return keras.tree.pack_sequence_as(structure, flat)


def is_layer(operation: Any) -> bool:
    """Whether an operation is a layer (as against a `keras.ops` operation)."""
    return isinstance(operation, keras.layers.Layer)


def read_graph(model: Any) -> Graph:
    """Reads a functional or sequential model, nested models included.

    Raises:
        UnsupportedModel: the model has no functional graph, or was never built.
    """
    functional = _require_functional(model)
    reader = _Reader()
    inputs = [reader.new_tensor(symbol.shape, symbol.dtype) for symbol in functional._inputs]
    outputs = reader.run(functional, inputs, prefix="")
    return Graph(
        calls=tuple(reader.calls),
        inputs=tuple(inputs),
        outputs=tuple(outputs),
        symbols=tuple(reader.symbols),
        containers=tuple(reader.containers),
        input_layers=tuple(reader.input_layers),
    )


def _require_functional(model: Any) -> Any:
    if not isinstance(model, keras.Model):
        raise UnsupportedModel(
            f"Expected a `keras.Model`. Received: {model!r} (of type {type(model).__name__})."
        )
    functional = functional_of(model)
    if functional is not None:
        return functional
    kind = f"Model '{model.name}' (class {type(model).__name__})"
    if isinstance(model, keras.Sequential):
        raise UnsupportedModel(
            f"{kind} is not built, so its layers have no shapes yet. Put a `keras.Input(shape)` "
            "first, or call `model.build(input_shape)`, before pruning."
        )
    raise UnsupportedModel(
        f"{kind} is a subclassed model: its layers are called by Python code, so there is no "
        "graph to follow the channels through. Expected a `keras.Sequential` or a functional "
        "`keras.Model(inputs, outputs)`. Rebuild the network with the functional API (its layers "
        "and their weights can be reused as they are)."
    )


class _Reader:
    def __init__(self) -> None:
        self.calls: list[Call] = []
        self.symbols: list[tuple[Any, Tensor]] = []
        self.containers: list[Container] = []
        self.input_layers: list[tuple[Any, Tensor]] = []
        self._count = 0

    def new_tensor(self, shape: Shape, dtype: Any) -> Tensor:
        self._count += 1
        return Tensor(self._count - 1, tuple(shape), keras.backend.standardize_dtype(dtype))

    def run(self, functional: Any, inputs: Sequence[Tensor], prefix: str) -> list[Tensor]:
        known = {id(symbol): x for symbol, x in zip(functional._inputs, inputs, strict=True)}
        self.symbols.extend(zip(functional._inputs, inputs, strict=True))
        # A nested model may be called on another spatial size than it was built with.
        resized = any(
            tuple(symbol.shape) != x.shape
            for symbol, x in zip(functional._inputs, inputs, strict=True)
        )
        if prefix:
            self.input_layers.extend(
                (symbol._keras_history.operation, x)
                for symbol, x in zip(functional._inputs, inputs, strict=True)
            )
        for depth in sorted(functional._nodes_by_depth, reverse=True):
            for node in functional._nodes_by_depth[depth]:
                if node.operation is None or node.is_input:
                    continue
                outputs = self._call(node, known, prefix, resized)
                for symbol, x in zip(node.outputs, outputs, strict=True):
                    known[id(symbol)] = x
                    self.symbols.append((symbol, x))
        return [known[id(symbol)] for symbol in functional._outputs]

    def _call(self, node: Any, known: dict[int, Tensor], prefix: str, resized: bool) -> list[Any]:
        operation = node.operation

        def fill(leaf: Any) -> Any:
            return known[id(leaf)] if isinstance(leaf, keras.KerasTensor) else leaf

        args = tuple(map_structure(fill, node.arguments.args))
        kwargs = map_structure(fill, dict(node.arguments.kwargs))
        inputs = tuple(x for x in leaves((args, kwargs)) if isinstance(x, Tensor))
        nested = functional_of(operation)
        if nested is not None:
            entering = [x for x in leaves(args[0] if args else kwargs) if isinstance(x, Tensor)]
            self.containers.append(Container(operation, tuple(entering)))
            return self.run(nested, entering, f"{prefix}{operation.name}/")
        outputs = self._outputs(node, args, kwargs, resized)
        self.calls.append(
            Call(operation, prefix + operation.name, args, kwargs, inputs, tuple(outputs), node)
        )
        return outputs

    def _outputs(self, node: Any, args: Any, kwargs: Any, resized: bool) -> list[Tensor]:
        specs = node.outputs
        if resized:

            def symbolic(leaf: Any) -> Any:
                return (
                    keras.KerasTensor(leaf.shape, leaf.dtype) if isinstance(leaf, Tensor) else leaf
                )

            specs = keras.tree.flatten(
                node.operation.compute_output_spec(
                    *map_structure(symbolic, args), **map_structure(symbolic, kwargs)
                )
            )
        return [self.new_tensor(spec.shape, spec.dtype) for spec in specs]


# ------------------------------------------------------------------------------- replaying


def sublayers(layer: Any) -> list[Any]:
    """The layers that a layer holds, also in lists and dicts, directly or further inside."""
    return list(layer._flatten_layers(include_self=False))


def operations(model: Any) -> list[Any]:
    """The layers of a model at any depth, and the operations between them."""
    layers = [model, *sublayers(model)]
    networks = [functional for layer in layers if (functional := functional_of(layer))]
    return [*layers, *(operation for network in networks for operation in network.operations)]


def shipped_by_keras(layer: Any) -> bool:
    """Whether a layer's class is one of `keras.layers`."""
    return type(layer).__module__.startswith(("keras.src.layers.", "keras.layers."))


def own_state(layer: Any) -> list[str]:
    """Names of the weights, random states and metrics that a layer holds itself."""
    weights = [*layer._trainable_variables, *layer._non_trainable_variables]
    return [x.name for x in (*weights, *layer._seed_generators, *layer._metrics)]


def carries_mask(symbol: Any) -> bool:
    """Whether Keras has attached a mask to a tensor."""
    return getattr(symbol, "_keras_mask", None) is not None


def twin(operation: Any) -> Any:
    """Another object for the same layer or operation: same class, settings, variables; no graph.

    A layer has one name, and keeps a record of every graph it was called in. With a twin, a
    second graph can call the layer under another name and leave the first graph as it is. Copying
    by way of the configuration would make new variables instead.
    """
    base = keras.layers.Layer if is_layer(operation) else keras.Operation
    copy = base.__new__(type(operation))
    # These wrap methods of one object, and `__new__` has made them for the copy already.
    bound = ("build", "quantize") if is_layer(operation) else ()
    vars(copy).update({key: value for key, value in vars(operation).items() if key not in bound})
    vars(copy)["_inbound_nodes"], vars(copy)["_outbound_nodes"] = [], []
    return copy


@contextmanager
def layer_calls(handler: Callable[..., Any]) -> Iterator[None]:
    """Inside the context, this thread's layer calls go to `handler(original, layer, args, kwargs)`.

    A layer calls its sublayers from Python code of its own, so there is no graph to read: the
    calls have to be caught.
    """
    original, owner = keras.layers.Layer.__call__, threading.get_ident()

    def caught(layer: Any, *args: Any, **kwargs: Any) -> Any:
        if threading.get_ident() != owner:
            return original(layer, *args, **kwargs)
        return handler(original, layer, args, kwargs)

    keras.layers.Layer.__call__ = caught
    try:
        yield
    finally:
        keras.layers.Layer.__call__ = original


def run_graph(model: Any, inputs: Sequence[Any], call: Callable[..., Any]) -> Any:
    """Runs a functional model's graph, `call(operation, args, kwargs)` for each of its calls.

    Args:
        model: A functional model.
        inputs: One value per input of the model, flattened.
        call: Returns the outputs of a call.

    Returns:
        The outputs, in the structure that the model returns.
    """
    functional = _require_functional(model)
    known = {id(symbol): x for symbol, x in zip(functional._inputs, inputs, strict=True)}

    def fill(leaf: Any) -> Any:
        return known[id(leaf)] if isinstance(leaf, keras.KerasTensor) else leaf

    for depth in sorted(functional._nodes_by_depth, reverse=True):
        for node in functional._nodes_by_depth[depth]:
            if node.operation is None or node.is_input:
                continue
            args = keras.tree.map_structure(fill, tuple(node.arguments.args))
            kwargs = keras.tree.map_structure(fill, dict(node.arguments.kwargs))
            outputs = keras.tree.flatten(call(node.operation, args, kwargs))
            known.update({id(s): x for s, x in zip(node.outputs, outputs, strict=True)})
    outputs = [known[id(symbol)] for symbol in functional._outputs]
    packed = keras.tree.pack_sequence_as(functional._outputs_struct, outputs)
    # As a call of the model does.
    return packed[0] if isinstance(packed, list | tuple) and len(packed) == 1 else packed


def input_symbols(model: Any) -> list[Any]:
    """The symbolic inputs of a functional model, flattened."""
    return list(_require_functional(model)._inputs)


def new_inputs(model: Any) -> Any:
    """Fresh symbolic inputs with the names, shapes and types of a model's own, in its structure."""
    layers = [symbol._keras_history.operation for symbol in input_symbols(model)]
    symbols = [type(layer).from_config(layer.get_config()).output for layer in layers]
    return keras.tree.pack_sequence_as(input_structure(model), symbols)


def calls_between(inputs: Sequence[Any], outputs: Sequence[Any]) -> list[tuple[Any, list[Any]]]:
    """The operations called on the way from symbolic tensors to others, with their arguments.

    Args:
        inputs: Where to stop.
        outputs: Where to start, going backwards.

    Returns:
        Pairs (operation, arguments flattened), last call first.
    """
    seen = {id(symbol) for symbol in inputs}
    nodes: dict[int, Any] = {}
    waiting = list(outputs)
    while waiting:
        symbol = waiting.pop()
        if id(symbol) in seen:
            continue
        seen.add(id(symbol))
        history = symbol._keras_history
        if history.operation is None:
            continue
        node = history.operation._inbound_nodes[history.node_index]
        if id(node) not in nodes and not node.is_input:
            nodes[id(node)] = node
            waiting.extend(node.input_tensors)
    return [
        (node.operation, keras.tree.flatten((node.arguments.args, node.arguments.kwargs)))
        for node in nodes.values()
    ]


def has_unknown_size(operation: Any) -> bool:
    """Whether a `keras.ops` operation was made with a size that is None, such as a reshape's."""
    if is_layer(operation):
        return False
    settings = [value for key, value in vars(operation).items() if not key.startswith("_")]
    return any(
        isinstance(value, list | tuple) and any(size is None for size in value)
        for value in settings
    )


# ------------------------------------------------------------------------------- sharing


def models_sharing(model: Any) -> list[Any]:
    """The other models of this process that use weights of a model: submodels, nested ones, twins.

    Keras keeps no record of them (a model knows its layers, a layer none of its models), but
    Python's garbage collector knows every object.
    """
    weights = {id(variable) for variable in model.variables}
    models = [one for one in gc.get_objects() if issubclass(type(one), keras.Model)]
    others = [one for one in models if one is not model]
    return [one for one in others if any(id(v) in weights for v in one.variables)]


def steps_compiled_by_hand(model: Any) -> list[str]:
    """Methods in place of Keras' own, such as `train_step`, that are wrapped in a `tf.function`."""
    if keras.config.backend() != "tensorflow":
        return []  # Others compile anew when shapes change.
    import tensorflow as tf

    methods = [name for name, value in inspect.getmembers(keras.Model, callable)]
    compiled = tf.types.experimental.PolymorphicFunction
    return [name for name in methods if isinstance(getattr(model, name), compiled)]


# ------------------------------------------------------------------------------- optimizer


def optimizers_of(model: Any) -> list[Any]:
    """The optimizer a model was compiled with, and others that its own `train_step` may use."""
    held: list[Any] = []
    for value in vars(model).values():
        several = value.values() if isinstance(value, dict) else value
        held.extend(several if isinstance(value, dict | list | tuple) else [value])
    optimizers = [one for one in held if isinstance(one, keras.optimizers.Optimizer)]
    return list({id(one): one for one in optimizers}.values())  # Some are held twice.


def optimizer_chain(optimizer: Any) -> Iterator[Any]:
    """The optimizer, then those it wraps: `LossScaleOptimizer` one, `MultiOptimizer` many."""
    if optimizer is None:
        return
    yield optimizer
    wrapped = [getattr(optimizer, "inner_optimizer", None), *getattr(optimizer, "optimizers", ())]
    for inner in wrapped:
        yield from optimizer_chain(inner)


def _optimizer_parts(model: Any) -> list[Any]:
    """The optimizers of a model, and those they wrap."""
    return [part for one in optimizers_of(model) for part in optimizer_chain(one)]


def optimizer_variables(model: Any) -> list[Any]:
    """All variables of a model's optimizers and of those they wrap, each once, in a fixed order."""
    variables = (v for part in _optimizer_parts(model) for v in part.variables)
    return list({id(v): v for v in variables}.values())


def optimizer_slots(optimizer: Any) -> list[tuple[Any, Any]]:
    """Pairs (model variable, slot variable) of one built optimizer."""
    followed = optimizer._trainable_variables
    pairs: list[tuple[Any, Any]] = []
    for name, value in vars(optimizer).items():
        if name in ("_variables", "_trainable_variables") or not isinstance(value, list | tuple):
            continue
        if len(value) != len(followed):
            continue
        pairs.extend(
            (variable, slot)
            for variable, slot in zip(followed, value, strict=True)
            if isinstance(slot, keras.Variable)
        )
    return pairs


def factored_slots(optimizer: Any) -> list[tuple[Any, Any, Any]]:
    """Adafactor's means over the last axis, and over the last but one, of each weight with both.

    Returns:
        Triples (model variable, `r` of its shape without the last axis, `c` of its shape without
        the last axis but one).
    """
    if not isinstance(optimizer, keras.optimizers.Adafactor) or not optimizer.built:
        return []
    slots = zip(optimizer._trainable_variables, optimizer._r, optimizer._c, strict=True)
    return [(v, r, c) for v, r, c in slots if r is not None and len(v.shape) > 1]


def unsliceable_slots(optimizer: Any) -> list[Any]:
    """Optimizer variables that are neither scalars nor follow from the weight's shape."""
    strange: list[Any] = []
    for part in optimizer_chain(optimizer):
        if not part.built:
            continue
        sliceable = {id(s) for v, s in optimizer_slots(part) if tuple(s.shape) == tuple(v.shape)}
        sliceable |= {id(slot) for _, *slots in factored_slots(part) for slot in slots}
        strange.extend(v for v in part._variables if id(v) not in sliceable and len(v.shape) > 0)
    inner = {id(v) for part in optimizer_chain(optimizer) for v, _ in optimizer_slots(part)}
    return [v for v in strange if id(v) not in inner]


def unknown_to_optimizer(model: Any) -> list[Any]:
    """Trainable weights that none of the model's optimizers was built for."""
    optimizer = getattr(model, "optimizer", None)
    if optimizer is None or not optimizer.built:
        return []
    parts = _optimizer_parts(model)
    known = {id(v) for part in parts if part.built for v in part._trainable_variables}
    return [v for v in model.trainable_variables if id(v) not in known]


def build_optimizer(model: Any) -> None:
    """Makes the optimizer's slots now; `fit` would do the same at the first step."""
    with strategy_scope(model):
        for part in optimizer_chain(model.optimizer):
            if not part.built:
                part.build(model.trainable_variables)


def check_strategy(model: Any) -> None:
    """Refuses a way of training on many devices, or processes, in which cuts cannot be made.

    Raises:
        UnsupportedModel: variables live in another strategy than the present one, weights are
            split over devices, or the processes cannot be kept in step.
    """
    framework = keras.config.backend()
    if framework == "tensorflow":
        _check_tensorflow_strategy(model)
    elif framework == "jax":
        _check_replicated(model)
    elif framework == "torch":
        _check_single_process()


def _check_tensorflow_strategy(model: Any) -> None:
    of_fit = _strategy_name(model.distribute_strategy)
    for variable in model.variables:
        own = _strategy_name(getattr(variable._value, "_distribute_strategy", None))
        if own != of_fit:
            raise UnsupportedModel(
                f"Weight '{variable.path}' was created in the scope of {own}, but the model "
                f"trains with {of_fit}. Build, load and prune the model in the scope of the "
                "strategy it is trained with."
            )


def _check_replicated(model: Any) -> None:
    for variable in model.variables:
        if not variable._value.sharding.is_fully_replicated:
            raise UnsupportedModel(
                f"Weight '{variable.path}' of shape {tuple(variable.shape)} is split over devices "
                f"({variable._value.sharding.spec}). Expected every device to hold all of it, as "
                "with `keras.distribution.DataParallel`. Prune with that, or on one device, before "
                "training with `ModelParallel`."
            )


def _check_single_process() -> None:
    import torch

    group = torch.distributed
    if group.is_available() and group.is_initialized() and group.get_world_size() > 1:
        raise UnsupportedModel(
            f"PyTorch runs {group.get_world_size()} processes together (torch.distributed), and "
            "keras_gcp does not keep them in step: each would cut other channels. Expected one "
            "process; or take the JAX backend with `keras.distribution.DataParallel`."
        )


def _strategy_name(strategy: Any) -> str:
    """The kind of a TensorFlow strategy; variables outside any strategy have none."""
    name = type(strategy).__name__
    return "no strategy" if strategy is None or name.startswith("_Default") else name


def least_width_of_strided_pointwise() -> int:
    """Input channels below which training a strided 1x1 convolution may crash the process.

    Seen with TensorFlow 2.21 on a CPU with AVX-512: with 4, 8, 12 or 15 input channels the heap
    is corrupted after some steps ("double free", "malloc(): invalid size"), with 16 and more it
    is not, nor with `TF_ENABLE_ONEDNN_OPTS=0`. PyTorch 2.13 computes with the same library
    (oneDNN), and crashed in the same way ("corrupted double-linked list"), but not with
    `torch.backends.mkldnn.enabled = False`. GPUs and JAX are not concerned.
    """
    backend = keras.config.backend()
    if backend == "tensorflow" and os.environ.get("TF_ENABLE_ONEDNN_OPTS") != "0":
        import tensorflow as tf

        return 1 if tf.config.list_physical_devices("GPU") else 16
    if backend == "torch":
        import torch

        onednn = torch.backends.mkldnn.is_available() and torch.backends.mkldnn.enabled
        return 16 if onednn and not torch.cuda.is_available() else 1
    return 1


# ------------------------------------------------------------------------------- a running fit


def set_initial_epoch(model: Any, epoch: int | None) -> None:
    """Lets the `fit` that is about to begin start with another epoch; None: with its own.

    `fit` reads this after `on_train_begin`, and it stays until it is set again.
    """
    model._initial_epoch = epoch


def put_state_back(model: Any) -> None:
    """Within an epoch, JAX holds the variables' values elsewhere; this gives them back."""
    sync = getattr(model, "jax_state_sync", None)
    if sync is not None and getattr(model, "_jax_state", None):
        sync()


def strategy_scope(model: Any) -> AbstractContextManager[Any]:
    """Where variables are made that are to live beside a model's own."""
    tensorflow = keras.config.backend() == "tensorflow"
    return model.distribute_strategy.scope() if tensorflow else nullcontext()


_OF_TRAINING = ("compute_loss", "make_train_function")
"""Methods that a model has for itself while its training minimises another loss."""


def set_training_loss(model: Any, function: Callable[..., Any]) -> None:
    """Lets the running `fit` minimise `function(loss, penalties, x, y_pred, sample_weight)`.

    `loss` is the model's own, `penalties` those summands of it that are not the data's. Validation
    keeps the model's own loss, and nothing of this is saved with the model. Should an exception end
    the fit, the next one (or `train_on_batch`) takes it back before it begins.
    """
    take_back_training_loss(model)
    own_loss, own_function = model.compute_loss, model.make_train_function

    def compute_loss(
        x: Any = None,
        y: Any = None,
        y_pred: Any = None,
        sample_weight: Any = None,
        training: bool = True,
    ) -> Any:
        loss = own_loss(x=x, y=y, y_pred=y_pred, sample_weight=sample_weight, training=training)
        if not training:
            return loss
        penalties = [model._aggregate_additional_loss(penalty) for penalty in model.losses]
        return function(loss, penalties, x, y_pred, sample_weight)

    def make_train_function(force: bool = False) -> Any:
        if not force:  # Only what begins a training asks like this.
            take_back_training_loss(model)
        return own_function(force=force)

    vars(model).update(zip(_OF_TRAINING, (compute_loss, make_train_function), strict=True))
    model.make_train_function(force=True)


def has_training_loss(model: Any) -> bool:
    """Whether `set_training_loss` is in force."""
    return all(name in vars(model) for name in _OF_TRAINING)


def take_back_training_loss(model: Any) -> None:
    """Gives a model its own loss back; what was compiled with the other one goes, too."""
    if has_training_loss(model):
        for name in _OF_TRAINING:
            del vars(model)[name]
        model.train_function = None


def global_seed() -> Any | None:
    """The variable from which `keras.random` takes seeds if none is given; None if never used."""
    generator = global_state.get_global_attribute("global_seed_generator")
    return None if generator is None else generator.state


def set_global_seed(value: np.ndarray) -> None:
    """Sets that variable."""
    global_seed_generator().state.assign(value)


# ------------------------------------------------------------------------------- writing


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

    def __enter__(self) -> Transaction:
        return self

    def __exit__(self, kind: Any, error: Any, traceback: Any) -> None:
        if kind is not None:
            self.rollback()
            return
        self._undo.clear()
        while self._when_final:
            self._when_final.pop()()

    def rollback(self) -> None:
        """Restores everything that was changed, latest change first."""
        self._when_final.clear()
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
        variable._value = _backend_value(variable, value)
        variable._shape = tuple(int(size) for size in value.shape)

    def set_config(self, operation: Any, name: str, value: Any) -> None:
        """Sets a configuration entry of a layer or of a `keras.ops` operation."""
        self.set(operation, name, value)
        recorded = getattr(getattr(operation, "_auto_config", None), "config", None)
        if recorded is not None and name in recorded:
            self.set_item(recorded, name, value)

    def set_argument(self, node: Any, position: int, value: Any) -> None:
        """Sets a positional argument of a recorded call."""
        args = list(node.arguments.args)
        args[position] = value
        self.set(node, "arguments", SymbolicArguments(*args, **node.arguments.kwargs))

    def set_symbolic_shape(self, symbol: Any, shape: Shape) -> None:
        """Sets the shape of a symbolic tensor."""
        self.set(symbol, "_shape", tuple(shape))

    def set_input_layer_shape(self, layer: Any, shape: Shape) -> None:
        """Sets the shape that the input layer of a nested model accepts."""
        self.set(layer, "_batch_shape", tuple(shape))

    def set_layer_inputs(self, layer: Any, wide: Sequence[Shape], narrow: Sequence[Shape]) -> None:
        """Brings a layer's input specification and recorded build shapes up to date."""
        self._set_input_spec(layer, wide, narrow)
        built = getattr(layer, "_build_shapes_dict", None)
        if not built:
            return
        renewed = {
            key: _renewed_shapes(shapes, wide, narrow) for key, shapes in dict(built).items()
        }
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
    fixed = tuple(shape) if getattr(spec, "shape", None) is not None else None
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
    """Build shapes with the sizes that surgery changed; others (batch, space) stay."""
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
