"""Labels that the compiled loss cannot read are refused in short, before anything is computed."""

import keras
import numpy as np
import pytest
from fitting import fit, pruning
from keras import layers, losses

import keras_gcp
from keras_gcp.channels.trace import trace
from keras_gcp.classification.labels import check_targets
from keras_gcp.errors import InvalidArgument
from keras_gcp.sample import DrawnSample

RNG = np.random.default_rng(0)
X = RNG.random((12, 6, 6, 3), dtype="float32")
Y = np.arange(12) % 4
ONE_HOT = np.eye(4, dtype="float32")[Y]
MAPS = RNG.integers(0, 4, (12, 6, 6))


def body():
    inputs = keras.Input((6, 6, 3))
    return inputs, layers.Conv2D(8, 3, padding="same", activation="relu", name="conv")(inputs)


def classifier(loss, units=4, activation="softmax"):
    inputs, x = body()
    x = layers.GlobalAveragePooling2D()(x)
    model = keras.Model(inputs, layers.Dense(units, activation=activation, name="head")(x))
    model.compile("sgd", loss)
    return model


def segmenter(loss):
    inputs, x = body()
    model = keras.Model(inputs, layers.Conv2D(4, 1, activation="softmax")(x))
    model.compile("sgd", loss)
    return model


def two_outputs(loss):
    inputs, x = body()
    pooled = layers.GlobalAveragePooling2D()(x)
    kinds = layers.Dense(4, activation="softmax", name="kind")(pooled)
    model = keras.Model(inputs, [kinds, layers.Dense(1, name="size")(pooled)])
    model.compile("sgd", loss)
    return model


SPARSE = "sparse_categorical_crossentropy"
IGNORING = losses.SparseCategoricalCrossentropy(ignore_class=-1)
BOTH = [SPARSE, "mse"]
SIZES = X.mean(axis=(1, 2, 3))

REFUSED = {
    "out of range": (lambda: classifier(SPARSE), Y + 9, "whole numbers from 0 to 3. Received 9"),
    "one too high": (lambda: classifier(SPARSE), Y + 1, "Received 4 and the like for 3 of 12"),
    "negative": (lambda: classifier(SPARSE), Y - 1, "whole numbers from 0 to 3. Received -1"),
    "between classes": (lambda: classifier(SPARSE), Y + 0.5, "Received 0.5"),
    "one-hot, sparse loss": (lambda: classifier(SPARSE), ONE_HOT, "'categorical_crossentropy'"),
    "sparse, one-hot loss": (
        lambda: classifier("categorical_crossentropy"),
        Y,
        "'sparse_categorical_crossentropy'",
    ),
    "sparse as a column, one-hot loss": (
        lambda: classifier(losses.CategoricalFocalCrossentropy()),
        Y[:, None],
        r"Expected shape \(examples, 4\). Received \(12, 1\)",
    ),
    "of images, for whole examples": (lambda: classifier(SPARSE), MAPS, "Received .12, 6, 6"),
    "of examples, for every pixel": (lambda: segmenter(SPARSE), Y, r"\(examples, 6, 6\)"),
    "other size of map": (lambda: segmenter(SPARSE), MAPS[:, :5], "Received .12, 5, 6"),
    "class out of range at a pixel": (lambda: segmenter(SPARSE), MAPS + 1, "0 to 3. Received 4"),
    "not the ignored class": (lambda: segmenter(IGNORING), MAPS - 2, "Received -2"),
    "rank of a regression": (
        lambda: classifier("mse", 3, None),
        ONE_HOT[:, None, :3],
        r"Expected shape \(examples, 3\)",
    ),
    "number of targets": (lambda: classifier(losses.Huber(), 3, None), ONE_HOT, "Received .12, 4"),
    "one of two missing": (lambda: two_outputs(BOTH), [Y], "missing: size"),
    "one of two None": (lambda: two_outputs(BOTH), [Y, None], "missing: size"),
    "one of two by name": (
        lambda: two_outputs({"kind": SPARSE, "size": "mse"}),
        {"kind": Y},
        "missing: size",
    ),
    "three for two": (lambda: two_outputs(BOTH), [Y, SIZES, Y], "has labels for 3"),
    "second of two": (lambda: two_outputs(BOTH), [Y + 9, SIZES], "on output 'kind' .*Received 9"),
}

ACCEPTED = {
    "sparse": (lambda: classifier(SPARSE), Y),
    "column": (lambda: classifier(SPARSE), Y[:, None]),
    "whole floats": (lambda: classifier(SPARSE), Y.astype("float32")),
    "one-hot": (lambda: classifier("categorical_crossentropy"), ONE_HOT),
    "smoothed": (lambda: classifier("categorical_crossentropy"), 0.9 * ONE_HOT + 0.025),
    "binary": (lambda: classifier("binary_crossentropy", 1, "sigmoid"), Y % 2),
    "binary column": (lambda: classifier("bce", 1, "sigmoid"), Y[:, None] % 2 == 0),
    "multi-label": (lambda: classifier("binary_crossentropy", 4, "sigmoid"), ONE_HOT),
    "regression": (lambda: classifier("mse", 1, None), SIZES),
    "places": (lambda: segmenter(SPARSE), MAPS),
    "places without a class": (lambda: segmenter(IGNORING), MAPS - 1),
    "two": (lambda: two_outputs(BOTH), [Y, SIZES]),
    "two by name": (
        lambda: two_outputs({"kind": SPARSE, "size": "mse"}),
        {"size": SIZES, "kind": Y},
    ),
    "of the outputs with a loss": (lambda: two_outputs([SPARSE, None]), [Y, None]),
    "not compiled with a loss": (lambda: classifier(None), Y + 99),
    "a loss of one's own": (lambda: classifier(lambda y, p: p[:, 0] * y[:, 0]), ONE_HOT * 7),
}


@pytest.mark.parametrize("name", sorted(REFUSED))
def test_labels_that_do_not_fit_the_loss_are_refused_in_short(name):
    make, y, message = REFUSED[name]
    with pytest.raises(InvalidArgument, match=message) as caught:
        check_targets(make(), DrawnSample(X, y))
    assert len(str(caught.value)) < 420


@pytest.mark.parametrize("name", sorted(ACCEPTED))
def test_what_keras_trains_on_is_accepted(name):
    make, y = ACCEPTED[name]
    check_targets(make(), DrawnSample(X, y))


def test_a_loss_of_ones_own_is_tried_on_two_examples_and_its_failure_told_in_short():
    seen = []

    def own(y, p):
        seen.append(tuple(y.shape))
        return keras.ops.matmul(y, p)  # (2,) times (2, 4) goes, (2, 1) times (2, 4) does not.

    with pytest.raises(InvalidArgument, match="fails on 2 examples of the sample.*Expected labels"):
        check_targets(classifier(own), DrawnSample(X, Y[:, None]))
    assert set(seen) == {(2, 1)}


def test_the_check_leaves_the_model_as_it_was():
    model = two_outputs(BOTH)
    before = [keras.ops.convert_to_numpy(v) for v in model.variables]
    check_targets(model, DrawnSample(X, [Y, SIZES]))
    for old, new in zip(before, model.variables, strict=False):
        np.testing.assert_array_equal(old, keras.ops.convert_to_numpy(new))
    history = model.fit(X, [Y, SIZES], verbose=0).history
    assert {"loss", "kind_loss", "size_loss"} <= set(history)


@pytest.mark.parametrize("y", [Y + 9, Y + 0.5, ONE_HOT], ids=["range", "half", "one-hot"])
def test_taylor_refuses_them_with_these_words(y):
    with pytest.raises(InvalidArgument, match="do not fit the loss"):
        keras_gcp.plan(classifier(SPARSE), {"macs": 0.5}, criterion="taylor", sample=(X, y))


def test_other_criteria_refuse_them_when_training_begins():
    """The loss on the sample is measured at every event: not only after epochs."""
    callback = pruning(sample=(X, Y + 9), criterion="l2_norm")
    with pytest.raises(InvalidArgument, match="do not fit the loss"):
        fit(classifier(SPARSE), [callback], examples=(X, Y))


def test_taylor_takes_labels_of_those_outputs_that_have_a_loss():
    model = two_outputs([SPARSE, None])
    channels = trace(model)
    scores = keras_gcp.criteria.get("taylor")(model, channels, DrawnSample(X, [Y, None]))
    assert (scores["conv"] > 0).any()
