"""Networks as they are found in the wild, small: one builder a pattern."""

from __future__ import annotations

import keras
import numpy as np
from keras import layers, ops


def _conv(x, filters, name, size=3, strides=1, activation="relu", **options):
    return layers.Conv2D(
        filters, size, strides, padding="same", activation=activation, name=name, **options
    )(x)


def _conv_bn(x, filters, name, size=3, strides=1, activation="relu", **options):
    x = _conv(x, filters, name, size, strides, None, use_bias=False, **options)
    x = layers.BatchNormalization(name=f"{name}_bn")(x)
    return layers.Activation(activation, name=f"{name}_act")(x)


def _classifier(x, classes=4):
    return layers.Dense(classes, name="classifier")(
        layers.GlobalAveragePooling2D(name="average")(x)
    )


def unet():
    """Segmentation: skip connections by concatenation, a decoder of transposed convolutions."""
    inputs = keras.Input((16, 16, 3))
    skips, x = [], inputs
    for level, filters in enumerate((8, 12)):
        x = _conv_bn(_conv_bn(x, filters, f"down{level}a"), filters, f"down{level}b")
        skips.append(x)
        x = layers.MaxPooling2D(name=f"pool{level}")(x)
    x = _conv_bn(x, 16, "bottom")
    for level, filters in ((1, 12), (0, 8)):
        x = layers.Conv2DTranspose(filters, 2, 2, name=f"up{level}")(x)
        x = layers.Concatenate(name=f"skip{level}")([x, skips[level]])
        x = _conv_bn(x, filters, f"up{level}a")
    return keras.Model(inputs, _conv(x, 3, "classes", 1, activation="softmax"), name="unet")


def pyramid_detector():
    """Feature pyramid with one shared head on every level, and two outputs a level."""
    inputs = keras.Input((16, 16, 3))
    levels, x = [], inputs
    for level, filters in enumerate((8, 12, 16)):
        x = _conv_bn(x, filters, f"c{level}", strides=2)
        levels.append(_conv(x, 8, f"lateral{level}", 1, activation=None))
    for level in (1, 0):
        upper = layers.UpSampling2D(2, name=f"upsample{level}")(levels[level + 1])
        levels[level] = layers.Add(name=f"merge{level}")([levels[level], upper])
    tower = layers.Conv2D(10, 3, padding="same", activation="relu", name="tower")
    boxes, scores = layers.Conv2D(4, 1, name="boxes"), layers.Conv2D(3, 1, name="scores")
    outputs = {}
    for level, x in enumerate(levels):
        x = tower(x)
        outputs[f"boxes{level}"] = layers.Reshape((-1, 4), name=f"box_list{level}")(boxes(x))
        outputs[f"scores{level}"] = layers.Reshape((-1, 3), name=f"score_list{level}")(scores(x))
    return keras.Model(inputs, outputs, name="pyramid_detector")


def two_inputs():
    """An image and a table, merged."""
    image, table = keras.Input((8, 8, 3), name="image"), keras.Input((5,), name="table")
    x = layers.GlobalAveragePooling2D(name="pool")(_conv_bn(image, 8, "a"))
    y = layers.Dense(6, activation="relu", name="rows")(table)
    x = layers.Concatenate(name="both")([x, y])
    x = layers.Dense(10, activation="relu", name="hidden")(x)
    return keras.Model({"image": image, "table": table}, layers.Dense(2, name="out")(x))


def inception():
    """Branches of several kernel sizes, side by side."""
    inputs = keras.Input((8, 8, 3))
    x = _conv_bn(inputs, 8, "stem")
    for block in range(2):
        branches = [
            _conv_bn(x, 6, f"m{block}_1x1", 1),
            _conv_bn(_conv_bn(x, 4, f"m{block}_3a", 1), 6, f"m{block}_3b"),
            _conv_bn(_conv_bn(x, 4, f"m{block}_7a", (1, 7)), 6, f"m{block}_7b", (7, 1)),
            _conv_bn(
                layers.AveragePooling2D(3, 1, "same", name=f"m{block}_pool")(x), 4, f"m{block}_p", 1
            ),
        ]
        x = layers.Concatenate(name=f"m{block}")(branches)
    return keras.Model(inputs, _classifier(x), name="inception")


def shufflenet():
    """Channels are split in two, one half is worked on, and both are shuffled."""
    inputs = keras.Input((8, 8, 3))
    x = _conv_bn(inputs, 12, "stem")
    for block in range(2):
        kept, y = ops.split(x, 2, axis=-1)
        y = _conv_bn(y, 6, f"b{block}_a", 1)
        y = layers.DepthwiseConv2D(3, padding="same", name=f"b{block}_d")(y)
        y = _conv_bn(layers.BatchNormalization(name=f"b{block}_dbn")(y), 6, f"b{block}_b", 1)
        x = ops.concatenate([kept, y], axis=-1)
        x = ops.reshape(x, (-1, 8, 8, 2, 6))
        x = ops.reshape(ops.transpose(x, (0, 1, 2, 4, 3)), (-1, 8, 8, 12))
    return keras.Model(inputs, _classifier(_conv_bn(x, 8, "last", 1)), name="shufflenet")


def resnext():
    """Grouped convolutions in residual blocks."""
    inputs = keras.Input((8, 8, 3))
    x = _conv_bn(inputs, 16, "stem")
    for block in range(2):
        y = _conv_bn(x, 16, f"b{block}_a", 1)
        y = _conv_bn(y, 16, f"b{block}_g", groups=4)
        y = _conv_bn(y, 16, f"b{block}_c", 1, activation="linear")
        x = layers.ReLU(name=f"b{block}_out")(x + y)
    return keras.Model(inputs, _classifier(x), name="resnext")


def attention_by_cbam():
    """Gates per channel from means and maxima, and a gate per place from those over channels."""
    inputs = keras.Input((8, 8, 3))
    x = _conv_bn(inputs, 12, "stem", activation="swish")
    shared = [
        layers.Dense(4, activation="relu", name="reduce"),
        layers.Dense(12, name="expand"),
    ]
    average = ops.mean(x, axis=(1, 2), keepdims=True)
    greatest = ops.max(x, axis=(1, 2), keepdims=True)
    gate = ops.sigmoid(shared[1](shared[0](average)) + shared[1](shared[0](greatest)))
    x = x * gate
    place = ops.concatenate(
        [ops.mean(x, axis=-1, keepdims=True), ops.max(x, axis=-1, keepdims=True)], axis=-1
    )
    x = x * _conv(place, 1, "place", 5, activation="sigmoid")
    return keras.Model(inputs, _classifier(_conv_bn(x, 8, "last")), name="attention_by_cbam")


def group_normalised():
    """Group, layer and instance normalization in place of batch normalization."""
    inputs = keras.Input((8, 8, 3))
    x = _conv(inputs, 12, "a", activation=None)
    x = layers.ReLU(name="ra")(layers.GroupNormalization(3, name="gn")(x))
    y = layers.GroupNormalization(-1, name="instance")(_conv(x, 12, "b", activation=None))
    x = layers.Add(name="add")([x, layers.ReLU(name="rb")(y)])
    x = layers.LayerNormalization(name="ln")(_conv(x, 10, "c", activation="gelu"))
    return keras.Model(inputs, _classifier(x), name="group_normalised")


def convnext():
    """Depthwise, layer normalization and a wide dense pair in nested blocks, added."""
    inputs = keras.Input((8, 8, 3))
    x = layers.Conv2D(12, 2, 2, name="stem")(inputs)
    for block in range(2):
        inner = keras.Input((4, 4, 12))
        y = layers.Conv2D(12, 3, padding="same", groups=12, name="depthwise")(inner)
        y = layers.LayerNormalization(epsilon=1e-6, name="norm")(y)
        y = layers.Dense(24, activation="gelu", name="wide")(y)
        y = layers.Dense(12, name="narrow")(y)
        x = x + keras.Model(inner, y, name=f"block{block}")(x)
    x = layers.LayerNormalization(name="last_norm")(layers.GlobalAveragePooling2D(name="pool")(x))
    return keras.Model(inputs, layers.Dense(4, name="classifier")(x), name="convnext")


def nested_deep():
    """Sequential in Functional in Sequential, three deep, with a tensor operator between."""
    inner = keras.Sequential(
        [
            keras.Input((8, 8, 6)),
            layers.SeparableConv2D(7, 3, padding="same", name="separable"),
            layers.PReLU(shared_axes=[1, 2], name="slopes"),
        ],
        name="inner",
    )
    middle_inputs = keras.Input((8, 8, 8))
    x = 0.5 * _conv(middle_inputs, 6, "enter")
    middle = keras.Model(middle_inputs, inner(x), name="middle")
    return keras.Sequential(
        [
            keras.Input((8, 8, 3)),
            layers.Conv2D(8, 3, padding="same", activation="relu", name="first"),
            middle,
            layers.GlobalAveragePooling2D(name="pool"),
            layers.Dense(4, name="classifier"),
        ],
        name="nested_deep",
    )


def super_resolution():
    """Residual blocks with a scaled branch, then a pixel shuffle by reshaping."""
    inputs = keras.Input((8, 8, 3))
    x = start = _conv(inputs, 8, "head", activation=None)
    for block in range(2):
        y = _conv(_conv(x, 12, f"b{block}_a"), 8, f"b{block}_b", activation=None)
        x = x + y * 0.1
    x = _conv(x + start, 4 * 5, "before_shuffle", activation=None)
    x = ops.reshape(x, (-1, 8, 8, 2, 2, 5))
    x = ops.reshape(ops.transpose(x, (0, 1, 3, 2, 4, 5)), (-1, 16, 16, 5))
    return keras.Model(inputs, _conv(x, 3, "image", activation=None), name="super_resolution")


def audio():
    """Raw sound: strided, dilated and causal one-dimensional convolutions, gated."""
    inputs = keras.Input((64, 1))
    x = layers.Conv1D(8, 9, 4, padding="same", activation="relu", name="front")(inputs)
    skips = []
    for dilation in (1, 2):
        options = {"padding": "causal", "dilation_rate": dilation}
        signal = layers.Conv1D(8, 2, activation="tanh", name=f"signal{dilation}", **options)(x)
        gate = layers.Conv1D(8, 2, activation="sigmoid", name=f"gate{dilation}", **options)(x)
        y = layers.Multiply(name=f"gated{dilation}")([signal, gate])
        skips.append(layers.Conv1D(6, 1, name=f"skip{dilation}")(y))
        x = layers.Add(name=f"add{dilation}")([x, layers.Conv1D(8, 1, name=f"out{dilation}")(y)])
    x = layers.ReLU(name="relu")(layers.Add(name="skips")(skips))
    x = layers.GlobalAveragePooling1D(name="pool")(x)
    return keras.Model(inputs, layers.Dense(3, name="classifier")(x), name="audio")


def video():
    """Three-dimensional convolutions over frames."""
    inputs = keras.Input((4, 8, 8, 3))
    x = layers.Conv3D(6, 3, padding="same", activation="relu", name="a")(inputs)
    x = layers.BatchNormalization(name="bn")(layers.MaxPooling3D(2, name="max")(x))
    x = layers.Conv3D(8, (1, 3, 3), padding="same", activation="relu", name="b")(x)
    x = layers.GlobalAveragePooling3D(name="pool")(x)
    return keras.Model(inputs, layers.Dense(3, name="classifier")(x), name="video")


def frames():
    """A convolution network repeated over frames, a recurrent layer behind."""
    inputs = keras.Input((3, 8, 8, 3))
    x = layers.TimeDistributed(layers.Conv2D(6, 3, name="inside_a"), name="a")(inputs)
    x = layers.TimeDistributed(layers.BatchNormalization(name="inside_bn"), name="bn")(x)
    x = layers.TimeDistributed(layers.ReLU(name="inside_relu"), name="relu")(x)
    x = layers.TimeDistributed(layers.Conv2D(5, 3, name="inside_b"), name="b")(x)
    x = layers.TimeDistributed(layers.GlobalMaxPooling2D(name="inside_pool"), name="pool")(x)
    x = layers.TimeDistributed(layers.Dense(6, name="inside_dense"), name="dense")(x)
    return keras.Model(inputs, layers.Dense(3, name="classifier")(layers.GRU(4, name="gru")(x)))


def text():
    """Embedded tokens, convolutions of several widths, the greatest over time."""
    inputs = keras.Input((12,), dtype="int32")
    x = layers.SpatialDropout1D(0.1, name="dropout")(layers.Embedding(20, 8, name="embed")(inputs))
    pooled = [
        layers.GlobalMaxPooling1D(name=f"max{size}")(
            layers.Conv1D(6, size, activation="relu", name=f"conv{size}")(x)
        )
        for size in (2, 3, 4)
    ]
    x = layers.Concatenate(name="all")(pooled)
    return keras.Model(inputs, layers.Dense(2, name="classifier")(x), name="text")


def hybrid():
    """Convolutions, then self-attention over places."""
    inputs = keras.Input((8, 8, 3))
    x = _conv_bn(_conv_bn(inputs, 10, "a"), 8, "b", strides=2)
    x = layers.Reshape((16, 8), name="tokens")(x)
    y = layers.MultiHeadAttention(2, 4, name="attention")(x, x)
    x = layers.LayerNormalization(name="norm")(layers.Add(name="add")([x, y]))
    y = layers.Dense(16, activation="gelu", name="wide")(x)
    x = layers.Add(name="add2")([x, layers.Dense(8, name="narrow")(y)])
    x = layers.GlobalAveragePooling1D(name="pool")(x)
    return keras.Model(inputs, layers.Dense(3, name="classifier")(x), name="hybrid")


def dense_stack():
    """A table and dense layers only."""
    return keras.Sequential(
        [
            keras.Input((10,)),
            layers.Normalization(mean=np.arange(10.0), variance=np.arange(1.0, 11.0), name="table"),
            layers.Dense(16, activation="relu", name="a"),
            layers.BatchNormalization(name="bn"),
            layers.Dropout(0.3, name="dropout"),
            layers.Dense(12, activation="selu", name="b"),
            layers.Dense(3, name="classifier"),
        ],
        name="dense_stack",
    )


def preprocessed():
    """Everything that people put in front of a network, and operators on slices of it."""
    inputs = keras.Input((12, 12, 3))
    x = layers.RandomFlip(name="flip")(inputs)
    x = layers.Rescaling(1 / 127.5, [-1.0, -1.1, -0.9], name="rescale")(x)
    x = layers.Normalization(mean=[0.1, 0.2, 0.3], variance=[1.0, 1.1, 1.2], name="normalise")(x)
    x = layers.Resizing(8, 8, name="resize")(x)
    x = _conv_bn(x[..., ::-1], 12, "a")
    even, odd = x[..., ::2], x[..., 1::2]
    x = layers.Concatenate(name="turned")([ops.maximum(even, odd), x * 2 - 1])
    x = _conv(x[:, 1:-1, 1:-1], 9, "b", activation="leaky_relu")
    x = ops.concatenate([x[..., 3:], x[..., :3]], axis=-1)
    return keras.Model(inputs, _classifier(ops.where(x > 0, x, x / 4)), name="preprocessed")


def split_csp():
    """Cross stage partial block: a part of the channels goes past the block."""
    inputs = keras.Input((8, 8, 3))
    x = _conv_bn(inputs, 16, "stem")
    past, y = ops.split(x, [6], axis=-1)
    y = _conv_bn(y, 8, "a") + _conv_bn(_conv_bn(y, 8, "b", 1), 8, "c")
    x = layers.Concatenate(name="joined")([past, y])
    return keras.Model(inputs, _classifier(_conv_bn(x, 10, "last", 1)), name="split_csp")


def dense_block():
    """Every layer sees the maps of all layers before it (DenseNet)."""
    inputs = keras.Input((8, 8, 3))
    x = _conv(inputs, 8, "stem", activation=None)
    for block in range(2):
        for layer in range(3):
            name = f"b{block}_{layer}"
            y = layers.BatchNormalization(name=f"{name}_bn")(x)
            y = _conv_bn(layers.ReLU(name=f"{name}_relu")(y), 8, f"{name}_narrow", 1)
            x = layers.Concatenate(name=f"{name}_all")([x, _conv(y, 4, name, activation=None)])
        x = layers.BatchNormalization(name=f"b{block}_end_bn")(x)
        x = _conv(layers.ReLU(name=f"b{block}_end_relu")(x), 10, f"b{block}_end", 1)
    return keras.Model(inputs, _classifier(x), name="dense_block")


def siamese_towers():
    """One tower, itself a model with an inner model, for two images; their distance."""
    inner = keras.Sequential(
        [
            keras.Input((8, 8, 8)),
            layers.Conv2D(8, 3, padding="same", name="inner_conv"),
            layers.BatchNormalization(name="inner_bn"),
        ],
        name="inner",
    )
    image = keras.Input((8, 8, 3))
    x = _conv_bn(image, 8, "a")
    x = layers.ReLU(name="relu")(layers.Add(name="add")([x, inner(x)]))
    x = layers.Dense(12, use_bias=False, name="embedding")(
        layers.GlobalAveragePooling2D(name="pool")(x)
    )
    tower = keras.Model(image, x, name="tower")
    left, right = keras.Input((8, 8, 3), name="left"), keras.Input((8, 8, 3), name="right")
    distance = ops.absolute(tower(left) - tower(right))
    return keras.Model([left, right], layers.Dense(1, name="same")(distance), name="siamese")


def either_format(data_format):
    """Layers of every kind that know where channels are.

    The images are large because Keras 3.15 on TensorFlow adds a bias along the wrong axis where a
    map with channels first is as wide as it has channels.
    """
    first = data_format == "channels_first"
    option, axis = {"data_format": data_format}, 1 if first else -1
    inputs = keras.Input((3, 40, 40) if first else (40, 40, 3))
    x = _conv(inputs, 8, "stem", activation=None, **option)
    x = layers.BatchNormalization(axis=axis, name="bn")(x)
    x = layers.PReLU(shared_axes=[2, 3] if first else [1, 2], name="slopes")(x)
    y = layers.SeparableConv2D(8, 3, padding="same", name="separable", **option)(x)
    x = layers.Add(name="add")([x, layers.GroupNormalization(4, axis=axis, name="groups")(y)])
    x = layers.MaxPooling2D(2, name="max", **option)(x)
    gate = layers.GlobalAveragePooling2D(keepdims=True, name="squeeze", **option)(x)
    x = layers.Multiply(name="gated")(
        [x, _conv(gate, 8, "excite", 1, activation="sigmoid", **option)]
    )
    x = layers.Concatenate(axis=axis, name="both")([x, _conv(x, 6, "more", **option)])
    x = layers.ZeroPadding2D(1, name="pad", **option)(x)
    x = layers.DepthwiseConv2D(3, name="depthwise", **option)(x)
    x = x[:, 2:] if first else x[..., 2:]
    x = layers.SpatialDropout2D(0.1, name="dropout", **option)(x)
    x = layers.AveragePooling2D(2, name="mean", **option)(x)
    x = layers.Flatten(name="flatten", **option)(x)
    x = layers.Dense(4, activation="softmax", name="classifier")(x)
    return keras.Model(inputs, x, name=data_format)


def sound_in_time():
    """Convolutions over a waveform, a recurrent layer over what is left of time."""
    inputs = keras.Input((32, 1))
    x = layers.Conv1D(8, 5, padding="same", activation="relu", name="a")(inputs)
    x = layers.BatchNormalization(name="bn")(layers.Conv1D(8, 5, strides=2, name="b")(x))
    x = layers.GRU(10, dropout=0.1, name="gru")(layers.MaxPooling1D(2, name="max")(x))
    return keras.Model(inputs, layers.Dense(3, name="classifier")(x), name="sound_in_time")


def tagger():
    """A label for every word of sentences of different lengths, read in both directions."""
    inputs = keras.Input((9,), dtype="int32")
    x = layers.Embedding(20, 8, mask_zero=True, name="embed")(inputs)
    x = layers.Bidirectional(layers.LSTM(6, return_sequences=True), name="both")(x)
    x = layers.Dropout(0.1, name="dropout")(x)
    x = layers.Bidirectional(layers.GRU(5, return_sequences=True), "sum", name="again")(x)
    x = layers.TimeDistributed(layers.Dense(6, activation="relu", name="inside"), name="hidden")(x)
    return keras.Model(inputs, layers.Dense(4, name="classifier")(x), name="tagger")


def film():
    """Convolutions over frames, convolutional states over time."""
    inputs = keras.Input((3, 8, 8, 2))
    x = layers.TimeDistributed(layers.Conv2D(6, 3, name="inside"), name="a")(inputs)
    x = layers.ConvLSTM2D(6, 3, padding="same", return_sequences=True, name="first")(x)
    x = layers.LayerNormalization(name="norm")(x)
    x = layers.ConvLSTM2D(5, 3, name="second")(x)
    x = layers.GlobalAveragePooling2D(name="pool")(x)
    return keras.Model(inputs, layers.Dense(3, name="classifier")(x), name="film")


def transformer():
    """An encoder of two blocks, normalization in front; a decoder block that reads it."""
    inputs, target = keras.Input((7, 5)), keras.Input((4, 5))

    def attend(name, x, y, **how):
        normal = layers.LayerNormalization(name=f"{name}_norm")(x)
        y = normal if y is None else y
        y = layers.MultiHeadAttention(2, 4, name=name)(normal, y, **how)
        x = layers.Add(name=f"{name}_add")([x, y])
        y = layers.LayerNormalization(name=f"{name}_norm2")(x)
        y = layers.Dense(12, activation="gelu", name=f"{name}_wide")(y)
        return layers.Add(name=f"{name}_out")([x, layers.Dense(8, name=f"{name}_narrow")(y)])

    x = layers.Dense(8, name="embed")(inputs)
    x = attend("second", attend("first", x, None), None)
    y = attend("third", layers.Dense(8, name="embed2")(target), None, use_causal_mask=True)
    y = attend("fourth", y, x)
    y = layers.GlobalAveragePooling1D(name="pool")(y)
    return keras.Model([inputs, target], layers.Dense(3, name="classifier")(y), name="transformer")


def translation():
    """An encoder whose states a decoder begins with, and attends to what the encoder gave."""
    inputs = keras.Input((8,), dtype="int32", name="source")
    target = keras.Input((6,), dtype="int32", name="target")
    x = layers.Embedding(20, 7, name="embed")(inputs)
    x, *states = layers.LSTM(8, return_sequences=True, return_state=True, name="encoder")(x)
    y = layers.Embedding(20, 6, name="embed2")(target)
    y = layers.LSTM(8, return_sequences=True, name="decoder")(y, initial_state=states)
    y = layers.Concatenate(name="both")([y, layers.GroupQueryAttention(3, 4, 2, name="look")(y, x)])
    return keras.Model([inputs, target], layers.Dense(9, name="words")(y), name="translation")


def mixer():
    """Dense layers along places and along channels in turn, written as einsums."""
    inputs = keras.Input((8, 8, 3))
    x = layers.Conv2D(10, 2, strides=2, name="patches")(inputs)
    x = layers.Reshape((16, 10), name="tokens")(x)
    for block in "ab":
        y = layers.LayerNormalization(name=f"{block}_norm")(x)
        y = layers.EinsumDense("btc,ts->bsc", (12, 10), activation="gelu", name=f"{block}_places")(
            y
        )
        y = layers.EinsumDense("btc,ts->bsc", (16, 10), name=f"{block}_back")(y)
        x = layers.Add(name=f"{block}_add")([x, y])
        y = layers.LayerNormalization(name=f"{block}_norm2")(x)
        y = layers.EinsumDense(
            "...c,cd->...d", 14, bias_axes="d", activation="gelu", name=f"{block}_channels"
        )(y)
        y = layers.EinsumDense("...c,cd->...d", 10, bias_axes="d", name=f"{block}_down")(y)
        x = layers.Add(name=f"{block}_add2")([x, y])
    x = layers.GlobalAveragePooling1D(name="pool")(x)
    return keras.Model(inputs, layers.Dense(3, name="classifier")(x), name="mixer")


ALL = {
    builder.__name__: builder
    for builder in (
        attention_by_cbam,
        audio,
        convnext,
        dense_block,
        dense_stack,
        film,
        frames,
        group_normalised,
        hybrid,
        inception,
        mixer,
        nested_deep,
        preprocessed,
        pyramid_detector,
        resnext,
        shufflenet,
        siamese_towers,
        sound_in_time,
        split_csp,
        super_resolution,
        tagger,
        text,
        transformer,
        translation,
        two_inputs,
        unet,
        video,
    )
}
