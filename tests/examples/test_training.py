"""Trainings of the examples that go on after a crash."""

from __future__ import annotations

import keras
import numpy as np

from examples.datasets import AugmentedBatches
from examples.training import SameBatches


class Noted(AugmentedBatches):
    """Batches that note what was taken from them."""

    def __init__(self) -> None:
        x = np.arange(64, dtype=np.float32).reshape(16, 2, 2, 1)
        super().__init__(x, np.arange(16) % 2, 4, pad=1)
        self.taken: list[bytes] = []

    def __getitem__(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        batch = super().__getitem__(index)
        self.taken.append(batch[0].tobytes())
        return batch


def last_epoch(first_epoch: int) -> set[bytes]:
    """The batches of the last of three epochs."""
    layers = [keras.Input((2, 2, 1)), keras.layers.Flatten(), keras.layers.Dense(1)]
    model, noted = keras.Sequential(layers), Noted()
    model.compile("sgd", "mse")
    callbacks = [SameBatches(noted)]
    model.fit(noted, initial_epoch=first_epoch, epochs=3, callbacks=callbacks, verbose=0)
    return set(noted.taken[-len(noted) :])


def test_what_goes_on_in_a_later_epoch_sees_the_batches_of_that_epoch():
    whole = last_epoch(0)
    assert last_epoch(1) == whole
    assert last_epoch(2) == whole
