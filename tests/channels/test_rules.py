"""Every registered rule keeps its contract: cut a network with it, and it is the masked one."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from helpers import flat_outputs, inputs_for, masked_by_hand, random_plan, randomise
from keras import layers, ops

import keras_gcp
from keras_gcp.channels.registry import registered_layers, registered_operations
from keras_gcp.channels.trace import trace

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


def around_vectors(operation):
    """A network with the operation between two dense layers."""

    def build():
        inputs = keras.Input((7,))
        x = operation(layers.Dense(6, name="before")(inputs))
        return keras.Model(inputs, layers.Dense(3, name="after")(layers.Flatten(name="flat")(x)))

    return build


def embedded():
    inputs = keras.Input((7,), dtype="int32")
    x = layers.Embedding(20, 6, name="embedding")(inputs)
    x = layers.Conv1D(5, 2, name="conv")(x)
    return keras.Model(inputs, layers.Dense(3, name="after")(layers.Flatten(name="flat")(x)))


LAYERS = {
    "Conv1D": [around(lambda x: layers.Conv1D(5, 3, padding="causal", name="it")(x), 1)],
    "Conv2D": [
        around(lambda x: layers.Conv2D(5, 3, activation="gelu", name="it")(x)),
        around(lambda x: layers.Conv2D(6, 3, groups=2, name="it")(x)),
        around(lambda x: layers.Conv2D(4, 3, groups=2, use_bias=False, name="it")(x), channels=8),
        around(lambda x: layers.Conv2D(12, 3, groups=6, name="it")(x)),
        around(lambda x: layers.Conv2D(5, 3, dilation_rate=2, name="it")(x)),
    ],
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

OPERATIONS = {
    "ops.Relu": [around(ops.relu)],
    "ops.Relu6": [around(ops.relu6)],
    "ops.Sigmoid": [around(ops.sigmoid)],
    "ops.Silu": [around(ops.silu)],
    "ops.HardSigmoid": [around(ops.hard_sigmoid)],
    "ops.HardSilu": [around(ops.hard_silu)],
    "ops.Gelu": [around(ops.gelu)],
    "ops.Tanh": [around(ops.tanh)],
    "ops.LeakyRelu": [around(ops.leaky_relu)],
    "ops.Elu": [around(ops.elu)],
    "ops.Softplus": [around(ops.softplus)],
    "ops.Add": [around_two(lambda x, y: x + y), around(lambda x: x + 0.5)],
    "ops.Subtract": [around_two(lambda x, y: x - y), around(lambda x: 1.0 - x)],
    "ops.Multiply": [around_two(lambda x, y: x * y), around(lambda x: 0.5 * x)],
    "ops.Maximum": [around_two(ops.maximum)],
    "ops.Minimum": [around_two(ops.minimum)],
    "ops.Pad": [
        around_two(lambda x, y: ops.pad(x, [[0, 0], [0, 0], [0, 0], [2, 3]])),
        around(lambda x: ops.pad(x, [[0, 0], [1, 1], [1, 0], [0, 0]])),
        around(lambda x: ops.pad(x, [[0, 0], [1, 1], [1, 0], [1, 0]])),
    ],
}

CASES = [
    pytest.param(name, build, id=f"{name}-{i}")
    for name, builders in (LAYERS | OPERATIONS).items()
    for i, build in enumerate(builders)
]


def assert_close(actual, expected):
    for a, b in zip(actual, expected, strict=True):
        scale = max(1.0, float(np.abs(b).max()))
        np.testing.assert_allclose(a / scale, b / scale, rtol=1e-4, atol=1e-5)


def check_cut(model, share=0.5):
    """Cuts a model and compares it with the masked one; returns plan and narrow model."""
    randomise(model)
    plan = random_plan(model, share=share)
    narrow = keras_gcp.apply(plan, model)
    inputs = inputs_for(model)
    assert_close(flat_outputs(narrow, inputs), masked_by_hand(model, plan, inputs))
    assert plan.removed_channels > 0
    return plan, narrow


def test_every_registered_rule_has_a_network_here():
    ours = {kind.__name__ for kind in registered_layers() if kind.__module__.startswith("keras")}
    assert ours | set(registered_operations()) == {*LAYERS, *OPERATIONS}


@pytest.mark.parametrize("name, build", CASES)
def test_a_cut_around_the_operation_is_the_masked_network(name, build):
    model = build()
    operations = [call.operation for call in trace(model).graph.calls]
    assert name.removeprefix("ops.") in {type(operation).__name__ for operation in operations}
    assert not trace(model).refusals
    plan, narrow = check_cut(model)
    lead = next(iter(plan.groups)).members[0].path
    assert 0 < len(plan.kept(lead)) <= plan.original_widths()[lead]
    for path, width in plan.widths().items():
        layer = narrow.get_layer(path)
        assert getattr(layer, "units", getattr(layer, "filters", None)) in (width, None)
    rebuilt = type(narrow).from_config(narrow.get_config())
    rebuilt.set_weights(narrow.get_weights())
    inputs = inputs_for(narrow)
    for a, b in zip(flat_outputs(rebuilt, inputs), flat_outputs(narrow, inputs), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("name, build", CASES)
def test_the_channels_before_the_operation_can_be_pruned(name, build):
    model = build()
    channels = trace(model)
    first = next(iter(channels.produced.values()))
    assert channels.prunable[first].all(), channels.reasons
