"""Three colours are not three classes: loss and last activation decide, else the labels."""

import keras
import numpy as np
import pytest
from keras import layers, losses

from keras_gcp import criteria
from keras_gcp.channels.trace import trace
from keras_gcp.classification.asker import Asker
from keras_gcp.classification.head import find_head
from keras_gcp.classification.metrics import metric_for
from keras_gcp.classification.targets import targets_of
from keras_gcp.errors import InvalidArgument, KerasGCPError, UnsupportedModel
from keras_gcp.sample import DrawnSample
from keras_gcp.training.distillation import Distillation, Teacher

ASKER = Asker("Sorting", "Sort by hand.")
RNG = np.random.default_rng(0)
IMAGES = RNG.random((6, 8, 8, 3), dtype="float32")
CLASSES = RNG.integers(0, 3, (6, 8, 8))
ONE_HOT = np.eye(3, dtype="float32")[CLASSES]
MASK = (CLASSES > 1)[..., None].astype("float32")
BYTES = (IMAGES * 255).astype("uint8")
LOGITS = losses.SparseCategoricalCrossentropy(from_logits=True)


def own_loss(y, p):
    return keras.ops.mean(keras.ops.abs(y - p))


def network(channels, activation, loss):
    inputs = keras.Input((8, 8, 3))
    x = layers.Conv2D(4, 3, padding="same", activation="relu", name="conv")(inputs)
    model = keras.Model(inputs, layers.Conv2D(channels, 1, activation=activation)(x))
    if loss is not None:
        model.compile("sgd", loss)
    return model


IMAGE_OUTPUTS = {
    "autoencoder, sigmoid, mse": (3, "sigmoid", "mse", IMAGES),
    "autoencoder, sigmoid, binary cross-entropy": (3, "sigmoid", "binary_crossentropy", IMAGES),
    "grey, sigmoid, binary cross-entropy": (1, "sigmoid", "binary_crossentropy", IMAGES[..., :1]),
    "grey, sigmoid, mse, black and white": (1, "sigmoid", "mse", MASK),
    "denoiser, tanh": (3, "tanh", "mse", 2 * IMAGES - 1),
    "super-resolution, linear, mae": (3, None, "mae", IMAGES),
    "super-resolution, linear, huber": (3, None, losses.Huber(), IMAGES),
    "super-resolution, relu": (3, "relu", "mse", IMAGES),
    "linear, a loss of one's own": (3, None, own_loss, IMAGES),
    "linear, a loss of one's own, bytes": (3, None, own_loss, BYTES),
    "sigmoid, a loss of one's own, bytes": (3, "sigmoid", own_loss, BYTES),
    "depth, linear, a loss of one's own": (1, None, own_loss, IMAGES[..., :1]),
    "linear, not compiled": (3, None, None, IMAGES),
    "shares of a whole, linear, own loss": (3, None, own_loss, IMAGES / IMAGES.sum(-1)[..., None]),
}

SEGMENTATIONS = {
    "softmax": (3, "softmax", "sparse_categorical_crossentropy", CLASSES),
    "softmax, one-hot": (3, "softmax", "categorical_crossentropy", ONE_HOT),
    "logits": (3, None, LOGITS, CLASSES),
    "logits, a loss of one's own": (3, None, own_loss, CLASSES),
    "logits, not compiled, one-hot": (3, None, None, ONE_HOT),
    "foreground": (1, "sigmoid", "binary_crossentropy", MASK),
    "foreground, Dice": (1, "sigmoid", losses.Dice(), MASK),
    "several masks": (3, "sigmoid", "binary_crossentropy", ONE_HOT),
    "several masks, a loss of one's own": (3, "sigmoid", own_loss, ONE_HOT),
}


def check(channels, activation, loss, labels):
    model = network(channels, activation, loss)
    sample = DrawnSample(IMAGES, labels)
    criteria.check(criteria.get("feature_relevance"), model, trace(model), sample)


@pytest.mark.parametrize("name", sorted(IMAGE_OUTPUTS))
def test_image_outputs_are_not_taken_for_a_classifier(name):
    with pytest.raises(KerasGCPError, match="criterion='taylor'"):
        check(*IMAGE_OUTPUTS[name])


@pytest.mark.parametrize("name", sorted(SEGMENTATIONS))
def test_a_class_for_every_pixel_is_one(name):
    check(*SEGMENTATIONS[name])


@pytest.mark.parametrize("shape", [(3,), (5, 3)])
def test_several_numbers_compiled_with_a_regression_loss_are_no_logits(shape):
    inputs = keras.Input(shape)
    model = keras.Model(inputs, layers.Dense(3)(inputs))
    model.compile("sgd", "mse")
    with pytest.raises(UnsupportedModel, match="mean_squared_error: .*regression"):
        find_head(model, trace(model).graph, ASKER)


def test_a_head_that_only_labels_tell_is_not_called_one():
    with pytest.raises(InvalidArgument, match="may have a per-place multi-class head"):
        check(*IMAGE_OUTPUTS["linear, a loss of one's own"])


def test_distillation_does_not_take_colours_for_logits():
    model = network(3, None, own_loss)
    graph = trace(model).graph
    for labels in (IMAGES, None):
        with pytest.raises(UnsupportedModel, match="nor do the sample's labels"):
            Teacher(Distillation(), model, graph, labels)
    Teacher(Distillation(), model, graph, CLASSES)


def test_a_classifier_of_which_nothing_can_be_pruned_has_no_scores():
    model = network(3, "softmax", "sparse_categorical_crossentropy")
    channels = trace(model, exclude=["conv"])
    assert criteria.get("feature_relevance")(model, channels, DrawnSample(IMAGES, CLASSES)) == {}


def two_headed():
    inputs = keras.Input((8, 8, 3))
    return keras.Model(inputs, [layers.Conv2D(2, 1)(inputs), layers.Conv2D(3, 1)(inputs)])


NO_CLASSIFIERS = {
    "a regression": lambda: network(3, None, "mse"),
    "an activation of no classes": lambda: network(3, "tanh", None),
    "two outputs": two_headed,
}


@pytest.mark.parametrize("name", sorted(NO_CLASSIFIERS))
def test_whoever_needs_a_classifier_is_named_with_a_remedy(name):
    model = NO_CLASSIFIERS[name]()
    with pytest.raises(UnsupportedModel, match=r"Sorting needs a classifier.* Sort by hand\.$"):
        find_head(model, trace(model).graph, ASKER)


@pytest.mark.parametrize(
    ("activation", "units", "labels"),
    [
        ("softmax", 3, CLASSES + 7),
        ("softmax", 3, CLASSES[:, 0]),
        ("softmax", 3, ONE_HOT * 2),
        ("softmax", 3, None),
        ("sigmoid", 1, IMAGES[..., :1]),
        ("sigmoid", 3, np.zeros_like(ONE_HOT)),
    ],
)
def test_labels_are_refused_in_the_name_of_who_needs_them(activation, units, labels):
    model = network(units, activation, None)
    head = find_head(model, trace(model).graph, ASKER)
    with pytest.raises(InvalidArgument, match=r"Sort") as caught:
        targets_of(head, labels, ASKER)
    assert "relevance" not in str(caught.value)


def test_every_caller_has_a_remedy_of_its_own():
    model = network(3, None, "mse")
    graph, sample = trace(model), DrawnSample(IMAGES, IMAGES)
    refused = {
        "feature_relevance needs .*criterion='taylor'": lambda: criteria.check(
            criteria.get("feature_relevance"), model, graph, sample
        ),
        "Accuracy needs .*Pass `metric`": lambda: metric_for("accuracy", model, sample),
        "`distillation` needs .*Leave `distillation` out": lambda: Teacher(
            Distillation(), model, graph.graph, IMAGES
        ),
    }
    for message, call in refused.items():
        with pytest.raises(KerasGCPError, match=message) as caught:
            call()
        assert str(caught.value).count("needs a classifier") == 1
        assert caught.value.__cause__ is None  # Nobody has put it into other words.
