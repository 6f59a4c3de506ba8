"""Counting: figures worked out by hand or known from elsewhere."""

from __future__ import annotations

import keras
import networks
import numpy as np
import pytest
from keras import layers

import keras_gcp
from keras_gcp.channels.trace import trace
from keras_gcp.costs.counting import build_cost_model, prunable_groups
from keras_gcp.errors import UnsupportedModel
from keras_gcp.selection.planning import plan_of


def single(layer, shape=(8, 8, 6)):
    """Counts of one layer in a model of its own."""
    inputs = keras.Input(shape)
    return keras_gcp.count(keras.Model(inputs, layer(inputs)))


@pytest.mark.parametrize(
    "layer, macs, weights, biases",
    [
        (layers.Conv2D(5, 3, padding="same"), 8 * 8 * 3 * 3 * 6 * 5, 3 * 3 * 6 * 5, 5),
        (layers.Conv2D(5, 3, strides=2), 3 * 3 * 3 * 3 * 6 * 5, 3 * 3 * 6 * 5, 5),
        (layers.Conv2D(4, (1, 3), groups=2), 8 * 6 * 3 * 3 * 4, 3 * 3 * 4, 4),
        (layers.Conv2D(12, 3, groups=6), 6 * 6 * 3 * 3 * 12, 3 * 3 * 12, 12),
        (layers.Conv2D(5, 3, dilation_rate=2), 4 * 4 * 3 * 3 * 6 * 5, 3 * 3 * 6 * 5, 5),
        (layers.DepthwiseConv2D(3, depth_multiplier=2), 6 * 6 * 3 * 3 * 12, 3 * 3 * 12, 12),
        (
            layers.SeparableConv2D(5, 3, depth_multiplier=2),
            6 * 6 * (3 * 3 * 12 + 12 * 5),
            3 * 3 * 12 + 12 * 5,
            5,
        ),
        # A transposed convolution works at every position of its input.
        (layers.Conv2DTranspose(5, 3, strides=2), 8 * 8 * 3 * 3 * 6 * 5, 3 * 3 * 6 * 5, 5),
        (layers.Dense(5), 8 * 8 * 6 * 5, 6 * 5, 5),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, layers.Layer) else "",
)
def test_multiply_adds_and_weights_of_single_layers(layer, macs, weights, biases):
    counted = single(layer)
    assert (counted.macs, counted.weights) == (macs, weights)
    assert counted.parameters == weights + biases


def test_one_and_three_dimensions():
    assert single(layers.Conv1D(5, 3), (10, 2)).macs == 8 * 3 * 2 * 5
    assert single(layers.Conv3D(5, 2), (4, 4, 4, 3)).macs == 27 * 8 * 3 * 5
    assert single(layers.Dense(5), (7,)).macs == 35


def test_channels_first_counts_like_channels_last():
    first = single(layers.Conv2D(5, 3, data_format="channels_first"), (6, 9, 7))
    last = single(layers.Conv2D(5, 3), (9, 7, 6))
    assert first.macs == last.macs == 7 * 5 * 3 * 3 * 6 * 5


def test_normalization_activation_and_pooling_cost_no_multiply_adds():
    inputs = keras.Input((8, 8, 3))
    x = layers.MaxPooling2D()(layers.ReLU()(layers.BatchNormalization(name="bn")(inputs)))
    counted = keras_gcp.count(keras.Model(inputs, x))
    assert (counted.macs, counted.weights, counted.parameters) == (0, 0, 12)
    assert counted.layers["bn"].parameters == 12


@pytest.mark.parametrize(
    "build, macs",
    [
        (lambda: keras_gcp.models.resnet56(shortcut="pad"), 125_485_696),
        (
            lambda: keras.applications.ResNet50(weights=None, input_shape=(224, 224, 3)),
            3_857_973_248,
        ),
    ],
    ids=["resnet56", "resnet50"],
)
def test_known_networks(build, macs):
    model = build()
    counted = keras_gcp.count(model)
    assert counted.macs == macs
    assert counted.parameters == model.count_params()


@pytest.mark.parametrize("name", sorted(networks.ALL))
def test_layers_add_up_to_the_totals(name):
    model = networks.ALL[name]()
    counted = keras_gcp.count(model)
    parts = counted.layers.values()
    assert counted.macs == sum(part.macs for part in parts)
    assert counted.parameters == sum(part.parameters for part in parts) == model.count_params()
    if name not in ("shared_layer", "siamese"):
        assert counted.weights == sum(part.weights for part in parts)


def test_a_layer_called_twice_computes_twice_and_has_one_set_of_weights():
    inputs = keras.Input((8, 8, 4))
    shared = layers.Conv2D(4, 3, padding="same", use_bias=False, name="shared")
    counted = keras_gcp.count(keras.Model(inputs, shared(shared(inputs))))
    assert counted.macs == counted.layers["shared"].macs == 2 * 64 * 9 * 16
    assert counted.weights == counted.parameters == 9 * 16
    assert counted.layers["shared"].parameters == counted.layers["shared"].weights == 9 * 16


def test_a_nested_model_called_twice_computes_twice():
    once = networks.siamese().get_layer("tower")
    twice = keras_gcp.count(networks.siamese())
    assert twice.layers["tower/tower_conv"].macs == 2 * keras_gcp.count(once).macs
    assert twice.layers["tower/tower_conv"].weights == keras_gcp.count(once).weights


def test_channels_are_the_output_channels_that_may_be_pruned():
    assert keras_gcp.count(networks.plain()).channels == 8 + 12  # not the four classes
    assert keras_gcp.count(networks.siamese()).channels == 8 + 6
    assert keras_gcp.count(networks.residual()).channels == 3 * 8 + 3 * 12  # filters, tied or not


def test_layers_whose_channels_cannot_be_followed_are_counted_too():
    inputs = keras.Input((5,))
    hidden = layers.Dense(6, name="hidden")
    model = keras.Model(inputs, layers.Dense(3, name="out")(hidden(inputs)))
    before = keras_gcp.count(model)
    hidden.enable_lora(2)
    after = keras_gcp.count(model)
    assert after.macs == before.macs == 5 * 6 + 6 * 3
    assert after.parameters == model.count_params() > before.parameters


@pytest.mark.parametrize("shape", [(None, None, 3), (None, 8, 3)])
def test_of_a_model_of_open_sizes_all_but_multiply_adds_is_counted(shape):
    def build(shape):
        inputs = keras.Input(shape)
        x = layers.GlobalAveragePooling2D()(layers.Conv2D(4, 3, name="first")(inputs))
        return keras.Model(inputs, layers.Dense(2, name="last")(x))

    model, twin = build(shape), build((6, 8, 3))
    unsized, fixed = keras_gcp.count(model), keras_gcp.count(twin)
    assert unsized.macs is None and unsized.layers["first"].macs is None
    assert unsized.layers["last"].macs == fixed.layers["last"].macs  # It needs no size.
    assert (unsized.parameters, unsized.weights, unsized.channels) == (
        fixed.parameters,
        fixed.weights,
        fixed.channels,
    )
    assert keras_gcp.count(model, input_shape=(6, 8, 3)) == fixed


def test_models_without_a_graph_are_refused():
    class Subclassed(keras.Model):
        pass

    with pytest.raises(UnsupportedModel, match="Subclassed"):
        keras_gcp.count(Subclassed())
    with pytest.raises(UnsupportedModel, match="not built"):
        keras_gcp.count(keras.Sequential([layers.Conv2D(3, 3)]))


@pytest.mark.parametrize("name", sorted(networks.ALL))
def test_the_cost_model_predicts_the_narrowed_model(name):
    model = networks.ALL[name]()
    channels = trace(model)
    cost_model = build_cost_model(channels)
    groups = prunable_groups(channels)
    full = np.array([len(group.coupled) for group in groups])
    whole = keras_gcp.count(model)
    for resource in ("macs", "parameters", "channels"):
        assert cost_model.cost(resource, full) == getattr(whole, resource)
    rng = np.random.default_rng(1)
    kept = np.array([rng.integers(group.least, len(group.coupled) + 1) for group in groups])
    keep = np.ones(channels.coupled_count, bool)
    for group, count in zip(groups, kept, strict=True):
        keep[rng.permutation(group.coupled)[count:]] = False
    narrow = keras_gcp.apply(model, plan_of(channels, keep, cost_model))
    counted = keras_gcp.count(narrow)
    for resource in ("macs", "parameters", "channels"):
        assert cost_model.cost(resource, kept) == getattr(counted, resource), resource
