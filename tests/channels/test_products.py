"""Products: rows of a layer's input times a matrix are what the layer computes."""

import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from keras import layers

from keras_gcp.channels.patches import channels_last, some_places
from keras_gcp.channels.products import products_of

CASES = {
    "dense": ((6,), lambda: layers.Dense(5)),
    "dense in time": ((4, 6), lambda: layers.Dense(5)),
    "3x3": ((9, 8, 3), lambda: layers.Conv2D(4, (3, 2), strides=2, padding="same")),
    "causal": ((12, 3), lambda: layers.Conv1D(4, 3, dilation_rate=2, padding="causal")),
    "volumes": ((5, 4, 6, 2), lambda: layers.Conv3D(3, (3, 2, 3), padding="same")),
    "grouped": ((7, 6, 6), lambda: layers.Conv2D(4, 3, groups=2, padding="same")),
    "grouped in time": ((9, 6), lambda: layers.Conv1D(9, 3, groups=3, dilation_rate=2)),
    "grouped volumes": ((4, 5, 4, 4), lambda: layers.Conv3D(6, 2, groups=2, strides=2)),
    "separable": ((7, 6, 3), lambda: layers.SeparableConv2D(4, 3, padding="same")),
    "separable, multiplied": (
        (8, 7, 3),
        lambda: layers.SeparableConv2D(4, (3, 2), strides=2, padding="same", depth_multiplier=2),
    ),
    "separable, dilated": ((9, 9, 2), lambda: layers.SeparableConv2D(3, 3, dilation_rate=2)),
    "separable in time": (
        (9, 3),
        lambda: layers.SeparableConv1D(4, 3, strides=2, padding="same", depth_multiplier=3),
    ),
    "transposed": ((4, 5, 3), lambda: layers.Conv2DTranspose(2, 3, strides=2, padding="same")),
    "transposed, gaps": ((3, 4, 3), lambda: layers.Conv2DTranspose(2, 2, strides=3)),
    "transposed, longer": (
        (4, 3, 3),
        lambda: layers.Conv2DTranspose(2, 3, strides=(2, 3), output_padding=(0, 1)),
    ),
    "transposed volumes": (
        (3, 2, 3, 2),
        lambda: layers.Conv3DTranspose(3, (3, 2, 3), strides=2, padding="same"),
    ),
}
FIRST = ["grouped", "separable, multiplied", "transposed, longer", "transposed volumes"]


def built(name):
    """A layer, with an input; its bias is zero."""
    shape, make = CASES[name]
    layer = make()
    layer.build((None, *shape))
    x = np.random.default_rng(0).normal(size=(2, *shape)).astype("float32")
    return layer, x


def numbers(x):
    return keras.ops.convert_to_numpy(x)


def computed(layer, x, kernel=None, kept=None, count=None):
    """The outputs at some places, `(places, filters)`, by the products; and the places."""
    products = products_of(layer, x.shape[1:-1])
    at = some_places((len(x), *products[0].counts), entries=1)
    at = tuple(index[:count] for index in at)
    kernel = numbers(products[0].variable) if kernel is None else kernel
    parts = []
    for product in products:
        entries = slice(None) if kept is None else kept[product.positions]
        parts.append(product.rows(x, at, kept) @ product.matrix(kernel)[entries])
    return np.concatenate(parts, axis=-1), at


def assert_equal_to_the_layer(layer, x):
    y = numbers(layer(x))
    actual, at = computed(layer, x)
    (product, *_) = products_of(layer, x.shape[1:-1])
    assert (len(x), *product.counts) == y.shape[:-1]
    np.testing.assert_allclose(actual, y[at], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", CASES)
def test_rows_times_matrix_are_what_the_layer_computes(name):
    assert_equal_to_the_layer(*built(name))


@st.composite
def transposed(draw):
    """A transposed convolution that TensorFlow computes on a CPU: without dilation."""
    rank = draw(st.sampled_from([1, 2]))
    sizes = draw(st.lists(st.integers(1, 5), min_size=rank, max_size=rank))
    strides = draw(st.lists(st.integers(1, 3), min_size=rank, max_size=rank))
    space = draw(st.lists(st.integers(3, 5), min_size=rank, max_size=rank))
    padding = draw(st.sampled_from(["same", "valid"]))
    more = None
    if draw(st.booleans()):
        # With 'same' an even kernel needs at least one: TensorFlow refuses it otherwise.
        least = [int(padding == "same" and size % 2 == 0) for size in sizes]
        if all(low < stride for low, stride in zip(least, strides, strict=True)):
            pairs = zip(least, strides, strict=True)
            more = tuple(draw(st.integers(low, stride - 1)) for low, stride in pairs)
    options = {"strides": strides, "padding": padding, "output_padding": more}
    return {"filters": 2, "kernel_size": sizes, **options}, (*space, 2)


@settings(max_examples=30)
@given(transposed())
def test_so_they_are_for_transposed_convolutions_of_every_kind(case):
    options, shape = case
    kind = {2: layers.Conv1DTranspose, 3: layers.Conv2DTranspose}[len(shape)]
    layer = kind(**options)
    layer.build((None, *shape))
    assert_equal_to_the_layer(layer, np.random.default_rng(0).normal(size=(2, *shape)))


@pytest.mark.parametrize("padding", ["same", "valid"])
def test_so_they_are_for_transposed_convolutions_with_dilation(padding):
    """TensorFlow computes none on a CPU, so it is written out: every input goes to every tap."""
    layer = layers.Conv1DTranspose(2, 3, dilation_rate=2, padding=padding)
    layer.build((None, 6, 4))
    x = np.random.default_rng(0).normal(size=(2, 6, 4))
    kernel = numbers(layer.kernel)
    whole = np.zeros((2, 6 + 4, 2))
    for q in range(6):
        for tap in range(3):
            whole[:, q + 2 * tap] += x[:, q] @ kernel[tap].T
    expected = whole[:, 2:-2] if padding == "same" else whole
    actual, at = computed(layer, x)
    np.testing.assert_allclose(actual, expected[at], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", CASES)
def test_rows_of_some_positions_are_those_of_a_kernel_with_zeros_at_the_others(name):
    layer, x = built(name)
    (product, *_) = products_of(layer, x.shape[1:-1])
    kernel = numbers(product.variable).copy()
    multiplier = getattr(layer, "depth_multiplier", 1)
    kept = np.repeat(np.arange(kernel.shape[product.axis] // multiplier) != 1, multiplier)
    np.moveaxis(kernel, product.axis, 0)[~kept] = 0
    expected, _ = computed(layer, x, kernel, count=20)
    actual, _ = computed(layer, x, kept=kept, count=20)
    np.testing.assert_allclose(actual, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", CASES)
def test_what_is_written_is_read_and_together_products_are_the_whole_kernel(name):
    layer, x = built(name)
    products = products_of(layer, x.shape[1:-1])
    kernel = numbers(products[0].variable)
    again = np.full_like(kernel, np.nan)
    for product in products:
        product.write(product.matrix(kernel), again)
    np.testing.assert_array_equal(again, kernel)
    channels = np.arange(layer.bias.shape[0])
    outputs = np.concatenate([channels[product.outputs] for product in products])
    np.testing.assert_array_equal(outputs, channels)


@pytest.mark.parametrize("name", FIRST)
def test_channels_may_come_first(name):
    """The twin with channels last says what is right: few of these run on a CPU."""
    last, x = built(name)
    first = type(last).from_config({**last.get_config(), "data_format": "channels_first"})
    turned = np.moveaxis(x, -1, 1)
    first.build(turned.shape)
    first.set_weights(last.get_weights())
    expected, _ = computed(last, x)
    actual, _ = computed(first, channels_last(first, turned))
    np.testing.assert_array_equal(actual, expected)


def test_layers_that_sum_over_no_channels_or_otherwise_have_no_products():
    depthwise = layers.Conv2D(8, 3, groups=4)
    depthwise.build((None, 8, 8, 4))
    assert products_of(depthwise, (8, 8)) is None
    for layer in (layers.DepthwiseConv2D(3), layers.LSTM(3), layers.ReLU()):
        assert products_of(layer, (8, 8)) is None

    class Own(layers.Conv2D):
        def call(self, inputs):
            return 2 * super().call(inputs)

    own = Own(3, 3)
    own.build((None, 8, 8, 4))
    assert products_of(own, (8, 8)) is None
