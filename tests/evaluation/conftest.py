"""Networks that are right about everything: the labels are what they predict."""

from __future__ import annotations

import keras
import networks
import numpy as np
import pytest
from helpers import randomise

from keras_gcp import backend


def labelled(model, count=96, seed=0):
    """Random inputs, and the classes that the model itself predicts for them."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(count, *model.inputs[0].shape[1:])).astype("float32")
    return x, backend.predict(model, x).argmax(-1).astype("int32")


def compiled(model):
    model.compile("sgd", "sparse_categorical_crossentropy", metrics=["accuracy"])
    return model


@pytest.fixture(scope="package")
def model():
    """A compiled network of accuracy 1 on `data`; no test may change it."""
    keras.utils.set_random_seed(3)
    return compiled(randomise(networks.residual()))


@pytest.fixture(scope="package")
def data(model):
    return labelled(model)
