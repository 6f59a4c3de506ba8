"""Networks that are right about everything: the labels are what they predict."""

from __future__ import annotations

import numpy as np
from helpers import randomise

from keras_gcp import backend


def labelled(model, count=96, seed=0):
    """Noisy images of one colour each, and the classes that the model itself predicts for them."""
    rng = np.random.default_rng(seed)
    colours = rng.normal(scale=2, size=(count, 1, 1, 3))
    x = (colours + rng.normal(scale=0.3, size=(count, 8, 8, 3))).astype("float32")
    return x, backend.predict(model, x).argmax(-1).astype("int32")


def prepared(model, seed=0):
    """Random weights, the same with every backend, no class preferred; compiled."""
    rng = np.random.default_rng(seed)
    for variable in randomise(model).weights:
        if variable.path.endswith("kernel"):
            deviation = np.sqrt(2 / np.prod(variable.shape[:-1]))
            variable.assign(rng.normal(scale=deviation, size=variable.shape))
    x, _ = labelled(model)
    bias = model.get_layer("classifier").bias
    bias.assign(bias - np.log(backend.predict(model, x)).mean(0))
    model.compile("sgd", "sparse_categorical_crossentropy", metrics=["accuracy"])
    return model
