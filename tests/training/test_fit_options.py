"""Whatever one sets in `compile` and `fit`, or does between two fits, works through an event."""

from __future__ import annotations

import keras
import networks
import numpy as np
import pytest
from fitting import (
    ONE_STEP,
    THREE_STEPS,
    Watch,
    assert_trains_on_like_a_fresh_model,
    compiled,
    data,
    fit,
    pruning,
    weights_of,
)
from helpers import randomise

import keras_gcp
from keras_gcp.errors import InvalidArgument, UnsupportedModel

on_tensorflow = pytest.mark.needs_tensorflow("a `train_step` is written for one backend")

OPTIONS = {  # of `compile`, of `fit`
    "compiled_steps": (
        {"steps_per_execution": 2, "weighted_metrics": ["accuracy"]},  # of 3 steps in an epoch
        {"class_weight": {0: 3.0, 1: 0.5, 2: 1.0, 3: 2.0}, "examples": THREE_STEPS},
    ),
    "eager": ({"run_eagerly": True}, {"sample_weight": np.linspace(2.0, 0.1, 16)}),
}
SLOW_OPTIONS = {
    "without_xla": ({"jit_compile": False}, {"sample_weight": np.linspace(0.1, 2.0, 16)}),
    "xla": ({"jit_compile": True}, {}),
    "split": ({"jit_compile": "auto"}, {"validation_split": 1 / 3, "examples": THREE_STEPS}),
}


def assert_trains_on_under(compile_options, fit_options):
    model = networks.sequential()
    if "validation_split" not in fit_options:
        fit_options = {**fit_options, "validation_data": data(count=16, seed=1)}
    history = assert_trains_on_like_a_fresh_model(
        model, lambda model: compiled(model, **compile_options), **fit_options
    )
    x, y = data(count=16, seed=1)
    if "validation_split" in fit_options:
        x, y = (array[32:] for array in THREE_STEPS)
    values = model.evaluate(x, y, batch_size=16, return_dict=True, verbose=0)
    for metric, value in values.items():
        assert history[f"val_{metric}"][-1] == pytest.approx(value, rel=1e-6)


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=pytest.mark.not_on("torch", "Keras wants one step per execution"))
        if "steps_per_execution" in compile_options
        else name
        for name, (compile_options, _) in OPTIONS.items()
    ],
)
def test_under_options_training_goes_on_like_that_of_a_fresh_narrow_model(name):
    assert_trains_on_under(*OPTIONS[name])


@pytest.mark.slow
@pytest.mark.parametrize("name", SLOW_OPTIONS)
def test_under_further_options_training_goes_on_like_that_of_a_fresh_narrow_model(name):
    assert_trains_on_under(*SLOW_OPTIONS[name])


@pytest.mark.parametrize(
    "policy", ["mixed_float16", pytest.param("mixed_bfloat16", marks=pytest.mark.slow)]
)
def test_in_mixed_precision_training_goes_on_like_that_of_a_fresh_narrow_model(policy):
    keras.config.set_dtype_policy(policy)
    model = networks.sequential()
    traced = lambda model: compiled(model, run_eagerly=False)  # noqa: E731
    assert_trains_on_like_a_fresh_model(model, traced, tolerance=1e-6)
    scaled = isinstance(model.optimizer, keras.optimizers.LossScaleOptimizer)
    assert scaled == (policy == "mixed_float16")
    assert {keras.backend.standardize_dtype(v.dtype) for v in model.weights} == {"float32"}


def test_several_losses_and_metrics_go_on_and_agree_with_evaluate():
    x, labels = ONE_STEP
    maps = np.random.default_rng(5).normal(size=(len(x), 8, 8, 2)).astype("float32")
    model = networks.two_outputs()
    history = assert_trains_on_like_a_fresh_model(
        model,
        lambda model: compiled(
            model,
            loss=["sparse_categorical_crossentropy", "mse"],
            loss_weights=[1.0, 0.5],
            metrics=[["accuracy"], ["mae"]],
        ),
        examples=(x, [labels, maps]),
        validation_data=(x, [labels, maps]),
    )
    values = model.evaluate(x, [labels, maps], batch_size=16, return_dict=True, verbose=0)
    assert {"classifier_accuracy", "map_mae"} <= set(values)
    for metric, value in values.items():
        assert history[f"val_{metric}"][-1] == pytest.approx(value, rel=1e-6)
    probabilities, drawn = model.predict(x, verbose=0)
    by_hand = np.mean(-np.log(probabilities[np.arange(len(x)), labels]))
    by_hand += 0.5 * np.mean((drawn - maps) ** 2)
    assert values["loss"] == pytest.approx(by_hand, rel=1e-4)


# ---- training steps of one's own


def own_step(model, data, optimizers):
    """One step, in which every optimizer takes its share of the trainable weights."""
    import tensorflow as tf

    x, y = data
    with tf.GradientTape() as tape:
        y_pred = model(x, training=True)
        loss = model.compute_loss(x, y, y_pred)
    variables = model.trainable_variables
    pairs = list(zip(tape.gradient(loss, variables), variables, strict=True))
    for i, optimizer in enumerate(optimizers):
        optimizer.apply_gradients(pairs[i :: len(optimizers)])
    model.tracker.update_state(loss)
    return {"own_loss": model.tracker.result()}


class OwnStep(keras.Model):
    """Trains with Python code of its own, and reports a metric of its own."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.tracker = keras.metrics.Mean(name="own_loss")

    @property
    def metrics(self):
        return [self.tracker]

    def train_step(self, data):
        return own_step(self, data, [self.optimizer])


class TwoOptimizers(OwnStep):
    """Every second weight is trained by an optimizer that Keras knows nothing of."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.others = {"second": keras.optimizers.Adam(1e-2)}

    def train_step(self, data):
        return own_step(self, data, [self.optimizer, self.others["second"]])


def made_of(kind, network):
    return kind(network.inputs, network.outputs)


@on_tensorflow
def test_a_train_step_of_ones_own_goes_on_like_that_of_a_fresh_narrow_model():
    model = made_of(OwnStep, networks.sequential())
    traced = lambda model: compiled(model, run_eagerly=False)  # noqa: E731
    history = assert_trains_on_like_a_fresh_model(model, traced)
    assert len(history["own_loss"]) == 3


@on_tensorflow
def test_a_second_optimizer_of_a_train_step_is_cut_too():
    model = compiled(made_of(TwoOptimizers, networks.sequential()), run_eagerly=True)
    watch = Watch()
    fit(model, [pruning(), watch])
    second = model.others["second"]
    assert int(second.iterations) == int(model.optimizer.iterations) == 3
    for variable, slot in zip(model.trainable_variables[1::2], second._momentums, strict=True):
        assert tuple(slot.shape) == tuple(variable.shape)
    for before, after in zip(watch.weights[1], watch.weights[2], strict=True):
        assert not np.array_equal(before, after)
    fit(model, [pruning({"channels": 0.5})])  # which looks at all optimizers, now built


@on_tensorflow
def test_a_second_optimizer_is_in_the_backup_and_has_to_be_built_before_it_is_put_back(tmp_path):
    def start(build=True, stop=False):
        model = compiled(made_of(TwoOptimizers, networks.sequential()), run_eagerly=True)
        if build:
            model.others["second"].build(model.trainable_variables[1::2])
        callbacks = [pruning(backup_dir=tmp_path / "b")]
        if stop:
            callbacks.append(keras.callbacks.LambdaCallback(on_epoch_begin=fail_in_epoch_2))
        fit(model, callbacks)
        return model

    def fail_in_epoch_2(epoch, logs):
        if epoch == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        start(stop=True)
    with pytest.raises(InvalidArgument, match=r"optimizer variables.*`optimizer.build"):
        start(build=False)
    model = start()
    assert int(model.others["second"].iterations) == int(model.optimizer.iterations) == 3


@on_tensorflow
def test_steps_that_hold_on_to_old_weights_are_refused_before_training():
    import tensorflow as tf

    class Decorated(OwnStep):
        train_step = tf.function(OwnStep.train_step)

    model = compiled(made_of(Decorated, networks.plain()))
    before = weights_of(model)
    with pytest.raises(UnsupportedModel, match="`train_step`.*Decorated.*take the decorator away"):
        fit(model, [pruning()])
    for then, now in zip(before, weights_of(model), strict=True):
        np.testing.assert_array_equal(then, now)


@on_tensorflow
def test_other_callbacks_that_cut_refuse_them_as_well():
    import tensorflow as tf

    class Decorated(OwnStep):
        train_step = tf.function(OwnStep.train_step)

    gated = keras_gcp.gates.insert(networks.plain(), keras_gcp.gates.ConsensusGate())
    density = keras_gcp.methods.ActivationDensity(data())
    consensus = keras_gcp.methods.ConsensusPruning()
    for network, callback in ((networks.plain(), density), (gated, consensus)):
        with pytest.raises(UnsupportedModel, match="`train_step`.*take the decorator away"):
            fit(compiled(made_of(Decorated, network)), [callback])


# ---- habits of fine-tuning


def batch_normalizations(model):
    return [one for one in model.layers if isinstance(one, keras.layers.BatchNormalization)]


def test_frozen_batch_normalization_keeps_all_its_numbers():
    model = randomise(networks.plain())
    for layer in batch_normalizations(model):
        layer.trainable = False
    before = {layer.name: layer.get_weights() for layer in batch_normalizations(model)}
    callback = pruning(criterion="random")
    fit(compiled(model), [callback])
    for layer in batch_normalizations(model):
        kept = callback.plan.kept(layer.name.replace("_bn", "_conv"))
        assert not layer.trainable and len(kept) < len(before[layer.name][0])
        for then, now in zip(before[layer.name], layer.get_weights(), strict=True):
            np.testing.assert_array_equal(then[kept], now)


def test_transfer_learning_freezes_a_base_called_in_inference_mode_then_unfreezes_it():
    base_inputs = keras.Input((8, 8, 3))
    bn = keras.layers.BatchNormalization(name="bn")
    x = keras.layers.ReLU()(bn(keras.layers.Conv2D(8, 3, name="conv")(base_inputs)))
    base = randomise(keras.Model(base_inputs, x, name="base"))
    base.trainable = False
    inputs = keras.Input((8, 8, 3))
    x = keras.layers.GlobalAveragePooling2D()(base(inputs, training=False))
    model = keras.Model(inputs, keras.layers.Dense(4, activation="softmax", name="classifier")(x))

    before = bn.get_weights()
    assert_trains_on_like_a_fresh_model(model, compiled)
    kept = np.isin(before[0], bn.get_weights()[0])
    assert 0 < kept.sum() < 8
    for then, now in zip(before, bn.get_weights(), strict=True):
        np.testing.assert_array_equal(then[kept], now)

    base.trainable = True
    watch = Watch()
    fit(compiled(model, keras.optimizers.Adam(1e-3)), [pruning({"channels": 0.5}), watch])
    for then, now in zip(watch.weights[1], watch.weights[2], strict=True):
        assert not np.array_equal(then, now)


def test_unfrozen_and_compiled_again_a_second_callback_prunes_on_from_the_original():
    model = networks.sequential()
    original = keras.models.clone_model(model)
    channels = keras_gcp.count(original).channels
    for layer in model.layers[:2]:
        layer.trainable = False
    fit(compiled(model), [pruning({"channels": 0.8})])
    assert keras_gcp.count(model).channels == int(0.8 * channels)

    for layer in model.layers:
        layer.trainable = True
    compiled(model, keras.optimizers.Adam(1e-2))
    watch, callback = Watch(), pruning(keras_gcp.Budget({"channels": 0.5}, reference=original))
    fit(model, [callback, watch])
    assert keras_gcp.count(model).channels == int(0.5 * channels)
    for before, after in zip(watch.weights[1], watch.weights[2], strict=True):
        assert not np.array_equal(before, after)


def test_without_a_reference_shares_are_of_the_model_that_the_callback_meets():
    model = compiled(networks.sequential(), run_eagerly=True)
    fit(model, [pruning({"channels": 0.8})], 2, ONE_STEP)
    channels = keras_gcp.count(model).channels
    fit(model, [pruning({"channels": 0.5})], 2, ONE_STEP)
    assert keras_gcp.count(model).channels == int(0.5 * channels)


def test_compiled_again_a_pruned_model_trains_like_a_fresh_narrow_one():
    model = compiled(networks.sequential())
    fit(model, [pruning()])
    fresh = keras.Sequential.from_config(model.get_config())
    fresh.set_weights(model.get_weights())
    for one in (model, fresh):
        fit(compiled(one, keras.optimizers.Adam(1e-2)), [], epochs=1)
    for ours, theirs in zip(model.get_weights(), fresh.get_weights(), strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_a_training_in_two_fits_is_the_same_as_in_one():
    def train(*parts):
        keras.utils.set_random_seed(3)
        model = compiled(networks.sequential(), keras.optimizers.Adam(1e-2), run_eagerly=True)
        callback = pruning({"channels": 0.5}, keras_gcp.schedules.linear(1, 3, 2))
        for begin, end in parts:
            fit(model, [callback], end, ONE_STEP, initial_epoch=begin)
        assert [event.epoch for event in callback.events] == [1, 3]
        return model, callback

    whole, of_whole = train((0, 5))
    with pytest.warns(UserWarning, match="only 50% of the way"):
        parts, of_parts = train((0, 2), (2, 5))
    assert of_whole.plan.widths() == of_parts.plan.widths()
    for ours, theirs in zip(parts.get_weights(), whole.get_weights(), strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_a_training_that_begins_behind_events_makes_up_for_them_in_one():
    model = compiled(networks.sequential(), run_eagerly=True)
    callback = pruning({"channels": 0.5}, keras_gcp.schedules.linear(0, 3))
    fit(model, [callback], 4, ONE_STEP, initial_epoch=2)
    assert [(event.epoch, event.progress) for event in callback.events] == [(2, 0.75), (3, 1.0)]
    assert keras_gcp.count(model).channels == 8
