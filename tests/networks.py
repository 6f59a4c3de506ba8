"""Small networks with every pattern that channels can meet, shared by many tests."""

from __future__ import annotations

import keras
from keras import layers


def _conv_bn(x, filters, name, strides=1, activation="relu"):
    x = layers.Conv2D(
        filters, 3, strides=strides, padding="same", use_bias=False, name=f"{name}_conv"
    )(x)
    x = layers.BatchNormalization(name=f"{name}_bn")(x)
    return layers.Activation(activation, name=f"{name}_act")(x)


def _classifier(x, classes=4):
    x = layers.GlobalAveragePooling2D(name="pool")(x)
    return layers.Dense(classes, activation="softmax", name="classifier")(x)


def plain():
    """Convolutions one after the other."""
    inputs = keras.Input((8, 8, 3))
    x = _conv_bn(inputs, 8, "a")
    x = _conv_bn(x, 12, "b", strides=2)
    return keras.Model(inputs, _classifier(x), name="plain")


def residual():
    """Identity and projection shortcuts."""
    inputs = keras.Input((8, 8, 3))
    x = _conv_bn(inputs, 8, "stem")
    y = _conv_bn(x, 8, "b1a")
    y = layers.Conv2D(8, 3, padding="same", name="b1b_conv")(y)
    y = layers.BatchNormalization(name="b1b_bn")(y)
    x = layers.ReLU(name="b1_out")(layers.Add(name="b1_add")([x, y]))
    y = _conv_bn(x, 12, "b2a", strides=2)
    y = layers.Conv2D(12, 3, padding="same", name="b2b_conv")(y)
    s = layers.Conv2D(12, 2, strides=2, name="b2_shortcut")(x)  # One of 1x1 crashes oneDNN.
    x = layers.ReLU(name="b2_out")(layers.Add(name="b2_add")([s, y]))
    return keras.Model(inputs, _classifier(x), name="residual")


def concatenation():
    """Dense block: everything is concatenated, and concatenations are added."""
    inputs = keras.Input((8, 8, 3))
    a = _conv_bn(inputs, 6, "a")
    b = _conv_bn(a, 4, "b")
    ab = layers.Concatenate(name="ab")([a, b])
    c = _conv_bn(ab, 10, "c")
    x = layers.Add(name="sum")([ab, c])
    x = layers.Concatenate(name="all")([x, a])
    return keras.Model(inputs, _classifier(_conv_bn(x, 8, "d")), name="concatenation")


def concatenated_with_itself():
    """The same tensor twice, side by side."""
    inputs = keras.Input((8, 8, 3))
    a = _conv_bn(inputs, 6, "a")
    x = layers.Concatenate(name="twice")([a, a])
    return keras.Model(inputs, _classifier(_conv_bn(x, 8, "b")), name="concatenated_with_itself")


def depthwise():
    """Inverted residual with a linear bottleneck."""
    inputs = keras.Input((8, 8, 3))
    x = _conv_bn(inputs, 8, "stem")
    y = layers.Conv2D(16, 1, use_bias=False, name="expand")(x)
    y = layers.BatchNormalization(name="expand_bn")(y)
    y = layers.ReLU(6.0, name="expand_act")(y)
    y = layers.DepthwiseConv2D(3, padding="same", name="depthwise")(y)
    y = layers.BatchNormalization(name="depthwise_bn")(y)
    y = layers.ReLU(6.0, name="depthwise_act")(y)
    y = layers.Conv2D(8, 1, name="project")(y)
    x = layers.Add(name="add")([x, y])
    return keras.Model(inputs, _classifier(x), name="depthwise")


def squeeze_excite():
    """A gate per channel, broadcast over space."""
    inputs = keras.Input((8, 8, 3))
    x = _conv_bn(inputs, 12, "a", activation="swish")
    gate = layers.GlobalAveragePooling2D(name="squeeze")(x)
    gate = layers.Reshape((1, 1, 12), name="gate_shape")(gate)
    gate = layers.Conv2D(4, 1, activation="relu", name="reduce")(gate)
    gate = layers.Conv2D(12, 1, activation="sigmoid", name="expand")(gate)
    x = layers.Multiply(name="excite")([x, gate])
    return keras.Model(inputs, _classifier(_conv_bn(x, 8, "b")), name="squeeze_excite")


def flatten_dense():
    """Maps flattened into a hidden dense layer."""
    inputs = keras.Input((8, 8, 3))
    x = _conv_bn(inputs, 8, "a", strides=2)
    x = layers.MaxPooling2D(name="max")(x)
    x = layers.Flatten(name="flatten")(x)
    x = layers.Dense(10, activation="relu", name="hidden")(x)
    x = layers.Dropout(0.5, name="dropout")(x)
    outputs = layers.Dense(4, activation="softmax", name="classifier")(x)
    return keras.Model(inputs, outputs, name="flatten_dense")


def shared_layer():
    """One convolution called twice, on two branches."""
    inputs = keras.Input((8, 8, 3))
    x = _conv_bn(inputs, 8, "a")
    y = _conv_bn(inputs, 8, "b")
    shared = layers.Conv2D(6, 3, padding="same", activation="relu", name="shared")
    x = layers.Concatenate(name="both")([shared(x), shared(y)])
    return keras.Model(inputs, _classifier(x), name="shared_layer")


def nested():
    """A model in a model in a model, and a Sequential among them."""
    inner_inputs = keras.Input((8, 8, 6))
    inner = keras.Model(inner_inputs, _conv_bn(inner_inputs, 7, "inner"), name="innermost")
    middle_inputs = keras.Input((8, 8, 8))
    x = layers.Conv2D(6, 1, name="enter")(middle_inputs)
    middle = keras.Model(middle_inputs, inner(x), name="middle")
    sequential = keras.Sequential(
        [keras.Input((8, 8, 7)), layers.Conv2D(9, 3, name="leave"), layers.ReLU(name="relu")],
        name="sequential",
    )
    inputs = keras.Input((8, 8, 3))
    x = sequential(middle(_conv_bn(inputs, 8, "a")))
    return keras.Model(inputs, _classifier(x), name="nested")


def siamese():
    """One nested tower on two inputs."""
    tower_inputs = keras.Input((8, 8, 3))
    tower = keras.Model(
        tower_inputs,
        layers.GlobalAveragePooling2D(name="pool")(_conv_bn(tower_inputs, 8, "tower")),
        name="tower",
    )
    left, right = keras.Input((8, 8, 3), name="left"), keras.Input((8, 8, 3), name="right")
    x = layers.Subtract(name="difference")([tower(left), tower(right)])
    x = layers.Dense(6, activation="relu", name="hidden")(x)
    outputs = layers.Dense(2, activation="softmax", name="classifier")(x)
    return keras.Model([left, right], outputs, name="siamese")


def two_outputs():
    """A classifier, and a map from further up."""
    inputs = keras.Input((8, 8, 3))
    x = _conv_bn(inputs, 8, "a")
    y = _conv_bn(x, 12, "b")
    upper = layers.Conv2D(2, 1, name="map")(x)
    return keras.Model(inputs, [_classifier(y), upper], name="two_outputs")


def autoencoder():
    """Transposed convolution, upsampling, cropping, padding, dense to map."""
    inputs = keras.Input((8, 8, 3))
    x = _conv_bn(inputs, 8, "a", strides=2)
    x = layers.Flatten(name="flatten")(x)
    x = layers.Dense(4 * 4 * 6, activation="relu", name="code")(x)
    x = layers.Reshape((4, 4, 6), name="map")(x)
    x = layers.Conv2DTranspose(7, 3, strides=2, padding="same", name="up")(x)
    x = layers.Cropping2D(1, name="crop")(layers.ZeroPadding2D(2, name="pad")(x))
    x = layers.SeparableConv2D(6, 3, padding="same", name="separable")(x)
    x = layers.UpSampling2D(2, name="larger")(x)
    x = layers.AveragePooling2D(2, name="smaller")(x)
    return keras.Model(inputs, layers.Conv2D(3, 1, name="image")(x), name="autoencoder")


def grouped():
    """Grouped convolution with equal groups, and depthwise as a grouped convolution."""
    inputs = keras.Input((8, 8, 3))
    x = _conv_bn(inputs, 32, "a")
    x = layers.Conv2D(24, 3, padding="same", groups=4, name="groups4")(x)
    x = layers.BatchNormalization(name="bn")(x)
    x = layers.Conv2D(24, 3, padding="same", groups=24, name="groups_all")(x)
    return keras.Model(inputs, _classifier(layers.ReLU(name="relu")(x)), name="grouped")


def padded_shortcut():
    """Shortcut without weights: channels are padded with zeros (He et al. 2016, option A)."""
    inputs = keras.Input((8, 8, 3))
    x = _conv_bn(inputs, 8, "stem")
    y = _conv_bn(x, 12, "a", strides=2)
    s = layers.AveragePooling2D(1, 2, name="subsample")(x)
    s = keras.ops.pad(s, [[0, 0], [0, 0], [0, 0], [2, 2]])
    x = layers.ReLU(name="out")(layers.Add(name="add")([y, s]))
    return keras.Model(inputs, _classifier(_conv_bn(x, 8, "b")), name="padded_shortcut")


def sequence():
    """One-dimensional convolutions over embedded tokens."""
    inputs = keras.Input((10,), dtype="int32")
    x = layers.Embedding(20, 8, name="embedding")(inputs)
    x = layers.Conv1D(9, 3, activation="relu", name="conv")(x)
    x = layers.MaxPooling1D(2, name="max")(x)
    x = layers.Conv1D(6, 2, name="conv2")(x)
    x = layers.PReLU(shared_axes=[1], name="prelu")(x)
    x = layers.GlobalMaxPooling1D(name="pool")(x)
    return keras.Model(
        inputs, layers.Dense(3, activation="softmax", name="out")(x), name="sequence"
    )


def sequential():
    """A plain `keras.Sequential`."""
    return keras.Sequential(
        [
            keras.Input((8, 8, 3)),
            layers.Conv2D(8, 3, activation="relu", name="a"),
            layers.BatchNormalization(name="bn"),
            layers.Conv2D(8, 3, activation="relu", name="b"),
            layers.GlobalAveragePooling2D(name="pool"),
            layers.Dense(4, activation="softmax", name="classifier"),
        ],
        name="plain_sequential",
    )


ALL = {
    builder.__name__: builder
    for builder in (
        plain,
        residual,
        concatenation,
        concatenated_with_itself,
        depthwise,
        squeeze_excite,
        flatten_dense,
        shared_layer,
        nested,
        siamese,
        two_outputs,
        autoencoder,
        grouped,
        padded_shortcut,
        sequence,
        sequential,
    )
}
