"""Every optimizer that Keras ships, found by itself: what it keeps is cut along, none is lost."""

from __future__ import annotations

import inspect

import keras
import numpy as np
import pytest
from fitting import AtBeginning
from helpers import random_plan, randomise
from keras import layers

import keras_gcp
from keras_gcp import versions

SHIPPED = {
    name: kind
    for name, kind in vars(keras.optimizers).items()
    if inspect.isclass(kind)
    and issubclass(kind, keras.optimizers.Optimizer)
    and kind.__name__ not in ("Optimizer", "LossScaleOptimizer", "MultiOptimizer")
}

VARIANTS = {
    "sgd_nesterov": lambda: keras.optimizers.SGD(0.01, momentum=0.9, nesterov=True, clipnorm=1.0),
    "decayed": lambda: keras.optimizers.SGD(0.01, momentum=0.9, weight_decay=0.01),
    "centered": lambda: keras.optimizers.RMSprop(0.01, momentum=0.5, centered=True, clipvalue=0.1),
    "amsgrad": lambda: keras.optimizers.Adam(0.01, amsgrad=True, global_clipnorm=1.0),
    "averaged": lambda: keras.optimizers.Adam(0.01, use_ema=True, ema_overwrite_frequency=3),
    "accumulating": lambda: keras.optimizers.Adam(0.01, gradient_accumulation_steps=3),
    "scheduled": lambda: keras.optimizers.Adam(keras.optimizers.schedules.CosineDecay(0.01, 50)),
    "scaled": lambda: keras.optimizers.LossScaleOptimizer(
        keras.optimizers.AdamW(0.01, use_ema=True, gradient_accumulation_steps=2)
    ),
}


def _several():
    """One optimizer for the first layer, another for all others."""
    first, others = keras.optimizers.SGD(0.01, momentum=0.9), keras.optimizers.Adam(0.01)
    return keras.optimizers.MultiOptimizer(
        lambda variable: first if variable.path.startswith("first") else others
    )


if hasattr(keras.optimizers, "MultiOptimizer"):
    VARIANTS["several"] = _several

MAKERS = {name: (lambda kind=kind: kind(learning_rate=0.01)) for name, kind in SHIPPED.items()}
MAKERS |= VARIANTS

NOT_BY_ELEMENT = {"Adafactor", "Lamb", "Muon", "amsgrad", "sgd_nesterov"}
"""A step depends on all numbers of a weight, or of the model (norms), not on one at a time."""

OLD = versions.minor_version(keras.__version__) < (3, 13)

MARKS = {
    "Muon": pytest.mark.skipif(OLD, reason="Muon of Keras 3.12 does not run on TensorFlow"),
    "scaled": pytest.mark.not_on("jax", "Keras cannot `apply` it outside `fit`, nor fit twice"),
}
"""Of optimizers that Keras itself cannot run on a backend."""

AVERAGED = {
    "averaged": pytest.mark.not_on("jax", "Keras cannot fit twice with `use_ema`, cut or uncut")
}


def by_name(names, marks=MARKS):
    return [pytest.param(name, marks=marks.get(name, ())) for name in names]


def network():
    keras.utils.set_random_seed(0)
    inputs = keras.Input((6, 6, 3))
    x = layers.Conv2D(8, 3, use_bias=False, name="first")(inputs)
    x = layers.LeakyReLU(name="relu")(layers.BatchNormalization(name="bn")(x))
    x = layers.Conv2D(6, 3, activation="leaky_relu", name="second")(x)
    x = layers.GlobalAveragePooling2D(name="pool")(x)
    return randomise(keras.Model(inputs, layers.Dense(4, name="classifier")(x)))


def axes_of(path, kept):
    """For each axis of a weight, the positions that stay; written down for this network."""
    first, second = kept["first"], kept["second"]
    layer, _, name = path.rpartition("/")
    if layer == "classifier":
        return {0: second} if name == "kernel" else {}
    if layer == "second":
        return {2: first, 3: second} if name == "kernel" else {0: second}
    return {3: first} if name == "kernel" else {0: first}


def sliced(value, path, kept):
    for axis, positions in axes_of(path, kept).items():
        value = np.take(value, positions, axis)
    return value


def gradients(variables, seed=0):
    rng = np.random.default_rng(seed)
    return [rng.normal(size=v.shape).astype("float32") for v in variables]


def step_with(optimizer, arrays, variables):
    optimizer.apply([keras.ops.convert_to_tensor(array) for array in arrays], variables)


def state(optimizer):
    inner = getattr(optimizer, "inner_optimizer", None)
    variables = [*optimizer.variables, *(inner.variables if inner else [])]
    return {v.path: keras.ops.convert_to_numpy(v).copy() for v in variables}


def stepped(make, steps=4):
    """A model, and an optimizer in the midst of training it."""
    model, optimizer = network(), make()
    optimizer.build(model.trainable_variables)
    for step in range(steps):
        step_with(optimizer, gradients(model.trainable_variables, step), model.trainable_variables)
    return model, optimizer


def cut(model, optimizer):
    plan = random_plan(model)
    keras_gcp.narrow(model, plan, optimizer=optimizer)
    return {path: plan.kept(path) for path in ("first", "second")}


@pytest.mark.parametrize("name", by_name(MAKERS))
def test_slots_are_cut_like_their_weights(name):
    model, optimizer = stepped(MAKERS[name])
    wide, shapes = state(optimizer), {v.path: v.shape for v in model.trainable_variables}
    kept = cut(model, optimizer)
    narrow = state(optimizer)
    assert narrow.keys() == wide.keys()
    compared = 0
    for path, value in wide.items():
        # An optimizer names a slot after the weight: "adam/first_kernel_momentum".
        weights = [w for w in shapes if w.replace("/", "_") in path]
        if not weights or value.shape != shapes[weights[0]]:
            continue
        np.testing.assert_array_equal(narrow[path], sliced(value, weights[0], kept), path)
        compared += 1
    stateless = isinstance(optimizer, keras.optimizers.SGD) and not optimizer.momentum
    assert compared >= len(shapes) or stateless


@pytest.mark.parametrize("name", by_name(name for name in MAKERS if name not in NOT_BY_ELEMENT))
def test_the_next_steps_are_those_of_the_wide_model_for_what_is_left(name):
    wide, wide_optimizer = stepped(MAKERS[name])
    narrow, narrow_optimizer = stepped(MAKERS[name])
    kept = cut(narrow, narrow_optimizer)
    for step in range(4):
        of_wide = gradients(wide.trainable_variables, 10 + step)
        of_narrow = [
            sliced(g, v.path, kept) for g, v in zip(of_wide, wide.trainable_variables, strict=True)
        ]
        step_with(wide_optimizer, of_wide, wide.trainable_variables)
        step_with(narrow_optimizer, of_narrow, narrow.trainable_variables)
    for a, b in zip(narrow.trainable_variables, wide.trainable_variables, strict=True):
        expected = sliced(keras.ops.convert_to_numpy(b), b.path, kept)
        np.testing.assert_allclose(keras.ops.convert_to_numpy(a), expected, rtol=1e-5, atol=1e-6)


def test_adafactor_keeps_the_second_moment_of_every_number_that_is_left():
    def moments(optimizer):
        slots = zip(optimizer._trainable_variables, optimizer._r, optimizer._c, strict=True)
        return {
            v.path: np.einsum("...i,...j->...ij", r, c) / np.mean(r, axis=-1)[..., None, None]
            for v, r, c in slots
            if len(v.shape) > 1
        }

    model, optimizer = stepped(MAKERS["Adafactor"])
    before = moments(optimizer)
    kept = cut(model, optimizer)
    after = moments(optimizer)
    assert len(after) == 3
    for path, value in before.items():
        np.testing.assert_allclose(after[path], sliced(value, path, kept), rtol=1e-4)


def test_adafactor_that_has_not_stepped_yet_is_cut_to_zeros():
    model, optimizer = stepped(MAKERS["Adafactor"], steps=0)
    cut(model, optimizer)
    assert all((value == 0).all() for path, value in state(optimizer).items() if value.ndim)


COMPILED = {"sgd_nesterov", "Adam", "averaged", "accumulating", "scaled", "several"} & {*MAKERS}
"""The fast tests compile the step of one of every kind. Of the others they run it as it is, where
the next steps are not compared one by one above."""


def fits():
    for one in by_name(MAKERS, MARKS | AVERAGED):
        (name,) = one.values
        known = name not in COMPILED and name not in NOT_BY_ELEMENT
        marks = [*one.marks, *([pytest.mark.slow] if known else [])]
        yield pytest.param(name, name not in COMPILED, id=name, marks=marks)
        if name not in COMPILED:
            marks = [*one.marks, pytest.mark.slow]
            yield pytest.param(name, False, id=f"{name}-compiled", marks=marks)


@pytest.mark.parametrize(("name", "eager"), list(fits()))
def test_fit_goes_on_and_every_weight_moves(name, eager):
    model = network()
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(MAKERS[name](), loss, run_eagerly=eager)
    x = np.random.default_rng(0).normal(size=(32, 6, 6, 3)).astype("float32")
    y = np.arange(32) % 4
    pruning = keras_gcp.GradualChannelPruning(
        None,
        {"channels": 0.6},
        keras_gcp.schedules.one_shot(1),
        "l2_norm",
        selection={"align": 1},
        verbose=0,
    )
    batch = 16 if eager else 8  # Steps take long where nothing is compiled.
    after = AtBeginning(1)
    callbacks = [pruning, after]
    history = model.fit(x, y, batch_size=batch, epochs=2, verbose=0, callbacks=callbacks).history
    assert pruning.events[0].removed_channels > 0
    assert np.isfinite(history["loss"]).all()
    trainable = {id(v) for v in model.trainable_variables}
    for variable, then in zip(model.weights, after.weights, strict=True):
        now = keras.ops.convert_to_numpy(variable)
        assert id(variable) not in trainable or not np.array_equal(now, then), variable.path
