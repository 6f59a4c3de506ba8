"""A `fit` that is about to begin, or is running."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import keras
import numpy as np
from keras.src.backend.common import global_state
from keras.src.random.seed_generator import global_seed_generator

from keras_gcp.keras_state.states import fresh_states


def steps_compiled_by_hand(model: Any) -> list[str]:
    """Methods in place of Keras' own, such as `train_step`, that are wrapped in a `tf.function`."""
    if keras.config.backend() != "tensorflow":
        return []  # Others compile again when shapes change.
    import tensorflow as tf

    methods = [name for name, value in inspect.getmembers(keras.Model, callable)]
    compiled = tf.types.experimental.PolymorphicFunction
    return [name for name in methods if isinstance(getattr(model, name), compiled)]


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


def renew_state(model: Any) -> None:
    """Lets a running `fit` that fails in its next step leave the model as it is now.

    On JAX variables have no values while a step runs. If the step fails, `fit` gives them those
    after the last step, which no longer fit into a model that was cut since then.
    """
    held = getattr(model, "_jax_state", None)
    if not held:
        return
    present = {
        "trainable_variables": model.trainable_variables,
        "non_trainable_variables": model.non_trainable_variables,
        "optimizer_variables": model.optimizer.variables if model.optimizer else [],
        "metrics_variables": model.metrics_variables,
    }
    model._jax_state = {name: [one.value for one in present[name]] for name in held}


_LOSS, _STEP, _BEGINNING = "compute_loss", "train_step", "make_train_function"
"""Methods that a model has for itself while its training is another than its class has."""


def set_training_loss(model: Any, function: Callable[..., Any]) -> None:
    """Lets the running `fit` minimise `function(loss, penalties, x, y_pred, sample_weight)`.

    `loss` is the model's own, `penalties` those summands of it that are not the data's. Validation
    keeps the model's own loss, and nothing of this is saved with the model. If an exception ends
    the fit, the next one (or `train_on_batch`) takes it back before it begins.
    """
    take_back_training_loss(model)
    own_loss = model.compute_loss

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

    _replace(model, _LOSS, compute_loss)


Values = Callable[[], AbstractContextManager[Any]]
"""Opens a scope in which variables have the values of the present step, and none is changed."""


def set_training_inputs(model: Any, function: Callable[[Any, Any, Any, Values], Any]) -> None:
    """Lets the running `fit` train on `function(x, y, sample_weight, values)` in place of `x`.

    The function is part of the compiled step. `values()` is a scope for running the model in it: on
    JAX a step has the values of variables in its arguments. Taken back as a training loss is.
    """
    take_back_training_inputs(model)
    own_step = model.train_step

    def train_step(*arguments: Any) -> Any:
        *state, data = arguments  # a state on JAX only
        x, y, sample_weight = keras.utils.unpack_x_y_sample_weight(data)
        present = [*_values_in(model, *state), *fresh_states(model)]
        x = function(x, y, sample_weight, lambda: keras.StatelessScope(state_mapping=present))
        return own_step(*state, keras.utils.pack_x_y_sample_weight(x, y, sample_weight))

    _replace(model, _STEP, train_step)


def _values_in(model: Any, state: Any = None) -> list[tuple[Any, Any]]:
    """Pairs (variable, value) of what JAX hands to a training step.

    Elsewhere variables have their values themselves, but penalties on them look in the scope only.
    """
    if state is None:
        return [(v, v.value) for v in model.trainable_variables if v.regularizer is not None]
    trainable, non_trainable, optimizer, metrics = state
    return [
        *zip(model.trainable_variables, trainable, strict=True),
        *zip(model.non_trainable_variables, non_trainable, strict=True),
        *zip(model.optimizer.variables, optimizer, strict=True),
        # The loss of several outputs adds that of each to a mean of its own.
        *zip(model.metrics_variables, metrics, strict=True),
    ]


def _replace(model: Any, name: str, method: Any) -> None:
    """Gives a model a method for its training, until the next one begins."""
    own = vars(model)
    method.replaced = own.get(name)
    own[name] = method
    if _BEGINNING not in own:
        own_function = model.make_train_function

        def make_train_function(force: bool = False) -> Any:
            if not force:  # Only what begins a training asks like this.
                take_back_training_loss(model)
                take_back_training_inputs(model)
            return own_function(force=force)

        own[_BEGINNING] = make_train_function
    model.make_train_function(force=True)


def _is_replaced(model: Any, name: str) -> bool:
    return hasattr(vars(model).get(name), "replaced")


def _take_back(model: Any, name: str) -> None:
    if not _is_replaced(model, name):
        return
    own = vars(model)
    replaced = own.pop(name).replaced
    if replaced is not None:
        own[name] = replaced
    if not any(_is_replaced(model, other) for other in (_LOSS, _STEP)):
        del own[_BEGINNING]
    model.train_function = None


def tells_training(model: Any) -> bool:
    """Whether a model's `compute_loss` is told if it trains; `set_training_loss` needs that."""
    return "training" in inspect.signature(model.compute_loss).parameters


@contextmanager
def watched_loss(model: Any) -> Iterator[list[Any]]:
    """Inside the context the list given gets an entry whenever training asks for the loss."""
    asked: list[Any] = []
    own_loss, before = model.compute_loss, vars(model).get(_LOSS)

    def compute_loss(*args: Any, **kwargs: Any) -> Any:
        if kwargs.get("training", True):  # Adversarial examples are made with the other one.
            asked.append(True)
        return own_loss(*args, **kwargs)

    vars(model)[_LOSS] = compute_loss
    try:
        yield asked
    finally:
        del vars(model)[_LOSS]
        if before is not None:
            vars(model)[_LOSS] = before


def has_training_loss(model: Any) -> bool:
    """Whether `set_training_loss` is in force."""
    return _is_replaced(model, _LOSS)


def take_back_training_loss(model: Any) -> None:
    """Gives a model its own loss back; what was compiled with the other one goes, too."""
    _take_back(model, _LOSS)


def has_training_inputs(model: Any) -> bool:
    """Whether `set_training_inputs` is in force."""
    return _is_replaced(model, _STEP)


def take_back_training_inputs(model: Any) -> None:
    """Lets a model train on what it is given; what was compiled otherwise goes, too."""
    _take_back(model, _STEP)


def global_seed() -> Any | None:
    """The variable from which `keras.random` takes seeds if none is given; None if never used."""
    generator = global_state.get_global_attribute("global_seed_generator")
    return None if generator is None else generator.state


def set_global_seed(value: np.ndarray) -> None:
    """Sets that variable."""
    global_seed_generator().state.assign(value)
