"""A small classifier in a file, data for it, and commands that run in this process."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
import pytest

from keras_gcp.cli import main


@dataclass(frozen=True)
class Ran:
    """What a command left: its exit code, and what it said where."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


@pytest.fixture
def run(capsys):
    """Runs `keras-gcp` with arguments."""

    def call(*arguments):
        capsys.readouterr()
        code = main([str(one) for one in arguments])
        said = capsys.readouterr()
        return Ran(code, said.out, said.err)

    return call


@pytest.fixture(scope="session")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("cli")


@pytest.fixture(scope="session")
def model_file(folder):
    keras.utils.set_random_seed(0)
    inputs = keras.Input((8, 8, 1), name="pixels")
    x = keras.layers.Conv2D(16, 3, activation="relu", name="first")(inputs)
    x = keras.layers.BatchNormalization(name="norm")(x)
    x = keras.layers.Conv2D(16, 3, activation="relu", name="second")(x)
    x = keras.layers.GlobalAveragePooling2D(name="pool")(x)
    outputs = keras.layers.Dense(3, activation="softmax", name="out")(x)
    keras.Model(inputs, outputs, name="small").save(folder / "model.keras")
    return folder / "model.keras"


@pytest.fixture(scope="session")
def data_file(folder):
    rng = np.random.default_rng(0)
    x, y = rng.random((60, 8, 8), np.float32), np.arange(60) % 3
    np.savez(
        folder / "data.npz",
        x_train=x[:40],
        y_train=y[:40, np.newaxis],
        x_test=x[40:],
        y_test=y[40:],
    )
    return folder / "data.npz"
