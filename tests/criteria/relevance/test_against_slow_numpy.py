"""The whole method, derived once more with plain loops over single numbers.

Nothing is shared with the library: no automatic differentiation, no table of rules. Convolutions
are loops, every contribution is computed by itself, and the network is written out by hand.
"""

from __future__ import annotations

import keras
import numpy as np
from keras import layers

from keras_gcp.criteria import relevance_scores

EXAMPLES, CLASSES = 10, 3


def _network():
    """Stem, pooling, a residual block with a linear bottleneck, head."""
    inputs = keras.Input((6, 6, 2))
    x = layers.Conv2D(4, 3, padding="same", name="stem")(inputs)
    x = layers.BatchNormalization(name="stem_bn")(x)
    x = layers.ReLU(name="stem_relu")(x)
    x = layers.MaxPooling2D(2, name="pool")(x)
    y = layers.Conv2D(3, 1, name="squeeze")(x)  # linear: its outputs have both signs
    y = layers.Conv2D(4, 3, padding="same", use_bias=False, name="expand")(y)
    y = layers.BatchNormalization(name="expand_bn")(y)
    x = layers.Add(name="add")([y, x])
    x = layers.ReLU(name="out")(x)
    x = layers.GlobalAveragePooling2D(name="mean")(x)
    x = layers.Dense(5, activation="relu", name="hidden")(x)
    return keras.Model(inputs, layers.Dense(CLASSES, activation="softmax", name="classifier")(x))


def _same_convolution(x, kernel, bias):
    """Stride 1, zeros outside; also lists, for every output, all its contributions."""
    height, width, _ = x.shape
    reach = kernel.shape[0] // 2
    output = np.zeros((height, width, kernel.shape[-1]))
    contributions = {}
    for i in range(height):
        for j in range(width):
            for c in range(kernel.shape[-1]):
                parts = []
                for di in range(kernel.shape[0]):
                    for dj in range(kernel.shape[1]):
                        a, b = i + di - reach, j + dj - reach
                        if 0 <= a < height and 0 <= b < width:
                            for k in range(kernel.shape[2]):
                                parts.append(((a, b, k), x[a, b, k] * kernel[di, dj, k, c]))
                contributions[i, j, c] = parts
                output[i, j, c] = sum(value for _, value in parts) + bias[c]
    return output, contributions


def _dense(x, kernel, bias):
    contributions = {
        (j,): [((i,), x[i] * kernel[i, j]) for i in range(len(x))] for j in range(kernel.shape[1])
    }
    return x @ kernel + bias, contributions


def _alpha_beta(contributions, relevance, shape):
    """alpha = 2, beta = 1; all of it to one sign where the other is absent."""
    result = np.zeros(shape)
    for place, parts in contributions.items():
        positive = sum(value for _, value in parts if value > 0)
        negative = sum(value for _, value in parts if value < 0)
        alpha, beta = (2, 1) if positive and negative else (1, -1)
        for source, value in parts:
            if value > 0:
                result[source] += alpha * relevance[place] * value / positive
            if value < 0:
                result[source] -= beta * relevance[place] * value / negative
    return result


def _normalise(x, gamma, beta, mean, variance, epsilon=1e-3):
    return gamma * (x - mean) / np.sqrt(variance + epsilon) + beta


def _one_example(image, true_class, w):
    """Relevance at every layer's output, and the predicted class."""
    stem, _ = _same_convolution(image, *w["stem"])
    stem = np.maximum(_normalise(stem, *w["stem_bn"]), 0)
    pooled, winners = np.zeros((3, 3, 4)), {}
    for i, j, c in np.ndindex(3, 3, 4):
        window = stem[2 * i : 2 * i + 2, 2 * j : 2 * j + 2, c]
        a, b = np.unravel_index(np.argmax(window), (2, 2))
        pooled[i, j, c], winners[i, j, c] = window[a, b], (2 * i + a, 2 * j + b, c)
    squeezed, into_squeeze = _same_convolution(pooled, *w["squeeze"])
    expanded, into_expand = _same_convolution(squeezed, w["expand"][0], np.zeros(4))
    expanded = _normalise(expanded, *w["expand_bn"])
    summed = expanded + pooled
    out = np.maximum(summed, 0)
    mean = out.mean(axis=(0, 1))
    hidden, into_hidden = _dense(mean, *w["hidden"])
    hidden = np.maximum(hidden, 0)
    logits, into_logits = _dense(hidden, *w["classifier"])

    r = {"classifier": np.eye(CLASSES)[true_class]}
    r["hidden"] = _alpha_beta(into_logits, r["classifier"], (5,))
    r["mean"] = _alpha_beta(into_hidden, r["hidden"], (4,))
    total = out.sum(axis=(0, 1))
    r["out"] = out / np.where(total > 0, total, 1) * r["mean"]
    r["add"] = r["out"]
    nonzero = np.where(summed == 0, 1, summed)
    r["expand"] = r["expand_bn"] = expanded / nonzero * r["add"]
    r["squeeze"] = _alpha_beta(into_expand, r["expand"], (3, 3, 3))
    r["pool"] = pooled / nonzero * r["add"] + _alpha_beta(into_squeeze, r["squeeze"], (3, 3, 4))
    r["stem"] = np.zeros((6, 6, 4))
    for place, winner in winners.items():
        r["stem"][winner] += r["pool"][place]
    r["stem_relu"] = r["stem_bn"] = r["stem"]
    return r, np.argmax(logits)


def _scores(model, images, labels):
    w = {layer.name: [v.astype(float) for v in layer.get_weights()] for layer in model.layers}
    found = [_one_example(x, y, w) for x, y in zip(images.astype(float), labels, strict=True)]
    accuracy = np.array(
        [
            np.mean([p == k for (_, p), y in zip(found, labels, strict=True) if y == k])
            for k in range(CLASSES)
        ]
    )
    scores = {}
    for layer in found[0][0]:
        mean = 0
        for k in range(CLASSES):
            rows = [r[layer] for (r, _), y in zip(found, labels, strict=True) if y == k]
            channels = [row.reshape(-1, row.shape[-1]).mean(axis=0) for row in rows]
            share = accuracy[k] / accuracy.max()
            weight = 1 / (1 + np.exp(-1 / share)) if share else 1.0
            mean = mean + weight * np.mean(channels, axis=0) / CLASSES
        scores[layer] = np.abs(mean) / np.sqrt(np.sum(np.square(mean)))
    return scores, accuracy


def test_relevance_scores_agree_with_plain_loops():
    model = _network()
    rng = np.random.default_rng(3)
    for layer in model.layers:
        for variable in layer.weights:
            if variable.name in ("gamma", "moving_variance"):
                variable.assign(rng.uniform(0.5, 1.5, variable.shape))
            elif variable.name in ("bias", "beta", "moving_mean"):
                variable.assign(rng.normal(0, 0.3, variable.shape))
    images = rng.normal(size=(EXAMPLES, 6, 6, 2)).astype("float32")
    labels = np.arange(EXAMPLES) % CLASSES
    expected, accuracy = _scores(model, images, labels)
    assert accuracy.max() > 0
    assert accuracy.min() < accuracy.max()  # the class weights differ
    scores = relevance_scores(model, images, labels, batch_size=4)
    assert scores.keys() == expected.keys()
    for layer, values in expected.items():
        np.testing.assert_allclose(scores[layer], values, atol=1e-4, err_msg=layer)
