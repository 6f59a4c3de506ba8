"""Adversarial fine-tuning: the attack, training on what it finds, the schedule, the accuracy."""

from contextlib import nullcontext

import keras
import networks
import numpy as np
import pytest
from fitting import AtBeginning, Watch, pruning, weights_of
from helpers import randomise
from keras import layers, ops

import keras_gcp
from keras_gcp import keras_state
from keras_gcp.errors import InvalidArgument, UnsupportedModel
from keras_gcp.methods import AdversarialTraining, SlowStartFastDecay, robust_accuracy
from keras_gcp.methods.adversarial.attack import Attack, ascend, loss_gradients_in, started

ON_TENSORFLOW = pytest.mark.skipif(
    keras.config.backend() != "tensorflow", reason="is about `tf.function`"
)


def array(tensor):
    return ops.convert_to_numpy(tensor)


def tensors(*arrays):
    return tuple(ops.convert_to_tensor(one) for one in arrays)


class Recording(keras.Model):
    """Keeps what its training steps are given."""

    seen = ()

    def train_step(self, *arguments):
        data = keras.utils.unpack_x_y_sample_weight(arguments[-1])
        self.seen = (*self.seen, keras.tree.map_structure(as_array, data))
        return super().train_step(*arguments)


def as_array(leaf):
    return None if leaf is None else np.array(array(leaf))


def linear(size=12, seed=0):
    """Logits `w x` of two classes; a training step changes nothing."""
    inputs = keras.Input((size,), name="x")
    model = Recording(inputs, layers.Dense(1, use_bias=False, name="w")(inputs))
    weight = np.random.default_rng(seed).normal(size=(size, 1))
    model.set_weights([weight])
    loss = keras.losses.BinaryCrossentropy(from_logits=True)
    model.compile(keras.optimizers.SGD(0.0), loss, run_eagerly=True)
    return model, weight.ravel().astype("float32")


def uniform(*shape, seed=0):
    return np.random.default_rng(seed).uniform(size=shape).astype("float32")


# ---- the attack


@pytest.mark.parametrize("clip", [(0.0, 1.0), None])
def test_every_iterate_is_within_the_ball_and_the_range(clip):
    x, noise = uniform(4, 6), uniform(4, 6, seed=1) - 0.5
    x[0, :3], x[1, :2] = 0.0, 1.0
    ends = []
    for steps in range(1, 7):
        attack = Attack(0.2, 0.13, steps, clip)

        def waves(parts):
            return [ops.sin(37 * parts[0])]

        begun = started(tensors(x), tensors(noise), attack)
        (end,) = map(array, ascend(waves, tensors(x), begun, attack))
        assert np.abs(end - x).max() <= 0.2 + 1e-6
        if clip:
            assert end.min() >= 0 and end.max() <= 1
        ends.append(end)
    assert np.abs(np.stack(ends) - x).max() == pytest.approx(0.2, abs=1e-6)  # They get there.
    assert not np.array_equal(ends[0], ends[1])


def test_values_outside_of_the_range_go_no_further_out():
    x, up = np.array([[-0.5, 1.5, 0.5]], "float32"), np.array([[-1.0, 1.0, 1.0]], "float32")
    attack = Attack(0.1, 0.1, 3, (0.0, 1.0))
    (end,) = ascend(lambda parts: tensors(up), tensors(x), tensors(x), attack)
    np.testing.assert_allclose(array(end), [[-0.5, 1.5, 0.6]], atol=1e-6)


def test_one_step_is_the_fast_gradient_sign_method_written_out():
    inputs = keras.Input((5,))
    model = keras.Model(inputs, layers.Dense(3, activation="softmax")(inputs))
    model.compile("sgd", "sparse_categorical_crossentropy")
    x, y = uniform(7, 5), np.arange(7) % 3
    kernel, bias = model.get_weights()
    logits = x @ kernel + bias
    shares = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    by_hand = (shares - np.eye(3)[y]) @ kernel.T
    expected = np.clip(x + 0.1 * np.sign(by_hand), 0, 1)
    found = loss_gradients_in(model, *tensors(x, y), None, [0], nullcontext)
    (end,) = ascend(found, tensors(x), tensors(x), Attack(0.1, 0.1, 1, (0.0, 1.0)))
    np.testing.assert_allclose(array(end), expected, atol=1e-6)


def test_gradients_are_those_of_finite_differences_at_inference_with_weights_of_examples():
    inputs = keras.Input((3,))
    x = layers.Dense(4, activation="tanh")(inputs)
    x = layers.Dropout(0.5)(layers.BatchNormalization()(x))
    model = randomise(keras.Model(inputs, layers.Dense(2)(x)))
    model.compile("sgd", "mse")
    x, y, weights = uniform(4, 3), uniform(4, 2, seed=1), np.array([1.0, 2.0, 0.0, 0.5], "float32")
    before = weights_of(model)
    at = loss_gradients_in(model, *tensors(x, y, weights), [0], nullcontext)
    (gradient,) = map(array, at(tensors(x)))

    def loss(point):
        outputs = array(model(point, training=False)).astype("float64")
        return float((((outputs - y) ** 2).mean(axis=1) * weights).mean())

    for place in np.ndindex(*x.shape):
        shift = np.zeros_like(x)
        shift[place] = 1e-2
        slope = (loss(x + shift) - loss(x - shift)) / 2e-2
        assert gradient[place] == pytest.approx(slope, abs=1e-2 * float(np.abs(gradient).max()))
    assert np.abs(gradient).max() > 0.01
    for then, now in zip(before, weights_of(model), strict=True):
        np.testing.assert_array_equal(then, now)


# ---- training


def test_a_linear_model_trains_on_the_exact_optimum_and_leaves_out_what_does_not_count():
    model, weight = linear()
    x, y = uniform(8, 12), np.arange(8) % 2
    counts = np.array([1.0, 1.0, 2.0, 0.1, 1.0, 1.0, 0.0, 0.0])
    harden = AdversarialTraining(0.1, 0.05, 5, seed=0)
    options = {"batch_size": 8, "shuffle": False, "verbose": 0}
    model.fit(x, y, sample_weight=counts, callbacks=[harden], **options)
    seen, labels, found = model.seen[0]
    away = np.where(y[:, None] == 0, 1, -1) * np.sign(weight)
    best = np.clip(x + 0.1 * away, 0, 1)
    np.testing.assert_allclose(seen[:6], best[:6], atol=1e-6)
    assert np.abs(seen[6:] - x[6:]).max() <= 0.1 + 1e-6  # Without weight they stay at the start.
    assert np.abs(seen[6:] - best[6:]).max() > 0.05
    np.testing.assert_array_equal(labels.ravel(), y)
    np.testing.assert_allclose(found.ravel(), counts)


def test_starts_differ_from_step_to_step_and_follow_from_seed_and_step_alone():
    def seen(*fits):
        model, _ = linear()
        for epochs in fits:
            callback = AdversarialTraining(0.1, 1e-9, 1, seed=3)
            x, y = uniform(4, 12), np.zeros(4)
            model.fit(x, y, epochs=epochs, shuffle=False, verbose=0, callbacks=[callback])
        return [x for x, _, _ in model.seen]

    whole, resumed = seen(2), seen(1, 1)
    assert np.abs(whole[0] - whole[1]).max() > 0.01
    np.testing.assert_array_equal(whole, resumed)


def test_all_that_a_step_changes_is_what_training_on_the_found_examples_changes():
    """With two inputs, one of whole numbers, two outputs, dropout, normalization and penalties."""
    image, token = keras.Input((6,), name="image"), keras.Input((1,), name="token", dtype="int32")
    x = layers.BatchNormalization(momentum=0.5, gamma_regularizer="l1", name="bn")(image)
    x = layers.Concatenate()([x, layers.Flatten()(layers.Embedding(3, 2)(token))])
    x = layers.Dropout(0.5, seed=1)(x)
    a = layers.Dense(1, kernel_regularizer="l2", name="a")(x)
    outputs = {"a": a, "b": layers.Dense(2, name="b")(x)}
    model = Recording([image, token], outputs)
    data = {"image": uniform(6, 6), "token": np.arange(6).reshape(6, 1) % 3}
    labels = {"a": uniform(6, 1), "b": uniform(6, 2)}
    begin = model.get_weights()

    def fitted(x, callbacks):
        model.set_weights(begin)
        for variable in model.non_trainable_variables:
            if "seed" in variable.path:
                variable.assign(np.array([1, 0]))
        model.compile(keras.optimizers.SGD(0.1), "mse", run_eagerly=True)
        history = model.fit(x, labels, shuffle=False, verbose=0, callbacks=callbacks).history
        return history, weights_of(model)

    logs, weights = fitted(data, [AdversarialTraining(0.2, steps=3, seed=0)])
    seen = dict(model.seen[0][0])  # Keras keeps a class of its own.
    assert set(seen) == {"image", "token"}
    np.testing.assert_array_equal(seen["token"], data["token"])
    assert 0.1 < np.abs(seen["image"] - data["image"]).max() <= 0.2 + 1e-6
    again, expected = fitted(seen, [])
    assert set(logs) == {"loss", "a_loss", "b_loss"}
    for name, (value,) in logs.items():
        assert again[name] == pytest.approx([value], rel=1e-5)
    for one, other in zip(weights, expected, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-7)


def small_network(width=16):
    """A convolution and a normalization whose weights all get gradients."""
    inputs = keras.Input((8, 8, 1))
    x = layers.Conv2D(width, 3, use_bias=False, name="a")(inputs)
    x = layers.Activation("gelu")(layers.BatchNormalization(name="bn")(x))
    x = layers.Conv2D(width, 3, strides=2, activation="gelu", name="b")(x)
    x = layers.GlobalAveragePooling2D()(x)
    return keras.Model(inputs, layers.Dense(4, activation="softmax", name="out")(x))


def images(count=32):
    return uniform(count, 8, 8, 1), np.arange(count) % 4


def fit_together(callbacks, epochs=3, run_eagerly=False, model=None, **options):
    keras.utils.set_random_seed(0)
    model = model or small_network()
    adam = keras.optimizers.Adam(SlowStartFastDecay(0.01, 2 * epochs))
    model.compile(adam, "sparse_categorical_crossentropy", run_eagerly=run_eagerly)
    x, y = images()
    history = model.fit(
        x, y, batch_size=16, epochs=epochs, verbose=0, callbacks=callbacks, **options
    )
    return model, history.history


def test_every_weight_goes_on_learning_after_a_cut_in_the_same_fit():
    harden, cut, watch = AdversarialTraining(0.1, steps=2, seed=0), AtBeginning(1), Watch()
    prune = pruning(sample=images(), budget={"channels": 0.6})
    model, history = fit_together([harden, prune, cut, watch], epochs=2)
    assert len(prune.events) == 1 and prune.events[0].removed_channels
    assert np.isfinite(history["loss"]).all()
    now = weights_of(model)
    assert [one.shape for one in now] == [one.shape for one in cut.weights]
    for variable, then, value in zip(model.weights, cut.weights, now, strict=True):
        assert not np.array_equal(then, value), variable.path
    assert not {"train_step", "make_train_function"} & set(vars(model))


@pytest.mark.slow
@pytest.mark.parametrize("hardened_first", [True, False])
def test_it_goes_together_with_distillation_in_any_order(hardened_first):
    harden = AdversarialTraining(0.1, steps=2, seed=0)
    distilled = keras_gcp.Distillation()
    prune = pruning(sample=images(), budget={"channels": 0.6}, distillation=distilled)
    callbacks = [harden, prune] if hardened_first else [prune, harden]
    model, history = fit_together(callbacks)
    assert prune.events[0].removed_channels
    assert np.isfinite(history["loss"]).all()
    assert not {"compute_loss", "train_step", "make_train_function"} & set(vars(model))


@pytest.mark.slow
def test_a_training_that_was_killed_goes_on_as_if_it_had_not_been(tmp_path):
    class Killed(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            if epoch == 2:
                raise KeyboardInterrupt

    def callbacks(folder, *others):
        harden = AdversarialTraining(0.1, steps=2, seed=0)
        prune = pruning(sample=images(), budget={"channels": 0.6}, backup_dir=str(folder))
        return [harden, prune, *others]

    whole, _ = fit_together(callbacks(tmp_path / "whole"), 4, shuffle=False)
    with pytest.raises(KeyboardInterrupt):
        fit_together(callbacks(tmp_path / "killed", Killed()), 4, shuffle=False)
    resumed, _ = fit_together(callbacks(tmp_path / "killed"), 4, shuffle=False)
    for one, other in zip(weights_of(whole), weights_of(resumed), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)


@pytest.mark.slow
def test_compiled_steps_do_what_steps_call_by_call_do():
    models = [
        fit_together([AdversarialTraining(0.1, steps=3, seed=0)], 1, run_eagerly)[0]
        for run_eagerly in (False, True)
    ]
    for one, other in zip(*map(weights_of, models), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-3, atol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16"])
def test_mixed_precision_is_attacked_too(policy):
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(policy)
    try:
        model = small_network()
    finally:
        keras.config.set_dtype_policy(before)
    model, history = fit_together([AdversarialTraining(0.2, steps=3, seed=0)], 3, model=model)
    assert np.isfinite(history["loss"]).all()
    x, y = images()
    model.compile(model.optimizer, "sparse_categorical_crossentropy")
    inputs = tensors(x, y)
    at = loss_gradients_in(model, *inputs, None, [0], nullcontext)
    (gradient,) = map(array, at(inputs[:1]))
    assert (gradient[:, :7, :7] != 0).mean() > 0.99  # Last rows and columns are not read.


@pytest.mark.slow
@pytest.mark.parametrize("name", ["residual", "depthwise", "nested", "sequential", "siamese"])
def test_other_networks_are_hardened_while_they_are_cut(name):
    model = randomise(networks.ALL[name]())
    x = [uniform(16, *symbol.shape[1:]) for symbol in model.inputs]
    names = [symbol.name for symbol in model.inputs]
    model.compile("adam", "mse")
    y = np.zeros((16, *model.output_shape[1:]))
    prune = pruning(sample=(x if len(x) > 1 else x[0], y), budget={"channels": 0.7})
    harden = AdversarialTraining(0.1, steps=2, inputs=names, seed=0)
    model.fit(x if len(x) > 1 else x[0], y, epochs=2, verbose=0, callbacks=[prune, harden])
    assert prune.events[0].removed_channels


# ---- what is left of it, and what is refused


def test_inputs_outside_of_the_range_end_the_training_and_nothing_stays_for_the_next():
    model, _ = linear()
    x, y = 255 * uniform(8, 12), np.zeros(8)
    options = {"batch_size": 2, "verbose": 0}
    with pytest.raises(InvalidArgument, match=r"outside of `clip=\(0.0, 1.0\)`.*clip=\(0, 255\)"):
        model.fit(x, y, callbacks=[AdversarialTraining(0.1, steps=1)], **options)
    assert len(model.seen) == 1  # It stops before the second step.
    model.fit(x, y, shuffle=False, **options)
    np.testing.assert_array_equal(model.seen[1][0], x[:2])
    assert not {"train_step", "make_train_function"} & set(vars(model))
    model.fit(x, y, callbacks=[AdversarialTraining(8, steps=1, clip=(0, 255))], **options)
    model.fit(x, y, callbacks=[AdversarialTraining(8, steps=1, clip=None)], **options)


def test_another_loss_and_other_inputs_of_the_same_training_come_and_go_independently():
    model, _ = linear()
    replaced = {"train_step", "compute_loss", "make_train_function"}

    def doubled(loss, penalties, x, y_pred, sample_weight):
        return 2 * loss

    def zeros(x, y, sample_weight, values):
        return ops.zeros_like(x)

    def replace():
        keras_state.set_training_inputs(model, zeros)
        keras_state.set_training_loss(model, doubled)

    replace()
    keras_state.take_back_training_loss(model)
    assert keras_state.has_training_inputs(model)
    keras_state.take_back_training_inputs(model)
    assert replaced.isdisjoint(vars(model))
    replace()
    keras_state.take_back_training_inputs(model)
    assert keras_state.has_training_loss(model)
    keras_state.take_back_training_loss(model)
    assert replaced.isdisjoint(vars(model))
    replace()
    x = uniform(2, 12)
    loss = model.train_on_batch(x, np.zeros(2))  # Whatever begins a training takes both back.
    assert replaced.isdisjoint(vars(model))
    np.testing.assert_array_equal(model.seen[0][0], x)
    assert loss == pytest.approx(model.evaluate(x, np.zeros(2), verbose=0), rel=1e-5)


def model_of(*inputs, loss="mse"):
    parts = [layers.Flatten()(ops.cast(one, "float32")) for one in inputs]
    x = layers.Concatenate()(parts) if len(parts) > 1 else parts[0]
    model = keras.Model(list(inputs), layers.Dense(1)(x))
    if loss:
        model.compile("sgd", loss, run_eagerly=True)
    return model


def test_models_that_cannot_be_attacked_are_refused_before_the_first_step():
    def begin(model, inputs=None, **others):
        callback = AdversarialTraining(0.1, inputs=inputs)
        callback.set_model(model)
        callback.on_train_begin()

    one, other = keras.Input((2,), name="one"), keras.Input((2,), name="other")
    tokens = keras.Input((2,), name="tokens", dtype="int32")
    with pytest.raises(InvalidArgument, match=r"not compiled with a loss"):
        begin(model_of(one, loss=None))
    with pytest.raises(UnsupportedModel, match=r"'tokens' \(int32\)"):
        begin(model_of(tokens))
    with pytest.raises(UnsupportedModel, match=r"'tokens' \(int32\)"):
        begin(model_of(one, tokens), "tokens")
    with pytest.raises(InvalidArgument, match=r"\['one', 'other'\].*`inputs=\[...\]`"):
        begin(model_of(one, other))
    with pytest.raises(InvalidArgument, match=r"names 'third'.*\['one', 'other'\]"):
        begin(model_of(one, other), ["third"])
    begin(model_of(one, tokens))
    model = model_of(one, other)
    begin(model, "other")
    with pytest.raises(InvalidArgument, match=r"Two AdversarialTraining"):
        begin(model, "one")


@ON_TENSORFLOW
def test_a_step_that_was_compiled_by_hand_is_refused():
    import tensorflow as tf

    class Compiled(keras.Model):
        @tf.function
        def train_step(self, data):
            return super().train_step(data)

    inputs = keras.Input((2,))
    model = Compiled(inputs, layers.Dense(1)(inputs))
    model.compile("sgd", "mse")
    with pytest.raises(UnsupportedModel, match=r"`train_step`.*class Compiled.*decorator away"):
        model.fit(uniform(2, 2), np.zeros(2), callbacks=[AdversarialTraining(0.1)], verbose=0)


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"epsilon": 0}, r"`epsilon` expects a number above 0.*Received: 0"),
        ({"epsilon": "8"}, r"`epsilon` expects a number above 0.*Received: '8'"),
        ({"step": 0}, r"`step` expects a number above 0.*Received: 0"),
        ({"steps": 0}, r"`steps` expects an integer of at least 1"),
        ({"clip": (1, 0)}, r"`clip` expects the least and the greatest.*\(1, 0\)"),
        ({"clip": 1}, r"`clip` expects the least and the greatest.*Received: 1"),
        ({"clip": (0, float("nan"))}, r"`clip` expects"),
        ({"inputs": [3]}, r"`inputs` expects names"),
        ({"seed": -1}, r"`seed` expects an integer from 0"),
    ],
)
def test_arguments_that_make_no_attack_are_refused(arguments, message):
    with pytest.raises(InvalidArgument, match=message):
        AdversarialTraining(**{"epsilon": 0.1, **arguments})


# ---- accuracy under attack


def test_without_a_radius_robust_accuracy_is_plain_accuracy():
    model, weight = linear()
    x, y = uniform(50, 12), np.arange(50) % 2
    plain = np.mean((x @ weight > 0) == y)
    assert robust_accuracy(model, x, y, 0.0) == pytest.approx(plain)
    assert 0 < plain < 1


@pytest.mark.parametrize("epsilon", [0.02, 0.1])
def test_a_linear_model_is_robust_exactly_where_its_margin_is_wide_enough(epsilon):
    model, weight = linear()
    x = uniform(60, 12) - 0.5
    margin = x @ weight
    y = (margin > 0).astype("int32")
    y[::7] = 1 - y[::7]
    margin = np.where(y == 1, margin, -margin)
    expected = np.mean(margin > epsilon * np.abs(weight).sum())
    found = robust_accuracy(model, x, y, epsilon, steps=8, clip=None, restarts=2, batch_size=16)
    assert found == pytest.approx(expected)
    assert 0 < expected < np.mean(margin > 0)


def test_robust_accuracy_says_so_where_the_loss_has_no_gradient():
    inputs = keras.Input((4,))
    model = keras.Model(inputs, layers.Dense(3, activation="softmax", use_bias=False)(inputs))
    kernel = np.zeros((4, 3))
    kernel[0, 0], kernel[0, 1] = 1e5, -1e5
    model.set_weights([kernel])
    model.compile("sgd", "sparse_categorical_crossentropy")
    x, y = 0.4 + 0.2 * uniform(5, 4), np.zeros(5)
    with pytest.warns(UserWarning, match=r"For 5 of 5 examples the loss has no gradient.*logits"):
        assert robust_accuracy(model, x, y, 0.1, steps=2) == 1.0


def test_robust_accuracy_refuses_examples_outside_of_the_range_and_changes_nothing():
    model, _ = linear()
    before = weights_of(model)
    with pytest.raises(InvalidArgument, match=r"Inputs lie up to 1 outside of `clip=\(0.0, 1.0\)`"):
        robust_accuracy(model, 2 * np.ones((4, 12), "float32"), np.array([0, 1, 0, 1]), 0.1)
    robust_accuracy(model, uniform(4, 12), np.array([0, 1, 0, 1]), 0.1, steps=1)
    np.testing.assert_array_equal(before, weights_of(model))


# ---- the schedule


def test_the_schedule_has_the_values_computed_by_hand():
    schedule = SlowStartFastDecay(0.5, 200, peak_at=0.5, start=0.02, end=0.01)
    expected = {
        0: 0.01,
        50: (0.01 + 0.5) / 2,
        99: 0.01 + 0.99 * 0.49,
        100: 0.5,
        150: 0.05,
        200: 0.005,
        999: 0.005,
    }
    for step, rate in expected.items():
        assert float(schedule(step)) == pytest.approx(rate, rel=1e-5)
    early = SlowStartFastDecay(1.0, 100, peak_at=0.2, start=1.0, end=0.25)
    assert [float(early(step)) for step in (0, 20, 60)] == pytest.approx([1.0, 1.0, 0.5], rel=1e-5)


def test_the_schedule_is_a_learning_rate_and_survives_being_written(tmp_path):
    inputs = keras.Input((2,))
    model = keras.Model(inputs, layers.Dense(1, use_bias=False)(inputs))
    schedule = SlowStartFastDecay(0.5, 4, peak_at=0.25, start=0.1, end=0.2, name="mine")
    model.compile(keras.optimizers.SGD(schedule), "mse", run_eagerly=True)
    before = model.get_weights()[0]
    model.train_on_batch(np.ones((1, 2)), np.zeros((1, 1)))
    by_hand = before - 0.05 * 2 * before.sum()
    np.testing.assert_allclose(model.get_weights()[0], by_hand, rtol=1e-5)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras").optimizer
    assert float(loaded.learning_rate) == pytest.approx(0.5)
    read = keras.optimizers.schedules.deserialize(keras.optimizers.schedules.serialize(schedule))
    assert read.get_config() == schedule.get_config()
    assert isinstance(read, SlowStartFastDecay)


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"peak_learning_rate": 0}, "`peak_learning_rate`.*above 0"),
        ({"total_steps": 0}, "`total_steps`.*at least 1"),
        ({"peak_at": 1}, "`peak_at`.*below 1"),
        ({"peak_at": 0}, "`peak_at`.*above 0"),
        ({"start": 1.5}, "`start`.*at most 1"),
        ({"end": 0}, "`end`.*above 0"),
    ],
)
def test_a_schedule_that_is_none_is_refused(arguments, message):
    with pytest.raises(InvalidArgument, match=message):
        SlowStartFastDecay(**{"peak_learning_rate": 0.1, "total_steps": 10, **arguments})
