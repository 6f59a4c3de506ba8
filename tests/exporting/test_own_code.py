"""A `.keras` file of a model with code of one's own: how it loads is said, and is true."""

from __future__ import annotations

import warnings

import keras
import numpy as np
import pytest
from fitting import compiled, data, fit, pruning
from keras import layers

import keras_gcp
from keras_gcp.errors import UnsupportedModel
from keras_gcp.exporting import export, own_code

OR = ", or to train on "


def dice_loss(y, p):
    return 1 - (2 * keras.ops.sum(y * p) + 1) / (keras.ops.sum(y) + keras.ops.sum(p) + 1)


def bias(y, p):
    return keras.ops.mean(p - y)


class Weighted(keras.losses.Loss):
    def call(self, y, p):
        return keras.ops.mean(2 * keras.ops.square(y - p), axis=-1)


class Middle(keras.metrics.MeanSquaredError):
    pass


class Halving(keras.optimizers.schedules.LearningRateSchedule):
    def __call__(self, step):
        return 0.1

    def get_config(self):
        return {}


class Slow(keras.optimizers.SGD):
    pass


class Doubling(layers.Layer):
    def call(self, x):
        return 2 * x


def bent(x):
    return keras.ops.tanh(x)


class Tenths(keras.initializers.Initializer):
    def __call__(self, shape, dtype=None):
        return 0.1 * keras.ops.ones(shape, dtype)


@keras.saving.register_keras_serializable("own_code_tests")
def registered_loss(y, p):
    return keras.ops.mean(keras.ops.square(y - p))


class OwnModel(keras.Model):
    """With a training step of its own, say."""


def network(*middle, kind=keras.Model, loss="mse", **options):
    activation = options.pop("activation", None)
    inputs = keras.Input((3,))
    x = layers.Dense(4, activation=activation, kernel_initializer=options.pop("start", "ones"))
    outputs = x(inputs)
    for layer in middle:
        outputs = layer(outputs)
    model = kind(inputs, layers.Dense(2)(outputs), name="net")
    model.compile(options.pop("optimizer", "sgd"), loss, **options)
    return model


def nested():
    inputs = keras.Input((3,))
    model = keras.Model(inputs, layers.Dense(2)(network(loss=dice_loss)(inputs)), name="net")
    model.compile("sgd", "mse")
    return model


TRAINING = {
    "loss, a function": (lambda: network(loss=dice_loss), {"dice_loss"}),
    "loss, a class": (lambda: network(loss=Weighted()), {"Weighted"}),
    "metrics": (lambda: network(metrics=[bias, Middle(name="m")]), {"bias", "Middle"}),
    "optimizer": (lambda: network(optimizer=Slow(0.1)), {"Slow"}),
    "learning rate": (lambda: network(optimizer=keras.optimizers.SGD(Halving())), {"Halving"}),
    "loss, a lambda": (lambda: network(loss=lambda y, p: keras.ops.mean(y - p)), set()),
    "loss, registered": (lambda: network(loss=registered_loss), {"own_code_tests>registered_loss"}),
}
INSIDE = {
    "layer": (lambda: network(Doubling()), {"Doubling"}),
    "activation": (lambda: network(activation=bent), {"bent"}),
    "initializer": (lambda: network(start=Tenths()), {"Tenths"}),
    "function of a Lambda": (lambda: network(layers.Lambda(bent)), {"bent"}),
    "Lambda": (lambda: network(layers.Lambda(lambda x: x + 1)), set()),
    "model": (lambda: network(kind=OwnModel), {"OwnModel"}),
    "loss of a nested model": (nested, {"dice_loss"}),
}


def cases(table):
    return [pytest.param(*case, id=name) for name, case in table.items()]


def exported(model, folder):
    """The record of the file, and the warning about it, if there was one."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        (file,) = export(model, folder, ["keras"], include_optimizer=True)
    about_code = [one for one in caught if "code of your own" in str(one.message)]
    assert {one.filename for one in about_code} <= {__file__}, "of the caller's line"
    return file, [str(one.message) for one in about_code]


def assert_each_way_loads(model, file):
    """The code in the record is run as it stands, and gives the model."""
    x = np.ones((2, 3), "float32")
    for code in file.loads_with.split(OR):
        names = {**globals(), "path": file.path}
        np.testing.assert_allclose(eval(code, names)(x), model(x), rtol=1e-5)


@pytest.mark.parametrize("build, names", cases(TRAINING))
def test_what_only_training_needs_is_not_needed_to_load(build, names, tmp_path):
    model = build()
    file, told = exported(model, tmp_path)
    assert set(file.custom_objects) == names
    without, _ = file.loads_with.split(OR)
    assert without == "keras.models.load_model(path, compile=False)"
    assert_each_way_loads(model, file)
    is_registered = any(">" in name for name in names)
    assert len(told) == (0 if is_registered else 1)
    assert is_registered or file.loads_with in told[0]
    if not is_registered:
        with pytest.raises((TypeError, ValueError)):
            keras.models.load_model(file.path)


@pytest.mark.parametrize("build, names", cases(INSIDE))
def test_what_the_model_consists_of_is_named_and_compared(build, names, tmp_path):
    model = build()
    file, told = exported(model, tmp_path)
    assert set(file.custom_objects) == names
    assert OR not in file.loads_with and "compile=False" not in file.loads_with
    assert (file.max_difference, len(told)) == (0.0, 1)
    assert_each_way_loads(model, file)


def test_without_the_optimizer_nothing_of_training_is_needed(tmp_path):
    (file,) = export(network(loss=dice_loss, metrics=[bias]), tmp_path, ["keras"])
    assert (file.loads_with, file.custom_objects) == ("keras.models.load_model(path)", ())
    assert not keras.models.load_model(file.path).compiled


def test_layers_and_a_loss_are_told_apart(tmp_path):
    model = network(Doubling(), loss=dice_loss)
    file, _ = exported(model, tmp_path)
    without, with_all = file.loads_with.split(OR)
    assert "compile=False" in without and "dice_loss" not in without and "Doubling" in without
    assert "dice_loss" in with_all and "Doubling" in with_all
    assert_each_way_loads(model, file)


def test_a_model_of_keras_alone_loads_as_it_is_and_asks_no_other_process(tmp_path, monkeypatch):
    monkeypatch.setattr(own_code, "in_worker", lambda *_: pytest.fail("asked"))
    for model in (network(metrics=["mae"]), network(loss=keras.losses.Huber(), activation="relu")):
        file, told = exported(model, tmp_path)
        assert (file.loads_with, file.custom_objects, told) == (
            *("keras.models.load_model(path)", ()),
            [],
        )


def test_a_model_pruned_in_training_keeps_its_loss_and_a_pruned_copy_has_none(tmp_path):
    inputs = keras.Input((8, 8, 3))
    x = layers.GlobalAveragePooling2D()(layers.Conv2D(8, 3, activation="relu")(inputs))
    model = compiled(keras.Model(inputs, layers.Dense(4, activation="sigmoid")(x)), loss=dice_loss)
    x, y = data(count=16)
    one_hot = np.eye(4, dtype="float32")[y]
    fit(model, [pruning(sample=(x, one_hot))], examples=(x, one_hot), epochs=2)
    file, told = exported(model, tmp_path)
    assert file.custom_objects == ("dice_loss",) and len(told) == 1
    again = keras.models.load_model(file.path, custom_objects={"dice_loss": dice_loss})
    assert again.loss is dice_loss
    copy = keras_gcp.prune(model, {"channels": 0.5}, criterion="l2_norm", selection={"align": 1})
    file, told = exported(copy, tmp_path)
    assert file.loads_with == "keras.models.load_model(path)" and not told


def test_other_formats_hold_all_they_need_and_say_nothing(tmp_path):
    if keras.backend.backend() != "tensorflow":
        pytest.skip("it writes a SavedModel")
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        (file,) = export(network(loss=dice_loss), tmp_path, ["saved_model"])
    assert (file.loads_with, file.custom_objects) == ("", ())


def test_a_layer_that_cannot_be_made_again_is_refused_with_the_reason(tmp_path):
    class Forgetful(layers.Layer):
        def __init__(self, factor, **options):
            super().__init__(**options)
            self.factor = factor

        def call(self, x):
            return self.factor * x

        def get_config(self):
            return super().get_config()  # Without `factor`.

    with pytest.raises(UnsupportedModel, match=r"(?s)cannot be written as keras.*Forgetful"):
        export(network(Forgetful(2)), tmp_path, ["keras"])
    assert list(tmp_path.iterdir()) == []
