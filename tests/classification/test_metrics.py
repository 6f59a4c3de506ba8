"""Whatever a user passes as a metric becomes one number: the one that Keras would give."""

from __future__ import annotations

import keras
import networks
import numpy as np
import pytest
from helpers import randomise

from keras_gcp.classification.metrics import Metric, metric_for, value_of
from keras_gcp.errors import InvalidArgument
from keras_gcp.sample import DrawnSample


def measured(metric, model, sample, mode="auto", batch_size=40):
    return value_of(metric_for(metric, model, sample, mode), model, sample, batch_size)


@pytest.fixture(scope="module")
def wrong(model, data):
    """A sample of which the model gets a third wrong."""
    x, y = data
    return DrawnSample(x, np.where(np.arange(len(y)) % 3 == 0, (y + 1) % 4, y).astype("int32"))


def test_a_compiled_metric_has_the_value_that_evaluate_reports(model, wrong):
    reported = model.evaluate(wrong.x, wrong.y, verbose=0, return_dict=True)
    assert 0.6 < reported["accuracy"] < 0.7
    assert measured("accuracy", model, wrong) == pytest.approx(reported["accuracy"], abs=1e-6)
    assert measured("loss", model, wrong) == pytest.approx(reported["loss"], rel=1e-5)


def test_the_first_compiled_metric_is_the_default_of_a_sequential_model_too(wrong):
    own = randomise(networks.sequential())
    metrics = ["sparse_categorical_crossentropy", "accuracy"]
    own.compile("sgd", "sparse_categorical_crossentropy", metrics=metrics)
    assert metric_for(None, own, wrong).name == "sparse_categorical_crossentropy"
    assert not metric_for(None, own, wrong).higher_is_better
    reported = own.evaluate(wrong.x, wrong.y, verbose=0, return_dict=True)
    assert measured("accuracy", own, wrong) == pytest.approx(reported["accuracy"], abs=1e-6)


def test_the_loss_is_without_penalties_on_weights(wrong):
    inputs = keras.Input((8, 8, 3))
    x = keras.layers.Conv2D(4, 3, kernel_regularizer=keras.regularizers.L2(10.0))(inputs)
    x = keras.layers.GlobalAveragePooling2D()(x)
    outputs = keras.layers.Dense(4, activation="softmax")(x)
    own = keras.Model(inputs, outputs)
    own.compile("sgd", "sparse_categorical_crossentropy")
    crossentropy = keras.losses.SparseCategoricalCrossentropy()(wrong.y, own(wrong.x))
    assert measured("loss", own, wrong) == pytest.approx(float(crossentropy), rel=1e-5)
    assert own.evaluate(wrong.x, wrong.y, verbose=0) > float(crossentropy) + 1


def test_all_ways_to_say_accuracy_agree(model, wrong):
    expected = measured(None, model, wrong)
    ways = [
        "accuracy",
        "sparse_categorical_accuracy",
        keras.metrics.SparseCategoricalAccuracy(),
        keras.metrics.sparse_categorical_accuracy,
        lambda y, p: (p.argmax(-1) == y).mean(),
        lambda y, p: p.argmax(-1) == y,
    ]
    for way in ways:
        assert measured(way, model, wrong, "max") == pytest.approx(expected, abs=1e-6)


def test_measuring_leaves_the_compiled_metrics_as_they_were(model, wrong):
    model.evaluate(wrong.x, wrong.y, verbose=0)
    before = {name: float(value) for name, value in model.get_metrics_result().items()}
    measured("accuracy", model, DrawnSample(wrong.x[:10], wrong.y[:10]))
    assert {n: float(v) for n, v in model.get_metrics_result().items()} == before


@pytest.mark.parametrize(
    ("units", "labels", "expected"),
    [
        (1, [0, 1, 1, 1], 0.75),
        (3, [0, 1, 2, 2], 0.5),
        (3, [[1, 0, 0], [0, 1, 0], [0, 0, 1], [0, 0, 1]], 0.5),
    ],
    ids=["binary", "sparse", "one-hot"],
)
def test_without_compiled_metrics_it_is_the_accuracy_that_fits_the_labels(units, labels, expected):
    model = keras.Sequential([keras.Input((units,)), keras.layers.Activation("linear")])
    x = {1: [[0.1], [0.9], [0.9], [0.2]], 3: np.eye(3)[[0, 1, 0, 1]]}[units]
    sample = DrawnSample(np.array(x, "float32"), np.array(labels))
    assert measured(None, model, sample) == pytest.approx(expected)


def test_metrics_of_several_outputs_are_named_or_refused():
    model = randomise(networks.two_outputs())
    x = np.random.default_rng(0).normal(size=(8, 8, 8, 3)).astype("float32")
    sample = DrawnSample(x, [np.arange(8) % 4, np.zeros((8, 8, 8, 2), "float32")])
    with pytest.raises(InvalidArgument, match="2 outputs"):
        metric_for(None, model, sample)
    with pytest.raises(InvalidArgument, match="2 outputs"):
        metric_for(keras.metrics.MeanSquaredError(), model, sample)
    model.compile(
        "sgd", ["sparse_categorical_crossentropy", "mse"], metrics=[["accuracy"], ["mae"]]
    )
    reported = model.evaluate(sample.x, sample.y, verbose=0, return_dict=True)
    assert metric_for(None, model, sample).name == "classifier_accuracy"
    found = measured("map_mae", model, sample, "min")
    assert found == pytest.approx(reported["map_mae"], rel=1e-5)


@pytest.mark.parametrize(
    ("name", "higher"),
    [
        ("accuracy", True),
        ("acc", True),
        ("val_auc_1", True),
        ("SparseTopKCategoricalAccuracy", True),
        ("mean_io_u", None),
        ("loss", False),
        ("MeanSquaredError", False),
        ("sparse_categorical_crossentropy", False),
        ("speed", None),
    ],
)
def test_which_way_is_better_follows_from_usual_names_and_is_never_guessed(
    name, higher, model, wrong
):
    metric = keras.metrics.Mean(name=name)
    if higher is None:
        with pytest.raises(InvalidArgument, match="mode='max' or mode='min'"):
            metric_for(metric, model, wrong)
        assert not metric_for(metric, model, wrong, "min").higher_is_better
    else:
        assert metric_for(metric, model, wrong).higher_is_better is higher


@pytest.mark.parametrize(
    ("metric", "higher"),
    [
        (keras.metrics.MeanIoU(4), True),
        (keras.metrics.AUC(), True),
        (keras.metrics.CosineSimilarity(), True),
        (keras.metrics.LogCoshError(name="fit"), False),
        (keras.losses.Dice(), False),
        (keras.losses.dice, False),
        (keras.losses.cosine_similarity, False),
        (keras.losses.MeanSquaredError(name="closeness"), False),
        ("poisson", False),
        ("mean_squared_error", False),
        ("cosine_similarity", True),
        ("loss", False),
    ],
)
def test_what_keras_knows_of_a_metric_or_a_loss_comes_first(metric, higher, model, wrong):
    assert metric_for(metric, model, wrong).higher_is_better is higher
    assert metric_for(metric, model, wrong, "max").higher_is_better


def test_keras_knows_compiled_metrics_too_and_those_of_several_outputs(wrong):
    own = randomise(networks.two_outputs())
    sample = DrawnSample(wrong.x, [wrong.y, np.zeros((len(wrong), 8, 8, 2), "float32")])
    metrics = [[keras.metrics.MeanIoU(4, sparse_y_pred=False, name="io")], ["cosine_similarity"]]
    own.compile("sgd", ["sparse_categorical_crossentropy", "mse"], metrics=metrics)
    assert metric_for("classifier_io", own, sample).higher_is_better
    assert metric_for("map_cosine_similarity", own, sample).higher_is_better


def test_the_direction_of_a_callable_follows_from_its_name_or_has_to_be_said(model, wrong):
    def dice_score(y, p):
        return 0.0

    def cost_error(y, p):
        return 0.0

    def quality(y, p):
        return 0.0

    assert metric_for(dice_score, model, wrong).higher_is_better
    assert not metric_for(cost_error, model, wrong).higher_is_better
    with pytest.raises(InvalidArgument, match="'quality' .*mode='max' or mode='min'"):
        metric_for(quality, model, wrong)
    assert metric_for(quality, model, wrong, "max").higher_is_better


def test_three_colours_have_no_accuracy(wrong):
    inputs = keras.Input((8, 8, 3))
    own = keras.Model(inputs, keras.layers.Conv2D(3, 1)(inputs))
    own.compile("sgd", "mse", metrics=["mae"])
    sample = DrawnSample(wrong.x, wrong.x)
    with pytest.raises(InvalidArgument, match=r"Accuracy needs .*compiled with \('mae'\)"):
        metric_for("accuracy", own, sample)
    assert metric_for(None, own, sample).name == "mae"


def test_what_fails_is_told_in_short(model, wrong):
    def broken(y, p):
        raise ZeroDivisionError("page\n" * 100)

    for metric in (broken, keras.metrics.MeanSquaredError(), "accuracy"):
        sample = wrong if metric is broken else DrawnSample(wrong.x, np.zeros((len(wrong), 3)))
        with pytest.raises(InvalidArgument) as caught:
            measured(metric, model, sample, "max")
        assert len(str(caught.value)) < 450


def test_the_state_of_a_metric_object_goes_on_where_it_was(model, wrong):
    metric = keras.metrics.SparseCategoricalAccuracy()
    metric.update_state([0, 1], [[1.0, 0.0], [1.0, 0.0]])
    assert measured(metric, model, wrong) != 0.5
    assert float(metric.result()) == 0.5


def test_bounds_hold_in_the_right_direction_and_never_for_nan():
    more = Metric("accuracy", True, "", lambda _: 0.0)
    less = Metric("loss", False, "", lambda _: 0.0)
    assert more.holds(0.9, 0.9) and not more.holds(0.89, 0.9)
    assert less.holds(0.9, 0.9) and not less.holds(0.91, 0.9)
    assert not more.holds(float("nan"), 0.0) and not less.holds(float("nan"), 9.0)


@pytest.mark.parametrize(
    ("metric", "mode", "message"),
    [
        ("no_such", "auto", "no metric 'no_such'.*compiled with 'accuracy'"),
        (3, "auto", "Received: 3"),
        (keras.metrics.Accuracy, "auto", "Received: <class"),
        ("accuracy", "up", "'auto', 'max', 'min'"),
    ],
)
def test_what_is_no_metric_is_refused(metric, mode, message, model, wrong):
    with pytest.raises(InvalidArgument, match=message):
        metric_for(metric, model, wrong, mode)


def test_a_metric_of_several_numbers_is_refused(model, wrong):
    with pytest.raises(InvalidArgument, match="must be one number"):
        measured(keras.metrics.F1Score(), model, _one_hot(wrong), "max")


def _one_hot(sample):
    return DrawnSample(sample.x, np.eye(4, dtype="float32")[sample.y])
