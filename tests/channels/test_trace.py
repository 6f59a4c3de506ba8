"""Tracing: patterns by name, what is anchored and why, rules of one's own."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from helpers import flat_outputs, inputs_for, masked_by_hand, one_line, random_plan, randomise
from keras import layers

import keras_gcp
from keras_gcp.channels import registry
from keras_gcp.channels.trace import trace
from keras_gcp.errors import InvalidArgument, UnsupportedModel


@keras.saving.register_keras_serializable("test_trace")
class ChannelScale(layers.Layer):
    """A layer without a rule: one factor per channel."""

    def build(self, shape):
        self.scale = self.add_weight(shape=(shape[-1],), initializer="ones", name="scale")

    def call(self, x):
        return x * self.scale


@keras.saving.register_keras_serializable("test_trace")
class Mixing(layers.BatchNormalization):
    """Computes something else than its parent."""

    def call(self, x, **kwargs):
        return super().call(x, **kwargs) + keras.ops.mean(x, axis=-1, keepdims=True)


@keras.saving.register_keras_serializable("test_trace")
class Renamed(layers.Conv2D):
    """Computes the same as its parent."""

    def __init__(self, *args, note="", **kwargs):
        super().__init__(*args, **kwargs)
        self.note = note


def conv_then(operation, filters=6):
    inputs = keras.Input((6, 6, 3))
    x = layers.Conv2D(filters, 3, padding="same", name="conv")(inputs)
    x = operation(x)
    x = layers.Conv2D(5, 3, padding="same", name="next")(x)
    x = layers.GlobalAveragePooling2D(name="pool")(x)
    return keras.Model(inputs, layers.Dense(3, name="classifier")(x))


def anchors(model, **options):
    """Name of every group to why it is anchored, or None."""
    return {group.name: group.anchored for group in trace(model, **options).groups}


def tied_positions(channels, path):
    """Which positions of a layer's output live or die together, as sets."""
    coupled = channels.produced[path]
    return {frozenset(np.flatnonzero(coupled == c).tolist()) for c in coupled}


def check_cut(model, share=0.6):
    randomise(model)
    plan = random_plan(model, share=share)
    narrow = keras_gcp.apply(model, plan)
    inputs = inputs_for(model)
    for a, b in zip(flat_outputs(narrow, inputs), masked_by_hand(model, plan, inputs), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)
    return plan, narrow


# ---- what cannot be followed


@pytest.mark.parametrize(
    "layer",
    [ChannelScale(name="it"), Mixing(name="it")],
    ids=lambda layer: type(layer).__name__,
)
def test_a_layer_without_a_rule_anchors_what_it_reads_with_name_and_class(layer):
    model = conv_then(layer)
    reasons = anchors(model)
    kind = type(layer).__name__
    assert reasons["conv"] == f"feeds layer 'it' (class {kind}), which has no rule"
    assert reasons["next"] is None
    assert set(trace(model).refusals) == {"it"}
    plan, narrow = check_cut(model)
    assert f"@keras_gcp.register_rule({kind})" in one_line(plan.explain())
    assert plan.kept("conv").tolist() == list(range(6))
    assert narrow.get_layer("next").filters < 5


def test_a_product_of_tensors_anchors_what_it_reads():
    inputs = keras.Input((5, 4))
    x = layers.Dense(6, name="before")(inputs)
    x = layers.Dot(axes=(2, 2), name="product")([x, x])
    x = layers.Dense(5, name="behind")(x)
    model = keras.Model(inputs, layers.Dense(2, name="classifier")(x))
    reasons = anchors(model)
    assert "'product' (class Dot)" in reasons["before"]
    assert reasons["behind"] is None
    check_cut(model)


def test_an_operation_without_a_rule_anchors_what_it_reads():
    model = conv_then(lambda x: keras.ops.cumsum(x, axis=-1))
    assert "(class Cumsum), which has no rule" in anchors(model)["conv"]
    assert any("keras_gcp.elementwise('cumsum" in note for note in trace(model).refusals.values())


def test_a_subclass_that_computes_the_same_has_its_parents_rule():
    model = conv_then(Renamed(6, 3, padding="same", note="n", name="it"))
    assert anchors(model)["it"] is None
    assert not trace(model).refusals


@pytest.mark.parametrize("method", ["call", "build", "__call__"])
def test_a_subclass_that_overrides_a_method_has_no_rule(method):
    def same(self, *args, **kwargs):
        return getattr(layers.ReLU, method)(self, *args, **kwargs)

    kind = type("Overriding", (layers.ReLU,), {method: same})
    assert registry.rule_for(layers.ReLU()) is not None
    assert registry.rule_for(kind()) is None


def test_lora_is_refused_with_the_reason():
    inputs = keras.Input((4,))
    hidden = layers.Dense(6, name="hidden")
    x = layers.Dense(3, name="classifier")(hidden(layers.Dense(5, name="before")(inputs)))
    model = keras.Model(inputs, x)
    hidden.enable_lora(2)
    channels = trace(model)
    assert "'hidden' (class Dense): LoRA is enabled" in channels.refusals["hidden"]
    assert "merge the adapter" in anchors(model)["before"]
    assert not channels.prunable.any()


def test_softmax_in_the_middle_anchors():
    for operation in (
        layers.Softmax(name="it"),
        layers.Activation("softmax", name="it"),
        layers.Conv2D(6, 1, activation="softmax", name="conv_it"),
    ):
        reasons = anchors(conv_then(operation))
        name = "conv_it" if operation.name == "conv_it" else "conv"
        assert "softmax" in reasons[name] and "mixes channels" in reasons[name]


def test_an_unknown_activation_function_anchors():
    def share(x):
        return x / keras.ops.sum(x, axis=-1, keepdims=True)

    reasons = anchors(conv_then(layers.Conv2D(6, 1, activation=share, name="it")))
    assert "activation 'share' of layer 'it' is not recognised" in reasons["it"]


@pytest.mark.parametrize(
    "function",
    [
        lambda x: keras.activations.gelu(x, approximate=False),
        lambda x: x * keras.ops.sigmoid(1.7 * x),
        lambda x: keras.ops.where(x > 0, x, keras.ops.expm1(x) / 2),
        lambda x: keras.activations.relu(x, negative_slope=0.1, max_value=6.0),
    ],
)
def test_an_activation_made_of_elementwise_operations_is_recognised(function):
    model = conv_then(layers.Activation(function, name="it"))
    assert anchors(model)["conv"] is None
    randomise(model)
    plan = random_plan(model)
    # Keras copies no lambdas, so a second network is cut in place.
    narrow = conv_then(layers.Activation(function, name="it"))
    narrow.set_weights(model.get_weights())
    keras_gcp.narrow(narrow, plan)
    inputs = inputs_for(model)
    actual, expected = flat_outputs(narrow, inputs), masked_by_hand(model, plan, inputs)
    np.testing.assert_allclose(actual[0], expected[0], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    "function",
    [
        lambda x: x * keras.ops.mean(x, axis=-1, keepdims=True),
        lambda x: x * np.arange(3, dtype="float32"),
        lambda x: keras.ops.flip(x, -1),
        lambda x: x[..., ::-1],
    ],
)
def test_an_activation_that_mixes_or_tells_apart_channels_anchors(function):
    assert (
        "is not recognised as a function of single elements"
        in anchors(conv_then(layers.Activation(function, name="it")))["conv"]
    )


def test_outputs_are_anchored_and_named_so_before_other_reasons():
    model = conv_then(layers.ReLU(name="relu"))
    assert anchors(model, exclude=["classifier"])["classifier"] == "output of the model"


@pytest.mark.parametrize(
    "layer",
    [
        layers.Rescaling([1.0] * 6, name="it"),
        layers.Rescaling(1.0, [1.0] * 6, name="it"),
        layers.Rescaling(np.ones(6), name="it"),
        layers.Normalization(mean=np.arange(6.0), variance=np.ones(6), name="it"),
    ],
)
def test_constants_per_channel_anchor(layer):
    model = conv_then(layer)
    assert "'it' has a constant number for each of these channels" in anchors(model)["conv"]
    assert not trace(model).refusals


def test_a_dropout_that_fixes_the_number_of_channels_anchors():
    model = conv_then(layers.Dropout(0.5, noise_shape=(None, 1, 1, 6), name="it"))
    assert "layer 'it' (class Dropout): its `noise_shape`" in anchors(model)["conv"]


@pytest.mark.parametrize(
    "operation",
    [
        lambda x: x * np.arange(6, dtype="float32"),
        lambda x: x - np.ones((6, 6, 6), "float32"),
        lambda x: keras.ops.where(x > 0, x, np.arange(6, dtype="float32")),
        lambda x: keras.ops.clip(x, np.zeros(6, "float32"), 1.0),
    ],
)
def test_constant_operands_per_channel_anchor(operation):
    assert "a constant number for each of these channels" in anchors(conv_then(operation))["conv"]


def test_constant_operands_per_place_do_not_anchor():
    model = conv_then(lambda x: x * np.arange(6, dtype="float32")[:, None, None])
    assert anchors(model)["conv"] is None
    check_cut(model)


def test_pooling_over_the_channel_axis_anchors():
    model = conv_then(
        lambda x: layers.Permute((3, 1, 2))(
            layers.AveragePooling2D(2, 1, "same", name="it")(layers.Permute((2, 3, 1))(x))
        )
    )
    assert "pools over an axis along which channels lie" in anchors(model)["conv"]


# ---- patterns


def test_a_spatial_gate_does_not_tie_the_channels_it_multiplies():
    def gated(x):
        gate = layers.Conv2D(1, 3, padding="same", activation="sigmoid", name="gate")(x)
        return layers.Multiply(name="gated")([x, gate])

    model = conv_then(gated)
    channels = trace(model)
    assert tied_positions(channels, "conv") == {frozenset([i]) for i in range(6)}
    assert channels.prunable[channels.produced["conv"]].all()
    assert "stretches" in channels.reasons[int(channels.produced["gate"][0])]
    _, narrow = check_cut(model)
    assert narrow.get_layer("gate").filters == 1 and narrow.get_layer("conv").filters < 6


def test_concatenation_of_a_tensor_with_itself_has_each_channel_twice():
    model = conv_then(lambda x: layers.Concatenate(name="twice")([x, x]))
    channels = trace(model)
    (kernel,) = [w for w in channels.weights.values() if w.path == "next" and w.consumed]
    np.testing.assert_array_equal(kernel.axes[2], np.tile(channels.produced["conv"], 2))
    check_cut(model)


def test_channels_added_to_their_own_reverse_are_tied_in_pairs():
    def mirrored(x):
        y = layers.Concatenate(name="two")([x, x])
        left = layers.Reshape((6, 6, 2, 6), name="split")(y)
        turned = layers.Permute((1, 2, 4, 3), name="turn")(left)
        pairs = layers.Reshape((6, 6, 12), name="pairs")(turned)  # 0 0 1 1 2 2 ...
        return layers.Add(name="add")([y, pairs])

    channels = trace(conv_then(mirrored))
    # position i of 0..5 0..5 meets i // 2: all channels hang together
    assert tied_positions(channels, "conv") == {frozenset(range(6))}


def test_channel_shuffle_ties_the_groups_equally():
    def shuffled(x):
        x = layers.Reshape((6, 6, 2, 3), name="split")(x)
        x = layers.Permute((1, 2, 4, 3), name="turn")(x)
        return layers.Reshape((6, 6, 6), name="join")(x)

    model = conv_then(shuffled)
    assert tied_positions(trace(model), "conv") == {
        frozenset([0, 3]),
        frozenset([1, 4]),
        frozenset([2, 5]),
    }
    _, narrow = check_cut(model, share=0.7)
    assert narrow.get_layer("split").target_shape[2] == 2


def test_grouped_convolution_ties_equal_positions_of_the_groups():
    model = conv_then(layers.Conv2D(4, 3, groups=2, padding="same", name="grouped"))
    channels = trace(model)
    assert tied_positions(channels, "conv") == {frozenset([i, i + 3]) for i in range(3)}
    assert tied_positions(channels, "grouped") == {frozenset([i, i + 2]) for i in range(2)}
    assert {m.path: m.multiplicity for g in channels.groups for m in g.members} == {
        "conv": 2,
        "grouped": 2,
        "next": 1,
        "classifier": 1,
    }


def test_flatten_ties_a_channel_to_all_its_places():
    inputs = keras.Input((2, 2, 3))
    x = layers.Conv2D(4, 1, name="conv")(inputs)
    model = keras.Model(inputs, layers.Dense(3, name="out")(layers.Flatten(name="flat")(x)))
    channels = trace(model)
    (kernel,) = [w for w in channels.weights.values() if w.path == "out" and w.consumed]
    assert tuple(kernel.variable.shape) == (16, 3)
    np.testing.assert_array_equal(kernel.axes[0], np.tile(channels.produced["conv"], 4))


def test_a_shared_layer_ties_what_it_reads():
    left, right = keras.Input((6, 6, 3)), keras.Input((6, 6, 3))
    x = layers.Conv2D(4, 3, name="left")(left)
    y = layers.Conv2D(4, 3, name="right")(right)
    shared = layers.Conv2D(5, 3, name="shared")
    pool = layers.GlobalMaxPooling2D(name="pool")
    z = layers.Concatenate(name="both")([pool(shared(x)), pool(shared(y))])
    model = keras.Model([left, right], layers.Dense(2, name="out")(z))
    channels = trace(model)
    np.testing.assert_array_equal(channels.produced["left"], channels.produced["right"])
    members = {frozenset(m.path for m in g.members) for g in channels.groups}
    assert members == {
        frozenset(["left", "right"]),
        frozenset(["shared"]),
        frozenset(["out"]),
    }


def test_padding_amounts_follow_the_channels():
    def shortcut(x):
        y = layers.Conv2D(10, 1, name="wide")(x)
        return layers.Add(name="add")([y, keras.ops.pad(x, [[0, 0], [0, 0], [0, 0], [1, 3]])])

    model = conv_then(shortcut)
    plan, narrow = check_cut(model)
    pads = [c.operation for c in trace(narrow).graph.calls if c.path.startswith("pad")]
    kept = plan.kept("wide")
    assert tuple(pads[0].pad_width[3]) == (int((kept < 1).sum()), int((kept >= 7).sum()))


# ---- channels first


def test_channels_first_convolutions_are_traced_along_axis_1():
    inputs = keras.Input((3, 6, 6))
    options = {"data_format": "channels_first"}
    x = layers.Conv2D(4, 3, padding="same", name="conv", **options)(inputs)
    x = layers.BatchNormalization(axis=1, name="bn")(x)
    x = layers.DepthwiseConv2D(3, name="depthwise", **options)(x)
    x = layers.MaxPooling2D(2, name="max", **options)(x)
    pooled = layers.GlobalAveragePooling2D(name="pool", **options)(x)
    flat = layers.Flatten(name="flat", **options)(x)
    y = layers.Concatenate(name="both")([pooled, flat])
    model = keras.Model(inputs, layers.Dense(3, name="out")(y))
    channels = trace(model)
    own = channels.produced["conv"]
    assert not channels.refusals and channels.prunable[own].all()
    blocks = {call.path: channels.tensors[call.outputs[0].index] for call in channels.graph.calls}
    for path in ("conv", "bn", "depthwise", "max"):
        assert blocks[path].shape == (4, 1, 1), path
        np.testing.assert_array_equal(blocks[path].ravel(), own)
    np.testing.assert_array_equal(blocks["pool"], own)
    # Keras moves the channels last before it flattens.
    np.testing.assert_array_equal(blocks["flat"], np.tile(own, 4))


def test_channels_first_cuts_are_the_masked_network():
    inputs = keras.Input((7,))
    options = {"data_format": "channels_first"}
    x = layers.Dense(6, name="vector")(inputs)
    x = layers.Reshape((6, 1, 1), name="map")(x)
    x = layers.UpSampling2D(4, name="larger", **options)(x)
    x = layers.BatchNormalization(axis=1, name="bn")(x)
    x = layers.SpatialDropout2D(0.5, name="dropout", **options)(x)
    x = layers.ZeroPadding2D(1, name="pad", **options)(x)
    x = layers.Cropping2D(2, name="crop", **options)(x)
    pooled = layers.GlobalMaxPooling2D(name="pool", **options)(x)
    flat = layers.Flatten(name="flat", **options)(x)
    y = layers.Concatenate(name="both")([pooled, flat])
    model = keras.Model(inputs, layers.Dense(3, name="out")(y))
    assert anchors(model)["vector"] is None
    _, narrow = check_cut(model)
    assert narrow.get_layer("map").target_shape == (narrow.get_layer("vector").units, 1, 1)


# ---- exclude


def residual():
    inputs = keras.Input((6, 6, 3))
    x = layers.Conv2D(4, 3, padding="same", name="stem")(inputs)
    y = layers.Conv2D(6, 3, padding="same", name="inner")(x)
    y = layers.Conv2D(4, 3, padding="same", name="back")(y)
    x = layers.GlobalAveragePooling2D(name="pool")(layers.Add(name="add")([x, y]))
    return keras.Model(inputs, layers.Dense(3, name="classifier")(x))


@pytest.mark.parametrize("excluded", ["back", ["back"], ["add"], ("pool",)])
def test_exclude_anchors_all_that_is_tied(excluded):
    reasons = anchors(residual(), exclude=excluded)
    assert "is in `exclude`" in reasons["stem"]
    assert reasons["inner"] is None


def test_exclude_refuses_unknown_names_and_lists_some():
    with pytest.raises(InvalidArgument, match="layer 'bcak', which the model does not have") as e:
        trace(residual(), exclude=["bcak"])
    assert "'back'" in str(e.value)


def test_excluding_a_nested_model_excludes_all_its_layers():
    inner_inputs = keras.Input((6, 6, 4))
    x = layers.Conv2D(5, 3, name="one")(inner_inputs)
    inner = keras.Model(inner_inputs, layers.Conv2D(6, 3, name="two")(x), name="inner")
    inputs = keras.Input((6, 6, 3))
    x = inner(layers.Conv2D(4, 3, padding="same", name="stem")(inputs))
    x = layers.GlobalAveragePooling2D(name="pool")(x)
    model = keras.Model(inputs, layers.Dense(3, name="classifier")(x))
    reasons = anchors(model, exclude=["inner"])
    assert reasons["stem"] is None
    assert "inner/one" in reasons["inner/one"] and "inner/two" in reasons["inner/two"]
    only_one = anchors(model, exclude=["inner/two"])
    assert only_one["inner/one"] is None and only_one["inner/two"] is not None


# ---- rules of one's own


@pytest.fixture
def own_rule():
    """A rule for ChannelScale, for one test."""

    @keras_gcp.register_rule(ChannelScale)
    def channel_scale(site):
        site.weight(site.layer.scale, carries={0: site.channels(0)})
        return site.inputs[0]

    yield channel_scale
    del registry._RULES[ChannelScale]


def test_a_registered_rule_works_from_end_to_end(own_rule):
    model = conv_then(ChannelScale(name="it"))
    model.get_layer("it").scale.assign(np.arange(1.0, 7.0))
    plan, narrow = check_cut(model)
    np.testing.assert_array_equal(
        narrow.get_layer("it").scale, np.arange(1.0, 7.0)[plan.kept("conv")]
    )
    assert len(plan.kept("conv")) < 6
    np.testing.assert_array_equal(plan.kept("it"), plan.kept("conv"))


def test_a_rule_that_declares_ids_of_the_wrong_number_says_so():
    @keras_gcp.register_rule(ChannelScale)
    def wrong(site):
        site.weight(site.layer.scale, carries={0: site.channels(0)[:2]})
        return site.inputs[0]

    try:
        with pytest.raises(ValueError, match=r"'it' .* declares 2 channel ids.*6"):
            trace(conv_then(ChannelScale(name="it")))
    finally:
        del registry._RULES[ChannelScale]


# ---- models without a graph


def test_models_without_a_graph_are_refused_with_what_to_do():
    class Subclassed(keras.Model):
        def call(self, x):
            return x

    with pytest.raises(UnsupportedModel, match="class Subclassed.*subclassed.*functional API"):
        trace(Subclassed())
    with pytest.raises(UnsupportedModel, match=r"not built.*keras.Input"):
        trace(keras.Sequential([layers.Dense(3)]))
    with pytest.raises(UnsupportedModel, match="Expected a `keras.Model`"):
        trace(layers.Dense(3))
