"""The training recipe that the examples and benchmarks share."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import keras

from examples.datasets import Data, batches


@dataclass(frozen=True)
class Recipe:
    """How a network is trained; the same for pruned, dense and control runs.

    Attributes:
        epochs: Number of epochs.
        batch_size: Images per step.
        learning_rate: Highest learning rate.
        decay: `"one_cycle"` (linear warm-up over a fifth of the steps, then cosine to 0) or
            `"steps"` (a tenth at half and at three quarters of the epochs, as the authors train).
        momentum: Of SGD with Nesterov acceleration.
        weight_decay: Decoupled weight decay.
        augment: Whether to shift and mirror training images.
        seed: Of initial weights, order and augmentation.
    """

    epochs: int
    batch_size: int = 128
    learning_rate: float = 0.1
    decay: str = "one_cycle"
    momentum: float = 0.9
    weight_decay: float = 5e-4
    augment: bool = True
    seed: int = 0


@dataclass(frozen=True)
class Training:
    """What a training brought.

    Attributes:
        history: Metric to one value per epoch, with `seconds` among them.
        seconds: Wall-clock seconds of the whole fit.
        accuracy: Test accuracy after the last epoch.
    """

    history: Mapping[str, list[float]]
    seconds: float
    accuracy: float


class EpochSeconds(keras.callbacks.Callback):
    """Adds the wall-clock seconds of every epoch, events included, to the logs."""

    def on_train_begin(self, logs: Any = None) -> None:
        self._last = time.perf_counter()

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        now = time.perf_counter()
        if logs is not None:
            logs["seconds"] = now - self._last
        self._last = now


class SameBatches(keras.callbacks.Callback):
    """Lets a training that goes on after a crash see the batches that it would have seen.

    Args:
        shuffled: Training batches that change with every epoch.
    """

    def __init__(self, shuffled: keras.utils.PyDataset) -> None:
        super().__init__()
        self._shuffled, self._has_begun = shuffled, False

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        if not self._has_begun:
            for _ in range(epoch):
                self._shuffled.on_epoch_end()
        self._has_begun = True


def compile_for(model: keras.Model, data: Data, recipe: Recipe) -> None:
    """Compiles a classifier with softmax output for a recipe."""
    steps = -(-len(data.x_train) // recipe.batch_size) * recipe.epochs
    model.compile(
        optimizer=keras.optimizers.SGD(
            _learning_rate(recipe, steps),
            momentum=recipe.momentum,
            nesterov=True,
            weight_decay=recipe.weight_decay,
        ),
        loss="sparse_categorical_crossentropy",
        metrics=["accuracy"],
    )


def train(
    model: keras.Model,
    data: Data,
    recipe: Recipe,
    callbacks: Sequence[keras.callbacks.Callback] = (),
    verbose: int | str = 0,
) -> Training:
    """Trains a compiled or uncompiled model from its present weights.

    Returns:
        A `Training`; accuracies are those of the last epoch, never of the best.
    """
    compile_for(model, data, recipe)
    start = time.perf_counter()
    shuffled = batches(data, recipe.batch_size, augment=recipe.augment, seed=recipe.seed)
    history = model.fit(
        shuffled,
        epochs=recipe.epochs,
        validation_data=(data.x_test, data.y_test),
        validation_batch_size=500,
        callbacks=[*callbacks, SameBatches(shuffled), EpochSeconds()],
        verbose=verbose,
    ).history
    seconds = time.perf_counter() - start
    return Training(history, seconds, history["val_accuracy"][-1])


def same_widths_from_scratch(model: keras.Model, seed: int) -> keras.Model:
    """The control for every pruned network: the same architecture with fresh weights."""
    keras.utils.set_random_seed(seed)
    return keras.models.clone_model(model)


def _learning_rate(recipe: Recipe, steps: int) -> Any:
    if recipe.decay == "one_cycle":
        warmup = max(1, steps // 5)
        return keras.optimizers.schedules.CosineDecay(
            recipe.learning_rate / 25,
            decay_steps=max(1, steps - warmup),
            warmup_target=recipe.learning_rate,
            warmup_steps=warmup,
        )
    if recipe.decay == "steps":
        return keras.optimizers.schedules.PiecewiseConstantDecay(
            [steps // 2, steps * 3 // 4],
            [recipe.learning_rate, recipe.learning_rate / 10, recipe.learning_rate / 100],
        )
    raise ValueError(f"`decay` expects 'one_cycle' or 'steps'. Received: {recipe.decay!r}.")
