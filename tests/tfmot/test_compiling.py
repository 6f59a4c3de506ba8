"""Loss, optimizer and metrics go over with their settings, or are refused."""

from __future__ import annotations

import keras
import networks
import pytest

from keras_gcp.errors import InvalidArgument
from keras_gcp.tfmot import compiling, packages

pytestmark = pytest.mark.needs_tfmot


def settings_of(model, loss=None, optimizer=None, learning_rate=None, metrics=None):
    k2 = packages.load().tf_keras
    return k2, compiling.settings(model, k2, loss, optimizer, learning_rate, metrics)


@pytest.fixture
def model():
    return networks.plain()


def test_what_the_model_was_compiled_with_goes_over(model):
    model.compile(
        keras.optimizers.SGD(0.125, momentum=0.75, nesterov=True, clipnorm=2.0),
        keras.losses.CategoricalCrossentropy(from_logits=True, label_smoothing=0.25),
        metrics=["accuracy", keras.metrics.TopKCategoricalAccuracy(k=2)],
    )
    k2, found = settings_of(model)
    optimizer, loss = found["optimizer"], found["loss"]
    assert isinstance(optimizer, k2.optimizers.SGD)
    assert float(optimizer.learning_rate) == 0.125
    assert (optimizer.momentum, optimizer.nesterov, optimizer.clipnorm) == (0.75, True, 2.0)
    assert isinstance(loss, k2.losses.CategoricalCrossentropy)
    assert loss.get_config()["from_logits"] is True
    assert loss.get_config()["label_smoothing"] == 0.25
    assert found["metrics"][0] == "accuracy"
    assert isinstance(found["metrics"][1], k2.metrics.TopKCategoricalAccuracy)


def test_what_is_given_counts_more(model):
    model.compile("adam", "mse")
    k2, found = settings_of(model, "mae", "sgd", 0.5, [])
    assert found["loss"] is k2.losses.get("mae") and found["metrics"] == []
    assert isinstance(found["optimizer"], k2.optimizers.SGD)
    assert float(found["optimizer"].learning_rate) == 0.5


def test_of_a_schedule_the_learning_rate_of_now_is_taken(model):
    schedule = keras.optimizers.schedules.ExponentialDecay(0.5, 10, 0.5)
    optimizer = keras.optimizers.Adam(schedule)
    optimizer.iterations.assign(20)
    model.compile(optimizer, "mse")
    _, found = settings_of(model)
    assert float(found["optimizer"].learning_rate) == pytest.approx(0.125)


def test_functions_of_ones_own_go_over_as_they_are(model):
    def own(y_true, y_pred):
        return y_true - y_pred

    assert settings_of(model, own)[1]["loss"] is own


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({}, "not compiled.*`loss=`"),
        ({"loss": "no_such_loss"}, "`loss` has 'no_such_loss'"),
        ({"loss": keras.losses.MeanSquaredError(reduction="mean")}, "reduction='mean'"),
        ({"loss": "mse", "metrics": [keras.metrics.R2Score(), "nothing"]}, "has 'nothing'"),
        ({"loss": "mse", "optimizer": keras.optimizers.Muon()}, "no optimizer 'Muon'"),
        ({"loss": "mse", "optimizer": "no_such"}, "no optimizer 'no_such'"),
        ({"loss": "mse", "optimizer": 3}, "Received: 3"),
        ({"loss": "mse", "learning_rate": 0}, "`learning_rate` expects"),
        (
            {"loss": "mse", "optimizer": keras.optimizers.SGD(gradient_accumulation_steps=4)},
            "gradient_accumulation_steps=4",
        ),
    ],
)
def test_what_tf_keras_does_not_have_is_refused(model, arguments, words):
    with pytest.raises(InvalidArgument, match=words):
        settings_of(model, **arguments)
