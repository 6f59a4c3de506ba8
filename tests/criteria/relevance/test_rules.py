"""Every rule of the table: conservation, and slow re-derivations with plain loops."""

from __future__ import annotations

from functools import partial

import keras
import numpy as np
import pytest
from channels.cases import operation as find
from keras import layers, ops
from keras.src.applications import convnext, inception_resnet_v2

from keras_gcp import keras_state
from keras_gcp.criteria.relevance import layer_table
from keras_gcp.criteria.relevance.alpha_beta import LinearMap, alpha_beta
from keras_gcp.criteria.relevance.rules import (
    Step,
    registered_relevance_rules,
    relevance_rule_for,
)
from keras_gcp.gates import Gate, ScaleGate

IMAGE, VOLUME, SERIES, VECTOR = (4, 4, 2), (4, 4, 4, 2), (6, 2), (5,)

# One example for every entry of the table: (operation on symbolic tensors, shapes of its inputs).
EXAMPLES = {
    layers.Dense: (layers.Dense(3, activation="relu"), [SERIES]),
    layers.EinsumDense: (layers.EinsumDense("btc,thc->bht", (3, 6)), [SERIES]),
    layers.Conv1D: (layers.Conv1D(3, 2, padding="causal", dilation_rate=2), [SERIES]),
    layers.Conv2D: (layers.Conv2D(4, 3, strides=2, padding="same", groups=2), [IMAGE]),
    layers.Conv3D: (layers.Conv3D(3, 2), [VOLUME]),
    layers.DepthwiseConv1D: (layers.DepthwiseConv1D(3, padding="same"), [SERIES]),
    layers.DepthwiseConv2D: (layers.DepthwiseConv2D(3, depth_multiplier=2), [IMAGE]),
    layers.Conv1DTranspose: (layers.Conv1DTranspose(3, 2, strides=2), [SERIES]),
    layers.Conv2DTranspose: (layers.Conv2DTranspose(3, 3, strides=2, padding="same"), [IMAGE]),
    layers.Conv3DTranspose: (layers.Conv3DTranspose(3, 2), [VOLUME]),
    layers.SeparableConv1D: (layers.SeparableConv1D(3, 2), [SERIES]),
    layers.SeparableConv2D: (layers.SeparableConv2D(3, 3, depth_multiplier=2), [IMAGE]),
    layers.Activation: (layers.Activation("silu"), [IMAGE]),
    layers.PReLU: (layers.PReLU(), [IMAGE]),
    Gate: (ScaleGate(), [IMAGE]),
    layers.Normalization: (layers.Normalization(mean=0.5, variance=2.0), [IMAGE]),
    layers.Rescaling: (layers.Rescaling(0.5, 0.1), [IMAGE]),
    layers.Concatenate: (layers.Concatenate(), [IMAGE, IMAGE]),
    layers.Cropping1D: (layers.Cropping1D(1), [SERIES]),
    layers.Cropping2D: (layers.Cropping2D(1), [IMAGE]),
    layers.Cropping3D: (layers.Cropping3D(1), [VOLUME]),
    layers.Permute: (layers.Permute((2, 1)), [SERIES]),
    layers.RepeatVector: (layers.RepeatVector(3), [VECTOR]),
    layers.Reshape: (layers.Reshape((3, 4)), [SERIES]),
    layers.UpSampling2D: (layers.UpSampling2D(2, interpolation="bilinear"), [IMAGE]),
    layers.Resizing: (layers.Resizing(3, 3), [IMAGE]),
    "ops.Add": (lambda x, y: ops.add(x, y), [IMAGE, IMAGE]),
    "ops.AveragePool": (lambda x: ops.average_pool(x, 2, 2), [IMAGE]),
    "ops.BroadcastTo": (lambda x: ops.broadcast_to(x, (3, 4, 6, 2)), [(1, 6, 2)]),
    "ops.Cast": (lambda x: ops.cast(x, "float32"), [IMAGE]),
    "ops.Clip": (lambda x: ops.clip(x, -1.0, 1.0), [IMAGE]),
    "ops.Concatenate": (lambda x, y: ops.concatenate([x, y], axis=1), [IMAGE, IMAGE]),
    "ops.Divide": (lambda x: ops.divide(x, 2.0), [IMAGE]),
    "ops.ExpandDims": (lambda x: ops.expand_dims(x, 1), [IMAGE]),
    "ops.Flip": (lambda x: ops.flip(x, 1), [IMAGE]),
    "ops.GetItem": (lambda x: x[:, 1:3], [IMAGE]),
    "ops.Max": (lambda x: ops.max(x, axis=(1, 2)), [IMAGE]),
    "ops.MaxPool": (lambda x: ops.max_pool(x, 2, 2), [IMAGE]),
    "ops.Maximum": (lambda x, y: ops.maximum(x, y), [IMAGE, IMAGE]),
    "ops.Mean": (lambda x: ops.mean(x, axis=(1, 2), keepdims=True), [IMAGE]),
    "ops.Minimum": (lambda x, y: ops.minimum(x, y), [IMAGE, IMAGE]),
    "ops.Moveaxis": (lambda x: ops.moveaxis(x, 1, 2), [SERIES]),
    "ops.Multiply": (lambda x, y: ops.multiply(x, y), [IMAGE, (1, 1, 2)]),
    "ops.Pad": (lambda x: ops.pad(x, [[0, 0], [0, 0], [1, 2]]), [SERIES]),
    "ops.Repeat": (lambda x: ops.repeat(x, 2, axis=1), [SERIES]),
    "ops.Reshape": (lambda x: ops.reshape(x, (-1, 12)), [SERIES]),
    "ops.Roll": (lambda x: ops.roll(x, 1, axis=1), [SERIES]),
    "ops.Split": (lambda x: ops.split(x, 2, axis=-1), [IMAGE]),
    "ops.Squeeze": (lambda x: ops.squeeze(x, 1), [(1, 4)]),
    "ops.Stack": (lambda x, y: ops.stack([x, y], axis=1), [VECTOR, VECTOR]),
    "ops.Subtract": (lambda x, y: ops.subtract(x, y), [IMAGE, IMAGE]),
    "ops.Sum": (lambda x: ops.sum(x, axis=1), [SERIES]),
    "ops.Swapaxes": (lambda x: ops.swapaxes(x, 1, 2), [SERIES]),
    "ops.Tile": (lambda x: ops.tile(x, (1, 2, 1)), [SERIES]),
    "ops.Transpose": (lambda x: ops.transpose(x, (0, 2, 1)), [SERIES]),
    "ops.TrueDivide": (lambda x: x / 2.0, [IMAGE]),
}
_PLAIN_LAYERS = {
    IMAGE: (
        *(layers.ReLU, layers.LeakyReLU, layers.Softmax, layers.ELU, layers.BatchNormalization),
        *(layers.LayerNormalization, layers.RMSNormalization, layers.UnitNormalization),
        *(layers.ActivityRegularization, layers.AlphaDropout, layers.Dropout, layers.Identity),
        *(layers.GaussianDropout, layers.GaussianNoise, layers.Masking, layers.SpatialDropout2D),
        *(layers.RandomBrightness, layers.RandomContrast, layers.RandomFlip),
        *(layers.RandomRotation, layers.RandomTranslation, layers.RandomZoom),
        *(layers.Flatten, layers.GlobalMaxPooling2D, layers.GlobalAveragePooling2D),
        *(layers.MaxPooling2D, layers.AveragePooling2D, layers.ZeroPadding2D),
        layers.GroupNormalization,
    ),
    VOLUME: (
        *(layers.SpatialDropout3D, layers.GlobalMaxPooling3D, layers.GlobalAveragePooling3D),
        *(layers.MaxPooling3D, layers.AveragePooling3D, layers.ZeroPadding3D),
        layers.UpSampling3D,
    ),
    SERIES: (
        *(layers.SpatialDropout1D, layers.GlobalMaxPooling1D, layers.GlobalAveragePooling1D),
        *(layers.MaxPooling1D, layers.AveragePooling1D, layers.ZeroPadding1D),
        layers.UpSampling1D,
    ),
}
_ARGUMENTS = {
    layers.GroupNormalization: {"groups": 2},
    **{kind: {"rate": 0.5} for kind in (layers.AlphaDropout, layers.Dropout)},
    **{kind: {"rate": 0.5} for kind in (layers.SpatialDropout1D, layers.SpatialDropout2D)},
    **{kind: {"rate": 0.5} for kind in (layers.SpatialDropout3D, layers.GaussianDropout)},
    layers.GaussianNoise: {"stddev": 0.5},
    **{kind: {"pool_size": 2} for kind in (layers.AveragePooling1D, layers.AveragePooling2D)},
    layers.AveragePooling3D: {"pool_size": 2},
    **{kind: {"factor": 0.1} for kind in (layers.RandomBrightness, layers.RandomContrast)},
    layers.RandomRotation: {"factor": 0.1},
    layers.RandomTranslation: {"height_factor": 0.1, "width_factor": 0.1},
    layers.RandomZoom: {"height_factor": 0.1},
}
for _shape, _kinds in _PLAIN_LAYERS.items():
    for _kind in _kinds:
        EXAMPLES[_kind] = (_kind(**_ARGUMENTS.get(_kind, {})), [_shape])
for _kind in (layers.Add, layers.Average, layers.Maximum, layers.Minimum, layers.Subtract):
    EXAMPLES[_kind] = (_kind(), [IMAGE, IMAGE])
EXAMPLES[layers.Multiply] = (layers.Multiply(), [IMAGE, (1, 1, 2)])
for _name in ("relu", "relu6", "exp", "hard_sigmoid", "sigmoid", "softmax", "softplus", "celu"):
    EXAMPLES["ops." + "".join(p.title() for p in _name.split("_"))] = (getattr(ops, _name), [IMAGE])
for _name in ("log_softmax", "elu", "gelu", "hard_silu", "leaky_relu", "negative", "selu", "silu"):
    EXAMPLES["ops." + "".join(p.title() for p in _name.split("_"))] = (getattr(ops, _name), [IMAGE])
EXAMPLES["ops.Tanh"] = (ops.tanh, [IMAGE])

for _name in (
    "Abs Absolute Arccos Arccosh Arcsin Arcsinh Arctan Arctanh Cbrt Ceil ConvertToTensor Copy Cos "
    "Cosh Deg2rad Erf Erfc Erfinv Exp2 Expm1 Fabs Floor HardShrink HardTanh Log Log10 Log1p Log2 "
    "LogSigmoid NanToNum Normalize Rad2deg Round Sign Sin Sinc Sinh SoftShrink Softsign SparsePlus "
    "SparseSigmoid Sparsemax Sqrt Square Squareplus StopGradient Tan TanhShrink Trunc"
).split():
    EXAMPLES[f"ops.{_name}"] = (find(_name)(), [IMAGE])
EXAMPLES |= {
    "ops.AdaptiveAveragePool": (find("AdaptiveAveragePool")((2, 2), "channels_last"), [IMAGE]),
    "ops.AdaptiveMaxPool": (find("AdaptiveMaxPool")((2, 2), "channels_last"), [IMAGE]),
    "ops.Amax": (lambda x: ops.amax(x, axis=1), [SERIES]),
    "ops.Amin": (lambda x: ops.amin(x, axis=1), [SERIES]),
    "ops.Average": (lambda x: ops.average(x, axis=1), [SERIES]),
    "ops.CropImages": (lambda x: ops.image.crop_images(x, 1, 1, 1, 1), [IMAGE]),
    "ops.DepthToSpace": (find("DepthToSpace")(2), [(2, 2, 8)]),
    "ops.DivideNoNan": (lambda x: ops.divide_no_nan(x, 2.0), [IMAGE]),
    "ops.Fmax": (find("Fmax")(), [IMAGE, IMAGE]),
    "ops.Fmin": (find("Fmin")(), [IMAGE, IMAGE]),
    "ops.Glu": (ops.glu, [IMAGE]),
    "ops.Logsumexp": (lambda x: ops.logsumexp(x, axis=1), [SERIES]),
    "ops.Min": (lambda x: ops.min(x, axis=(1, 2)), [IMAGE]),
    "ops.PadImages": (lambda x: ops.image.pad_images(x, 1, 1, 1, 1), [IMAGE]),
    "ops.Power": (lambda x: ops.power(x, 3.0), [IMAGE]),
    "ops.ReLU": (lambda x: keras.activations.relu(x, negative_slope=0.1), [IMAGE]),
    "ops.Resize": (lambda x: ops.image.resize(x, (3, 3)), [IMAGE]),
    "ops.SaturateCast": (find("SaturateCast")("float32"), [IMAGE]),
    "ops.SpaceToDepth": (find("SpaceToDepth")(2), [IMAGE]),
    "ops.Take": (lambda x: ops.take(x, [0, 2, 2], axis=1), [SERIES]),
    "ops.Threshold": (find("Threshold")(0.1, 0.2), [IMAGE]),
    "ops.Unstack": (lambda x: ops.unstack(x, axis=1), [SERIES]),
    "ops.Where": (find("Where")(), [IMAGE, IMAGE, IMAGE]),
    layers.CenterCrop: (layers.CenterCrop(2, 2), [IMAGE]),
    layers.SpectralNormalization: (layers.SpectralNormalization(layers.Conv2D(3, 2)), [IMAGE]),
    layers.TimeDistributed: (layers.TimeDistributed(layers.Dense(3)), [SERIES]),
    "keras.src.applications.convnext.LayerScale": (convnext.LayerScale(0.5, 2), [IMAGE]),
    "keras.src.applications.convnext.StochasticDepth": (convnext.StochasticDepth(0.2), [IMAGE]),
    "keras.src.applications.inception_resnet_v2.CustomScaleLayer": (
        inception_resnet_v2.CustomScaleLayer(0.3),
        [IMAGE, IMAGE],
    ),
}
for _kind, _shape in ((1, SERIES), (2, IMAGE), (3, VOLUME)):
    for _name in (f"AdaptiveAveragePooling{_kind}D", f"AdaptiveMaxPooling{_kind}D"):
        if hasattr(layers, _name):
            EXAMPLES[getattr(layers, _name)] = (getattr(layers, _name)(2), [_shape])

BETWEEN_0_AND_1 = {
    f"ops.{name}" for name in "Arccos Arcsin Arctanh Erfinv Log Log10 Log1p Log2 Sqrt".split()
}
"""Undefined elsewhere."""

# Into and out of the models that `TimeDistributed` repeats: channels/test_time_distributed.py.
IN_STEPS = {"ops.StepsAsExamples", "ops.ExamplesAsSteps"}
WITHOUT_INPUT = {layers.Embedding, "ops.OnesLike", "ops.ZerosLike"}  # relevance ends there


def _name(operation):
    return operation if isinstance(operation, str) else operation.__name__


def _call_of(operation, shapes):
    """The call that an example makes in a graph."""
    inputs = [keras.Input(shape) for shape in shapes]
    several = isinstance(operation, layers.Layer) and len(inputs) > 1
    outputs = operation(inputs) if several else operation(*inputs)
    (call,) = keras_state.read_graph(keras.Model(inputs, outputs)).calls
    return call


def _run(call, inputs, relevance_of, absolute=False, signed=True, gates=()):
    """`(inputs, relevance of outputs, relevance of inputs)` as arrays, for one call."""
    kwargs = {"training": False} if "training" in call.kwargs else {}
    tensors = [ops.convert_to_tensor(x) for x in inputs]
    several = isinstance(call.operation, layers.Layer) and len(tensors) > 1
    args = [tensors] if several else tensors
    if isinstance(call.operation, layers.Layer):
        outputs = call.operation(*args, **kwargs)
    else:
        outputs = _by_arguments(call, tensors)
    outputs = [ops.convert_to_numpy(y) for y in keras.tree.flatten(outputs)]
    relevance = [relevance_of(y).astype("float32") for y in outputs]
    step = Step(call, tensors, (signed,) * len(inputs), absolute, gates, partial)
    rule = relevance_rule_for(call)
    passed = rule.function(step, [ops.convert_to_tensor(r) for r in relevance])
    nothing = [np.zeros_like(x) for x in inputs]
    return relevance, [
        zeros if r is None else ops.convert_to_numpy(r)
        for r, zeros in zip(passed, nothing, strict=True)
    ]


def _by_arguments(call, tensors):
    from keras_gcp.graph import Tensor, map_structure

    values = iter(tensors)
    args, kwargs = map_structure(
        lambda leaf: next(values) if isinstance(leaf, Tensor) else leaf, (call.args, call.kwargs)
    )
    return call.operation.call(*args, **kwargs)


def _draw(shapes, seed=0):
    rng = np.random.default_rng(seed)
    return [rng.normal(size=(3, *shape)).astype("float32") for shape in shapes]


def _positive_share(y):
    """Relevance that is 0 where the output is, as it comes from a linear layer."""
    return np.abs(y) * np.random.default_rng(9).uniform(0.5, 1.5, y.shape)


def _totals(relevances):
    return sum(r.reshape(len(r), -1).sum(axis=1) for r in relevances)


def test_every_rule_of_the_table_has_an_example():
    found = {name for name in registered_relevance_rules() if "keras_hub" not in str(name)}
    assert set(EXAMPLES) | WITHOUT_INPUT | IN_STEPS == found


@pytest.mark.parametrize("operation", EXAMPLES, ids=_name)
@pytest.mark.parametrize("absolute", [False, True], ids=["plain", "absolute"])
def test_every_rule_conserves_the_relevance_of_each_example(operation, absolute):
    example, shapes = EXAMPLES[operation]
    call = _call_of(example, shapes)
    gates = (1,) if relevance_rule_for(call).kind == "gate" else ()
    inputs = _draw(shapes)
    if operation in BETWEEN_0_AND_1:
        inputs = [0.1 + 0.8 * np.abs(np.sin(x)) for x in inputs]
    if operation == "ops.Arccosh":
        inputs = [1.1 + np.abs(x) for x in inputs]
    if "BroadcastTo" in str(operation):
        inputs = [x[:3] for x in inputs]
    given, passed = _run(call, inputs, _positive_share, absolute, gates=gates)
    for x, r in zip(inputs, passed, strict=True):
        assert r.shape == x.shape
        assert np.isfinite(r).all()
    counted = passed[:1] if gates else passed  # a gate is only credited, it takes nothing away
    np.testing.assert_allclose(_totals(counted), _totals(given), rtol=1e-4, atol=1e-4)


# ----------------------------------------------------------------- slow re-derivations


def _alpha_beta_by_loops(x, kernel, relevance, alpha=2.0, beta=1.0):
    """One vector through one dense layer: every single contribution, by its sign."""
    result = np.zeros_like(x)
    for j in range(kernel.shape[1]):
        contributions = [x[i] * kernel[i, j] for i in range(len(x))]
        positive = sum(c for c in contributions if c > 0)
        negative = sum(c for c in contributions if c < 0)
        for i, c in enumerate(contributions):
            if c > 0:
                result[i] += (alpha if negative else 1.0) * c / positive * relevance[j]
            if c < 0:
                result[i] += (-beta if positive else 1.0) * c / negative * relevance[j]
    return result


@pytest.mark.parametrize("signed", [False, True])
def test_alpha_beta_of_a_dense_layer(signed):
    rng = np.random.default_rng(0)
    x, kernel = rng.normal(size=(4, 6)), rng.normal(size=(6, 3))
    x = x if signed else np.abs(x)
    relevance = rng.normal(size=(4, 3))
    expected = [
        _alpha_beta_by_loops(*pair)
        for pair in ((a, kernel, r) for a, r in zip(x, relevance, strict=True))
    ]
    arguments = (ops.convert_to_tensor(a.astype("float32")) for a in (x, kernel, relevance))
    linear = LinearMap("dense", 1, -1)
    result = alpha_beta(*arguments, linear=linear, signed=signed)
    np.testing.assert_allclose(ops.convert_to_numpy(result), expected, rtol=1e-4, atol=1e-5)


def test_alpha_beta_by_hand():
    """x = (1, 2) goes with weights (3, -1) to one output, with (1, 1) to another: on paper.

    First output: the positive part is 1*3, the negative one 2*-1; of R = 1 input 1 gets 2, input
    2 gets -1. Second output: contributions 1 and 2, nothing negative; of R = 3 they get 1 and 2.
    """
    x = ops.array([[1.0, 2.0]])
    kernel = ops.array([[3.0, 1.0], [-1.0, 1.0]])
    relevance = ops.array([[1.0, 3.0]])
    result = alpha_beta(x, kernel, relevance, linear=LinearMap("dense", 1, -1), signed=False)
    np.testing.assert_allclose(ops.convert_to_numpy(result), [[2 + 1, -1 + 2]], rtol=1e-5)


def test_a_kernel_of_zeros_takes_relevance_and_passes_none_on():
    x, kernel, relevance = ops.array([[1.0, 3.0]]), ops.zeros((2, 1)), ops.array([[8.0]])
    result = alpha_beta(x, kernel, relevance, linear=LinearMap("dense", 1, -1), signed=False)
    np.testing.assert_array_equal(ops.convert_to_numpy(result), [[0.0, 0.0]])


@pytest.mark.parametrize("kernel", [0.0, 1.0, -1.0])
def test_denominators_are_never_zero(kernel):
    """Kernels of one sign, or of zeros; inputs of zeros among others."""
    x = ops.array([[0.0, 0.0], [0.0, 1.0], [0.5, 0.5], [1.0, 0.0]])
    result = alpha_beta(
        x,
        ops.full((2, 3), kernel),
        ops.ones((4, 3)),
        linear=LinearMap("dense", 1, -1),
        signed=False,
    )
    assert np.isfinite(ops.convert_to_numpy(result)).all()


@pytest.mark.parametrize(
    "operation",
    [
        layers.Conv1D,
        layers.Conv2D,
        layers.Conv3D,
        layers.DepthwiseConv1D,
        layers.DepthwiseConv2D,
        layers.Conv1DTranspose,
        layers.Conv2DTranspose,
        layers.Conv3DTranspose,
    ],
    ids=_name,
)
@pytest.mark.parametrize("signed", [False, True])
def test_alpha_beta_of_convolutions_is_that_of_the_equal_dense_layer(operation, signed):
    """The matrix of a linear layer, found by sending unit vectors through it."""
    example, shapes = EXAMPLES[operation]
    call = _call_of(example, shapes)
    (x,) = _draw(shapes)
    x = x if signed else np.abs(x)
    units = np.eye(x[0].size, dtype="float32").reshape(-1, *shapes[0])
    # Drawn here: with other kernels, a sign may by chance have less than the least share.
    rng = np.random.default_rng(0)
    example.kernel.assign(rng.normal(size=example.kernel.shape))
    example.bias.assign(np.zeros(example.bias.shape))
    matrix = ops.convert_to_numpy(example(units)).reshape(len(units), -1)
    (given,), (passed,) = _run(call, [x], _positive_share, signed=signed)
    depthwise = "Depthwise" in operation.__name__ or getattr(example, "groups", 1) == shapes[0][-1]
    alpha = 1.0 if depthwise else 2.0
    expected = [
        _alpha_beta_by_loops(a.ravel(), matrix, r.ravel(), alpha, alpha - 1.0)
        for a, r in zip(x, given, strict=True)
    ]
    np.testing.assert_allclose(passed.reshape(len(x), -1), expected, rtol=2e-3, atol=2e-4)


def test_separable_is_a_depthwise_and_a_pointwise_convolution():
    separable = layers.SeparableConv2D(3, 3, depth_multiplier=2, use_bias=False)
    call = _call_of(separable, [IMAGE])
    depthwise = layers.DepthwiseConv2D(3, depth_multiplier=2, use_bias=False)
    pointwise = layers.Conv2D(3, 1, use_bias=False)
    first = _call_of(depthwise, [IMAGE])
    second = _call_of(pointwise, [(2, 2, 4)])
    depthwise.kernel.assign(separable.depthwise_kernel)
    pointwise.kernel.assign(separable.pointwise_kernel)
    (x,) = _draw([IMAGE])
    (given,), (passed,) = _run(call, [x], _positive_share)
    between = ops.convert_to_numpy(depthwise(x))
    _, (middle,) = _run(second, [between], lambda y: given)
    _, (expected,) = _run(first, [x], lambda y: middle)
    np.testing.assert_allclose(passed, expected, rtol=1e-4, atol=1e-5)


def test_addition_splits_in_proportion():
    call = _call_of(layers.Add(), [(3,), (3,)])
    a = np.array([[1.0, 3.0, -1.0]], "float32")
    b = np.array([[3.0, 0.0, 2.0]], "float32")
    relevance = np.array([[8.0, 5.0, 2.0]])
    _, plain = _run(call, [a, b], lambda y: relevance)
    np.testing.assert_allclose(plain, [[[2, 5, -2]], [[6, 0, 4]]], rtol=1e-5)
    _, bounded = _run(call, [a, b], lambda y: relevance, absolute=True)
    np.testing.assert_allclose(bounded, [[[2, 5, 2 / 3]], [[6, 0, 4 / 3]]], rtol=1e-5)


def test_difference_splits_in_proportion():
    call = _call_of(layers.Subtract(), [(2,), (2,)])
    a, b = np.array([[3.0, 1.0]], "float32"), np.array([[-1.0, 0.5]], "float32")
    relevance = np.array([[8.0, 2.0]])
    _, plain = _run(call, [a, b], lambda y: relevance)
    np.testing.assert_allclose(plain, [[[6, 4]], [[2, -2]]], rtol=1e-5)
    _, bounded = _run(call, [a, b], lambda y: relevance, absolute=True)
    np.testing.assert_allclose(bounded, [[[6, 4 / 3]], [[2, 2 / 3]]], rtol=1e-5)


def test_the_winner_of_a_maximum_takes_all():
    call = _call_of(layers.MaxPooling1D(2), [(4, 1)])
    x = np.array([[[1.0], [5.0], [3.0], [2.0]]], "float32")
    _, (passed,) = _run(call, [x], lambda y: np.array([[[10.0], [7.0]]]))
    np.testing.assert_allclose(passed[0, :, 0], [0, 10, 7, 0])


def test_an_average_gives_each_its_share():
    call = _call_of(layers.GlobalAveragePooling1D(), [(3, 1)])
    x = np.array([[[1.0], [2.0], [5.0]]], "float32")
    _, (passed,) = _run(call, [x], lambda y: np.array([[16.0]]))
    np.testing.assert_allclose(passed[0, :, 0], [2, 4, 10], rtol=1e-5)


# -------------------------------------------------------------------------- the table


def test_a_subclass_that_computes_something_else_has_no_rule():
    class Same(layers.Dense):
        pass

    class Other(layers.Dense):
        def call(self, inputs):
            return super().call(inputs) ** 2

    assert relevance_rule_for(_call_of(Same(2), [(3,)])) is layer_table.LINEAR
    assert relevance_rule_for(_call_of(Other(2), [(3,)])) is None


def test_a_constant_summand_is_a_bias_and_a_constant_factor_a_scaling():
    for operation in (lambda x: x + 3.0, lambda x: 3.0 - x, lambda x: x * 2.0, lambda x: x / 2.0):
        assert relevance_rule_for(_call_of(operation, [IMAGE])).kind == "unchanged"
    assert relevance_rule_for(_call_of(lambda x: 1.0 / x, [IMAGE])) is None


def test_an_activation_that_halves_the_channels_is_not_covered():
    assert relevance_rule_for(_call_of(layers.Dense(4, activation="glu"), [(3,)])) is None
    assert relevance_rule_for(_call_of(layers.Activation("glu"), [(4,)])) is None


@pytest.mark.parametrize(
    ("operation", "expected"),
    [
        (layers.ReLU(), True),
        (layers.ReLU(negative_slope=0.1), False),
        (layers.LeakyReLU(), False),
        (layers.Activation("sigmoid"), True),
        (layers.Activation("tanh"), False),
        (layers.Conv2D(2, 1, activation="relu"), True),
        (layers.Conv2D(2, 1, activation=layers.ReLU()), True),
        (layers.Conv2D(2, 1, activation=layers.LeakyReLU()), False),
        (layers.Conv2D(2, 1), False),
        (layers.BatchNormalization(), False),
        (layers.Softmax(), True),
        (ops.softplus, True),
        (ops.tanh, False),
    ],
)
def test_signs_are_known_without_computing(operation, expected):
    call = _call_of(operation, [IMAGE])
    assert relevance_rule_for(call).nonnegative(call, [False]) is expected


@pytest.mark.parametrize(
    ("operation", "shapes"),
    [
        (layers.MaxPooling2D(), [IMAGE]),
        (layers.UpSampling2D(interpolation="bilinear"), [IMAGE]),
        (layers.Add(), [IMAGE, IMAGE]),
        (layers.Concatenate(), [IMAGE, IMAGE]),
        (layers.Multiply(), [IMAGE, (1, 1, 2)]),
        (layers.Dropout(0.5), [IMAGE]),
        (layers.ZeroPadding2D(), [IMAGE]),
    ],
)
def test_these_keep_values_from_becoming_negative(operation, shapes):
    call = _call_of(operation, shapes)
    rule = relevance_rule_for(call)
    assert rule.nonnegative(call, [True] * len(shapes))
    assert not rule.nonnegative(call, [False] * len(shapes))
