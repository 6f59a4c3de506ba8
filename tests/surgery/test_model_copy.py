"""A copy is plain, holds what the model holds, and shares nothing with it."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from helpers import flat_outputs, inputs_for, randomise
from keras import layers

import keras_gcp
from keras_gcp.errors import UnsupportedModel
from keras_gcp.surgery.model_copy import copy_model


class Backbone(keras.Model):
    """A functional model that builds itself from settings of its own, like those of keras-hub."""

    def __init__(self, filters, **kwargs):
        inputs = keras.Input((8, 8, 3))
        x = layers.Conv2D(filters, 3, activation="relu", name="a")(inputs)
        super().__init__(inputs, layers.Conv2D(filters, 3, name="b")(x), **kwargs)
        self.filters = filters

    def get_config(self):
        return {"filters": self.filters, "name": self.name}

    @classmethod
    def from_config(cls, config):
        return cls(**config)


def task():
    """A class of one's own inside of a plain model."""
    inputs = keras.Input((8, 8, 3))
    x = layers.GlobalMaxPooling2D(name="pool")(Backbone(8, name="backbone")(inputs))
    return keras.Model(inputs, layers.Dense(3, name="classifier")(x))


@pytest.mark.parametrize("build", [task, lambda: Backbone(8)], ids=["inside", "outermost"])
def test_models_of_classes_of_ones_own_become_plain_ones_that_load(build, tmp_path):
    model = randomise(build())
    narrow = keras_gcp.prune(model, {"macs": 0.5}, selection={"align": 1})
    assert not any(type(layer) is Backbone for layer in narrow._flatten_layers())
    narrow.save(tmp_path / "narrow.keras")
    loaded = keras.models.load_model(tmp_path / "narrow.keras")
    inputs = inputs_for(model)
    for a, b in zip(flat_outputs(loaded, inputs), flat_outputs(narrow, inputs), strict=True):
        np.testing.assert_array_equal(a, b)


class WithoutConfig(layers.Layer):
    def __init__(self, factor, **kwargs):
        super().__init__(**kwargs)
        self.factor = factor

    def call(self, x):
        return x * self.factor

    def get_config(self):
        return {"name": self.name}


def test_a_layer_that_cannot_be_made_again_is_named():
    inputs = keras.Input((5,))
    x = WithoutConfig(2.0, name="twice")(layers.Dense(4, name="hidden")(inputs))
    model = keras.Model(inputs, layers.Dense(3, name="out")(x))
    with pytest.raises(
        UnsupportedModel, match=r"(?s)'twice' \(class WithoutConfig\).*narrow\(model"
    ):
        copy_model(model)


def test_what_is_frozen_stays_frozen():
    inner = keras.Sequential(
        [layers.Conv2D(4, 3, name="a"), layers.BatchNormalization(name="bn")], name="inner"
    )
    inputs = keras.Input((8, 8, 3))
    x = layers.GlobalMaxPooling2D(name="pool")(layers.Conv2D(5, 3, name="b")(inner(inputs)))
    model = keras.Model(inputs, layers.Dense(3, name="classifier")(x))
    inner.trainable = False
    inner.get_layer("a").trainable = True
    copy = copy_model(model)
    names = [[w.path.split("/")[-2] for w in m.trainable_variables] for m in (model, copy)]
    assert names[0] == names[1] == ["a", "a", "b", "b", "classifier", "classifier"]
    assert not copy.get_layer("inner").trainable
    copy.get_layer("inner").trainable = True
    assert not inner.trainable and len(copy.trainable_variables) == 8


def test_a_layer_in_two_inner_models_stays_one_layer():
    shared = layers.Dense(4, name="shared")
    one, two = (
        keras.Sequential([keras.Input((5,)), shared, layers.ReLU()], name=name) for name in "ab"
    )
    inputs = keras.Input((5,))
    model = keras.Model(inputs, layers.Dense(2)(layers.Add()([one(inputs), two(inputs)])))
    copy = copy_model(model)
    assert copy.count_params() == model.count_params() == 5 * 4 + 4 + 4 * 2 + 2
    assert copy.get_layer("a").get_layer("shared") is copy.get_layer("b").get_layer("shared")
    assert copy.get_layer("a").get_layer("shared") is not shared


@pytest.mark.needs_tensorflow("TextVectorization")
def test_a_vocabulary_that_was_learnt_is_copied():
    words = layers.TextVectorization(10, output_sequence_length=4, name="words")
    words.adapt(["a good film", "a bad film"])
    strings = keras.Input((1,), dtype="string")
    x = layers.Flatten()(layers.Embedding(10, 3, name="embedding")(words(strings)))
    model = keras.Model(strings, layers.Dense(2, name="out")(x))
    copy = copy_model(model)
    assert copy.get_layer("words").get_vocabulary() == words.get_vocabulary()
    texts = keras.ops.convert_to_tensor([["good film"], ["bad"], ["unknown"]])
    np.testing.assert_array_equal(flat_outputs(copy, texts), flat_outputs(model, texts))
