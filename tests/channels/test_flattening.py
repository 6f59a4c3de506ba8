"""Flattening: the same network and the same variables, without layers that hide other layers."""

from __future__ import annotations

import warnings

import keras
import numpy as np
import pytest
from helpers import flat_outputs, inputs_for, one_line, randomise
from keras import layers, ops

import keras_gcp
from keras_gcp.errors import InvalidArgument, UnsupportedModel


@keras.saving.register_keras_serializable("test_flattening")
class ConvBlock(layers.Layer):
    """Convolution, normalization, activation, called by Python code."""

    def __init__(self, filters, **kwargs):
        super().__init__(**kwargs)
        self.filters = filters
        self.conv = layers.Conv2D(filters, 3, padding="same", use_bias=False, name="conv")
        self.norm = layers.BatchNormalization(name="norm")

    def call(self, x, training=None):
        return ops.relu(self.norm(self.conv(x), training=training))


@keras.saving.register_keras_serializable("test_flattening")
class Residual(layers.Layer):
    """A composite of composites, with a placeholder and a lambda."""

    def __init__(self, filters, **kwargs):
        super().__init__(**kwargs)
        self.first = ConvBlock(filters, name="first")
        self.second = keras.Sequential(
            [ConvBlock(filters, name="inner"), layers.Dropout(0.5, name="drop")], name="second"
        )
        self.shortcut = layers.Identity(name="shortcut")
        self.act = layers.Activation(lambda x: ops.gelu(x, approximate=False), name="act")

    def call(self, x, training=None):
        y = self.second(self.first(x, training=training), training=training)
        return self.act(y + self.shortcut(x))


class Scaled(layers.Layer):
    """Has a weight of its own beside a convolution."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.conv = layers.Conv2D(6, 3, padding="same", name="inside")

    def build(self, shape):
        self.scale = self.add_weight(shape=(), initializer="ones", name="scale")

    def call(self, x):
        return self.scale * self.conv(x)


class ByTraining(ConvBlock):
    """Computes something else while it trains."""

    def call(self, x, training=None):
        return self.norm(self.conv(x)) if training else self.conv(x)


class TwoOutputs(layers.Layer):
    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.left = layers.Conv2D(5, 1, name="left")
        self.right = layers.Conv2D(4, 3, padding="same", name="right")

    def call(self, x):
        return {"left": self.left(x), "right": self.right(x)}


def network(*blocks):
    inputs = keras.Input((8, 8, 3))
    x = layers.Conv2D(6, 3, padding="same", name="stem")(inputs)
    for block in blocks:
        x = block(x)
    x = layers.GlobalAveragePooling2D(name="pool")(x)
    return randomise(keras.Model(inputs, layers.Dense(3, name="classifier")(x), name="hidden"))


def assert_same(model, flat):
    inputs = inputs_for(model)
    for a, b in zip(flat_outputs(flat, inputs), flat_outputs(model, inputs), strict=True):
        np.testing.assert_array_equal(a, b)


def assert_flat_and_the_same(model):
    flat = keras_gcp.flatten(model)
    assert_same(model, flat)
    assert {id(v) for v in flat.variables} == {id(v) for v in model.variables}
    assert not keras_gcp.trace(flat).refusals
    return flat


def test_composites_three_deep_are_opened_and_share_their_variables():
    flat = assert_flat_and_the_same(network(Residual(6, name="a"), Residual(6, name="b")))
    names = [layer.name for layer in flat.layers]
    assert len(set(names)) == len(names)
    assert "a_first_conv" in names and "b_first_conv" in names


def test_the_flat_model_prunes_saves_and_loads_and_the_given_one_stays(tmp_path, without_keras_gcp):
    model = network(Residual(6, name="a"), ConvBlock(8, name="b"))
    before = flat_outputs(model, inputs_for(model))
    flat = keras_gcp.flatten(model)
    narrow = keras_gcp.prune(flat, {"macs": 0.5}, selection={"align": 1})
    assert keras_gcp.count(narrow).macs <= 0.5 * keras_gcp.count(flat).macs
    for a, b in zip(flat_outputs(model, inputs_for(model)), before, strict=True):
        np.testing.assert_array_equal(a, b)
    inputs = inputs_for(narrow)
    narrow.save(tmp_path / "narrow.keras")
    np.savez(tmp_path / "data.npz", x=inputs, y=flat_outputs(narrow, inputs)[0])
    code = """
import keras, numpy as np
data = np.load("data.npz")
model = keras.models.load_model("narrow.keras")  # no layer of the user's is left in it
y = keras.ops.convert_to_numpy(model(data["x"], training=False))
np.testing.assert_allclose(y, data["y"], rtol=1e-5, atol=1e-6)
print("same")
"""
    assert "same" in without_keras_gcp(code)


def test_training_the_flat_model_trains_the_given_one():
    model = network(ConvBlock(6, name="a"))
    flat = keras_gcp.flatten(model)
    flat.compile("sgd", "mse")
    x = inputs_for(model, 8)
    flat.fit(x, np.ones((8, 3)), epochs=1, verbose=0)
    assert_same(model, flat)


def test_the_callback_prunes_a_flat_model():
    flat = keras_gcp.flatten(network(Residual(6, name="a")))
    flat.compile("sgd", "mse", run_eagerly=True)
    pruning = keras_gcp.GradualChannelPruning(
        None,
        {"macs": 0.6},
        keras_gcp.schedules.one_shot(1),
        "l2_norm",
        selection={"align": 1},
        verbose=0,
    )
    flat.fit(inputs_for(flat, 8), np.ones((8, 3)), epochs=2, verbose=0, callbacks=[pruning])
    assert pruning.plan.removed_channels > 0


def test_a_composite_called_twice_stays_one_set_of_layers():
    block = ConvBlock(6, name="twice")
    flat = assert_flat_and_the_same(network(block, block))
    assert sum("conv" in layer.name for layer in flat.layers) == 1


def test_composites_inside_nested_models_are_opened():
    inputs = keras.Input((8, 8, 6))
    inner = keras.Model(inputs, ConvBlock(5, name="block")(inputs), name="inner")
    assert_flat_and_the_same(network(inner, ConvBlock(4, name="block2")))


def test_composites_with_several_outputs_are_opened():
    inputs = keras.Input((8, 8, 3))
    parts = TwoOutputs(name="two")(inputs)
    model = keras.Model(inputs, layers.Concatenate(name="both")([parts["left"], parts["right"]]))
    assert_flat_and_the_same(model)


def test_a_model_without_composites_is_the_same_flat():
    assert_flat_and_the_same(network())


@pytest.mark.parametrize("block", [Scaled(name="it"), ByTraining(6, name="it")])
def test_what_cannot_be_opened_stays_whole_with_a_warning_that_says_why(block):
    model = network(block, layers.Conv2D(8, 3, name="free"))
    with pytest.warns(UserWarning, match="leaves layer 'it' whole: "):
        flat = keras_gcp.flatten(model)
    assert_same(model, flat)
    with pytest.raises(UnsupportedModel, match=r"exclude=\['it'\]"):
        keras_gcp.plan(flat, {"macs": 0.5})
    plan = keras_gcp.plan(flat, {"channels": 0.9}, selection={"align": 1}, exclude=["it"])
    assert "its multiply-adds are not counted" in one_line(plan.explain())


def test_tracing_refuses_hidden_layers_and_names_the_call_to_make():
    model = network(ConvBlock(6, name="it"))
    for use in (
        keras_gcp.trace,
        keras_gcp.count,
        lambda m: keras_gcp.plan(m, {"macs": 0.5}),
        lambda m: keras_gcp.prune(m, {"macs": 0.5}),
    ):
        with pytest.raises(UnsupportedModel, match=r"'it' \(class ConvBlock\).*flatten\(model\)"):
            use(model)


def test_the_callback_refuses_hidden_layers_before_training():
    model = network(ConvBlock(6, name="it"))
    model.compile("sgd", "mse")
    pruning = keras_gcp.GradualChannelPruning(
        None, {"macs": 0.5}, keras_gcp.schedules.one_shot(1), "l2_norm"
    )
    with pytest.raises(UnsupportedModel, match=r"flatten\(model\)"):
        model.fit(inputs_for(model, 8), np.ones((8, 3)), epochs=2, verbose=0, callbacks=[pruning])


def test_layers_of_keras_are_not_opened():
    inputs = keras.Input((5, 6))
    x = layers.MultiHeadAttention(2, 3, name="attention")(inputs, inputs)
    x = layers.TimeDistributed(layers.Dense(4), name="steps")(x)
    flat = keras_gcp.flatten(keras.Model(inputs, x))
    assert {"attention", "steps"} <= {layer.name for layer in flat.layers}


def test_a_pyramid_gives_the_levels_of_a_backbone():
    inputs = keras.Input((8, 8, 3))
    first = ConvBlock(4, name="p1")(inputs)
    second = ConvBlock(5, name="p2")(layers.MaxPooling2D(name="down")(first))
    model = randomise(keras.Model(inputs, second))
    model.pyramid_outputs = {"P1": first, "P2": second}
    flat = keras_gcp.flatten(model, pyramid=True)
    assert {name: tuple(x.shape) for name, x in flat.output.items()} == {
        "P1": (None, 8, 8, 4),
        "P2": (None, 4, 4, 5),
    }
    with pytest.raises(InvalidArgument, match="pyramid_outputs"):
        keras_gcp.flatten(keras.Model(inputs, first), pyramid=True)


def test_flattening_leaves_names_and_graph_of_the_given_model_alone():
    model = network(Residual(6, name="a"))
    names = [layer.name for layer in model.layers]
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        keras_gcp.flatten(model)
    assert [layer.name for layer in model.layers] == names
    assert len(model.get_layer("stem")._inbound_nodes) == 1
