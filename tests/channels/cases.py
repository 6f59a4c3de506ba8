"""A network around every operation that has a rule, for the contract test of the rules."""

from __future__ import annotations

import keras
import numpy as np
from keras import layers, ops
from keras.src import ops as private_ops
from keras.src.activations import activations
from keras.src.applications import convnext, inception_resnet_v2

import keras_gcp
from keras_gcp.channels.rules.names import FUNCTIONS, OPERATORS
from keras_gcp.channels.rules.pooling import REDUCTIONS
from keras_gcp.channels.rules.spatial import COLOURS
from keras_gcp.methods import LSHConvolution

MAPS = {1: (12,), 2: (6, 6), 3: (4, 4, 4)}


def around(operation, rank=2, channels=6):
    """A network with the operation between a convolution and a dense layer.

    The operation sees relu'd and shifted values, so that zeros and negative ones occur.
    """

    def build():
        conv = {1: layers.Conv1D, 2: layers.Conv2D, 3: layers.Conv3D}[rank]
        inputs = keras.Input((*MAPS[rank], 2))
        x = conv(channels, 3, padding="same", name="before")(inputs)
        x = operation(x)
        x = layers.Flatten(name="flat")(x)
        return keras.Model(inputs, layers.Dense(3, name="after")(x))

    return build


def around_two(merge):
    """A network that merges two convolutions."""

    def build():
        inputs = keras.Input((6, 6, 2))
        x = layers.Conv2D(6, 3, padding="same", name="left")(inputs)
        y = layers.Conv2D(6, 1, name="right")(inputs)
        x = layers.Conv2D(5, 3, name="middle")(merge(x, y))
        return keras.Model(inputs, layers.Dense(3, name="after")(layers.Flatten(name="flat")(x)))

    return build


def side_by_side(operations, operands=1):
    """A network that gives the same one or two convolutions to many operations, a row for each."""

    def build():
        inputs = keras.Input((6, 6, 2))
        x = layers.Conv2D(6, 3, padding="same", name="left")(inputs)
        y = layers.Conv2D(6, 1, name="right")(inputs)
        given = (x, y)[:operands]
        x = layers.Concatenate(axis=1, name="rows")([one(*given) for one in operations])
        return keras.Model(inputs, layers.Dense(3, name="after")(x))

    return build


def around_vectors(operation):
    """A network with the operation between two dense layers."""

    def build():
        inputs = keras.Input((7,))
        x = operation(layers.Dense(6, name="before")(inputs))
        return keras.Model(inputs, layers.Dense(3, name="after")(layers.Flatten(name="flat")(x)))

    return build


def in_time(make):
    """A network that repeats a layer over the frames of a film."""

    def build():
        inputs = keras.Input((3, 6, 6, 2))
        before = layers.Conv2D(6, 3, padding="same", name="inside_before")
        x = layers.TimeDistributed(before, name="before")(inputs)
        x = layers.TimeDistributed(make(), name="it")(x)
        return keras.Model(inputs, layers.Dense(3, name="after")(layers.Flatten(name="flat")(x)))

    return build


def spectral(make):
    """A network with a spectral normalization of a layer between two others."""
    return around(lambda x: layers.SpectralNormalization(make(), name="it")(x))


def shuffled(x):
    """Channel shuffle, with operations."""
    x = ops.reshape(x, (-1, 6, 6, 2, 3))
    return ops.reshape(ops.transpose(x, (0, 1, 2, 4, 3)), (-1, 6, 6, 6))


def embedded():
    inputs = keras.Input((7,), dtype="int32")
    x = layers.Embedding(20, 6, name="embedding")(inputs)
    x = layers.Conv1D(5, 2, name="conv")(x)
    return keras.Model(inputs, layers.Dense(3, name="after")(layers.Flatten(name="flat")(x)))


def hashing():
    """What it reads stays, so it stands at the beginning."""
    inputs = keras.Input((6, 6, 3))
    x = LSHConvolution(6, 3, planes=3, padding="same", name="it")(inputs)
    x = layers.Flatten(name="flat")(layers.ReLU(name="relu")(x))
    return keras.Model(inputs, layers.Dense(3, name="after")(x))


def gated():
    """One gate before each of two readers, with factors of its own for every channel."""
    model = around(lambda x: layers.Conv2D(5, 3, name="it")(x))()
    return keras_gcp.gates.insert(model, keras_gcp.gates.ScaleGate())


LAYERS = {
    "Conv1D": [around(lambda x: layers.Conv1D(5, 3, padding="causal", name="it")(x), 1)],
    "Conv2D": [
        around(lambda x: layers.Conv2D(5, 3, activation="gelu", name="it")(x)),
        around(lambda x: layers.Conv2D(6, 3, groups=2, name="it")(x)),
        around(lambda x: layers.Conv2D(4, 3, groups=2, use_bias=False, name="it")(x), channels=8),
        around(lambda x: layers.Conv2D(12, 3, groups=6, name="it")(x)),
        around(lambda x: layers.Conv2D(5, 3, dilation_rate=2, name="it")(x)),
    ],
    "LSHConvolution": [hashing],
    "Gate": [gated],
    "Conv3D": [around(lambda x: layers.Conv3D(5, 3, name="it")(x), 3)],
    "Conv1DTranspose": [around(lambda x: layers.Conv1DTranspose(5, 3, 2, name="it")(x), 1)],
    "Conv2DTranspose": [around(lambda x: layers.Conv2DTranspose(5, 3, 2, name="it")(x))],
    "Conv3DTranspose": [around(lambda x: layers.Conv3DTranspose(5, 2, 2, name="it")(x), 3)],
    "DepthwiseConv1D": [around(lambda x: layers.DepthwiseConv1D(3, name="it")(x), 1)],
    "DepthwiseConv2D": [
        around(lambda x: layers.DepthwiseConv2D(3, name="it")(x)),
        around(lambda x: layers.DepthwiseConv2D(3, depth_multiplier=2, name="it")(x)),
    ],
    "SeparableConv1D": [around(lambda x: layers.SeparableConv1D(5, 3, name="it")(x), 1)],
    "SeparableConv2D": [
        around(lambda x: layers.SeparableConv2D(5, 3, depth_multiplier=2, name="it")(x)),
    ],
    "Dense": [
        around_vectors(lambda x: layers.Dense(5, activation="tanh", name="it")(x)),
        around(lambda x: layers.Dense(5, use_bias=False, name="it")(x)),
    ],
    "Embedding": [embedded],
    "ReLU": [around(lambda x: layers.ReLU(6.0, 0.1, 0.2, name="it")(x))],
    "LeakyReLU": [around(lambda x: layers.LeakyReLU(name="it")(x))],
    "ELU": [around(lambda x: layers.ELU(name="it")(x))],
    "GaussianNoise": [around(lambda x: layers.GaussianNoise(1.0, name="it")(x))],
    "GaussianDropout": [around(lambda x: layers.GaussianDropout(0.5, name="it")(x))],
    "ActivityRegularization": [around(lambda x: layers.ActivityRegularization(l2=0.1)(x))],
    "Identity": [around(lambda x: layers.Identity(name="it")(x))],
    "Rescaling": [around(lambda x: layers.Rescaling(0.3, 0.7, name="it")(x))],
    "Normalization": [
        around(lambda x: layers.Normalization(axis=None, mean=0.3, variance=2.0, name="it")(x)),
        around(
            lambda x: layers.Normalization(
                axis=1, mean=np.arange(6.0), variance=np.arange(1.0, 7.0), name="it"
            )(x)
        ),
    ],
    "Masking": [around(lambda x: layers.Masking(name="it")(x), 1)],
    "StochasticDepth": [around(lambda x: convnext.StochasticDepth(0.2, name="it")(x))],
    "LayerScale": [around(lambda x: convnext.LayerScale(0.5, 6, name="it")(x))],
    "CustomScaleLayer": [
        around_two(lambda x, y: inception_resnet_v2.CustomScaleLayer(0.3, name="it")([x, y]))
    ],
    "SpatialDropout1D": [around(lambda x: layers.SpatialDropout1D(0.5, name="it")(x), 1)],
    "SpatialDropout2D": [around(lambda x: layers.SpatialDropout2D(0.5, name="it")(x))],
    "SpatialDropout3D": [around(lambda x: layers.SpatialDropout3D(0.5, name="it")(x), 3)],
    "Activation": [around(lambda x: layers.Activation("mish", name="it")(x))],
    "Softmax": [around(lambda x: layers.Softmax(axis=1, name="it")(x))],
    "Dropout": [
        around(lambda x: layers.Dropout(0.5, name="it")(x)),
        around(lambda x: layers.Dropout(0.5, noise_shape=(None, 1, 1, None), name="it")(x)),
    ],
    "AlphaDropout": [around(lambda x: layers.AlphaDropout(0.5, name="it")(x))],
    "PReLU": [
        around(lambda x: layers.PReLU(shared_axes=[1, 2], name="it")(x)),
        around(lambda x: layers.PReLU(name="it")(x)),
        around(lambda x: layers.PReLU(shared_axes=[1, 2, 3], name="it")(x)),
    ],
    "Add": [around_two(lambda x, y: layers.Add(name="it")([x, y]))],
    "Subtract": [around_two(lambda x, y: layers.Subtract(name="it")([x, y]))],
    "Multiply": [around_two(lambda x, y: layers.Multiply(name="it")([x, y]))],
    "Average": [around_two(lambda x, y: layers.Average(name="it")([x, y]))],
    "Maximum": [around_two(lambda x, y: layers.Maximum(name="it")([x, y]))],
    "Minimum": [around_two(lambda x, y: layers.Minimum(name="it")([x, y]))],
    "Concatenate": [
        around_two(lambda x, y: layers.Concatenate(name="it")([x, y, x])),
        around_two(lambda x, y: layers.Concatenate(axis=1, name="it")([x, y])),
    ],
    "BatchNormalization": [
        around(lambda x: layers.BatchNormalization(name="it")(x)),
        around(lambda x: layers.BatchNormalization(center=False, scale=False, name="it")(x)),
        around(lambda x: layers.BatchNormalization(axis=1, name="it")(x)),
        around_vectors(lambda x: layers.BatchNormalization(name="it")(x)),
    ],
    "LayerNormalization": [
        around(lambda x: layers.LayerNormalization(name="it")(x)),
        around(lambda x: layers.LayerNormalization(center=False, scale=False, name="it")(x)),
        around(lambda x: layers.LayerNormalization(axis=[1, 2, 3], name="it")(x)),
        around(lambda x: layers.LayerNormalization(axis=[1, 2], name="it")(x)),
        around_vectors(lambda x: layers.LayerNormalization(name="it")(x)),
    ],
    "RMSNormalization": [
        around(lambda x: layers.RMSNormalization(name="it")(x)),
        around(lambda x: layers.RMSNormalization(axis=[2, 3], name="it")(x)),
    ],
    "UnitNormalization": [
        around(lambda x: layers.UnitNormalization(name="it")(x)),
        around(lambda x: layers.UnitNormalization(axis=[1, 3], name="it")(x)),
        around(lambda x: layers.UnitNormalization(axis=1, name="it")(x)),
    ],
    "GroupNormalization": [
        around(lambda x: layers.GroupNormalization(2, name="it")(x)),
        around(lambda x: layers.GroupNormalization(1, scale=False, name="it")(x)),
        around(lambda x: layers.GroupNormalization(6, center=False, name="it")(x)),
        around(lambda x: layers.GroupNormalization(-1, name="it")(x)),
        around(
            lambda x: layers.Permute((2, 3, 1))(
                layers.GroupNormalization(3, axis=1, name="it")(layers.Permute((3, 1, 2))(x))
            )
        ),
    ],
    "TimeDistributed": [
        in_time(lambda: layers.Conv2D(5, 3, activation="relu", name="inside")),
        in_time(lambda: layers.BatchNormalization(name="inside")),
        in_time(lambda: layers.DepthwiseConv2D(3, name="inside")),
        in_time(lambda: layers.MaxPooling2D(name="inside")),
        in_time(lambda: layers.Flatten(name="inside")),
        in_time(lambda: layers.LayerNormalization(name="inside")),
        in_time(lambda: layers.SpectralNormalization(layers.Conv2D(5, 3), name="inside")),
    ],
    "SpectralNormalization": [
        spectral(lambda: layers.Conv2D(5, 3, activation="relu")),
        spectral(lambda: layers.Conv2D(6, 3, groups=2)),
        spectral(lambda: layers.Conv2DTranspose(5, 3)),
        spectral(lambda: layers.DepthwiseConv2D(3, depth_multiplier=2)),
        spectral(lambda: layers.Dense(5, use_bias=False)),
    ],
    "Flatten": [around_vectors(lambda x: layers.Flatten(name="it")(x))],
    "Reshape": [
        around(lambda x: layers.Reshape((36, 6), name="it")(x)),
        around(lambda x: layers.Reshape((-1,), name="it")(x)),
        around(lambda x: layers.Reshape((6, 6, 2, 3), name="it")(x)),
        around(lambda x: layers.Reshape((9, -1, 6), name="it")(x)),
    ],
    "Permute": [around(lambda x: layers.Permute((3, 1, 2), name="it")(x))],
    "RepeatVector": [around_vectors(lambda x: layers.RepeatVector(3, name="it")(x))],
}
for dimensions in (1, 2, 3):
    for family, options in {
        "MaxPooling": {"pool_size": 2},
        "AveragePooling": {"pool_size": 2},
        "GlobalMaxPooling": {},
        "GlobalAveragePooling": {"keepdims": True},
        "ZeroPadding": {"padding": 1},
        "Cropping": {"cropping": 1},
        "UpSampling": {"size": 2},
        "AdaptiveMaxPooling": {"output_size": 2},
        "AdaptiveAveragePooling": {"output_size": 2},
    }.items():
        kind = f"{family}{dimensions}D"
        if not hasattr(layers, kind):
            continue  # adaptive pooling is newer than the oldest Keras that is supported
        LAYERS[kind] = [
            around(
                lambda x, kind=kind, options=options: getattr(layers, kind)(name="it", **options)(
                    x
                ),
                dimensions,
            )
        ]

for kind, options in {
    "Resizing": {"height": 4, "width": 5},
    "CenterCrop": {"height": 4, "width": 4},
    "RandomFlip": {},
    "RandomRotation": {"factor": 0.1},
    "RandomTranslation": {"height_factor": 0.1, "width_factor": 0.1},
    "RandomZoom": {"height_factor": 0.1},
}.items():
    LAYERS[kind] = [
        around(lambda x, kind=kind, options=options: getattr(layers, kind)(name="it", **options)(x))
    ]


def around_steps(make, steps=5, channels=6):
    """A network with a layer over steps, or several, between two convolutions over time."""

    def build():
        inputs = keras.Input((steps, 2))
        x = layers.Conv1D(channels, 2, padding="same", name="before")(inputs)
        x = make(x)
        x = keras.tree.flatten(x)[0]
        x = x if len(x.shape) == 2 else layers.Conv1D(4, 2, name="middle")(x)
        return keras.Model(inputs, layers.Dense(3, name="after")(layers.Flatten(name="flat")(x)))

    return build


def with_states(kind, **options):
    """An encoder whose states a decoder begins with, as in translation."""

    def build():
        inputs = keras.Input((5, 2))
        x = layers.Conv1D(6, 2, name="before")(inputs)
        _, *states = kind(8, return_state=True, name="encoder", **options)(x)
        y = kind(8, return_sequences=True, name="it", **options)(inputs, initial_state=states)
        x = layers.Add(name="sum")([layers.GlobalMaxPooling1D()(y), states[-1]])
        return keras.Model(inputs, layers.Dense(3, name="after")(x))

    return build


def masked_steps(make):
    """Words of sentences of different lengths."""

    def build():
        inputs = keras.Input((7,), dtype="int32")
        x = layers.Embedding(20, 6, mask_zero=True, name="before")(inputs)
        return keras.Model(inputs, layers.Dense(3, name="after")(make(x)))

    return build


def with_two_inputs(make):
    """A layer between two sequences of different length and width."""

    def build():
        inputs = keras.Input((9, 2))
        x = layers.Conv1D(6, 2, name="before")(inputs)
        y = layers.Conv1D(5, 3, strides=2, name="other")(inputs)
        x = layers.Conv1D(4, 2, name="middle")(make(x, y))
        return keras.Model(inputs, layers.Dense(3, name="after")(layers.Flatten(name="flat")(x)))

    return build


def over_films(kind, rank, **options):
    """A convolutional recurrent layer over the frames of a film."""

    def build():
        inputs = keras.Input((3, *(6 for _ in range(rank)), 2))
        conv = {1: layers.Conv1D, 2: layers.Conv2D, 3: layers.Conv3D}[rank]
        before = conv(5, 2, padding="same", name="inside_before")
        x = layers.TimeDistributed(before, name="before")(inputs)
        x = kind(4, 2, name="it", **options)(x)
        return keras.Model(inputs, layers.Dense(3, name="after")(layers.Flatten(name="flat")(x)))

    return build


def both_ways(units=5, merge_mode="concat", kind=layers.LSTM, **options):
    return lambda x: layers.Bidirectional(
        kind(units, return_sequences=True, **options), merge_mode=merge_mode, name="it"
    )(x)


def stacked(*cells, **options):
    return lambda x: layers.RNN(list(cells), return_sequences=True, name="it", **options)(x)


LAYERS |= {
    "Attention": [
        around_steps(lambda x: layers.Attention(name="it")([x, x])),
        with_two_inputs(
            lambda x, y: layers.Attention(use_scale=True)(
                [x, y, layers.Conv1D(6, 1, name="third")(y)]
            )
        ),
        with_two_inputs(
            lambda x, y: layers.Attention(score_mode="concat")(
                [x, layers.Conv1D(6, 1, name="third")(y)]
            )
        ),
    ],
    "AdditiveAttention": [
        around_steps(lambda x: layers.AdditiveAttention(name="it")([x, x])),
        with_two_inputs(
            lambda x, y: layers.AdditiveAttention(use_scale=False)(
                [x, y, layers.Conv1D(6, 1, name="third")(y)]
            )
        ),
    ],
    "SimpleRNN": [
        around_steps(lambda x: layers.SimpleRNN(8, return_sequences=True, name="it")(x)),
        around_steps(lambda x: layers.SimpleRNN(8, activation=None, go_backwards=True)(x)),
        with_states(layers.SimpleRNN),
    ],
    "GRU": [
        around_steps(lambda x: layers.GRU(8, return_sequences=True, name="it")(x)),
        around_steps(lambda x: layers.GRU(8, reset_after=False, name="it")(x)),
        around_steps(lambda x: layers.GRU(8, use_bias=False, unroll=True, name="it")(x)),
        with_states(layers.GRU, dropout=0.2, recurrent_dropout=0.2),
        masked_steps(lambda x: layers.GRU(8, name="it")(x)),
    ],
    "LSTM": [
        around_steps(lambda x: layers.LSTM(8, return_sequences=True, name="it")(x)),
        around_steps(lambda x: layers.LSTM(8, go_backwards=True, use_bias=False, name="it")(x)),
        around_steps(lambda x: layers.LSTM(8, activation="relu", name="it", unroll=True)(x)),
        with_states(layers.LSTM),
        masked_steps(lambda x: layers.LSTM(8, name="it")(x)),
        around_steps(
            lambda x: layers.Add()([layers.LSTM(6, return_sequences=True, name="it")(x), x])
        ),
        masked_steps(lambda x: layers.LSTM(8, name="it")(layers.LSTM(8, return_sequences=True)(x))),
    ],
    "RNN": [
        around_steps(lambda x: layers.RNN(layers.GRUCell(8), name="it")(x)),
        around_steps(stacked(layers.LSTMCell(6), layers.GRUCell(8))),
        around_steps(
            stacked(
                layers.SimpleRNNCell(3),
                layers.StackedRNNCells([layers.GRUCell(4), layers.SimpleRNNCell(6)]),
            )
        ),
        around_steps(
            lambda x: layers.RNN(
                [layers.GRUCell(4), layers.LSTMCell(6)], return_state=True, name="it"
            )(x)
        ),
    ],
    "Bidirectional": [
        around_steps(both_ways()),
        around_steps(both_ways(6, "sum", layers.GRU)),
        around_steps(both_ways(6, "mul", layers.SimpleRNN)),
        around_steps(both_ways(6, "ave")),
        around_steps(lambda x: layers.Average()(both_ways(6, None)(x))),
        around_steps(lambda x: layers.Bidirectional(layers.LSTM(6), name="it")(x)),
        around_steps(
            lambda x: layers.Bidirectional(
                layers.LSTM(6),
                backward_layer=layers.GRU(6, go_backwards=True),
                name="it",
            )(x)
        ),
        masked_steps(lambda x: layers.GlobalMaxPooling1D()(both_ways(6, kind=layers.GRU)(x))),
        around_steps(both_ways(6, kind=lambda n, **o: layers.RNN(layers.LSTMCell(n), **o))),
    ],
    "ConvLSTM1D": [over_films(layers.ConvLSTM1D, 1, return_sequences=True)],
    "ConvLSTM2D": [
        over_films(layers.ConvLSTM2D, 2, strides=2),
        over_films(layers.ConvLSTM2D, 2, padding="same", return_sequences=True, go_backwards=True),
    ],
    "ConvLSTM3D": [over_films(layers.ConvLSTM3D, 3, use_bias=False)],
    "EinsumDense": [
        around_steps(
            lambda x: layers.EinsumDense("btc,cd->btd", (5, 7), bias_axes="d", name="it")(x)
        ),
        around_steps(lambda x: layers.EinsumDense("...c,cd->...d", 7, activation="gelu")(x)),
        around_steps(lambda x: layers.EinsumDense("btc,ts->bsc", (7, 6), bias_axes="s")(x)),
        around_steps(lambda x: layers.EinsumDense("bt...,ts->bs...", (7,), bias_axes="s")(x)),
        around_steps(lambda x: layers.EinsumDense("btc,ts->bsc", (4, 6), bias_axes="sc")(x)),
        around_steps(lambda x: layers.EinsumDense("btc,tcd->btd", (5, 7), bias_axes="td")(x)),
        around_steps(lambda x: layers.EinsumDense("btc,c->btc", (5, 6), bias_axes="c")(x)),
        around_steps(
            lambda x: layers.EinsumDense("bthd,hdc->btc", (5, 7), bias_axes="c")(
                layers.EinsumDense("btc,chd->bthd", (5, 2, 4), bias_axes="hd", name="it")(x)
            )
        ),
        around_steps(
            lambda x: layers.Permute((2, 1))(
                layers.EinsumDense("...ct,cd->...dt", (7, 5), bias_axes="d", name="it")(
                    layers.Permute((2, 1))(x)
                )
            )
        ),
    ],
    "MultiHeadAttention": [
        around_steps(lambda x: layers.MultiHeadAttention(2, 3, name="it")(x, x)),
        around_steps(
            lambda x: layers.Add()([x, layers.MultiHeadAttention(2, 3, use_bias=False)(x, x)])
        ),
        with_two_inputs(
            lambda x, y: layers.MultiHeadAttention(2, 3, value_dim=4, dropout=0.1, output_shape=7)(
                x, y
            )
        ),
        with_two_inputs(lambda x, y: layers.MultiHeadAttention(2, 3)(value=y, query=x)),
        with_two_inputs(
            lambda x, y: layers.MultiHeadAttention(2, 3)(
                x, y, layers.Conv1D(7, 1, name="third")(y), use_causal_mask=True
            )
        ),
        around_steps(
            lambda x: layers.MultiHeadAttention(2, 3)(x, x, return_attention_scores=True)[0]
        ),
        masked_steps(
            lambda x: layers.GlobalMaxPooling1D()(
                layers.MultiHeadAttention(2, 3, dropout=0.1)(x, x)
            )
        ),
        around(lambda x: layers.MultiHeadAttention(2, 3, attention_axes=(1,))(x, x)),
        around_steps(lambda x: layers.MultiHeadAttention(2, 3, use_gate=True)(x, x)),
    ],
    "GroupedQueryAttention": [
        around_steps(lambda x: layers.GroupQueryAttention(3, 4, 2, name="it")(x, x)),
        with_two_inputs(
            lambda x, y: layers.GroupQueryAttention(3, 4, 2)(x, layers.Conv1D(6, 1, name="same")(y))
        ),
    ],
}

ANCHORING = {
    "BatchWhitening",
    "Dot",
    *(kind.__name__ for kind in COLOURS),
    *(
        f"ops.{name}"
        for name in "Conv ConvTranspose DepthwiseConv Dot DotProductAttention Einsum Inner Matmul "
        "SeparableConv Tensordot".split()
    ),
}
"""Layers and operations whose rule gives the reason why their channels stay."""


def operation(name):
    """The class of a `keras.ops` operation, or None: some are newer than the oldest Keras."""
    modules = [getattr(private_ops, part) for part in ("numpy", "nn", "core", "math", "image")]
    for module in (*modules, activations):
        if hasattr(module, name):
            return getattr(module, name)
    return None


def as_floats(x):
    return ops.cast(x, "float32") if x.dtype in ("bool", "int32", "int64") else x


def function_of_one(name):
    """Between 0.1 and 0.9 nearly every function is defined and differentiable."""
    settings = {
        "Cast": ("float64",),
        "Clip": (0.3, 0.6),
        "SaturateCast": ("float64",),
        "Threshold": (0.5, 0.2),
    }.get(name, ())

    def apply(x):
        x = 0.1 + 0.8 * ops.sigmoid(x)
        x = x + 1.0 if name == "Arccosh" else x
        x = x > 0.5 if name == "LogicalNot" else x
        return as_floats(operation(name)(*settings)(x))

    return apply


def operator_of_two(name):
    """Both operands are positive; comparisons and logic see truth values where they must."""

    def apply(x, y):
        x, y = 0.5 + ops.sigmoid(x), 0.5 + ops.sigmoid(y)
        if name.startswith("Logical"):
            x, y = x > 1.0, y > 1.0
        if name.startswith("Bitwise"):
            x, y = ops.cast(4 * x, "int32"), ops.cast(4 * y, "int32")
        operands = (x > 1.0, x, y) if name == "Where" else (x, y)
        return as_floats(operation(name)()(*operands))

    return apply


def reduction_over(name, axis, keepdims=True):
    def apply(x):
        x = x > 0.0 if name in ("All", "Any") else x
        reduced = as_floats(operation(name)(axis=axis, keepdims=keepdims)(x))
        return layers.Concatenate()([as_floats(x), reduced]) if axis == -1 and keepdims else reduced

    return apply


OPERATIONS = {
    "ops.Add": [around_two(lambda x, y: x + y), around(lambda x: x + 0.5)],
    "ops.Subtract": [around_two(lambda x, y: x - y), around(lambda x: 1.0 - x)],
    "ops.Multiply": [around_two(lambda x, y: x * y), around(lambda x: 0.5 * x)],
    "ops.Pad": [
        around_two(lambda x, y: ops.pad(x, [[0, 0], [0, 0], [0, 0], [2, 3]])),
        around(lambda x: ops.pad(x, [[0, 0], [1, 1], [1, 0], [0, 0]])),
        around(lambda x: ops.pad(x, [[0, 0], [1, 1], [1, 0], [1, 0]])),
    ],
    "ops.Glu": [around(ops.glu), around(lambda x: ops.glu(x, axis=1))],
    "ops.Softmax": [around(lambda x: ops.softmax(x, axis=1))],
    "ops.LogSoftmax": [around(lambda x: ops.log_softmax(x, axis=1))],
    "ops.Sparsemax": [around(lambda x: ops.sparsemax(x, axis=1))],
    "ops.Concatenate": [
        around_two(lambda x, y: ops.concatenate([x, y, x], axis=-1)),
        around_two(lambda x, y: ops.concatenate([x, y], axis=1)),
    ],
    "ops.Stack": [
        around_two(lambda x, y: ops.stack([x, y], axis=1)[:, 0] + x),
        around_two(lambda x, y: ops.max(ops.stack([x, y], axis=-1), axis=-1)),
    ],
    "ops.GetItem": [
        around(lambda x: x[..., ::2]),
        around(lambda x: x[..., 1::2]),
        around(lambda x: x[..., ::-1]),
        around(lambda x: x[..., 2:5]),
        around(lambda x: x[..., :-1]),
        around(lambda x: x[..., -4:]),
        around(lambda x: x[:, 1:, ::2, 3:]),
        around(lambda x: x[:, :, None, :, 2:]),
        around(lambda x: x[:, 0]),
        around(lambda x: layers.Concatenate()([x[..., 4:], x[..., :4]])),
        around(lambda x: ops.concatenate([x[..., ::3], x[..., 1::3]], -1), channels=12),
        around(lambda x: x[..., 0:8:2], channels=12),
        around_vectors(lambda x: x[:, 1:4]),
    ],
    "ops.Split": [
        around(lambda x: ops.concatenate(ops.split(x, 3, axis=-1)[::-1], axis=-1)),
        around(lambda x: ops.split(x, [1, 4], axis=-1)[1]),
        around(lambda x: ops.split(x, 2, axis=1)[1]),
        around(lambda x: ops.multiply(*ops.split(x, 2, axis=-1))),
    ],
    "ops.Unstack": [around(lambda x: ops.unstack(x, axis=1)[2])],
    "ops.Take": [around(lambda x: ops.take(x, [0, 2, 2], axis=1))],
    "ops.Reshape": [
        around(lambda x: ops.reshape(x, (-1, 36, 6))),
        around(lambda x: ops.reshape(x, (-1, 6, 6, 2, 3))),
        around(lambda x: ops.reshape(x, (-1, 216))),
        around(shuffled),
    ],
    "ops.Transpose": [around(lambda x: ops.transpose(x, (0, 3, 1, 2)))],
    "ops.Moveaxis": [around(lambda x: ops.moveaxis(x, [-1, 1], [1, 2]))],
    "ops.Swapaxes": [around(lambda x: ops.swapaxes(x, 1, -1))],
    "ops.ExpandDims": [
        around(lambda x: ops.expand_dims(x, -1)),
        around(lambda x: ops.expand_dims(x, (1, -2))),
    ],
    "ops.Squeeze": [
        around(lambda x: ops.squeeze(x[:, :1], 1)),
        around(lambda x: ops.squeeze(x[:, :1, :1])),
    ],
    "ops.Flip": [around(lambda x: ops.flip(x, -1)), around(lambda x: ops.flip(x, 1))],
    "ops.Roll": [around(lambda x: ops.roll(x, 2, axis=1))],
    "ops.Repeat": [
        around(lambda x: ops.repeat(x, 2, axis=-1)),
        around(lambda x: ops.repeat(x, 3, axis=1)),
    ],
    "ops.Tile": [around(lambda x: ops.tile(x, (1, 2, 1, 2)))],
    "ops.DepthToSpace": [
        around(lambda x: operation("DepthToSpace")(2)(x), channels=12),
    ],
    "ops.SpaceToDepth": [around(lambda x: operation("SpaceToDepth")(2)(x))],
    "ops.MaxPool": [around(lambda x: ops.max_pool(x, 2))],
    "ops.AveragePool": [around(lambda x: ops.average_pool(x, 2))],
    "ops.Resize": [around(lambda x: ops.image.resize(x, (3, 4)))],
    "ops.PadImages": [around(lambda x: ops.image.pad_images(x, 1, 1, 1, 1))],
    "ops.CropImages": [around(lambda x: ops.image.crop_images(x, 1, 1, 1, 1))],
}


def known(names):
    """Some operations are newer than the oldest Keras that is supported."""
    return [name for name in names if operation(name) is not None]


MANY = {
    **{
        f"functions-{start}": (names, 1, function_of_one)
        for start in range(0, len(known(FUNCTIONS)), 30)
        if (names := known(FUNCTIONS)[start : start + 30])
    },
    "operators": (known(OPERATORS), 2, operator_of_two),
    "reductions-places": (known(REDUCTIONS), 1, lambda name: reduction_over(name, (1, 2))),
    "reductions-channels": (known(REDUCTIONS), 1, lambda name: reduction_over(name, -1)),
}
"""Operations that are alike: their names, how many operands they take, what applies one."""

ALONE = {}
"""The same operations, a network for each: it says more where one goes wrong, and takes longer."""
for names, operands, applying in MANY.values():
    for name in names:
        alone = (around if operands == 1 else around_two)(applying(name))
        ALONE.setdefault(f"ops.{name}", []).append(alone)

OPERATIONS["ops.Mean"] = [around(reduction_over("Mean", -1, keepdims=False))]
OPERATIONS["ops.Max"] = [around(reduction_over("Max", [1, 3], keepdims=False))]
for name in [name for name in OPERATIONS if operation(name.removeprefix("ops.")) is None]:
    del OPERATIONS[name]
