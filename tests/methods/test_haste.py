"""HASTE: channels of a patch that a hash cannot tell apart are merged before the convolution."""

import hashlib

import keras
import networks
import numpy as np
import pytest
from hashing_by_hand import convolution_by_hand
from helpers import flat_outputs, inputs_for, masked_by_hand, random_plan, randomise
from keras import layers

import keras_gcp
from keras_gcp import keras_state
from keras_gcp.backend.calls import run_calls, tensors_of
from keras_gcp.channels.trace import trace
from keras_gcp.errors import InvalidArgument, UnsupportedModel
from keras_gcp.methods import LSHConvolution, haste, haste_cost
from keras_gcp.methods.hashing import convolution as lsh_convolution
from keras_gcp.methods.hashing.convolution import hashed, ternary_vectors

MANY = 2000
"""So many random vectors tell all channels apart that differ."""


def as_array(x):
    return keras.ops.convert_to_numpy(x)


def images(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype("float32")


def beside(channels, planes, sparsity=0.5, seed=0, size=(8, 9), **settings):
    """A plain convolution, the one that merges channels in its place, and images."""
    keras.utils.set_random_seed(0)
    settings = {"filters": 5, "kernel_size": 3, "padding": "same", **settings}
    plain = layers.Conv2D(**settings)
    x = images(3, *size, channels)
    plain(x)
    plain.bias.assign(images(settings["filters"], seed=1))
    merging = hashed(plain, planes, sparsity, seed)
    merging(x)
    merging.set_weights(plain.get_weights())
    return plain, merging, x


def assert_by_hand(layer, x, outputs, least_clear=0.98):
    """Outputs and buckets of a layer without activation are those of the reduced convolution."""
    bias = None if layer.bias is None else as_array(layer.bias)
    by_hand = convolution_by_hand(
        x, as_array(layer.kernel), bias, layer.vectors, layer.strides, layer.padding
    )
    clear = by_hand.clear_outputs
    assert clear.mean() >= least_clear, layer.name
    scale = max(1.0, float(np.abs(by_hand.outputs).max()))
    difference = np.abs(as_array(outputs) - by_hand.outputs)[clear] / scale
    assert difference.max() < 1e-5, layer.name
    found = as_array(layer.buckets(x))
    np.testing.assert_array_equal(found[by_hand.clear], by_hand.buckets[by_hand.clear])
    return by_hand


# ------------------------------------------------------------------------------------- the layer


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"padding": "valid", "strides": 2},
        {"kernel_size": 1, "strides": 2},
        {"kernel_size": 5, "size": (11, 7)},
        {"kernel_size": (3, 1), "strides": (3, 1), "use_bias": True},
    ],
    ids=str,
)
def test_it_computes_what_the_reduced_convolution_of_merged_channels_computes(settings):
    plain, merging, x = beside(12, planes=5, **settings)
    outputs = as_array(merging(x))
    by_hand = assert_by_hand(merging, x, outputs)
    assert by_hand.buckets.mean() < 11
    assert outputs.shape == tuple(merging.compute_output_shape(x.shape))
    assert np.abs(outputs - as_array(plain(x))).max() > 0.1


def test_with_so_many_vectors_that_all_channels_differ_it_is_the_plain_convolution():
    plain, merging, x = beside(12, MANY)
    assert (as_array(merging.buckets(x)) == 12).all()
    np.testing.assert_allclose(as_array(merging(x)), as_array(plain(x)), rtol=1e-5, atol=1e-5)


def test_channels_that_are_equal_merge_without_error():
    plain, merging, x = beside(12, MANY)
    x = np.repeat(x[..., :4], 3, axis=-1)[..., np.random.default_rng(0).permutation(12)]
    assert (as_array(merging.buckets(x)) == 4).all()
    np.testing.assert_allclose(as_array(merging(x)), as_array(plain(x)), rtol=1e-5, atol=1e-5)


def test_channels_that_are_equal_once_centred_are_equal():
    """Centring takes the same from all channels: what they have in common does not separate them,
    and does not merge them."""
    _, merging, x = beside(12, planes=6)
    common = 10 * images(3, 8, 9, 1, seed=3)
    inside = (slice(None), slice(0, 2), slice(0, 2))  # Patches without ties, so far from padding.
    np.testing.assert_array_equal(
        as_array(merging.buckets(x))[inside], as_array(merging.buckets(x + common))[inside]
    )


def test_opposite_channels_have_opposite_codes_and_zeros_have_the_code_of_no_bit():
    _, merging, x = beside(4, planes=1, sparsity=0.0)
    x[..., 1], x[..., 2:] = -x[..., 0], 0
    # Sums are zero, so nothing is changed by centring; a zero is as a negative projection is.
    assert (as_array(merging.buckets(x)) == 2).all()
    assert (as_array(merging.buckets(0 * x)) == 1).all()


def test_a_bucket_of_all_channels_is_their_mean_and_the_sum_of_their_filters():
    _, merging, x = beside(4, planes=1)
    merging.sparsity = 0.99999  # Vectors of zeros tell nothing apart.
    assert not merging.vectors.any()
    summed = as_array(merging.kernel).sum(axis=2, keepdims=True)
    expected = keras.ops.conv(x.mean(axis=-1, keepdims=True), summed, padding="same")
    expected = as_array(expected) + as_array(merging.bias)
    np.testing.assert_allclose(as_array(merging(x)), expected, rtol=1e-4, atol=1e-5)


def test_ties_do_not_hang_on_rounding(monkeypatch):
    """In a constant map, a vector of as many 1 as -1 gives zero, but for rounding: 0 and not > 0.

    All other vectors give the sign of the channel, so there are two codes.
    """
    _, merging, _ = beside(8, planes=200)
    assert (merging.vectors.sum(axis=0) == 0).any()
    x = np.broadcast_to(images(4, 1, 1, 8), (4, 14, 14, 8))
    assert (as_array(merging.buckets(x))[:, 1, 1] == 2).all()
    monkeypatch.setattr(lsh_convolution, "TIE", 0.0)
    assert (as_array(merging.buckets(x))[:, 1, 1] > 2).any()


def test_codes_do_not_depend_on_scale():
    _, merging, x = beside(12, planes=6)
    np.testing.assert_array_equal(as_array(merging.buckets(x)), as_array(merging.buckets(1024 * x)))


def test_the_vectors_of_a_seed_are_the_same_for_ever():
    vectors = ternary_vectors(25, 400, 2 / 3, 7)
    digest = hashlib.sha256(vectors.astype("int8").tobytes()).hexdigest()
    assert digest[:16] == "2092a973b3a1acb4"
    assert (vectors == 0).mean() == pytest.approx(2 / 3, abs=0.02)
    assert (vectors == 1).mean() == pytest.approx(1 / 6, abs=0.02)
    assert set(np.unique(vectors)) == {-1, 0, 1}


def test_channels_first_is_the_same_with_axes_moved():
    _, merging, x = beside(6, planes=5, strides=2)
    first = LSHConvolution.from_config({**merging.get_config(), "data_format": "channels_first"})
    moved = np.moveaxis(x, -1, 1)
    outputs = first(moved)
    first.set_weights(merging.get_weights())
    outputs = np.moveaxis(as_array(first(moved)), 1, -1)
    np.testing.assert_array_equal(outputs, as_array(merging(x)))
    assert tuple(first.compute_output_shape(moved.shape)) == first(moved).shape


def test_in_half_precision_codes_are_those_of_single_precision():
    _, merging, x = beside(12, planes=6)
    x = x.astype("float16").astype("float32")
    half = LSHConvolution.from_config({**merging.get_config(), "dtype": "mixed_float16"})
    half(x)
    half.set_weights(merging.get_weights())
    outputs = half(x)
    assert keras.backend.standardize_dtype(outputs.dtype) == "float16"
    np.testing.assert_array_equal(
        as_array(half.buckets(x.astype("float16"))), as_array(merging.buckets(x))
    )
    np.testing.assert_allclose(as_array(outputs), as_array(merging(x)), atol=0.02)


@pytest.mark.parametrize(
    "wrong, named",
    [
        ({"planes": 0}, "planes"),
        ({"sparsity": 1}, "sparsity"),
        ({"sparsity": -0.1}, "sparsity"),
        ({"seed": -1}, "seed"),
        ({"kernel_size": (3, 3, 3)}, "kernel_size"),
        ({"strides": 0}, "strides"),
        ({"padding": "causal"}, "padding"),
        ({"data_format": "channels"}, "data_format"),
    ],
    ids=str,
)
def test_what_is_out_of_range_is_refused(wrong, named):
    settings = {"filters": 4, "kernel_size": 3, "planes": 4, **wrong}
    with pytest.raises(InvalidArgument, match=f"`{named}`.*Received"):
        LSHConvolution(**settings)


def test_an_input_smaller_than_the_kernel_is_refused_and_one_of_unknown_channels():
    with pytest.raises(InvalidArgument, match="known number of channels on axis 3"):
        LSHConvolution(3, 5, 4)(keras.Input((8, 8, None)))
    with pytest.raises(InvalidArgument, match="at least as large. Received: 4 pixels"):
        LSHConvolution(3, 5, 4)(keras.Input((4, 4, 2)))


# ----------------------------------------------------------------------------------- the network


@pytest.fixture(scope="module")
def residual():
    keras.utils.set_random_seed(0)
    return randomise(networks.residual())


@pytest.fixture(scope="module")
def merging(residual):
    return haste(residual, 6, seed=0)


def layers_of(model):
    return {
        call.path: call.operation
        for call in keras_state.read_graph(model).calls
        if isinstance(call.operation, LSHConvolution)
    }


def assert_layers_by_hand(model, x, least_clear=0.98):
    """Each layer of a network, on what really enters it."""
    graph, seen = keras_state.read_graph(model), 0
    for call, values in run_calls(model, graph, tensors_of(model, graph, x, np.arange(len(x)))):
        layer = call.operation
        if not isinstance(layer, LSHConvolution):
            continue
        assert layer.activation is keras.activations.linear
        entering, outputs = (as_array(values[t.index]) for t in (call.inputs[0], call.outputs[0]))
        assert_by_hand(layer, entering, outputs, least_clear)
        seen += 1
    assert seen == len(layers_of(model))


def test_every_layer_of_a_network_is_the_reduced_convolution_of_what_enters_it(merging):
    assert_layers_by_hand(merging, inputs_for(merging, 2))


def test_the_first_convolution_stays_and_the_model_that_is_given_too(residual, merging):
    assert set(layers_of(merging)) == {
        "b1a_conv",
        "b1b_conv",
        "b2a_conv",
        "b2b_conv",
        "b2_shortcut",
    }
    assert not layers_of(residual)
    names, original = ([one.name for one in model.layers[1:]] for model in (merging, residual))
    assert names == original
    assert not {id(v) for v in merging.variables} & {id(v) for v in residual.variables}
    for own, other in zip(merging.get_weights(), residual.get_weights(), strict=True):
        np.testing.assert_array_equal(own, other)
    assert len({layer.seed for layer in layers_of(merging).values()}) == 5


def test_with_so_many_vectors_that_nothing_merges_the_network_is_the_model():
    """Activations without zeros: channels that are parallel once centred have one code for ever."""
    keras.utils.set_random_seed(0)
    inputs = x = keras.Input((9, 9, 3))
    for number, (width, strides) in enumerate([(10, 1), (12, 2), (8, 1)]):
        x = layers.Conv2D(width, 3, strides, padding="same", name=f"conv{number}")(x)
        x = layers.Activation("tanh")(layers.BatchNormalization()(x))
    model = randomise(keras.Model(inputs, layers.GlobalAveragePooling2D()(x)))
    for number in range(3):  # The same on all backends: it is a matter of angles.
        kernel = model.get_layer(f"conv{number}").kernel
        kernel.assign(0.2 * images(*kernel.shape, seed=number))
    merging, x = haste(model, MANY, seed=0), inputs_for(model)
    assert haste_cost(merging, x).channels_left == 1
    (found,), (expected,) = flat_outputs(merging, x), flat_outputs(model, x)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)


def test_a_saved_network_merges_the_same_channels(merging, tmp_path):
    merging.save(tmp_path / "net.keras")
    loaded = keras.saving.load_model(tmp_path / "net.keras")
    x = inputs_for(merging)
    for a, b in zip(flat_outputs(loaded, x), flat_outputs(merging, x), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-7)
    for path, layer in layers_of(loaded).items():
        np.testing.assert_array_equal(layer.vectors, layers_of(merging)[path].vectors)


def test_the_same_seed_merges_alike_and_another_one_otherwise(residual, merging):
    first, again, other = (
        layers_of(model)["b2b_conv"].vectors
        for model in (merging, haste(residual, 6, seed=0), haste(residual, 6, seed=1))
    )
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()


def test_what_stays_dense_can_be_chosen(residual):
    every = haste(residual, 6, seed=0, skip=())
    assert set(haste_cost(every, inputs_for(every, 2)).dense) == set()
    some = haste(residual, 6, seed=0, skip=["b1a_conv", "stem_conv", "b2_shortcut"])
    assert set(layers_of(some)) == {"b1b_conv", "b2a_conv", "b2b_conv"}
    nested = randomise(networks.nested())
    assert set(layers_of(haste(nested, 6, skip="middle"))) == {"a_conv", "sequential/leave"}
    twice = randomise(networks.siamese())
    with pytest.raises(UnsupportedModel, match="no convolution that"):
        haste(twice, 6, skip=["tower_conv"])
    with pytest.raises(InvalidArgument, match="'b1_add', which is no convolution.*'b1a_conv'"):
        haste(residual, 6, skip=["b1_add"])


class Hidden(layers.Layer):
    """Calls a convolution in Python code."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.inner = layers.Conv2D(6, 3, padding="same")

    def build(self, shape):
        self.inner.build(shape)

    def call(self, x):
        return self.inner(x)


def test_convolutions_of_other_kinds_stay_dense_and_are_named():
    inputs = keras.Input((8, 8, 3))
    x = layers.Conv2D(6, 3, padding="same", name="first")(inputs)
    x = layers.Conv2D(6, 3, padding="same", name="plain")(x)
    x = layers.Conv2D(6, 3, padding="same", groups=2, name="grouped")(x)
    x = layers.Conv2D(6, 3, padding="same", dilation_rate=2, name="dilated")(x)
    x = layers.DepthwiseConv2D(3, padding="same", name="depth")(x)
    x = Hidden(name="hidden")(x)
    x = layers.Conv2DTranspose(6, 3, padding="same", name="back")(x)
    x = layers.TimeDistributed(layers.Conv1D(4, 3), name="timed")(x)
    model = keras.Model(inputs, layers.Dense(2)(layers.Flatten()(x)))
    with pytest.warns(UserWarning, match="leaves dense 'grouped' .grouped.*'dilated'") as told:
        merging = haste(model, 4, seed=0)
    assert set(layers_of(merging)) == {"plain"}
    named = ("depth", "hidden", "back", "timed")
    text = " ".join(str(one.message) for one in told)
    assert all(f"'{name}'" in text for name in named)
    cost = haste_cost(merging, inputs_for(merging, 2))
    assert set(cost.dense) == {"first", "grouped", "dilated", *named}
    assert cost.dense["first"] == "by choice" and "keras_gcp.flatten" in cost.dense["hidden"]
    assert any("hidden" in why for why in cost.uncounted.values())


def test_a_network_in_which_nothing_could_be_merged_is_refused():
    with pytest.raises(UnsupportedModel, match="no convolution.*'a_conv' .in `skip`.*grouped"):
        haste(randomise(networks.grouped()), 4)
    with pytest.raises(UnsupportedModel, match="no convolution that"):
        haste(keras.Sequential([keras.Input((4,)), layers.Dense(3)]), 4)


@pytest.mark.parametrize(
    "arguments", [{"planes": 0}, {"planes": 4, "sparsity": 1.0}, {"planes": 4, "seed": 0.5}]
)
def test_arguments_out_of_range_are_refused(residual, arguments):
    with pytest.raises(InvalidArgument, match="Received"):
        haste(residual, **arguments)


def test_a_network_of_open_sizes_merges_at_any_size():
    def build(*size):
        inputs = keras.Input((*size, 3))
        x = layers.Conv2D(8, 3, padding="same", name="first")(inputs)
        x = layers.Conv2D(6, 3, 2, padding="same", name="it")(x)
        return keras.Model(inputs, layers.Conv2D(4, 3, name="last")(x))

    merging, fixed = (haste(build(*size), 5, seed=0) for size in ((None, None), (13, 10)))
    fixed.set_weights(merging.get_weights())
    x = images(2, 13, 10, 3)
    outputs = merging.predict(x, verbose=0)  # In a graph, where sizes are tensors.
    np.testing.assert_allclose(outputs, flat_outputs(fixed, x)[0], rtol=1e-4, atol=1e-5)
    assert haste_cost(merging, x).share == haste_cost(fixed, x).share
    assert flat_outputs(merging, images(2, 9, 12, 3))[0].shape == (2, 3, 4, 4)


def test_pruning_leaves_channels_that_are_hashed_and_may_cut_filters(residual):
    merging = haste(residual, 6, seed=0, skip=["stem_conv", "b1a_conv", "b1b_conv", "b2a_conv"])
    channels = trace(merging)
    assert not channels.prunable[channels.produced["b2a_conv"]].any()
    assert "hashes all channels" in str(channels.reasons)
    assert channels.prunable[channels.produced["b2b_conv"]].all()
    plan = random_plan(merging)
    narrow, x = keras_gcp.apply(merging, plan), inputs_for(merging)
    assert narrow.get_layer("b2b_conv").filters == plan.widths()["b2b_conv"] < 12
    expected = masked_by_hand(merging, plan, x)
    for a, b in zip(flat_outputs(narrow, x), expected, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)
    assert keras_gcp.count(merging).macs == keras_gcp.count(residual).macs


# -------------------------------------------------------------------------------------- its cost


def test_counted_are_the_operations_that_the_reduced_convolution_does():
    """Vectors without zeros: of others the formula has the expected number of entries."""
    inputs = keras.Input((8, 10, 6))
    x = layers.Conv2D(7, 3, padding="same", name="it")(inputs)
    model = keras.Model(inputs, layers.Conv2D(5, 3, 2, padding="valid", name="more")(x))
    merging, x = haste(model, 4, 0.0, seed=0, skip=["more"]), images(5, 8, 10, 6)
    layer = merging.get_layer("it")
    done = assert_by_hand(layer, x, layer(x), least_clear=1).counts
    cost = haste_cost(merging, x, batch_size=2)
    found = cost.layers["it"].operations
    for name, number in done.items():
        assert getattr(found, name) == pytest.approx(number / 5), name
    assert found.total == pytest.approx(sum(done.values()) / 5)
    assert cost.layers["it"].dense == keras_gcp.count(model).layers["it"].macs
    rest = keras_gcp.count(model).layers["more"].macs
    assert cost.operations == pytest.approx(found.total + rest)
    assert cost.share == pytest.approx(cost.operations / keras_gcp.count(model).macs)


def test_the_cost_of_a_network_is_a_table_and_grows_with_planes(residual, merging):
    x = inputs_for(merging, 8)
    few, cost, many = haste_cost(haste(residual, 2, seed=0), x), haste_cost(merging, x), None
    many = haste_cost(haste(residual, 64, seed=0), x)
    assert few.share < cost.share < many.share and many.share > 1
    assert few.channels_left < cost.channels_left < many.channels_left <= 1
    text = str(cost)
    assert "b2_shortcut" in text and "time does not follow" in " ".join(text.split())
    assert "dense, by choice: stem_conv" in text
    assert max(map(len, text.splitlines())) <= 80
    assert cost._repr_html_().count("<tr>") == 6


def test_a_layer_that_is_called_twice_costs_twice():
    inputs = keras.Input((6, 6, 4))
    layer = layers.Conv2D(4, 3, padding="same", name="twice")
    model = keras.Model(inputs, layer(layer(inputs)))
    cost = haste_cost(haste(model, 5, seed=0, skip=()), images(4, 6, 6, 4))
    assert cost.layers["twice"].dense == keras_gcp.count(model).macs == 2 * 36 * 9 * 16
    assert cost.operations == pytest.approx(cost.layers["twice"].operations.total)


def test_a_model_that_is_repeated_in_time_costs_as_often():
    inner = keras.Sequential(
        [
            keras.Input((6, 6, 3)),
            layers.Conv2D(6, 3, padding="same", name="first"),
            layers.Conv2D(4, 3, padding="same", name="it"),
            layers.GlobalAveragePooling2D(),
        ],
        name="inner",
    )
    inputs = keras.Input((5, 6, 6, 3))
    model = keras.Model(inputs, layers.TimeDistributed(inner, name="timed")(inputs))
    cost = haste_cost(haste(model, 5, seed=0), images(2, 5, 6, 6, 3))
    (layer,) = cost.layers.values()
    assert layer.dense == 5 * 36 * 9 * 24
    assert cost.macs == keras_gcp.count(model).macs == layer.dense + 5 * 36 * 9 * 18


def test_the_cost_of_a_network_that_merges_nothing_is_refused(residual):
    with pytest.raises(InvalidArgument, match="no layer LSHConvolution.*haste"):
        haste_cost(residual, inputs_for(residual))


# ----------------------------------------------------------------------------------- in the large


def concatenations():
    return randomise(networks.concatenation())


def resnet20():
    return randomise(keras_gcp.models.resnet20(input_shape=(16, 16, 3)))


def vgg16():
    return randomise(keras_gcp.models.vgg16(width=8))


def mobilenet():
    return randomise(
        keras.applications.MobileNetV2((64, 64, 3), alpha=0.35, weights=None, classes=10)
    )


LARGE = [concatenations, resnet20, vgg16, mobilenet]


def merged(model, planes):
    depthwise = [layer.name for layer in model.layers if "Depthwise" in type(layer).__name__]
    skip = ["Conv1", *depthwise] if depthwise else None
    return haste(model, planes, seed=0, skip=skip)


@pytest.mark.slow
@pytest.mark.parametrize("build", LARGE)
def test_every_layer_of_a_large_network_is_the_reduced_convolution(build):
    keras.utils.set_random_seed(0)
    model = build()
    merging = merged(model, 8)
    x = inputs_for(model, 1)
    # Of random weights some maps are almost constant, so some projections are almost ties.
    assert_layers_by_hand(merging, x, least_clear=0.7)
    cost = haste_cost(merging, x)
    print(cost)
    assert 0 < cost.channels_left < 1
    assert cost.macs == keras_gcp.count(model).macs


@pytest.mark.slow
@pytest.mark.parametrize("build", LARGE)
def test_a_large_network_whose_channels_all_have_buckets_of_their_own_is_the_model(
    build, monkeypatch
):
    def distinct(layer, patches):
        return keras.ops.eye(patches.shape[-1])[None]

    monkeypatch.setattr(LSHConvolution, "_alike", distinct)
    keras.utils.set_random_seed(0)
    model = build()
    merging, x = merged(model, 8), inputs_for(model, 2)
    for a, b in zip(flat_outputs(merging, x), flat_outputs(model, x), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)


@pytest.mark.slow
@pytest.mark.needs_tensorflow("LiteRT files are TensorFlow's")
@pytest.mark.parametrize("format", ["tflite", "tflite_int8", "saved_model"])
def test_files_merge_the_same_channels(merging, format, tmp_path):
    (file,) = keras_gcp.export(merging, tmp_path, [format], sample=inputs_for(merging, 32))
    assert file.max_difference <= (0.1 if format == "tflite_int8" else 1e-5)


@pytest.mark.slow
def test_the_network_of_mixed_precision_hashes_in_single_precision(residual):
    policy = keras.config.dtype_policy()
    keras.config.set_dtype_policy("mixed_float16")
    try:
        half = networks.residual()
    finally:
        keras.config.set_dtype_policy(policy)
    half.set_weights(residual.get_weights())
    merging, x = haste(half, MANY, seed=0), inputs_for(half)
    assert {layer.compute_dtype for layer in layers_of(merging).values()} == {"float16"}
    for a, b in zip(flat_outputs(merging, x), flat_outputs(half, x), strict=True):
        np.testing.assert_allclose(a, b, atol=0.02)
