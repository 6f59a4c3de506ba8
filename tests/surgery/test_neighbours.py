"""Models that share layers with the one that is cut, and have calls of their own."""

from __future__ import annotations

import gc

import keras
import numpy as np
import pytest
from fitting import compiled, data, slots_of
from helpers import flat_outputs, one_line, randomise
from keras import layers, ops

import keras_gcp
from keras_gcp.channels.trace import trace
from keras_gcp.errors import InvalidArgument, VerificationFailed
from keras_gcp.selection.planning import keep_of
from keras_gcp.surgery.masking import masked
from keras_gcp.surgery.neighbours import masked_neighbours


def encoder():
    inputs = keras.Input((8, 8, 3))
    x = layers.Conv2D(16, 3, padding="same", name="stem")(inputs)
    x = layers.ReLU()(layers.BatchNormalization(name="stem_bn")(x))
    return inputs, layers.Conv2D(12, 3, name="enc")(x)


def head(x, name, **kwargs):
    x = layers.ReLU()(layers.BatchNormalization(name=f"{name}_bn")(x))
    x = layers.Conv2D(8, 3, name=f"{name}_conv", **kwargs)(x)
    return layers.Dense(4, name=f"{name}_out")(layers.GlobalAveragePooling2D()(x))


def two_heads():
    inputs, x = encoder()
    first = keras.Model(inputs, head(x, "a"), name="first")
    second = keras.Model(inputs, head(x, "b"), name="second")
    return first, second


def dense_skip():
    """The second model ties the encoder's channels to channels that it alone produces."""
    inputs, x = encoder()
    first = keras.Model(inputs, head(x, "a"), name="first")
    own = layers.Conv2D(12, 3, name="own")(layers.Conv2D(5, 3, padding="same")(inputs))
    return first, keras.Model(inputs, head(layers.Add()([x, own]), "b"), name="second")


def another_input():
    """A decoder that also runs alone, on inputs of its own: they are as wide as they are."""
    inputs, x = encoder()
    decode = layers.Conv2D(3, 3, name="decode")
    first = keras.Model(inputs, decode(x), name="first")
    code = keras.Input((6, 6, 12))
    return first, keras.Model(code, decode(code), name="second")


def concatenation():
    inputs, x = encoder()
    first = keras.Model(inputs, head(x, "a"), name="first")
    y = layers.Concatenate()([x, layers.Conv2D(5, 3, name="b_own")(inputs), x])
    return first, keras.Model(inputs, head(y, "b"), name="second")


def nested_encoder():
    """The encoder is a model; a third model reads inner tensors of it."""
    inputs, x = encoder()
    inner = keras.Model(inputs, x, name="encoder")
    image = keras.Input((8, 8, 3))
    first = keras.Model(image, head(inner(image), "a"), name="first")
    return first, keras.Model(inner.inputs[0], head(inner.get_layer("stem_bn").output, "b"))


def wrapped():
    """The first model as a part of another one, as where probabilities are asked for."""
    first, _ = two_heads()
    return first, keras.Sequential([keras.Input((8, 8, 3)), first, layers.Softmax()], name="second")


def sequential():
    """Two sequential models that were given the same layers."""
    shared = [
        keras.Input((8, 8, 3)),
        layers.Conv2D(16, 3, name="c"),
        layers.Conv2D(12, 3, name="d"),
    ]
    ends = ([layers.Flatten(), layers.Dense(4)] for _ in range(2))
    first, second = (keras.Sequential([*shared, *end]) for end in ends)
    return first, second


FOLLOWING = [two_heads, concatenation, nested_encoder, wrapped, sequential]


def planned(model, share=0.5):
    return keras_gcp.plan(
        model, {"macs": share}, selection={"align": 1, "floor": 1, "ranking": "uniform"}
    )


def images(count=4):
    return np.random.default_rng(1).normal(size=(count, 8, 8, 3)).astype("float32")


@pytest.mark.parametrize("make", FOLLOWING, ids=lambda make: make.__name__)
def test_a_second_model_computes_what_it_computes_when_masked(make):
    first, second = map(randomise, make())
    plan, x = planned(first), images()
    channels = trace(first, in_place=True)
    with masked(channels, keep_of(plan, channels)):
        expected = [flat_outputs(model, x) for model in (first, second)]
    before = second.count_params()
    keras_gcp.narrow(first, plan)
    for model, outputs in zip((first, second), expected, strict=True):
        for actual, wanted in zip(flat_outputs(model, x), outputs, strict=True):
            np.testing.assert_allclose(actual, wanted, atol=1e-5)
    assert second.count_params() < before


@pytest.mark.parametrize("make", FOLLOWING, ids=lambda make: make.__name__)
def test_a_second_model_is_saved_and_loaded_as_narrow_as_it_is(make, tmp_path):
    first, second = map(randomise, make())
    keras_gcp.narrow(first, planned(first))
    x, path = images(), tmp_path / "second.keras"
    second.save(path)
    loaded = keras.models.load_model(path)
    np.testing.assert_allclose(*flat_outputs(loaded, x), *flat_outputs(second, x), atol=1e-5)


def test_masking_by_zeroed_inputs_gives_the_same_for_the_second_head():
    """Another way than the library's: the encoder's map is multiplied by zeros and ones."""
    first, second = map(randomise, two_heads())
    plan, x = planned(first), images()
    assert not plan.layers["enc"].all()
    stem, enc = (ops.convert_to_tensor(plan.layers[n].astype("float32")) for n in ("stem", "enc"))
    y = second.get_layer("stem_bn")(second.get_layer("stem")(x), training=False)
    y = second.get_layer("enc")(ops.relu(y) * stem)
    y = ops.relu(second.get_layer("b_bn")(y, training=False)) * enc
    y = second.get_layer("b_out")(ops.mean(second.get_layer("b_conv")(y), axis=(1, 2)))
    expected = ops.convert_to_numpy(y)
    keras_gcp.narrow(first, plan)
    np.testing.assert_allclose(flat_outputs(second, x)[0], expected, atol=1e-5)


def test_the_second_model_trains_on_with_the_slots_of_its_own_optimizer():
    first, second = map(randomise, two_heads())
    x, y = images(16), np.arange(16) % 4
    for model in (first, second):
        model.compile(
            keras.optimizers.Adam(1e-2),
            keras.losses.SparseCategoricalCrossentropy(from_logits=True),
            run_eagerly=True,
        )
        model.fit(x, y, verbose=0)
    kernel, moments = second.get_layer("b_conv").kernel, slots_of(second)
    keras_gcp.narrow(first, planned(first))
    kept = first.get_layer("enc").filters
    assert kept < 12
    assert tuple(kernel.shape) == (3, 3, kept, 8)
    assert sum(slot.size for slot in slots_of(second)) < sum(slot.size for slot in moments)
    before = [np.array(value) for value in second.get_weights()]
    second.fit(x, y, verbose=0)
    moved = [not np.array_equal(a, b) for a, b in zip(before, second.get_weights(), strict=True)]
    assert all(moved)


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (dense_skip, "layer 'second/own' of model 'second'"),
        (another_input, "input of model 'second'"),
    ],
)
def test_channels_that_a_second_model_cannot_do_without_stay_and_the_plan_says_why(make, reason):
    first, second = map(randomise, make())
    x = np.random.default_rng(0).normal(size=(2, *second.input_shape[1:])).astype("float32")
    (before,) = flat_outputs(second, x)
    plan = planned(first, 0.8)
    assert plan.layers["enc"].all()
    assert reason in one_line(plan.explain())
    alone = keras_gcp.plan(
        keras.models.clone_model(first),
        {"macs": 0.5},
        selection={"align": 1, "floor": 1, "ranking": "uniform"},
    )
    assert not alone.layers["enc"].all()
    with pytest.raises(InvalidArgument, match=reason):
        keras_gcp.narrow(first, alone)
    keras_gcp.narrow(first, plan)
    (after,) = flat_outputs(second, x)
    assert after.shape == before.shape


def test_a_mean_over_channels_in_another_model_keeps_them():
    inputs, x = encoder()
    first = randomise(keras.Model(inputs, head(x, "a"), name="first"))
    second = keras.Model(inputs, ops.mean(x, axis=-1), name="second")
    images_, plan = images(), planned(first, 0.8)
    assert plan.layers["enc"].all() and not plan.layers["stem"].all()
    assert "computes from all of them, in model 'second'" in one_line(plan.explain())
    keras_gcp.narrow(first, plan)
    assert flat_outputs(second, images_)[0].shape == (4, 6, 6)


class Subclassed(keras.Model):
    """Calls layers of another model in Python code of its own."""

    def __init__(self, stem):
        super().__init__(name="subclassed")
        self.stem = stem

    def call(self, x):
        return ops.sum(self.stem(x)[..., 15])


class Trainer(keras.Model):
    """Calls another model as a whole."""

    def __init__(self, network):
        super().__init__(name="trainer")
        self.network = network

    def call(self, x):
        return self.network(x)


def test_layers_that_python_code_of_another_model_calls_stay():
    first = randomise(two_heads()[0])
    other = Subclassed(first.get_layer("stem"))
    before = float(other(images()))
    plan = planned(first, 0.8)
    assert plan.layers["stem"].all() and not plan.layers["enc"].all()
    assert "used by the Python code of model 'subclassed'" in one_line(plan.explain())
    keras_gcp.narrow(first, plan)
    assert float(other(images())) == pytest.approx(before)


def test_a_model_around_the_whole_model_hinders_nothing():
    first = randomise(two_heads()[0])
    trainer = Trainer(first)
    plan = planned(first)
    assert not plan.layers["stem"].all() and not plan.layers["enc"].all()
    keras_gcp.narrow(first, plan)
    trained = ops.convert_to_numpy(trainer(images()))
    np.testing.assert_allclose(trained, flat_outputs(first, images())[0], atol=1e-6)


def test_a_copy_is_pruned_whatever_other_models_need():
    first, second = dense_skip()
    small = keras_gcp.prune(
        first, {"macs": 0.5}, selection={"align": 1, "floor": 1, "ranking": "uniform"}
    )
    assert small.get_layer("enc").filters < 12 == second.get_layer("enc").filters


def test_the_plan_names_models_that_get_narrower_too():
    first, second = two_heads()
    text = planned(first).explain()
    assert "model 'second' shares weights with this one and gets narrower" in one_line(text)
    assert keras_gcp.Plan.from_json(planned(first).to_json()).explain() == text
    del second
    gc.collect()
    assert "second" not in planned(first).explain()


def test_a_second_model_that_comes_out_wrong_takes_the_cut_back(monkeypatch):
    first, second = map(randomise, two_heads())
    before = [np.array(value) for model in (first, second) for value in model.get_weights()]

    def disturbed(channels, keep):
        found = masked_neighbours(channels, keep)
        for one in found:
            one.outputs[0] += 1
        return found

    monkeypatch.setattr("keras_gcp.surgery.cut.masked_neighbours", disturbed)
    with pytest.raises(VerificationFailed, match="model 'second'"):
        keras_gcp.narrow(first, planned(first))
    after = [value for model in (first, second) for value in model.get_weights()]
    for a, b in zip(before, after, strict=True):
        np.testing.assert_array_equal(a, b)


def test_within_fit_the_second_model_follows_every_event():
    x, y = data()
    inputs = keras.Input(x.shape[1:])
    shared = layers.Conv2D(16, 3, activation="relu", name="shared")(inputs)
    ends = [
        layers.Dense(4, activation="softmax")(
            layers.GlobalAveragePooling2D()(layers.Conv2D(8, 3)(shared))
        )
        for _ in range(2)
    ]
    first, second = (compiled(keras.Model(inputs, end), run_eagerly=True) for end in ends)
    second.fit(x, y, verbose=0)
    pruning = keras_gcp.GradualChannelPruning(
        (x, y),
        {"macs": 0.5},
        keras_gcp.schedules.linear(1, 2),
        "l2_norm",
        selection={"align": 1},
        verbose=0,
    )
    first.fit(x, y, epochs=3, callbacks=[pruning], verbose=0)
    width = first.get_layer("shared").filters
    assert width < 16 and len(pruning.events) == 2
    assert second.layers[2].kernel.shape[2] == width
    second.fit(x, y, verbose=0)


def test_what_a_sequential_model_was_while_it_grew_is_no_other_model():
    model = keras.Sequential([keras.Input((8, 8, 3))])
    for width in (16, 12):
        model.add(layers.Conv2D(width, 3))
    model.add(layers.Flatten())
    model.add(layers.Dense(3))
    assert planned(model).outlooks == ()
