"""Derivatives, compilation and several processes on TensorFlow."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from types import CellType, FunctionType
from typing import Any

import numpy as np
import tensorflow as tf
from tensorflow.python.eager import context
from tensorflow.python.framework.ops import gradient_registry

from keras_gcp import keras_state


def vjp(function: Callable[..., Any], inputs: Sequence[Any]) -> tuple[Any, Callable[[Any], Any]]:
    inputs = [tf.convert_to_tensor(x) for x in inputs]
    # Weights are constants here: only the inputs given are differentiated.
    with tf.GradientTape(watch_accessed_variables=False) as tape:
        tape.watch(inputs)
        outputs = function(*_with_gradients_apart(inputs))

    def pullback(cotangents: Any) -> list[Any]:
        gradients = tape.gradient(
            outputs,
            inputs,
            output_gradients=cotangents,
            unconnected_gradients=tf.UnconnectedGradients.ZERO,
        )
        return [tf.convert_to_tensor(gradient) for gradient in gradients]  # also sparse ones

    return outputs, pullback


def hessian_product(
    function: Callable[..., Any], inputs: Sequence[Any], direction: Sequence[Any]
) -> list[Any]:
    inputs = [tf.convert_to_tensor(x) for x in inputs]
    zero = tf.UnconnectedGradients.ZERO
    with tf.GradientTape(watch_accessed_variables=False) as outer:
        outer.watch(inputs)
        with tf.GradientTape(watch_accessed_variables=False) as inner:
            inner.watch(inputs)
            value = function(*_with_gradients_apart(inputs))
        gradients = inner.gradient(value, inputs, unconnected_gradients=zero)
        along = tf.add_n(
            [
                tf.reduce_sum(tf.convert_to_tensor(gradient) * tf.cast(part, gradient.dtype))
                for gradient, part in zip(gradients, direction, strict=True)
            ]
        )
    products = outer.gradient(along, inputs, unconnected_gradients=zero)
    return [tf.convert_to_tensor(product) for product in products]


def _with_gradients_apart(inputs: Sequence[Any]) -> list[Any]:
    """The same values, computed so that no two inputs have the same tensor as gradient.

    `tape.gradient` never frees a graph in which it returns one tensor for several inputs, as for
    both summands of `a + b` (TensorFlow 2.21). Compilation removes the multiplications.
    """
    return [*inputs[:1], *(x * tf.ones([], x.dtype) for x in inputs[1:])]


def compiled(function: Callable[..., Any], model: Any = None) -> Callable[..., Any]:
    xla = model is not None and not runs_eagerly(model)
    return tf.function(function, autograph=False, jit_compile=xla or None)


def runs_eagerly(model: Any) -> bool:
    formats = {getattr(one, "data_format", None) for one in keras_state.operations(model)}
    return "channels_first" not in formats or bool(tf.config.list_logical_devices("GPU"))


def trace_train_step(model: Any, x: Any, y: Any) -> bool:
    if model.distribute_strategy.num_replicas_in_sync > 1:
        return False
    step = tf.function(lambda batch: model.train_step(batch), autograph=False)
    try:
        step.get_concrete_function(tf.nest.map_structure(tf.convert_to_tensor, (x, y)))
    except Exception:  # It may expect other data; then the first epoch shows it.
        return False
    return True


def forget_gradients(function: Any) -> None:
    # The registry has no public way to take an entry out.
    registered = gradient_registry._registry
    for traced in _traced_functions(function):
        for concrete in traced._list_all_concrete_functions():
            for name in _custom_gradients(concrete.graph):
                registered.pop(name, None)


def _traced_functions(function: Any, seen: frozenset[int] = frozenset()) -> Iterator[Any]:
    """A `tf.function`, or those that Keras has wrapped into a plain function.

    Functions that these call in turn are left alone: they may belong to a layer of the user's
    own, which calls them, and differentiates them, again.
    """
    if isinstance(function, tf.types.experimental.PolymorphicFunction):
        yield function
    elif isinstance(function, FunctionType) and id(function) not in seen:
        for cell in function.__closure__ or ():
            if cell != CellType():  # Reading an empty cell is an error.
                yield from _traced_functions(cell.cell_contents, seen | {id(function)})


def _custom_gradients(graph: Any) -> Iterator[str]:
    """Names under which the gradients of a graph's own operations were registered.

    Those in the bodies of its loops are its own, too, such as a search for adversarial examples.
    """
    loops = []
    for operation in graph.get_operations():
        if operation.type == _CUSTOM:
            yield from _registered_name(operation.node_def)
        elif operation.type in _LOOPS:
            loops.append(operation.node_def)
    if loops:
        yield from _in_bodies(loops, {f.signature.name: f for f in _library(graph)})


_CUSTOM, _LOOPS = "IdentityN", ("While", "StatelessWhile")
"""The operations that stand for a custom gradient, and for a loop."""


def _library(graph: Any) -> Sequence[Any]:
    return graph.as_graph_def().library.function


def _in_bodies(loops: Sequence[Any], functions: dict[str, Any]) -> Iterator[str]:
    for loop in loops:
        nodes = functions[loop.attr["body"].func.name].node_def
        for node in nodes:
            if node.op == _CUSTOM:
                yield from _registered_name(node)
        yield from _in_bodies([node for node in nodes if node.op in _LOOPS], functions)


def _registered_name(node: Any) -> Iterator[str]:
    if "_gradient_op_type" in node.attr:
        yield node.attr["_gradient_op_type"].s.decode()


def forget_shapes() -> None:
    context.context().clear_kernel_cache()  # as `keras.utils.clear_session` does


def without_gradients() -> AbstractContextManager[Any]:
    return nullcontext()  # Nothing is recorded without a tape.


def random_state() -> Any | None:
    return None  # Nothing: the state of eager operations cannot be read.


def set_random_state(state: Any) -> None:
    """Nothing to set."""


def process_count(model: Any) -> int:
    return len(_workers(model))


def process_index(model: Any) -> int:
    workers = _workers(model)
    if len(workers) == 1:
        return 0
    resolver = model.distribute_strategy.cluster_resolver
    return workers.index((resolver.task_type, resolver.task_id))


def gather_rows(model: Any, row: np.ndarray) -> np.ndarray:
    strategy = model.distribute_strategy
    rows = strategy.experimental_distribute_values_from_function(lambda _: tf.constant(row[None]))
    return strategy.gather(rows, axis=0).numpy()


def _workers(model: Any) -> list[tuple[str, int]]:
    """The processes that run in step, `(job, number)`; one of any kind if there is only one.

    Of TensorFlow's strategies only one has several; with a TPU, one process drives all hosts.
    """
    strategy = model.distribute_strategy
    if not isinstance(strategy, tf.distribute.MultiWorkerMirroredStrategy):
        return [("worker", 0)]
    cluster = strategy.cluster_resolver.cluster_spec().as_dict()
    workers = [(job, i) for job in ("chief", "worker") for i in range(len(cluster.get(job, ())))]
    return workers or [("worker", 0)]


def local_weights(model: Any) -> list[Any]:
    # Keras' function of that name leaves variables as they are, and a compiled function would then
    # be traced again wherever a tensor takes the place of a variable.
    return [tf.convert_to_tensor(variable.value) for variable in model.weights]


def frozen_weights(model: Any) -> list[Any]:
    return local_weights(model)
