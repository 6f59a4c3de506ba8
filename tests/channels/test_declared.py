"""Layers, operations and functions that are declared to be elementwise, one by one."""

from __future__ import annotations

import gc
import math
import weakref

import keras
import numpy as np
import pytest
from fitting import compiled, data, fit, pruning
from helpers import flat_outputs, inputs_for, masked_by_hand, random_plan, randomise
from keras import layers, ops

import keras_gcp
from keras_gcp.channels import declared
from keras_gcp.channels.trace import trace
from keras_gcp.errors import InvalidArgument, UnsupportedModel, VerificationFailed


@pytest.fixture(autouse=True)
def no_names_stay():
    yield
    declared._NAMES.clear()


@keras.saving.register_keras_serializable("test_declared")
def squashed(x):
    return ops.tanh(x) * 2


@keras.saving.register_keras_serializable("test_declared")
def gated(tensors):
    return tensors[0] * ops.sigmoid(tensors[1])


@keras.saving.register_keras_serializable("test_declared")
class Beta(layers.Layer):
    """Swish with one learned number."""

    def build(self, shape):
        self.beta = self.add_weight(shape=(1, 1), initializer="ones", name="beta")

    def call(self, x):
        return x * ops.sigmoid(self.beta * x)

    def compute_output_shape(self, shape):
        return shape


@keras.saving.register_keras_serializable("test_declared")
class Scale(layers.Layer):
    """One learned number for each channel."""

    def build(self, shape):
        self.scale = self.add_weight(shape=(shape[-1],), initializer="ones", name="scale")

    def call(self, x):
        return x * self.scale


@keras.saving.register_keras_serializable("test_declared")
class Noise(layers.Layer):
    """Random at inference, too."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.seeds = keras.random.SeedGenerator(0)

    def call(self, x):
        return x + keras.random.normal(ops.shape(x), seed=self.seeds)


def between(operation, filters=8):
    """A classifier with an operation between two convolutions."""
    inputs = keras.Input((8, 8, 3))
    x = layers.Conv2D(filters, 3, padding="same", name="before")(inputs)
    x = layers.Conv2D(6, 3, name="behind")(operation(x))
    x = layers.GlobalAveragePooling2D(name="pool")(x)
    return keras.Model(inputs, layers.Dense(4, activation="softmax", name="classifier")(x))


def own_lambda(name="it", function=squashed, **options):
    return layers.Lambda(function, name=name, **options)


def with_two_inputs():
    inputs = keras.Input((8, 8, 3))
    x, y = (layers.Conv2D(8, 3, name=name)(inputs) for name in ("before", "gate"))
    x = keras_gcp.elementwise(own_lambda(function=gated))([x, y])
    x = layers.GlobalAveragePooling2D()(x)
    return keras.Model(inputs, layers.Dense(4, name="classifier")(x))


def nested_and_shared():
    inner = keras.Input((8, 8, 3))
    x = layers.Conv2D(6, 3, padding="same", name="before")(inner)
    x = keras_gcp.elementwise(own_lambda())(x)
    block = keras.Model(inner, layers.Conv2D(3, 1, name="after")(x), name="block")
    inputs = keras.Input((8, 8, 3))
    x = layers.GlobalAveragePooling2D()(block(block(inputs)))
    return keras.Model(inputs, layers.Dense(4, name="classifier")(x))


def in_time():
    inputs = keras.Input((3, 6, 6, 2))
    x = layers.TimeDistributed(layers.Conv2D(6, 3), name="before")(inputs)
    x = layers.TimeDistributed(keras_gcp.elementwise(Beta()), name="it")(x)
    return keras.Model(inputs, layers.Dense(4, name="classifier")(layers.Flatten()(x)))


def operation_by_name():
    model = between(ops.conj)
    name = next(o.name for o in model.operations if type(o).__name__ == "Conjugate")
    keras_gcp.elementwise(name)
    return model


def residual():
    inputs = keras.Input((8, 8, 3))
    x = layers.Conv2D(8, 3, padding="same", name="before")(inputs)
    y = keras_gcp.elementwise(own_lambda())(x)
    y = layers.BatchNormalization()(layers.Conv2D(8, 3, padding="same", name="second")(y))
    x = keras_gcp.elementwise(Beta(name="last"))(layers.Add()([x, y]))
    return keras.Model(inputs, layers.Dense(4)(layers.GlobalAveragePooling2D()(x)))


def own_activation():
    @keras_gcp.elementwise
    @keras.saving.register_keras_serializable("test_declared", "rounded")
    def rounded(x):
        return ops.vectorized_map(ops.tanh, x)

    return between(layers.Conv2D(8, 3, activation=rounded, name="it"))


NETWORKS = {
    "lambda": lambda: between(keras_gcp.elementwise(own_lambda())),
    "lambda of known shape": lambda: between(
        keras_gcp.elementwise(own_lambda(output_shape=(8, 8, 8)))
    ),
    "own layer": lambda: between(keras_gcp.elementwise(Beta(name="it"))),
    "two inputs": with_two_inputs,
    "nested, called twice": nested_and_shared,
    "inside a wrapper": in_time,
    "operation": operation_by_name,
    "residual": residual,
    "activation": own_activation,
}


@pytest.mark.parametrize("build", NETWORKS.values(), ids=NETWORKS)
def test_channels_pass_what_is_declared(build, tmp_path):
    model = randomise(build())
    channels = trace(model)
    assert not channels.refusals and not channels.uncounted
    assert channels.prunable[next(iter(channels.produced.values()))].all()
    plan = random_plan(model)
    inputs = inputs_for(model)
    expected = masked_by_hand(model, plan, inputs)
    narrow = keras_gcp.apply(model, plan)
    again = keras_gcp.apply(narrow, random_plan(narrow, share=0.9))  # The copy is declared, too.
    assert again.count_params() < narrow.count_params()
    keras_gcp.narrow(model, plan)
    narrow.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    for one in (model, narrow, loaded):
        for actual, wanted in zip(flat_outputs(one, inputs), expected, strict=True):
            np.testing.assert_allclose(actual, wanted, rtol=1e-4, atol=1e-5)


# ---- of one layer


def test_another_layer_of_the_class_is_not_declared():
    first, second = own_lambda("first"), own_lambda("second")
    keras_gcp.elementwise(first)
    model = between(lambda x: second(layers.Conv2D(5, 3, name="middle")(first(x))))
    channels = trace(model)
    assert set(channels.refusals) == {"second"}
    assert channels.prunable[channels.produced["before"]].all()
    assert not channels.prunable[channels.produced["middle"]].any()


def test_a_declaration_can_be_taken_back():
    layer = own_lambda()
    model = between(layer)
    for given in (layer, "it"):
        assert keras_gcp.elementwise(given) is given
        assert not trace(model).refusals
        assert keras_gcp.elementwise(given, declared=False) is given
        assert set(trace(model).refusals) == {"it"}


@pytest.mark.parametrize("name", ["it", "block/it"])
def test_a_name_or_path_finds_the_layer_of_a_loaded_model(name, tmp_path):
    inputs = keras.Input((8, 8, 3))
    block = between(own_lambda())
    block.name = "block"
    model = keras.Model(inputs, block(inputs))
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert set(trace(loaded).refusals) == {"block/it"}
    keras_gcp.elementwise(name)
    for one in (model, loaded):
        assert not trace(one).refusals


def test_a_declared_layer_stays_declared_in_a_flat_model():
    keras_gcp.elementwise("block/it")
    inputs = keras.Input((8, 8, 3))
    block = between(own_lambda())
    block.name = "block"
    flat = keras_gcp.flatten(keras.Model(inputs, block(inputs)))
    assert not trace(flat).refusals


def test_a_declaration_keeps_nothing_alive():
    layer = keras_gcp.elementwise(Beta(name="it"))
    model = between(layer)
    keras_gcp.count(model)
    kept = weakref.ref(layer)
    del layer, model
    keras.backend.clear_session()
    gc.collect()
    assert kept() is None


# ---- wrong declarations

WRONG = {
    "mixes": own_lambda(function=lambda x: x - ops.mean(x, axis=-1, keepdims=True)),
    "moves": own_lambda(function=lambda x: ops.flip(x, -1)),
    "sums up": own_lambda(function=lambda x: ops.cumsum(x, axis=-1)),
    "settings of each channel": own_lambda(function=lambda x: x * np.arange(8, dtype="float32")),
    "weights of each channel": Scale(name="it"),
    "fixed number": own_lambda(function=lambda x: ops.reshape(x, (-1, 8, 8, 8))),
    "convolution": layers.Conv2D(8, 1, name="it"),
}


@pytest.mark.parametrize("layer", WRONG.values(), ids=WRONG)
def test_what_is_not_elementwise_is_refused_before_training(layer):
    model = compiled(between(layer))
    keras_gcp.elementwise("it")
    for use in (keras_gcp.count, lambda m: fit(m, [pruning()], epochs=2)):
        with pytest.raises(
            InvalidArgument, match="called for layer 'it'.*half of its channels"
        ) as e:
            use(model)
        assert "declared=False" in str(e.value)


@pytest.mark.parametrize(
    "function, shape",
    [
        (lambda x: ops.mean(x, axis=(1, 2)), r"\(None, 8\)"),
        (lambda x: x[..., :4], r"\(None, 8, 8, 4\)"),
    ],
)
def test_what_changes_axes_or_channels_is_refused(function, shape):
    inputs = keras.Input((8, 8, 3))
    x = layers.Conv2D(8, 3, padding="same", name="before")(inputs)
    x = keras_gcp.elementwise(own_lambda(function=function))(x)
    model = keras.Model(inputs, layers.Dense(4)(layers.Flatten()(x)))
    with pytest.raises(InvalidArgument, match=rf"'it'.*turns shape \(None, 8, 8, 8\) into {shape}"):
        keras_gcp.plan(model, {"macs": 0.5})


def test_a_wrong_activation_function_is_refused():
    @keras_gcp.elementwise
    def centred(x):
        return x - ops.mean(x, axis=-1, keepdims=True)

    with pytest.raises(InvalidArgument, match="activation 'centred' of layer 'it'"):
        keras_gcp.count(between(layers.Conv2D(8, 3, activation=centred, name="it")))


def test_what_cannot_be_tried_is_found_out_by_verification():
    def of_many_examples(x):
        assert x.shape[0] != 2, "only in the whole network"
        return x - ops.mean(x, axis=-1, keepdims=True)

    model = randomise(between(keras_gcp.elementwise(own_lambda(function=of_many_examples))))
    before = model.get_weights()
    with pytest.raises(VerificationFailed):
        keras_gcp.narrow(model, random_plan(model))
    assert all(np.array_equal(a, b) for a, b in zip(before, model.get_weights(), strict=True))


def test_noise_and_sizes_that_change_are_no_wrong_declarations():
    keras_gcp.elementwise("it")
    for layer in (Noise(name="it"), own_lambda(function=lambda x: ops.repeat(x, 2, axis=1))):
        channels = trace(between(layer))
        assert channels.prunable[channels.produced["before"]].all()


@pytest.mark.parametrize(
    "given", [None, 3, layers.Lambda, [layers.ReLU()], keras.Sequential([layers.Dense(2)])]
)
def test_what_cannot_be_declared_is_refused(given):
    with pytest.raises(InvalidArgument, match="`elementwise` expects one layer"):
        keras_gcp.elementwise(given)


def test_a_function_without_attributes_is_refused():
    with pytest.raises(InvalidArgument, match="takes no attributes"):
        keras_gcp.elementwise(math.tanh)


# ---- advice


@pytest.mark.parametrize(
    "operation, words",
    [
        (own_lambda(), ["keras_gcp.elementwise('it')"]),
        (lambda x: ops.cumsum(x, axis=-1), ["keras_gcp.elementwise('cumsum')"]),
        (Beta(name="it"), ["register_rule(Beta)", "keras_gcp.elementwise('it')"]),
        (
            layers.TimeDistributed(Beta(name="inner"), name="it"),
            ["register_rule(Beta)", "keras_gcp.elementwise('it/inner')"],
        ),
    ],
)
def test_the_advice_is_the_declaration_and_never_a_rule_for_all_lambdas(operation, words):
    keras.backend.clear_session()  # Operations are numbered.
    plan = keras_gcp.plan(between(operation), {"macs": 0.9}, selection={"align": 1})
    notes = " ".join(plan.notes.values())
    for text in words:
        assert text in notes
    assert "register_rule(Lambda)" not in notes and '"ops.' not in notes


def test_an_unknown_activation_function_is_told_how_to_declare_it():
    def unknown(x):
        return ops.vectorized_map(ops.tanh, x)

    reasons = trace(between(layers.Conv2D(8, 3, activation=unknown, name="it"))).reasons
    assert any("`keras_gcp.elementwise(function)` says so" in why for why in reasons.values())


# ---- relevance


def test_relevance_passes_what_is_declared():
    model = compiled(between(keras_gcp.elementwise(own_lambda())), run_eagerly=True)
    callback = pruning({"macs": 0.6}, criterion="feature_relevance")
    fit(model, [callback], epochs=2)
    assert len(callback.plan.kept("before")) < 8


def test_relevance_refuses_an_undeclared_lambda_and_says_what_to_do():
    behind = [layers.Conv2D(6, 3, name="first"), own_lambda(), layers.Conv2D(6, 3, name="last")]
    model = compiled(between(keras.Sequential([keras.Input((8, 8, 8)), *behind])))
    with pytest.raises(UnsupportedModel, match=r"it' \(class Lambda\).*elementwise\('.*it'\)"):
        keras_gcp.relevance_scores(model, *data())
    two = with_two_inputs()
    with pytest.raises(UnsupportedModel, match=r"'it'.*operations of `keras.ops`"):
        keras_gcp.relevance_scores(two, *data())


# ---- copies


def test_a_copy_of_a_lambda_has_the_very_function():
    scale = 3.0
    model = between(own_lambda(function=lambda x: scale * ops.tanh(x)))
    narrow = keras_gcp.prune(model, {"macs": 0.8}, selection={"align": 1})
    assert narrow.get_layer("it").function is model.get_layer("it").function
    assert narrow.get_layer("it") is not model.get_layer("it")
