"""`criterion="auto"`: what ordinary trainings get, and the line that says why."""

from __future__ import annotations

import re

import keras
import numpy as np
import pytest
from fitting import compiled, data, fit
from helpers import one_line
from keras import layers, losses

import keras_gcp
from keras_gcp import criteria, schedules
from keras_gcp.channels.trace import trace
from keras_gcp.errors import InvalidArgument, UnsupportedModel
from keras_gcp.sample import DrawnSample

RNG = np.random.default_rng(0)
IMAGES = RNG.random((16, 8, 8, 3), dtype="float32")
ROWS = RNG.normal(size=(16, 10)).astype("float32")
WORDS = RNG.integers(0, 30, (16, 12))
FOUR = np.arange(16) % 4
SPARSE = "sparse_categorical_crossentropy"


def convolved(inputs, width=16):
    return layers.Conv2D(width, 3, padding="same", activation="relu")(inputs)


def regressor():
    inputs = keras.Input((10,))
    x = layers.Dense(16, activation="relu")(layers.Dense(24, activation="relu")(inputs))
    return keras.Model(inputs, layers.Dense(1)(x)), "mse", ROWS, ROWS[:, 0]


def several_outputs():
    inputs = keras.Input((8, 8, 3))
    x = layers.GlobalAveragePooling2D()(convolved(convolved(inputs)))
    outputs = [layers.Dense(4, activation="softmax")(x), layers.Dense(1)(x)]
    return keras.Model(inputs, outputs), [SPARSE, "mse"], IMAGES, [FOUR, ROWS[:, 0]]


def autoencoder():
    inputs = keras.Input((8, 8, 3))
    x = layers.Conv2DTranspose(16, 3, 2, padding="same", activation="relu")(
        layers.MaxPooling2D()(convolved(inputs))
    )
    outputs = layers.Conv2D(3, 3, padding="same", activation="sigmoid")(x)
    return keras.Model(inputs, outputs), "binary_crossentropy", IMAGES, IMAGES


def image_to_image_with_a_loss_of_its_own():
    inputs = keras.Input((8, 8, 3))
    outputs = layers.Conv2D(3, 3, padding="same")(convolved(convolved(inputs)))
    loss = lambda y, p: keras.ops.mean(keras.ops.sqrt((y - p) ** 2 + 1e-6))  # noqa: E731
    return keras.Model(inputs, outputs), loss, IMAGES, IMAGES[:, ::-1].copy()


def text_classifier():
    inputs = keras.Input((12,), dtype="int32")
    x = layers.Conv1D(16, 3, activation="relu")(layers.Embedding(30, 16)(inputs))
    outputs = layers.Dense(2, activation="softmax")(layers.GlobalMaxPooling1D()(x))
    return keras.Model(inputs, outputs), SPARSE, WORDS, FOUR % 2


def unet():
    inputs = keras.Input((8, 8, 3))
    above = convolved(inputs)
    below = layers.UpSampling2D()(convolved(layers.MaxPooling2D()(above), 24))
    x = convolved(layers.Concatenate()([above, below]))
    outputs = layers.Conv2D(1, 1, activation="sigmoid")(x)
    mask = (IMAGES[..., :1] > 0.5).astype("float32")
    return keras.Model(inputs, outputs), losses.Dice(), IMAGES, mask


def siamese():
    left, right = keras.Input((8, 8, 3)), keras.Input((8, 8, 3))
    shared = [layers.Conv2D(16, 3, activation="relu"), layers.GlobalAveragePooling2D()]
    ends = []
    for x in (left, right):
        for layer in shared:
            x = layer(x)
        ends.append(x)
    outputs = layers.Dense(1, activation="sigmoid")(keras.ops.abs(ends[0] - ends[1]))
    pair = [IMAGES, IMAGES[::-1].copy()]
    return keras.Model([left, right], outputs), "binary_crossentropy", pair, FOUR % 2


def product_of_maps():
    inputs = keras.Input((8, 8, 3))
    x = layers.Multiply(name="bilinear")([convolved(inputs), convolved(inputs)])
    outputs = layers.Dense(4, activation="softmax")(layers.GlobalAveragePooling2D()(x))
    return keras.Model(inputs, outputs), SPARSE, IMAGES, FOUR


def attention():
    inputs = keras.Input((12, 8))
    x = layers.Dense(16)(inputs)
    x = layers.LayerNormalization()(x + layers.MultiHeadAttention(2, 8)(x, x))
    x = layers.GlobalAveragePooling1D()(layers.Dense(32, activation="gelu")(x))
    sequences = RNG.normal(size=(16, 12, 8)).astype("float32")
    return keras.Model(inputs, layers.Dense(4, activation="softmax")(x)), SPARSE, sequences, FOUR


def multi_label():
    inputs = keras.Input((8, 8, 3))
    x = layers.GlobalAveragePooling2D()(convolved(convolved(inputs)))
    labels = RNG.integers(0, 2, (16, 5)).astype("float32")
    outputs = layers.Dense(5, activation="sigmoid")(x)
    return keras.Model(inputs, outputs), "binary_crossentropy", IMAGES, labels


def summed_channels():
    """No layer with weights reads the channels of the last layer."""
    inputs = keras.Input((10,))
    x = layers.Dense(16, activation="relu")(layers.Dense(24, activation="relu")(inputs))
    return keras.Model(inputs, keras.ops.sum(x, axis=-1, keepdims=True)), "mse", ROWS, ROWS[:, 0]


ORDINARY = [
    regressor,
    several_outputs,
    autoencoder,
    image_to_image_with_a_loss_of_its_own,
    text_classifier,
    unet,
    siamese,
    product_of_maps,
    attention,
    multi_label,
]
NOT_READ = (
    "taylor; loss_aware does not apply: .*; compensation_aware does not apply: .*; "
    "feature_relevance does not apply: .*"
)
CHOSEN = dict.fromkeys(ORDINARY, "loss_aware") | {summed_channels: NOT_READ}


def decided(make, labelled=True, sampled=True):
    model, loss, x, y = make()
    model.compile("sgd", loss, run_eagerly=True)
    channels = trace(model)
    sample = DrawnSample(x, y if labelled else None) if sampled else None
    return model, channels, sample, criteria.decided(criteria.get("auto"), model, channels, sample)


@pytest.mark.parametrize("make", CHOSEN, ids=lambda make: make.__name__)
def test_ordinary_networks_get_the_first_criterion_that_applies(make):
    model, channels, sample, decision = decided(make)
    (line,) = decision.words.splitlines()
    assert re.fullmatch(CHOSEN[make], line), line
    assert len(line) < 600
    scores = criteria.checked_scores(decision.scorer, model, channels, sample)
    assert all(np.ptp(one) > 0 for one in scores.values())


@pytest.mark.parametrize("make", [siamese, regressor, attention], ids=lambda make: make.__name__)
def test_examples_without_labels_are_enough(make):
    assert decided(make, labelled=False)[-1].words == "loss_aware"


def test_without_labels_the_second_one_is_taken_where_only_they_tell_the_loss():
    words = decided(unet, labelled=False)[-1].words
    assert words.startswith("compensation_aware; loss_aware does not apply: ")
    assert "needs labels" in words


def test_without_a_sample_weights_decide():
    assert decided(unet, sampled=False)[-1].words == "l2_norm; the others need a sample"


def test_where_nothing_that_reads_a_sample_applies_weights_decide_and_the_reasons_are_given():
    words = decided(summed_channels, labelled=False)[-1].words
    assert words.startswith("l2_norm; loss_aware does not apply: ")
    assert "; taylor does not apply: criterion 'taylor' needs labels for the loss" in words


def test_a_criterion_asked_for_by_name_is_still_refused_where_it_cannot_be():
    model, loss, x, y = regressor()
    model.compile("sgd", loss)
    with pytest.raises(UnsupportedModel, match="is a regression"):
        keras_gcp.plan(model, {"macs": 0.5}, criterion="feature_relevance", sample=(x, y))
    named = criteria.decided(criteria.get("taylor"), model, trace(model), DrawnSample(x, y))
    assert (named.words, named.was_open) == ("taylor", False)


def test_labels_that_do_not_fit_the_loss_are_an_error_not_a_reason_for_another_criterion():
    model, loss, x, y = text_classifier()
    model.compile("sgd", loss)
    with pytest.raises(InvalidArgument, match="do not fit the loss"):
        keras_gcp.plan(model, {"macs": 0.5}, sample=(x, y + 7))


def test_a_plan_explains_which_criterion_and_why():
    model, loss, x, y = summed_channels()
    model.compile("sgd", loss)
    plan = keras_gcp.plan(model, {"macs": 0.5}, sample=(x, y))
    assert re.fullmatch(NOT_READ, plan.criterion)
    assert f"criterion: {plan.criterion}" in one_line(plan.explain())
    assert keras_gcp.Plan.from_json(plan.to_json()).explain() == plan.explain()
    assert "criterion: l2_norm; " in keras_gcp.plan(model, {"macs": 0.5}).explain()
    named = keras_gcp.plan(model, {"macs": 0.5}, criterion="l1_norm").explain()
    assert "criterion: l1_norm" in named.splitlines()


def test_training_says_it_once_and_every_event_keeps_to_it(capsys):
    model, loss, x, y = several_outputs()
    model.compile("sgd", loss, run_eagerly=True)
    callback = keras_gcp.GradualChannelPruning(
        (x, y), {"channels": 0.5}, schedules.linear(1, 2), selection={"align": 1}, seed=0, verbose=1
    )
    fit(model, [callback], examples=(x, y))
    fit(model, [callback], examples=(x, y))
    lines = [one for one in capsys.readouterr().out.splitlines() if "criterion" in one]
    assert lines == ["criterion: loss_aware"]
    assert len(callback.events) == 3 and lines[0] in callback.plan.explain().splitlines()


def test_sensitivity_and_smallest_decide_too():
    model, loss, x, y = regressor()
    model.compile("sgd", loss)
    found = keras_gcp.smallest(
        model, (x, y), 1e9, metric="loss", sample=(x, y), max_evaluations=1, verbose=0
    )
    assert "criterion: loss_aware" in found.plan.explain()
    measured = {
        criterion: keras_gcp.sensitivity(
            model, (x, y), metric="loss", criterion=criterion, sample=(x, y), verbose=0
        )
        for criterion in ("auto", "loss_aware", "l2_norm")
    }
    assert measured["auto"] == measured["loss_aware"] != measured["l2_norm"]


class Killed(Exception):
    pass


class Kills(keras.callbacks.Callback):
    def on_epoch_end(self, epoch, logs=None):
        if epoch == 1:
            raise Killed


def begun(folder, criterion, sample=None, others=()):
    keras.utils.clear_session()
    inputs = keras.Input((8, 8, 3))
    x = layers.Conv2D(8, 3, padding="same", activation="relu", name="conv")(inputs)
    x = layers.GlobalAveragePooling2D(name="pool")(x)
    model = keras.Model(inputs, layers.Dense(4, activation="softmax", name="head")(x))
    callback = keras_gcp.GradualChannelPruning(
        data() if sample is None else sample,
        {"channels": 0.5},
        schedules.linear(1, 2),
        criterion,
        selection={"align": 1},
        seed=0,
        verbose=0,
        backup_dir=folder,
    )
    fit(compiled(model, run_eagerly=True), [callback, *others])
    return callback


def test_a_restart_has_the_criterion_of_the_first_start_or_is_refused(tmp_path):
    with pytest.raises(Killed):
        begun(tmp_path, "auto", others=[Kills()])
    with pytest.raises(InvalidArgument, match="criterion: loss_aware there, l2_norm here"):
        begun(tmp_path, "l2_norm")
    assert begun(tmp_path, "auto").plan.criterion == "loss_aware"
