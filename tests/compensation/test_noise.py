"""Compensation without a sample: noise, to which normalizations give known statistics."""

import keras
import networks
import numpy as np
import pytest
from helpers import flat_outputs, inputs_for, random_plan, randomise
from hypothesis import given
from hypothesis import strategies as st
from keras import layers

import keras_gcp
from keras_gcp.channels.trace import trace
from keras_gcp.compensation.noise import EXAMPLES, noise_sample, pink, with_known_statistics
from keras_gcp.errors import InvalidArgument


def after_normalization(kind="conv"):
    """A reader after a normalization of eight channels, and nothing that follows it."""
    inputs = keras.Input((6, 6, 2))
    x = layers.Conv2D(8, 3, padding="same", name="producer")(inputs)
    x = layers.ReLU()(layers.BatchNormalization(name="bn")(x))
    if kind == "conv":
        x = layers.Conv2D(5, 3, name="reader")(x)
    else:
        x = layers.Dense(5, name="reader")(layers.GlobalAveragePooling2D()(x))
    return randomise(keras.Model(inputs, x))


def set_statistics_to_those_of(model, x):
    """What training would have done to the moving averages."""
    bn = model.get_layer("bn")
    y = keras.Model(model.inputs, model.get_layer("producer").output).predict(x, verbose=0)
    bn.moving_mean.assign(y.mean(axis=(0, 1, 2)))
    bn.moving_variance.assign(y.var(axis=(0, 1, 2)))


def plan_without(model, removed):
    """The plan that removes some channels of the producer."""
    keep = np.ones(8, bool)
    keep[removed] = False

    def criterion(model, channels, sample):
        return {path: keep + 0.01 for path, ids in channels.produced.items() if len(ids) == 8}

    return keras_gcp.plan(
        model,
        {"channels": keep.mean()},
        criterion,
        selection={"align": 1, "floor": 1, "normalize": "none"},
    )


@pytest.mark.parametrize("kind", ["conv", "dense"])
def test_constant_channels_are_made_up_for_exactly(kind):
    model = after_normalization(kind)
    gamma = np.array(model.get_layer("bn").gamma)
    gamma[:3] = 0.0
    model.get_layer("bn").gamma.assign(gamma)
    narrow = keras_gcp.apply(model, plan_without(model, [0, 1, 2]), compensation="fold")
    inputs = inputs_for(model, batch=16)
    for a, b in zip(flat_outputs(narrow, inputs), flat_outputs(model, inputs), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4)


def test_the_copy_of_a_channel_takes_most_of_its_place():
    model = after_normalization()
    for weight in [model.get_layer("producer").kernel, *model.get_layer("producer").weights[1:]]:
        value = np.array(weight)
        value[..., 1] = value[..., 0]
        weight.assign(value)
    for weight in model.get_layer("bn").weights:
        value = np.array(weight)
        value[1] = value[0]
        weight.assign(value)
    inputs = inputs_for(model, batch=32)
    set_statistics_to_those_of(model, inputs)
    plan, wide = plan_without(model, [1]), flat_outputs(model, inputs)[0]
    plain = flat_outputs(keras_gcp.apply(model, plan), inputs)[0]
    refitted = flat_outputs(keras_gcp.apply(model, plan, compensation="least_squares"), inputs)[0]
    assert np.square(refitted - wide).sum() < 0.5 * np.square(plain - wide).sum()


def test_where_statistics_are_those_of_the_data_it_comes_near_to_a_sample():
    model = after_normalization()
    inputs = inputs_for(model, batch=256)
    set_statistics_to_those_of(model, inputs)
    plan, wide = random_plan(model, share=0.5), flat_outputs(model, inputs)[0]

    def error(*arguments, **options):
        narrow = keras_gcp.apply(model, plan, *arguments, **options)
        return np.square(flat_outputs(narrow, inputs)[0] - wide).sum()

    plain, by_noise, by_sample = error(), error(compensation="least_squares"), error(inputs)
    assert by_sample < by_noise
    assert plain - by_noise > 0.6 * (plain - by_sample) > 0


def test_a_layer_that_no_normalization_comes_before_keeps_every_bit():
    inputs = keras.Input((6, 6, 2))
    x = layers.Conv2D(8, 3, activation="relu", name="first")(inputs)
    x = layers.Conv2D(6, 3, name="second")(x)
    x = layers.ReLU()(layers.BatchNormalization(name="bn")(x))
    model = randomise(keras.Model(inputs, layers.Conv2D(3, 1, name="third")(x)))
    plan = random_plan(model, share=0.6)
    plain = keras_gcp.apply(model, plan)
    refitted = keras_gcp.apply(model, plan, compensation="least_squares")
    for name, same in (("first", True), ("second", True), ("third", False)):
        pairs = zip(*(one.get_layer(name).get_weights() for one in (plain, refitted)), strict=True)
        assert all(np.array_equal(a, b) for a, b in pairs) == same


def test_statistics_are_known_after_normalizations_on_all_ways():
    inputs = keras.Input((6, 6, 4))
    known = layers.ReLU(name="relu")(layers.BatchNormalization(name="known")(inputs))
    mixed = layers.Add()([known, inputs])
    readers = [layers.Conv2D(3, 1, name="reads_known")(known), layers.Conv2D(2, 1)(mixed)]
    model = randomise(keras.Model(inputs, readers))
    graph = trace(model).graph
    found = with_known_statistics(graph)
    names = [call.operation.name for call in graph.calls if call.outputs[0].index in found]
    assert sorted(names) == ["known", "reads_known", "relu"]


def test_prune_compensates_on_noise_where_apply_carries_out_a_plan_to_the_letter():
    model = randomise(networks.plain())
    budget = {"macs": 0.6}
    plan = keras_gcp.plan(model, budget)
    pruned = keras_gcp.prune(model, budget).get_weights()
    to_the_letter = keras_gcp.apply(model, plan).get_weights()
    for found, how in (
        (pruned, {"compensation": "least_squares"}),
        (to_the_letter, {"compensation": None}),
    ):
        expected = keras_gcp.apply(model, plan, **how).get_weights()
        for a, b in zip(found, expected, strict=True):
            np.testing.assert_array_equal(a, b)
    assert not all(np.array_equal(a, b) for a, b in zip(pruned, to_the_letter, strict=True))


@pytest.mark.parametrize("name", ["concatenation", "grouped", "nested", "siamese"])
def test_networks_of_every_shape_run_through_it(name):
    model = randomise(networks.ALL[name]())
    before = [np.array(weight) for weight in model.get_weights()]
    narrow = keras_gcp.prune(model, {"channels": 0.7})
    assert all(np.isfinite(y).all() for y in flat_outputs(narrow, inputs_for(model, batch=4)))
    assert all(np.array_equal(a, b) for a, b in zip(before, model.get_weights(), strict=True))


def test_narrow_in_place_does_what_apply_does():
    model = randomise(networks.plain())
    plan = random_plan(model)
    copy = keras_gcp.apply(model, plan, compensation="least_squares")
    keras_gcp.narrow(model, plan, compensation="least_squares")
    for a, b in zip(copy.get_weights(), model.get_weights(), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    "build",
    [
        lambda: randomise(networks.sequence()),  # It reads words.
        lambda: without_normalization(),
        networks.plain,  # It has not been trained.
    ],
)
def test_words_and_networks_without_trained_normalization_need_examples(build):
    model = build()
    with pytest.raises(InvalidArgument, match="needs examples"):
        keras_gcp.prune(model, {"channels": 0.7}, compensation="least_squares")
    keras_gcp.prune(model, {"channels": 0.7})


def without_normalization():
    inputs = keras.Input((8, 8, 3))
    x = layers.Conv2D(8, 3, activation="relu")(inputs)
    return keras.Model(inputs, layers.Conv2D(4, 3)(x))


def test_noise_is_the_same_each_time_and_fits_the_model():
    model = networks.siamese()
    first, again = noise_sample(model), noise_sample(model)
    assert len(first) == EXAMPLES
    for a, b in zip(*(keras.tree.flatten(one.x) for one in (first, again)), strict=True):
        np.testing.assert_array_equal(a, b)


@given(st.lists(st.integers(1, 9), min_size=0, max_size=3), st.integers(1, 3))
def test_pink_noise_keeps_shape_and_variance(places, channels):
    noise = np.random.default_rng(0).standard_normal((4, *places, channels)).astype("float32")
    result = pink(noise)
    assert result.shape == noise.shape and result.dtype == noise.dtype
    assert np.isfinite(result).all()
    assert not places or result.std() == pytest.approx(1, rel=1e-3)


def test_neighbouring_places_of_pink_noise_are_alike():
    noise = np.random.default_rng(0).standard_normal((8, 32, 32, 2)).astype("float32")

    def likeness(x):
        return np.corrcoef(x[:, 1:].ravel(), x[:, :-1].ravel())[0, 1]

    assert abs(likeness(noise)) < 0.05 and likeness(pink(noise)) > 0.6
