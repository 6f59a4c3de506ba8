"""The small training that every script runs, on whatever devices it has."""

from __future__ import annotations

import json

import keras
import numpy as np
from keras import layers

import keras_gcp

EXAMPLES, BATCH = 64, 16
SYNCHRONIZED = keras.config.backend() == "tensorflow"  # On JAX it always is, and takes no argument.


def data():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(EXAMPLES, 8, 8, 3)).astype("float32")
    return x, (x.mean(axis=(1, 2, 3)).argsort().argsort() * 4 // EXAMPLES).astype("int32")


def network():
    """Statistics of a whole global batch, so that one device computes the same as many."""
    inputs = keras.Input((8, 8, 3))
    x = layers.Conv2D(8, 3, padding="same", activation="relu", name="a")(inputs)
    x = layers.BatchNormalization(synchronized=SYNCHRONIZED, name="bn")(x)
    x = layers.Conv2D(12, 3, padding="same", activation="relu", name="b")(x)
    x = layers.GlobalAveragePooling2D(name="pool")(x)
    model = keras.Model(inputs, layers.Dense(4, activation="softmax", name="classifier")(x))
    model.compile(keras.optimizers.SGD(0.05, momentum=0.9), "sparse_categorical_crossentropy")
    return model


def pruning(criterion, sample=None, **options):
    """The callback; `"distilled"` stands for a training with all that events can have."""
    if criterion == "distilled":
        criterion = "l2_norm"
        options["distillation"] = keras_gcp.Distillation()
        options["guard"] = keras_gcp.AccuracyGuard(sample or data(), 0.9)
    return keras_gcp.GradualChannelPruning(
        sample or data(),
        {"channels": 0.6},
        keras_gcp.schedules.linear(begin=1, end=2),
        criterion=criterion,
        selection={"align": 1},
        verbose=0,
        **options,
    )


def trained(model, callback, batches=None):
    """The history of a fit on global batches, or on one's own part of them, as plain numbers."""
    x, y = data()
    given = {"x": batches} if batches else {"x": x, "y": y, "batch_size": BATCH}
    fit = model.fit(
        **given,
        epochs=4,
        shuffle=False,
        verbose=0,
        callbacks=[callback],
        validation_data=batches or (x, y),
    )
    return {name: [float(value) for value in values] for name, values in fit.history.items()}


def kept(plan):
    return {name: plan.kept(name).tolist() for name in ("a", "b")}


def copies(variables):
    """Shapes, number of copies and their largest difference, of variables of a MirroredStrategy."""
    values = [[np.array(copy) for copy in v.value.values] for v in variables]
    return {
        "strategies": sorted({id(v.value.distribute_strategy) for v in variables}),
        "counts": sorted({len(copies) for copies in values}),
        "difference": max(float(np.abs(a - b).max(initial=0)) for a, b in values),
    }


def slots_fit(model):
    """Whether the optimizer's slots have the shapes of the weights."""
    slots = model.optimizer.variables[2:]
    return [list(s.shape) for s in slots] == [list(v.shape) for v in model.trainable_variables]


def report(**facts):
    print(json.dumps(facts), flush=True)
