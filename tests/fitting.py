"""Short trainings with the pruning callback: data, compiling, fitting, and what to look at."""

from __future__ import annotations

import keras
import numpy as np

import keras_gcp


def data(classes=4, count=48, seed=0):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(count, 8, 8, 3)).astype("float32")
    return x, (x.mean(axis=(1, 2, 3)).argsort().argsort() * classes // count).astype("int32")


ONE_STEP, THREE_STEPS = data(count=16), data(count=48)
"""Examples of which so many steps make an epoch."""


def compiled(model, optimizer=None, **options):
    """Compiles a model, and returns it; without tracing its steps unless that is asked for.

    Few steps are taken here, and tracing costs more than they do: `run_eagerly=False` is for tests
    of what happens to traced steps. Where a step is compiled in another way, it is left to Keras.
    """
    options.setdefault("loss", "sparse_categorical_crossentropy")
    options.setdefault("metrics", ["accuracy"])
    if keras.config.backend() == "tensorflow" and "jit_compile" not in options:
        options.setdefault("run_eagerly", "steps_per_execution" not in options)
    model.compile(optimizer or keras.optimizers.SGD(0.05, momentum=0.9), **options)
    return model


def selection_in(options):
    """The options that belong to a selection, taken out; narrow networks are not aligned.

    Layers are compared by the norm, whatever criteria say by default, and may get as unequal as
    that makes them: so shortcuts keep their channels. Of five and fewer, training strided 1x1
    convolutions on a CPU gives wrong gradients and crashes (see
    `keras_state.least_width_of_strided_pointwise`; these networks are narrower than what it
    guards).
    """
    names = ("align", "floor", "cap", "ranking", "prior", "normalize", "evenness")
    given = {name: options.pop(name) for name in names if name in options}
    return {"align": 1, "normalize": "norm", "evenness": 0, **given}


def pruning(budget=None, schedule=None, criterion="l2_norm", **options):
    """A callback with the cheap criterion and small steps; takes what a selection takes, too."""
    return keras_gcp.GradualChannelPruning(
        options.pop("sample", data()),
        {"channels": 0.6} if budget is None else budget,
        schedule or keras_gcp.schedules.one_shot(1),
        criterion=criterion,
        selection=selection_in(options),
        seed=0,
        verbose=options.pop("verbose", 0),
        **options,
    )


def fit(model, callbacks, epochs=3, examples=ONE_STEP, **options):
    """Few epochs of one step: there is one before the first event, and some after it."""
    x, y = examples
    options.setdefault("shuffle", False)
    options.setdefault("verbose", 0)
    return model.fit(x, y, batch_size=16, epochs=epochs, callbacks=callbacks, **options)


def weights_of(model):
    return [np.array(w) for w in model.get_weights()]


def slots_of(model):
    return [np.array(keras.ops.convert_to_numpy(v)) for v in model.optimizer.variables]


class Watch(keras.callbacks.Callback):
    """Keeps weights and optimizer variables at the end of every epoch."""

    def __init__(self):
        super().__init__()
        self.weights, self.slots = [], []

    def on_epoch_end(self, epoch, logs=None):
        self.weights.append(weights_of(self.model))
        self.slots.append(slots_of(self.model))


class AtBeginning(keras.callbacks.Callback):
    """Keeps both at the beginning of an epoch; behind the pruning callback: after its event."""

    def __init__(self, epoch):
        super().__init__()
        self._epoch, self.weights, self.slots = epoch, None, None

    def on_epoch_begin(self, epoch, logs=None):
        if epoch == self._epoch:
            self.weights, self.slots = weights_of(self.model), slots_of(self.model)


def assert_trains_on_like_a_fresh_model(model, compile_, tolerance=0.0, **options):
    """After the cut the training is that of a new narrow model with the same weights and slots.

    Every trainable weight must have moved since the cut, too.

    Args:
        model: A new model.
        compile_: Compiles a model and returns it.
        tolerance: Greatest absolute difference of a weight.
        options: For `fit`; and `sample` and `validation_data`, for the first of the two only.

    Returns:
        The history of the pruned training.
    """
    cut, after = 1, AtBeginning(1)
    callback = pruning(sample=options.get("examples") or data())
    validation = {k: options.pop(k) for k in ("validation_data",) if k in options}
    history = fit(compile_(model), [callback, after], **options, **validation)
    assert callback.events[-1].removed_channels > 0

    fresh = compile_(type(model).from_config(model.get_config()))
    fresh.set_weights(after.weights)
    fresh.optimizer.build(fresh.trainable_variables)
    for variable, value in zip(fresh.optimizer.variables, after.slots, strict=True):
        variable.assign(value)
    fit(fresh, [], initial_epoch=cut, **options)

    trainable = {id(v) for v in model.trainable_variables}
    for variable, then, ours, theirs in zip(
        model.weights, after.weights, model.get_weights(), fresh.get_weights(), strict=True
    ):
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=tolerance, err_msg=variable.path)
        assert id(variable) not in trainable or not np.array_equal(then, ours), variable.path
    assert keras_gcp.count(model).channels <= 0.6 * callback.plan.before.channels
    return history.history
