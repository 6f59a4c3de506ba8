"""Layers inside wrappers: counted, pruned, trained on."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from fitting import compiled, data, fit, pruning, weights_of
from helpers import flat_outputs, inputs_for, masked_by_hand, random_plan, randomise
from keras import layers

import keras_gcp
from keras_gcp.channels.trace import trace
from keras_gcp.surgery.masking import masked
from keras_gcp.surgery.verify import outputs_of, verify_narrow


def spectral(layer, **options):
    return layers.SpectralNormalization(layer, **options)


def bare(layer, name):
    layer.name = name
    return layer


def assert_identity(model, share=0.5):
    """The narrow model is the masked one, also when cut in place, and loads from a file."""
    randomise(model)
    plan = random_plan(model, share=share)
    inputs = inputs_for(model)
    expected = masked_by_hand(model, plan, inputs)
    narrow = keras_gcp.apply(model, plan)
    keras_gcp.narrow(model, plan)
    for one in (narrow, model):
        for actual, wanted in zip(flat_outputs(one, inputs), expected, strict=True):
            np.testing.assert_allclose(actual, wanted, rtol=1e-4, atol=1e-5)
    counted = keras_gcp.count(narrow)
    assert (counted.macs, counted.parameters) == (plan.after.macs, plan.after.parameters)
    assert plan.removed_channels > 0
    return plan, narrow


def assert_loads(model, folder):
    model.save(folder / "model.keras")
    loaded = keras.models.load_model(folder / "model.keras")
    inputs = inputs_for(model)
    for a, b in zip(flat_outputs(loaded, inputs), flat_outputs(model, inputs), strict=True):
        np.testing.assert_array_equal(a, b)


# ---- spectral normalization


def discriminator(wrap=spectral):
    """That of a GAN: strided convolutions, leaky, each with its largest singular value at 1."""
    inputs = keras.Input((8, 8, 3))
    x = inputs
    for number, filters in enumerate((8, 12)):
        x = wrap(layers.Conv2D(filters, 4, strides=2, padding="same"), name=f"conv_{number}")(x)
        x = layers.LeakyReLU(0.2)(x)
    return keras.Model(inputs, wrap(layers.Dense(4), name="score")(layers.Flatten()(x)))


def residual_spectral():
    inputs = keras.Input((8, 8, 3))
    x = spectral(layers.Conv2D(8, 3, padding="same"), name="stem")(inputs)
    y = spectral(layers.Conv2D(6, 3, padding="same", activation="relu"), name="first")(x)
    y = layers.BatchNormalization()(y)
    y = spectral(layers.Conv2D(8, 3, padding="same"), name="second")(y)
    x = layers.LayerNormalization()(layers.Add()([x, y]))
    return keras.Model(inputs, layers.Dense(4)(layers.GlobalAveragePooling2D()(x)))


def shared_spectral():
    shared = spectral(layers.Conv2D(6, 3, padding="same"), name="shared")
    before = layers.Conv2D(6, 1, name="before")
    inputs = [keras.Input((6, 6, 3)), keras.Input((6, 6, 3))]
    both = layers.Concatenate()([shared(before(x)) for x in inputs])
    return keras.Model(inputs, layers.Dense(4)(layers.Flatten()(both)))


def spectral_in_time():
    inputs = keras.Input((3, 6, 6, 2))
    x = layers.TimeDistributed(spectral(layers.Conv2D(6, 3)), name="first")(inputs)
    x = layers.TimeDistributed(spectral(layers.Conv2D(5, 3)), name="second")(x)
    return keras.Model(inputs, layers.Dense(4)(layers.Flatten()(x)))


def spectral_upsampling():
    inputs = keras.Input((4, 4, 3))
    x = spectral(layers.Conv2DTranspose(6, 3, strides=2, padding="same"), name="up")(inputs)
    x = spectral(layers.DepthwiseConv2D(3, depth_multiplier=2), name="each")(x)
    x = spectral(layers.Conv2D(8, 3, groups=2, activation="relu"), name="groups")(x)
    return keras.Model(inputs, layers.Dense(4)(layers.Flatten()(x)))


SPECTRAL = [
    discriminator,
    residual_spectral,
    shared_spectral,
    spectral_in_time,
    spectral_upsampling,
]


@pytest.mark.parametrize("build", SPECTRAL)
def test_a_network_with_spectral_normalization_is_cut_as_the_masked_one(build, tmp_path):
    _, narrow = assert_identity(build())
    assert_loads(narrow, tmp_path)


def test_a_spectrally_normalized_layer_costs_what_it_costs_without():
    counted = keras_gcp.count(discriminator())
    without = keras_gcp.count(discriminator(bare))
    assert counted.macs == without.macs
    assert counted.weights == without.weights
    assert counted.parameters == without.parameters + 8 + 12 + 4  # a number for each filter
    assert counted.uncounted == {}


@pytest.mark.parametrize("criterion", ["feature_relevance", "l2_norm"])
def test_a_discriminator_is_pruned_while_it_trains(criterion):
    model = compiled(
        discriminator(),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        run_eagerly=True,
    )
    callback = pruning({"macs": 0.6}, criterion=criterion)
    fit(model, [callback], epochs=2)
    assert callback.events[0].removed_channels > 0
    before = weights_of(model)
    fit(model, [], epochs=1)
    for variable, then, now in zip(model.weights, before, weights_of(model), strict=True):
        assert not np.array_equal(then, now), variable.path
    # Each step divides the kernels again: the largest singular value is 1 after a cut, too.
    x, _ = data()
    for _ in range(8):
        model(x[:1], training=True)
    for name in ("conv_0", "conv_1"):
        kernel = keras.ops.convert_to_numpy(model.get_layer(name).kernel)
        values = np.linalg.svd(kernel.reshape(-1, kernel.shape[-1]), compute_uv=False)
        assert values[0] == pytest.approx(1, abs=0.1)


def test_relevance_passes_a_spectrally_normalized_layer_as_the_layer_itself():
    wrapped, plain = discriminator(), discriminator(bare)
    for name in ("conv_0", "conv_1", "score"):
        weights = wrapped.get_layer(name).layer.get_weights()
        plain.get_layer(name).set_weights(weights)
    x, y = data()
    ours, theirs = (keras_gcp.relevance_scores(model, x, y) for model in (wrapped, plain))
    for name in ("conv_0", "conv_1"):
        np.testing.assert_allclose(ours[name], theirs[name], rtol=1e-5)


def test_a_wrapped_layer_that_cannot_be_followed_is_counted_and_keeps_its_channels():
    model = discriminator()
    model.get_layer("conv_1").layer.enable_lora(2)
    channels = trace(model)
    assert "LoRA" in channels.refusals["conv_1"]
    assert keras_gcp.count(model).macs == keras_gcp.count(discriminator()).macs
    assert not channels.prunable[channels.produced["conv_0"]].any()


# ---- what is compared at the end of a network


def test_a_saturated_activation_inside_a_wrapper_hides_no_difference():
    inputs = keras.Input((3, 5))
    x = layers.Dense(6, name="hidden")(inputs)
    head = layers.TimeDistributed(spectral(layers.Dense(4, activation="softmax")), name="head")
    model = randomise(keras.Model(inputs, head(x)))
    channels = trace(model)
    outputs = outputs_of(model, channels.graph, inputs_for(model))
    assert min(y.min() for y in outputs) < 0  # logits
    keep = np.ones(channels.coupled_count, bool)
    keep[channels.produced["hidden"][:3]] = False
    with masked(channels, keep):
        expected = outputs_of(model, channels.graph, inputs_for(model))
    with pytest.raises(keras_gcp.errors.VerificationFailed):
        verify_narrow(channels, inputs_for(model), expected)
