"""Variance that a channel contributes to what its readers compute."""

import keras
import networks
import numpy as np
import pytest
from helpers import flat_outputs, inputs_for, randomise
from keras import layers

import keras_gcp
from keras_gcp import criteria
from keras_gcp.channels.trace import trace
from keras_gcp.criteria.input_variance import contributed
from keras_gcp.criteria.readers import readers_with_inputs
from keras_gcp.sample import DrawnSample


def scores_of(model, x):
    return criteria.get("input_variance")(model, trace(model), DrawnSample(x, None))


def chain():
    """A convolution read by another one, without padding, and by nothing else."""
    inputs = keras.Input((8, 8, 2))
    x = layers.Conv2D(6, 3, activation="relu", name="a")(inputs)
    x = layers.Conv2D(5, 3, activation="relu", name="b")(x)
    x = layers.GlobalAveragePooling2D()(x)
    return randomise(keras.Model(inputs, layers.Dense(3, name="out")(x)))


def summands(model, x, channel):
    """What one channel of 'a' adds to the outputs of 'b', computed by Keras."""
    read = keras.ops.convert_to_numpy(keras.Model(model.inputs, model.get_layer("a").output)(x))
    kernel = keras.ops.convert_to_numpy(model.get_layer("b").kernel)
    part = keras.ops.conv(read[..., [channel]], kernel[:, :, [channel]], padding="valid")
    return keras.ops.convert_to_numpy(part).astype("float64")


def test_a_score_is_the_share_of_the_measured_variance_of_the_summands():
    model = chain()
    x = inputs_for(model, 40)
    measured = np.array([summands(model, x, one).var(axis=(0, 1, 2)).sum() for one in range(6)])
    np.testing.assert_allclose(scores_of(model, x)["a"], measured / measured.sum(), rtol=1e-4)


def test_variances_are_those_of_the_covariance_of_patches():
    """I_j = tr(W_j Sigma_jj W_j^T), with the covariance written out by slices of the input."""
    model = chain()
    x = inputs_for(model, 40)
    channels = trace(model)
    (reader, read), *_ = readers_with_inputs(model, channels, DrawnSample(x, None), 40)
    coupled, variances = contributed(reader, read, channels.tensors[reader.source.index])
    kernel = keras.ops.convert_to_numpy(reader.weight.variable).astype("float64")
    taps = [(i, j) for i in range(3) for j in range(3)]
    for one, variance in zip(coupled, variances, strict=True):
        at = int(np.flatnonzero(reader.coupled == one)[0])
        columns = [read[:, i : i + 4, j : j + 4, at].ravel().astype("float64") for i, j in taps]
        w = np.stack([kernel[i, j, at] for i, j in taps])
        by_hand = np.trace(w.T @ np.cov(columns, bias=True) @ w)
        np.testing.assert_allclose(variance, by_hand, rtol=1e-5)


def test_shares_of_a_reader_sum_to_one():
    model = randomise(networks.flatten_dense())
    scores = scores_of(model, inputs_for(model, 20))
    for path in ("a_conv", "hidden"):
        np.testing.assert_allclose(scores[path].sum(), 1, rtol=1e-6)


def test_a_large_constant_channel_ranks_last_and_folding_makes_its_removal_exact():
    model = chain()
    kernel = keras.ops.convert_to_numpy(model.get_layer("a").kernel).copy()
    bias = keras.ops.convert_to_numpy(model.get_layer("a").bias).copy()
    kernel[..., 2], bias[2] = 0, 50.0
    model.get_layer("a").set_weights([kernel, bias])
    x = inputs_for(model, 40)
    assert scores_of(model, x)["a"].argmin() == 2
    budget = {"channels": keras_gcp.absolute(10)}  # of 11
    settings = {"align": 1, "ranking": "score"}
    plan = keras_gcp.plan(model, budget, "input_variance", x, selection=settings)
    assert plan.kept("a").tolist() == [0, 1, 3, 4, 5]
    unseen = inputs_for(model, 8, seed=9)
    before = flat_outputs(model, unseen)[0]
    folded = flat_outputs(keras_gcp.apply(model, plan, x, compensation="fold"), unseen)[0]
    plain = flat_outputs(keras_gcp.apply(model, plan, x, compensation=None), unseen)[0]
    np.testing.assert_allclose(folded, before, rtol=1e-4, atol=1e-4)
    assert np.abs(plain - before).max() > 0.1


def test_one_ranking_of_the_network_takes_unequal_shares_of_its_layers():
    model = randomise(networks.residual())
    x = inputs_for(model, 20)
    plan = keras_gcp.plan(model, {"macs": 0.6}, "input_variance", x, selection={"align": 1})
    whole = {path: len(keep) for path, keep in plan.layers.items()}
    shares = [plan.widths()[path] / whole[path] for path in ("stem_conv", "b1a_conv", "b2a_conv")]
    assert max(shares) - min(shares) > 0.1


def test_without_a_sample_it_says_what_to_pass():
    model = chain()
    with pytest.raises(ValueError, match=r"'input_variance' needs examples.*sample=\(x, y\)"):
        criteria.check(criteria.get("input_variance"), model, trace(model), None)
