"""Relevance where a compiled function does not know all sizes of a tensor."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from keras import layers

import keras_gcp

pytestmark = pytest.mark.needs_tensorflow("TextVectorization, and tf.function forgets shapes")

TEXTS = np.array([["good film " * 3 if i % 2 else "bad movie " * 3] for i in range(32)])
LABELS = np.arange(32) % 2


def reader(head="softmax", length=6):
    """Text to classes: strings in, a gate, channels split in two, a layer at every step of time."""
    words = layers.TextVectorization(20, output_sequence_length=length)
    words.adapt(TEXTS[:, 0])
    strings = keras.Input((1,), dtype="string")
    x = layers.Embedding(20, 8)(words(strings))
    x = layers.SeparableConv1D(8, 3, padding="same", activation="relu", name="separable")(x)
    pooled = layers.GlobalAveragePooling1D(keepdims=True)(x)
    x = layers.Multiply()([x, layers.Conv1D(8, 1, activation="sigmoid")(pooled)])
    dense = layers.Dense(16, activation="relu", name="steps")
    # Keras itself cannot run `TimeDistributed` in a compiled function that does not know the steps.
    x = dense(x) if length is None else layers.TimeDistributed(dense, name="steps")(x)
    first, _ = keras.ops.split(x, 2, axis=-1)  # The second half leads nowhere.
    x = layers.Conv1D(8, 3, padding="same", activation="relu", name="conv")(first)
    x = layers.GlobalMaxPooling1D()(x)
    units = 1 if head == "sigmoid" else 2
    return keras.Model(strings, layers.Dense(units, activation=head)(x))


@pytest.mark.parametrize("head", ["softmax", "sigmoid"])
def test_what_is_compiled_for_strings_gives_the_scores_of_what_is_not(head):
    keras.utils.set_random_seed(0)
    model = reader(head)
    compiled = keras_gcp.relevance_scores(model, TEXTS, LABELS, batch_size=8)
    eager = keras_gcp.relevance_scores(model, TEXTS, LABELS, batch_size=32)
    for path in ("separable", "steps", "conv"):
        np.testing.assert_allclose(compiled[path], eager[path], rtol=1e-4, atol=1e-6)


def test_texts_of_any_length_are_scored_too():
    model = reader(length=None)
    scores = keras_gcp.relevance_scores(model, TEXTS, LABELS, batch_size=8)
    assert np.isfinite(scores["conv"]).all() and scores["conv"].any()
