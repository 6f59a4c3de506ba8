"""The Taylor criterion: what the loss would do without a channel, to first order."""

from __future__ import annotations

import keras
import networks
import numpy as np
import pytest
from helpers import inputs_for, randomise
from keras import layers

from keras_gcp import backend, criteria
from keras_gcp.channels.trace import trace
from keras_gcp.errors import InvalidArgument, UnsupportedModel
from keras_gcp.sample import DrawnSample


def _case(model, examples=16):
    randomise(model)
    model.compile("sgd", "sparse_categorical_crossentropy")
    sample = DrawnSample(inputs_for(model, examples), np.arange(examples) % model.output_shape[-1])
    return model, sample


def _derivative_by_scaling(model, sample, layer, channel, step=1e-2):
    """Slope of the loss as kernel and bias of one channel are scaled around 1."""
    original = layer.get_weights()
    losses = []
    for factor in (1 - step, 1 + step):
        scaled = [w.copy() for w in original]
        for weight in scaled:
            weight[..., channel] *= factor
        layer.set_weights(scaled)
        losses.append(backend.sample_loss(model, sample.x, sample.y))
    layer.set_weights(original)
    return (losses[1] - losses[0]) / (2 * step)


def test_score_is_the_squared_slope_of_scaling_the_channels_filter_and_bias():
    model, sample = _case(networks.depthwise())
    scores = criteria.get("taylor")(model, trace(model), sample)
    for name in ("project", "expand"):
        layer = model.get_layer(name)
        slopes = [
            _derivative_by_scaling(model, sample, layer, channel)
            for channel in range(layer.filters)
        ]
        np.testing.assert_allclose(
            scores[name], np.square(slopes), rtol=0.05, atol=0.01 * scores[name].max()
        )


def test_a_dead_channel_scores_zero():
    model, sample = _case(networks.plain())
    kernel = keras.ops.convert_to_numpy(model.get_layer("b_conv").kernel).copy()
    kernel[:, :, 2] = 0
    model.get_layer("b_conv").kernel.assign(kernel)
    scores = criteria.get("taylor")(model, trace(model), sample)["a_conv"]
    assert scores[2] == 0
    assert (np.delete(scores, 2) > 0).all()


def test_frozen_layers_are_scored_like_others():
    model, sample = _case(networks.plain())
    expected = criteria.get("taylor")(model, trace(model), sample)
    model.trainable = False
    frozen = criteria.get("taylor")(model, trace(model), sample)
    np.testing.assert_allclose(frozen["a_conv"], expected["a_conv"], rtol=1e-4)


def test_the_batch_size_does_not_matter():
    model, sample = _case(networks.residual())
    channels = trace(model)
    small, large = (criteria.taylor.Taylor(size)(model, channels, sample) for size in (3, 64))
    for path in large:
        np.testing.assert_allclose(small[path], large[path], rtol=1e-3, atol=1e-8)


def test_regression_works_too():
    inputs = keras.Input((5,))
    x = layers.Dense(6, activation="relu", name="hidden")(inputs)
    model = keras.Model(inputs, layers.Dense(1)(x))
    model.compile("sgd", "mse")
    sample = DrawnSample(np.ones((4, 5), "float32"), np.ones((4, 1)))
    assert criteria.get("taylor")(model, trace(model), sample)["hidden"].shape == (6,)


def test_a_model_without_a_loss_is_refused():
    model = networks.plain()
    sample = DrawnSample(inputs_for(model, 4), np.arange(4))
    with pytest.raises(UnsupportedModel, match=r"not compiled with one.*model\.compile"):
        criteria.check(criteria.get("taylor"), model, trace(model), sample)


def test_missing_labels_are_refused():
    model, sample = _case(networks.plain())
    with pytest.raises(InvalidArgument, match="needs labels"):
        criteria.check(criteria.get("taylor"), model, trace(model), DrawnSample(sample.x, None))
