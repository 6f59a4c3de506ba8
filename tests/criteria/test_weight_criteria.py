"""Criteria that look at weights: norms of filters, scales of batch normalisation, chance."""

from __future__ import annotations

import keras
import networks
import numpy as np
import pytest
from helpers import randomise
from keras import layers

from keras_gcp import criteria
from keras_gcp.channels.trace import trace
from keras_gcp.errors import UnsupportedModel


def _kernel(layer, name="kernel"):
    return keras.ops.convert_to_numpy(getattr(layer, name))


def _scores(criterion, model):
    return criteria.checked_scores(criteria.get(criterion), model, trace(model), None)


@pytest.mark.parametrize(("criterion", "order"), [("l1_norm", 1), ("l2_norm", 2)])
def test_norms_go_over_the_filter_that_computes_a_channel(criterion, order):
    inputs = keras.Input((8, 8, 3))
    x = layers.Conv2D(4, 3, name="conv")(inputs)
    x = layers.Conv2DTranspose(5, 3, name="transposed")(x)
    x = layers.SeparableConv2D(6, 3, name="separable")(x)
    x = layers.Conv2D(8, 1, groups=2, name="grouped")(x)
    x = layers.Dense(7, name="dense")(layers.GlobalAveragePooling2D()(x))
    model = randomise(keras.Model(inputs, layers.Dense(2, name="out")(x)))
    scores = _scores(criterion, model)

    def norms(kernel, axis):
        rows = np.moveaxis(kernel, axis, 0).reshape(kernel.shape[axis], -1)
        return np.linalg.norm(rows, order, axis=1)

    layer = model.get_layer
    np.testing.assert_allclose(scores["conv"], norms(_kernel(layer("conv")), 3), rtol=1e-5)
    np.testing.assert_allclose(scores["dense"], norms(_kernel(layer("dense")), 1), rtol=1e-5)
    np.testing.assert_allclose(scores["grouped"], norms(_kernel(layer("grouped")), 3), rtol=1e-5)
    transposed = norms(_kernel(layer("transposed")), 2)
    np.testing.assert_allclose(scores["transposed"], transposed, rtol=1e-5)
    pointwise = norms(_kernel(layer("separable"), "pointwise_kernel"), 3)
    np.testing.assert_allclose(scores["separable"], pointwise, rtol=1e-5)
    assert "out" not in scores


def test_columns_of_an_embedding_and_layers_of_nested_models_are_scored():
    assert _scores("l2_norm", networks.sequence())["embedding"].shape == (8,)
    assert _scores("l2_norm", networks.nested())["middle/innermost/inner_conv"].shape == (7,)


def test_bn_scale_is_the_absolute_gamma_right_after_the_layer():
    model = randomise(networks.plain())
    gamma = np.linspace(-1, 1, 8)
    model.get_layer("a_bn").gamma.assign(gamma)
    scores = _scores("bn_scale", model)
    np.testing.assert_allclose(scores["a_conv"], np.abs(gamma), rtol=1e-6)
    np.testing.assert_allclose(scores["b_conv"], _kernel(model.get_layer("b_bn"), "gamma"))


def test_bn_scale_before_activations_is_the_mean_over_the_normalisations_passed():
    inputs = keras.Input((8, 8, 3))
    x = layers.Conv2D(6, 3, padding="same", name="stem")(inputs)
    for name in ("first", "second"):
        y = layers.ReLU()(layers.BatchNormalization(name=f"{name}_bn")(x))
        y = layers.Conv2D(6, 3, padding="same", name=name)(y)
        x = layers.Add()([x, y])
    x = layers.ReLU()(layers.BatchNormalization(name="last_bn")(x))
    outputs = layers.Dense(3)(layers.GlobalAveragePooling2D()(x))
    model = randomise(keras.Model(inputs, outputs))
    scores = _scores("bn_scale", model)
    names = ("first_bn", "second_bn", "last_bn")
    gammas = [_kernel(model.get_layer(name), "gamma") for name in names]
    np.testing.assert_allclose(scores["first"], np.mean(gammas, axis=0), rtol=1e-6)
    np.testing.assert_allclose(scores["stem"], gammas[0], rtol=1e-6)  # right after it


def test_bn_scale_names_the_layers_without_normalisation():
    with pytest.raises(UnsupportedModel, match=r"without one: 'reduce'\. .*l2_norm"):
        _scores("bn_scale", networks.squeeze_excite())


def test_bn_scale_needs_a_scale():
    inputs = keras.Input((8, 8, 3))
    x = layers.Conv2D(4, 3, name="conv")(inputs)
    x = layers.BatchNormalization(scale=False)(x)
    model = keras.Model(inputs, layers.Dense(2)(layers.Flatten()(x)))
    with pytest.raises(UnsupportedModel, match=r"with a scale \(gamma\).*'conv'"):
        _scores("bn_scale", model)


def test_random_scores_depend_on_the_seed_and_the_layer():
    model = networks.plain()
    channels = trace(model)
    first, again, other = (
        criteria.get("random", seed)(model, channels, None) for seed in (1, 1, 2)
    )
    np.testing.assert_array_equal(first["a_conv"], again["a_conv"])
    assert not np.array_equal(first["a_conv"], other["a_conv"])
    assert not np.array_equal(first["a_conv"], first["b_conv"][:8])


def test_random_without_a_seed_keeps_the_one_it_draws():
    model = networks.plain()
    channels = trace(model)
    one, two = criteria.get("random"), criteria.get("random")
    np.testing.assert_array_equal(
        one(model, channels, None)["a_conv"], one(model, channels, None)["a_conv"]
    )
    assert one.seed != two.seed
