"""Networks as people build them: several inputs, shared layers, recurrence, wrappers."""

from __future__ import annotations

import keras
from keras import layers, ops

# ------------------------------------------------------------ several inputs, of equal shapes


def _tower(x, filters, name):
    x = layers.Conv2D(filters, 3, activation="relu", name=f"{name}_conv")(x)
    return layers.GlobalAveragePooling2D()(layers.Conv2D(12, 3, name=f"{name}_top")(x))


def change_detection():
    """In the order [new, base], against the alphabet's."""
    new, base = keras.Input((9, 9, 2), name="new"), keras.Input((9, 9, 2), name="base")
    y = layers.Subtract()([_tower(new, 16, "new"), _tower(base, 10, "base")])
    return keras.Model([new, base], layers.Dense(3, activation="softmax")(y))


def masked_image():
    mask, image = keras.Input((9, 9, 2), name="z_mask"), keras.Input((9, 9, 2), name="image")
    gate = layers.Conv2D(16, 1, activation="sigmoid", name="gate")(mask)
    x = layers.Multiply()([layers.Conv2D(16, 1, name="look")(image), gate])
    x = layers.GlobalMaxPooling2D()(layers.Conv2D(8, 3, activation="relu")(x))
    return keras.Model([mask, image], layers.Dense(3, activation="softmax")(x))


def retrieval():
    """Built from a dict; its keys are not in the order of the towers."""
    names = ("query", "document", "context")
    inputs = {name: keras.Input((7,), name=name) for name in names}
    parts = [
        layers.Dense(8 * n, activation="relu")(inputs[name]) for n, name in enumerate(names, 1)
    ]
    x = layers.Dense(16, activation="relu")(layers.Concatenate()(parts))
    return keras.Model(inputs, layers.Dense(3, activation="softmax")(x))


def stereo_with_prior():
    """Nested inputs: a pair, and one more of the same shape; the pair comes first."""
    right, left = keras.Input((9, 9, 2), name="right"), keras.Input((9, 9, 2), name="left")
    prior = keras.Input((9, 9, 2), name="a_prior")
    x = layers.Concatenate()([_tower(right, 8, "r"), _tower(left, 12, "l"), _tower(prior, 6, "p")])
    return keras.Model(
        {"pair": [right, left], "a_prior": prior}, layers.Dense(3, activation="softmax")(x)
    )


def past_and_future():
    past, future = keras.Input((10, 4), name="past"), keras.Input((10, 4), name="future")
    x = layers.Conv1D(16, 3, activation="relu")(past)
    y = layers.Conv1D(12, 3, activation="relu")(future)
    x = layers.GlobalAveragePooling1D()(layers.Concatenate()([x, y]))
    x = layers.Dense(16, activation="relu")(x)
    return keras.Model([past, future], layers.Dense(3, activation="softmax")(x))


# ------------------------------------------------------- two models with some layers in common


def segmenter_and_classifier():
    image = keras.Input((12, 12, 3))
    fine = layers.Conv2D(12, 3, padding="same", activation="relu", name="fine")(image)
    coarse = layers.Conv2D(16, 3, 2, padding="same", activation="relu", name="coarse")(fine)
    up = layers.Concatenate()([layers.UpSampling2D()(coarse), fine])
    masks = layers.Conv2D(2, 1, name="masks")(layers.Conv2D(8, 3, activation="relu", name="up")(up))
    label = layers.Dense(5, name="label")(layers.GlobalAveragePooling2D()(coarse))
    return keras.Model(image, masks, name="segmenter"), keras.Model(image, label, name="classifier")


def actor_and_critic():
    state = keras.Input((10,))
    trunk = layers.Dense(24, activation="relu", name="trunk")(state)
    trunk = layers.Dense(16, activation="relu", name="trunk2")(trunk)
    policy = layers.Dense(4, name="policy")(layers.Dense(12, activation="relu", name="pi")(trunk))
    value = layers.Dense(1, name="value")(layers.Dense(12, activation="relu", name="v")(trunk))
    return keras.Model(state, policy, name="actor"), keras.Model(state, value, name="critic")


def detector_levels():
    """A classifier, and a model that reads three of its levels with convolutions of its own."""
    image, levels = keras.Input((16, 16, 3)), []
    x = image
    for n, filters in enumerate((8, 12, 16)):
        x = layers.Conv2D(filters, 3, 2, padding="same", activation="relu", name=f"level{n}")(x)
        levels.append(layers.Conv2D(6, 1, name=f"lateral{n}")(x))
    label = layers.Dense(5, name="label")(layers.GlobalMaxPooling2D()(x))
    return keras.Model(image, label, name="backbone"), keras.Model(image, levels, name="pyramid")


def text_tasks():
    tokens = keras.Input((9,), dtype="int32")
    x = layers.Embedding(30, 16, name="embed")(tokens)
    x = layers.Conv1D(12, 3, padding="same", activation="relu", name="words")(x)
    tags = layers.Dense(7, name="tags")(x)
    topic = layers.Dense(5, name="topic")(layers.GlobalAveragePooling1D()(x))
    return keras.Model(tokens, tags, name="tagger"), keras.Model(tokens, topic, name="topics")


def dense_skips():
    image = keras.Input((8, 8, 3))
    a = layers.Conv2D(8, 3, padding="same", activation="relu", name="a")(image)
    b = layers.Conv2D(8, 3, padding="same", activation="relu", name="b")(a)
    both = layers.Add()([a, b])
    first = layers.Dense(4, name="first")(layers.GlobalAveragePooling2D()(both))
    mix = layers.Concatenate()([both, b, a])
    second = layers.Dense(3, name="second")(layers.Flatten()(layers.MaxPooling2D(2)(mix)))
    return keras.Model(image, first, name="one"), keras.Model(image, second, name="two")


# ---------------------------------------------------------- multiply-adds in unusual places


def language_model():
    tokens = keras.Input((6,), dtype="int32")
    x = layers.Embedding(20, 16)(tokens)
    x = layers.LSTM(12, return_sequences=True, unroll=True)(x)
    x = layers.GRU(10, return_sequences=True, unroll=True)(layers.Dense(16, activation="relu")(x))
    return keras.Model(tokens, layers.Dense(20)(x))


def tagger():
    inputs = keras.Input((6, 5))
    x = layers.Conv1D(16, 3, padding="same", activation="relu")(inputs)
    x = layers.Bidirectional(layers.LSTM(8, return_sequences=True, unroll=True))(x)
    return keras.Model(inputs, layers.EinsumDense("btc,cd->btd", (6, 4), bias_axes="d")(x))


def transformer():
    inputs = keras.Input((6, 16))
    x = layers.Dense(16)(inputs)
    x = layers.LayerNormalization()(x + layers.MultiHeadAttention(2, 8)(x, x))
    y = layers.Dense(16)(layers.Dense(32, activation="gelu")(x))
    x = layers.LayerNormalization()(x + y)
    return keras.Model(inputs, layers.Dense(3)(layers.GlobalAveragePooling1D()(x)))


def video():
    frame = keras.Sequential(
        [
            keras.Input((10, 10, 2)),
            layers.Conv2D(12, 3, activation="relu", name="c1"),
            layers.SpectralNormalization(layers.Conv2D(8, 3, name="c2")),
            layers.GlobalAveragePooling2D(),
        ],
        name="frame",
    )
    clip = keras.Input((4, 10, 10, 2))
    x = layers.LSTM(9, unroll=True)(layers.TimeDistributed(frame, name="frames")(clip))
    return keras.Model(clip, layers.Dense(3)(x))


def correlation():
    """A product of two maps, without a kernel between them."""
    left, right = keras.Input((5, 8)), keras.Input((5, 8))
    a, b = (layers.Dense(16)(layers.Dense(24)(x)) for x in (left, right))
    scores = ops.matmul(a, ops.transpose(b, (0, 2, 1)))
    x = layers.Dense(12, activation="relu")(layers.Flatten()(scores))
    return keras.Model([left, right], layers.Dense(3)(x))
