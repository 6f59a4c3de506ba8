"""Models that `TimeDistributed` repeats are followed inside."""

from __future__ import annotations

import re

import keras
import numpy as np
import pytest
from fitting import compiled, fit, pruning, weights_of
from helpers import flat_outputs, inputs_for, masked_by_hand, random_plan, randomise
from keras import layers

import keras_gcp
from keras_gcp.channels.trace import trace
from keras_gcp.criteria.relevance.conservation import conservation_report
from keras_gcp.errors import UnsupportedModel

STEPS = 3


def in_time(layer, name):
    return layers.TimeDistributed(layer, name=name)


def cnn(classes=None):
    """Convolutions with a pooling and a normalization, for one frame."""
    parts = [
        keras.Input((8, 8, 3)),
        layers.Conv2D(8, 3, activation="relu", name="first"),
        layers.MaxPooling2D(name="pool"),
        layers.BatchNormalization(name="bn"),
        layers.Conv2D(6, 3, padding="same", activation="relu", name="second"),
        layers.GlobalAveragePooling2D(name="mean"),
    ]
    if classes:
        parts.append(layers.Dense(classes, activation="softmax", name="scores"))
    return keras.Sequential(parts, name="cnn")


def frames(*shape):
    return keras.Input((STEPS, *shape))


def cnn_lstm():
    inputs = frames(8, 8, 3)
    x = layers.LSTM(5, name="lstm")(in_time(cnn(), "each_frame")(inputs))
    return keras.Model(inputs, layers.Dense(4, activation="softmax", name="classifier")(x))


def averaged():
    inputs = frames(8, 8, 3)
    x = layers.GlobalAveragePooling1D()(in_time(cnn(), "each_frame")(inputs))
    return keras.Model(inputs, layers.Dense(4, activation="softmax", name="classifier")(x))


def residual():
    """A block with a shortcut and normalizations, built by functions."""
    inputs = keras.Input((8, 8, 3))
    x = layers.Conv2D(8, 3, padding="same", use_bias=False, name="stem")(inputs)
    x = layers.ReLU()(layers.BatchNormalization(name="stem_bn")(x))
    y = layers.Conv2D(6, 3, padding="same", name="a")(x)
    y = layers.ReLU()(layers.BatchNormalization(name="a_bn")(y))
    y = layers.BatchNormalization(name="b_bn")(layers.Conv2D(8, 3, padding="same", name="b")(y))
    x = layers.Flatten()(layers.ReLU()(layers.Add()([x, y])))
    block = keras.Model(inputs, x, name="block")
    video = frames(8, 8, 3)
    x = layers.Conv1D(5, 2, name="over_time")(in_time(block, "blocks")(video))
    return keras.Model(video, layers.Dense(4, name="classifier")(layers.Flatten()(x)))


def one_model_in_two_branches():
    shared = cnn()
    inputs = [frames(8, 8, 3), keras.Input((2, 8, 8, 3)), keras.Input((8, 8, 3))]
    long, short = (in_time(shared, name) for name in ("long", "short"))
    parts = [layers.Flatten()(f(x)) for f, x in zip((long, short, shared), inputs, strict=True)]
    return keras.Model(inputs, layers.Dense(4, name="classifier")(layers.Concatenate()(parts)))


def two_axes_of_time():
    inputs = keras.Input((2, STEPS, 8, 8, 3))
    x = in_time(in_time(cnn(), "views"), "times")(inputs)
    x = layers.Flatten()(layers.Conv2D(5, 1, name="mixing")(x))
    return keras.Model(inputs, layers.Dense(4, name="classifier")(x))


def repeated_in_repeated():
    clip = frames(8, 8, 3)
    x = in_time(layers.Conv2D(6, 1, name="inside"), "single")(clip)
    block = [keras.Input((8, 8, 6)), layers.Conv2D(8, 3, name="a"), layers.LayerNormalization()]
    x = in_time(keras.Sequential([*block, layers.Conv2D(6, 3, name="b")], name="block"), "deep")(x)
    x = layers.Conv1D(7, 2, name="over_time")(layers.Reshape((STEPS, -1))(x))
    model = keras.Model(clip, x, name="clip")
    inputs = keras.Input((2, STEPS, 8, 8, 3))
    x = layers.Flatten()(in_time(model, "clips")(inputs))
    return keras.Model(inputs, layers.Dense(4, name="classifier")(x))


def nested_inside_and_channels_from_outside():
    inner = keras.Input((8, 8, 6))
    head = [keras.Input((6, 6, 8)), layers.Conv2D(5, 1, name="b"), layers.Flatten()]
    x = layers.Conv2D(8, 3, groups=2, name="a")(inner)
    model = keras.Model(inner, keras.Sequential(head, name="head")(x), name="eye")
    inputs = frames(8, 8, 3)
    x = in_time(layers.Conv2D(6, 3, padding="same", name="conv"), "before")(inputs)
    x = layers.Dense(5, name="behind")(in_time(model, "eyes")(x))
    return keras.Model(inputs, layers.Dense(4, name="classifier")(layers.Flatten()(x)))


def per_frame_scores():
    inputs = frames(8, 8, 3)
    return keras.Model(inputs, in_time(cnn(classes=4), "each_frame")(inputs))


def built_when_called():
    model = keras.Sequential(
        [layers.Conv2D(6, 3, name="a"), layers.Flatten(), layers.Dense(5, name="b")], name="late"
    )
    inputs = frames(6, 6, 2)
    x = layers.Flatten()(in_time(model, "each_frame")(inputs))
    return keras.Model(inputs, layers.Dense(4, name="classifier")(x))


NETWORKS = [
    cnn_lstm,
    residual,
    one_model_in_two_branches,
    two_axes_of_time,
    repeated_in_repeated,
    nested_inside_and_channels_from_outside,
    per_frame_scores,
    built_when_called,
]


@pytest.fixture(scope="module", params=NETWORKS)
def cut(request):
    """(wide model, plan, narrow copy), half of the channels gone."""
    model = randomise(request.param())
    plan = random_plan(model)
    return model, plan, keras_gcp.apply(model, plan)


def assert_close(actual, expected):
    for a, b in zip(actual, expected, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)


def test_the_narrow_network_is_the_masked_one(cut):
    model, plan, narrow = cut
    inputs = inputs_for(model)
    assert_close(flat_outputs(narrow, inputs), masked_by_hand(model, plan, inputs))
    inside = [path for path, width in plan.original_widths().items() if "/" in path]
    assert any(len(plan.kept(path)) < plan.original_widths()[path] for path in inside)
    counted = keras_gcp.count(narrow)
    assert (counted.macs, counted.parameters) == (plan.after.macs, plan.after.parameters)
    assert counted.parameters == narrow.count_params()


def test_cut_in_place_it_is_the_same(cut):
    model, plan, narrow = cut
    again = keras_gcp.apply(model, random_plan(model, share=1.0))
    keras_gcp.narrow(again, plan)
    inputs = inputs_for(model)
    assert_close(flat_outputs(again, inputs), flat_outputs(narrow, inputs))


def test_a_rebuilt_narrow_network_is_the_same(cut, tmp_path):
    model, _, narrow = cut
    inputs = inputs_for(model)
    if "long" in {layer.name for layer in model.layers}:
        with pytest.raises(ValueError, match="could not be loaded"):  # Keras alone cannot, either.
            _loaded(model, tmp_path)
        return
    for a, b in zip(
        flat_outputs(_loaded(narrow, tmp_path), inputs), flat_outputs(narrow, inputs), strict=True
    ):
        np.testing.assert_array_equal(a, b)


def _loaded(model, folder):
    model.save(folder / "model.keras")
    return keras.models.load_model(folder / "model.keras")


def test_a_flat_form_is_cut_alike(cut):
    model, _, _ = cut
    flat = keras_gcp.flatten(model)
    plan, inputs = random_plan(flat), inputs_for(flat)
    narrow = keras_gcp.apply(flat, plan)
    assert_close(flat_outputs(narrow, inputs), masked_by_hand(flat, plan, inputs))


# ---- what is counted


def test_the_model_inside_is_counted_for_every_step():
    alone, counted = keras_gcp.count(cnn()), keras_gcp.count(cnn_lstm())
    inside = {path: part for path, part in counted.layers.items() if "/" in path}
    assert sum(part.macs for part in inside.values()) == STEPS * alone.macs
    assert sum(part.parameters for part in inside.values()) == alone.parameters
    assert inside["each_frame/cnn/first"].macs == STEPS * 6 * 6 * 9 * 3 * 8
    twice = keras_gcp.count(two_axes_of_time()).layers
    assert twice["times/views/cnn/first"].macs == 2 * STEPS * 6 * 6 * 9 * 3 * 8
    assert counted.uncounted == {}


def test_it_costs_what_it_costs_layer_by_layer_in_time():
    model = cnn()
    inputs = x = frames(8, 8, 3)
    for layer in model.layers:
        x = in_time(layer, f"in_time_{layer.name}")(x)
    counted = keras_gcp.count(keras.Model(inputs, x))
    whole = keras_gcp.count(keras.Model(inputs, in_time(model, "each_frame")(inputs)))
    assert (counted.macs, counted.weights) == (whole.macs, whole.weights)


# ---- names


def test_layers_inside_are_named_by_their_path():
    model = cnn_lstm()
    plan = keras_gcp.plan(
        model,
        {"macs": 0.8},
        selection={"align": 1, "floor": {"each_frame/cnn/first": 5}, "cap": None},
    )
    assert len(plan.kept("each_frame/cnn/first")) >= 5
    assert len(plan.kept("first")) == len(plan.kept("each_frame/cnn/first")) < 8
    for name in ("each_frame", "each_frame/cnn", "each_frame/cnn/first"):
        channels = trace(model, exclude=[name])
        assert not channels.prunable[channels.produced["each_frame/cnn/first"]].any()


# ---- training


@pytest.mark.parametrize("criterion", ["feature_relevance", "taylor"])
def test_it_is_pruned_while_it_trains(criterion):
    model = compiled(averaged(), run_eagerly=True)
    rng = np.random.default_rng(0)
    examples = rng.normal(size=(32, STEPS, 8, 8, 3)).astype("float32"), np.arange(32) % 4
    callback = pruning({"macs": 0.6}, criterion=criterion, sample=examples)
    fit(model, [callback], epochs=2, examples=examples)
    assert callback.events[0].removed_channels > 0
    before = weights_of(model)
    fit(model, [], epochs=1, examples=examples)
    for variable, then, now in zip(model.weights, before, weights_of(model), strict=True):
        assert not np.array_equal(then, now), variable.path


@pytest.mark.slow
def test_a_cnn_lstm_is_pruned_while_it_trains_compiled():
    model = compiled(cnn_lstm())
    rng = np.random.default_rng(0)
    examples = rng.normal(size=(32, STEPS, 8, 8, 3)).astype("float32"), np.arange(32) % 4
    callback = pruning({"macs": 0.8}, sample=examples)
    fit(model, [callback], epochs=2, examples=examples)
    assert model.get_layer("each_frame").layer.get_layer("first").filters < 8


def test_relevance_inside_is_that_of_the_layers_in_time_one_by_one():
    model, x, y = cnn(), *_labelled(4)
    inputs = one_by_one = frames(8, 8, 3)
    for layer in model.layers:
        one_by_one = in_time(layer, layer.name)(one_by_one)
    whole = in_time(model, "each_frame")(inputs)
    head = layers.Dense(4, activation="softmax", name="classifier")
    average = layers.GlobalAveragePooling1D()
    single, inside = (
        keras_gcp.relevance_scores(keras.Model(inputs, head(average(z))), x, y)
        for z in (one_by_one, whole)
    )
    for name in ("first", "bn", "second"):
        np.testing.assert_allclose(
            inside[f"each_frame/cnn/{name}"], single[name], rtol=1e-4, atol=1e-6
        )


def test_relevance_of_a_binary_class_for_every_step():
    parts = [keras.Input((6, 6, 2)), layers.Conv2D(5, 3, activation="relu", name="first")]
    parts += [layers.Flatten(), layers.Dense(1, activation="sigmoid", name="score")]
    inputs = one_by_one = frames(6, 6, 2)
    model = keras.Sequential(parts, name="cnn")
    for layer in model.layers:
        one_by_one = in_time(layer, layer.name)(one_by_one)
    rng = np.random.default_rng(0)
    x = rng.normal(size=(10, STEPS, 6, 6, 2)).astype("float32")
    y = rng.integers(0, 2, (10, STEPS))
    single = keras_gcp.relevance_scores(keras.Model(inputs, one_by_one), x, y)
    whole = keras.Model(inputs, in_time(model, "each_frame")(inputs))
    inside = keras_gcp.relevance_scores(whole, x, y)
    np.testing.assert_allclose(inside["each_frame/cnn/first"], single["first"], rtol=1e-4)


def test_relevance_is_conserved_on_its_way_through_the_steps():
    for found in conservation_report(averaged(), *_labelled(4)).values():
        assert found.total == pytest.approx(1, abs=0.01)


def _labelled(classes, count=12):
    rng = np.random.default_rng(0)
    return rng.normal(size=(count, STEPS, 8, 8, 3)).astype("float32"), np.arange(count) % classes


def test_a_cut_inside_is_compensated():
    model = randomise(averaged())
    x, _ = _labelled(4, count=64)
    plan = random_plan(model, share=0.7)
    expected = model.predict(x, verbose=0)
    errors = [
        np.square(keras_gcp.apply(model, plan, **options).predict(x, verbose=0) - expected).mean()
        for options in ({"sample": x}, {})
    ]
    assert errors[0] < 0.5 * errors[1]


# ---- models that share, and what cannot be followed


def test_the_model_inside_lives_on_by_itself():
    model = averaged()
    inner = model.get_layer("each_frame").layer
    x = np.zeros((2, 8, 8, 3), "float32")
    inner.predict(x, verbose=0)
    plan = random_plan(model)
    keras_gcp.narrow(model, plan)
    assert inner.predict(x, verbose=0).shape == (2, len(plan.kept("second")))
    assert inner.output_shape == (None, len(plan.kept("second")))


def test_a_layer_inside_and_outside_of_a_wrapper_is_one_layer_in_a_copy():
    shared = layers.Conv2D(5, 3, padding="same", name="shared")
    video, image = frames(8, 8, 3), keras.Input((8, 8, 3))
    parts = [layers.Flatten()(y) for y in (in_time(shared, "in_time")(video), shared(image))]
    model = keras.Model([video, image], layers.Dense(4)(layers.Concatenate()(parts)))
    plan = random_plan(model)
    narrow = keras_gcp.apply(model, plan)
    assert narrow.get_layer("in_time").layer is narrow.get_layer("shared")
    inputs = inputs_for(model)
    assert_close(flat_outputs(narrow, inputs), masked_by_hand(model, plan, inputs))


@keras.saving.register_keras_serializable("test_time_distributed")
class Block(layers.Layer):
    """Calls its convolutions in Python code."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.a = layers.Conv2D(6, 3, padding="same", name="a")
        self.b = layers.Conv2D(4, 3, padding="same", name="b")

    def call(self, x):
        return self.b(self.a(x))


def test_hidden_layers_inside_are_opened_by_flatten():
    inner = keras.Input((8, 8, 3))
    model = keras.Model(inner, layers.Flatten()(Block(name="block")(inner)), name="inner")
    inputs = frames(8, 8, 3)
    x = layers.Flatten()(in_time(model, "each_frame")(inputs))
    model = keras.Model(inputs, layers.Dense(4, name="classifier")(x))
    with pytest.raises(UnsupportedModel, match="'each_frame/inner/block'.*flatten"):
        keras_gcp.count(model)
    flat = randomise(keras_gcp.flatten(model))
    plan, inputs = random_plan(flat), inputs_for(flat)
    assert len(plan.kept("each_frame/inner/a")) < 6
    narrow = keras_gcp.apply(flat, plan)
    assert_close(flat_outputs(narrow, inputs), masked_by_hand(flat, plan, inputs))


@keras.saving.register_keras_serializable("test_time_distributed")
class Subclassed(keras.Model):
    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.dense = layers.Dense(6)

    def build(self, shape):
        self.dense.build(shape)

    def call(self, x):
        return self.dense(x)

    def compute_output_shape(self, shape):
        return (*shape[:-1], 6)


def encoder(**options):
    inputs = keras.Input(**(options or {"shape": (5,)}))
    return keras.Model(inputs, layers.Dense(6, name="inside")(inputs), name="encoder")


@pytest.mark.parametrize(
    "build, before, why",
    [
        (Subclassed, None, r"\(class Subclassed\) has no graph"),
        (lambda: encoder(batch_shape=(4, 5)), None, "model 'encoder' has a fixed batch size"),
        (encoder, layers.Masking(), "it is called with a mask"),
    ],
)
def test_what_cannot_be_followed_inside_is_named_and_not_taken_for_counted(build, before, why):
    inputs = keras.Input((STEPS, 4))
    x = layers.Dense(7, name="free")(inputs)
    x = layers.Dense(5, name="stays")(x)
    x = x if before is None else before(x)
    x = layers.Dense(4, name="out")(in_time(build(), "it")(x))
    model = keras.Model(inputs, x)
    plan = keras_gcp.plan(model, {"macs": 0.9}, selection={"align": 1})
    assert len(plan.kept("stays")) == 5 and len(plan.kept("free")) < 7
    assert "'it'" in plan.uncounted["it"]
    assert re.search(f"the model that it repeats cannot be followed: .*{why}", plan.notes["it"])
