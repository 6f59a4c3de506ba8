"""A `fit` that is about to begin, or is running."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import keras
import numpy as np
from keras.src.backend.common import global_state
from keras.src.random.seed_generator import global_seed_generator


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


_OF_TRAINING = ("compute_loss", "make_train_function")
"""Methods that a model has for itself while its training minimises another loss."""


def set_training_loss(model: Any, function: Callable[..., Any]) -> None:
    """Lets the running `fit` minimise `function(loss, penalties, x, y_pred, sample_weight)`.

    `loss` is the model's own, `penalties` those summands of it that are not the data's. Validation
    keeps the model's own loss, and nothing of this is saved with the model. If an exception ends
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


def tells_training(model: Any) -> bool:
    """Whether a model's `compute_loss` is told if it trains; `set_training_loss` needs that."""
    return "training" in inspect.signature(model.compute_loss).parameters


@contextmanager
def watched_loss(model: Any) -> Iterator[list[Any]]:
    """Inside the context the list given gets an entry whenever the model's loss is asked for."""
    asked: list[Any] = []
    own_loss = model.compute_loss

    def compute_loss(*args: Any, **kwargs: Any) -> Any:
        asked.append(True)
        return own_loss(*args, **kwargs)

    vars(model)["compute_loss"] = compute_loss
    try:
        yield asked
    finally:
        del vars(model)["compute_loss"]


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
