"""Greedy order by what least squares can make up for."""

import time

import keras
import numpy as np
from keras import layers

from keras_gcp import criteria
from keras_gcp.channels.trace import trace
from keras_gcp.compensation import least_squares
from keras_gcp.criteria import compensation_aware
from keras_gcp.criteria.greedy import greedy_order
from keras_gcp.sample import DrawnSample


def order_of(rows, kernel, taps):
    blocks = np.repeat(np.arange(len(kernel) // taps), taps)
    picked, gains = greedy_order(rows, kernel, blocks, 1e-6)
    return picked, gains / gains.sum()


def problem(channels=7, taps=3, filters=4, seed=0):
    rng = np.random.default_rng(seed)
    rows = rng.normal(size=(400, channels * taps)) @ rng.normal(size=(channels * taps,) * 2)
    rows -= rows.mean(axis=0)
    return rows, rng.normal(size=(channels * taps, filters))


def unexplained(rows, kernel, taps, chosen):
    """Variance of the outputs that least squares on the chosen channels leaves, slowly."""
    outputs = rows @ kernel
    if len(chosen):
        entries = np.concatenate([np.arange(c * taps, (c + 1) * taps) for c in chosen])
        solution, *_ = np.linalg.lstsq(rows[:, entries], outputs, rcond=None)
        outputs = outputs - rows[:, entries] @ solution
    return np.square(outputs).sum() / len(rows)


def test_gains_are_what_least_squares_on_one_channel_more_explains():
    rows, kernel = problem()
    order, gains = order_of(rows, kernel, taps=3)
    whole = unexplained(rows, kernel, 3, [])
    for k in range(len(order)):
        before = unexplained(rows, kernel, 3, order[:k])
        after = unexplained(rows, kernel, 3, order[: k + 1])
        np.testing.assert_allclose(gains[k], (before - after) / whole, rtol=0.02, atol=1e-4)


def test_every_pick_is_the_best_one():
    rows, kernel = problem(seed=1)
    order, _ = order_of(rows, kernel, taps=3)
    chosen: list[int] = []
    for best in order:
        rest = [c for c in range(7) if c not in chosen]
        errors = [unexplained(rows, kernel, 3, [*chosen, c]) for c in rest]
        assert best == rest[int(np.argmin(errors))]
        chosen.append(best)


def test_of_two_equal_channels_one_is_worth_nothing():
    rows, kernel = problem(channels=4, taps=1)
    rows[:, 2] = 3 * rows[:, 0]
    picked, gains = order_of(rows, kernel, taps=1)
    gain_of = dict(zip(picked, gains, strict=True))
    assert min(gain_of[0], gain_of[2]) < 1e-4 < max(gain_of[0], gain_of[2])


def test_of_equal_channels_the_first_is_picked_whatever_the_roundings():
    rows, kernel = problem(channels=6, taps=2)
    rows[:, 6:10] = rows[:, :4]  # The fourth is the first again, the fifth the second.
    kernel[6:10] = kernel[:4]
    picks = []
    for seed in range(8):
        noise = 1e-7 * np.random.default_rng(seed).normal(size=rows.shape)
        noisy = rows * (1 + noise)
        picks.append(order_of(noisy, kernel, taps=2)[0].tolist())
    assert all(pick == picks[0] for pick in picks)
    assert picks[0].index(0) < picks[0].index(3) and picks[0].index(1) < picks[0].index(4)


def test_all_channels_together_explain_everything():
    rows, kernel = problem()
    _, gains = greedy_order(rows, kernel, np.repeat(np.arange(7), 3), 1e-6)
    np.testing.assert_allclose(gains.sum(), unexplained(rows, kernel, 3, []), rtol=1e-3)


def flattened(side, width=16, examples=12):
    inputs = keras.Input((side, side, 3))
    x = layers.Conv2D(width, 3, padding="same", activation="relu", name="conv")(inputs)
    model = keras.Model(inputs, layers.Dense(4, activation="softmax")(layers.Flatten()(x)))
    images = np.random.default_rng(0).random((examples, side, side, 3), dtype="float32")
    return model, images


def scored(model, images):
    return criteria.get("compensation_aware")(model, trace(model), DrawnSample(images, None))


def test_flattened_maps_cost_by_examples_and_channels_not_by_the_square_of_their_entries():
    model, images = flattened(side=28)  # 12,544 inputs: a covariance of them would be 1.3 GB
    start = time.process_time()
    scores = scored(model, images)["conv"]
    assert time.process_time() - start < 10
    assert scores.shape == (16,) and len(np.unique(scores)) > 8


def test_all_places_of_a_channel_are_one_candidate_and_a_doubled_channel_is_worth_less():
    model, images = flattened(side=4, width=3, examples=200)
    conv, dense = model.get_layer("conv"), model.layers[-1]
    kernel = keras.ops.convert_to_numpy(conv.kernel).copy()
    kernel[..., 2] = kernel[..., 0]
    conv.kernel.assign(kernel)
    outputs = keras.Model(model.inputs, conv.output)([images])
    rows = keras.ops.convert_to_numpy(outputs).reshape(200, -1)
    rows = rows.astype("float64") - rows.mean(axis=0, dtype="float64")
    weights = keras.ops.convert_to_numpy(dense.kernel).astype("float64")
    whole = unexplained(rows, weights, 1, [])
    of_channel = [np.arange(c, 48, 3) for c in range(3)]  # Flatten puts channels side by side.
    alone = [(whole - unexplained(rows, weights, 1, at)) / whole for at in of_channel]
    scores = scored(model, images)["conv"]
    assert min(scores[0], scores[2]) < 1e-3
    best = int(np.argmax(alone[:2]))
    np.testing.assert_allclose(scores[[0, 1, 2] if best else [0, 1]].max(), max(alone), rtol=0.02)


def test_with_few_rows_the_ridge_is_that_of_the_compensation():
    assert compensation_aware.RIDGE == least_squares.RIDGE


def test_with_few_rows_channels_are_still_told_apart():
    """A channel of 36 places explains 12 examples; the others must not rank by chance."""
    model, images = flattened(side=6)
    dense = model.layers[-1]
    kernel = dense.kernel.numpy().reshape(36, 16, 4)
    kernel[:, [3, 8]] *= 0.05
    dense.kernel.assign(kernel.reshape(576, 4))
    scores = scored(model, images)["conv"]
    assert set(np.argsort(scores)[:2]) == {3, 8}
