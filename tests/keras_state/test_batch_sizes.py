"""Models of a fixed batch size, and recurrent layers that go on where the last batch ended."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from helpers import flat_outputs, masked_by_hand, randomise
from keras import layers

import keras_gcp
from keras_gcp import backend, keras_state
from keras_gcp.channels.trace import trace
from keras_gcp.compensation import compensated, parse
from keras_gcp.errors import InvalidArgument, UnsupportedModel
from keras_gcp.sample import draw_sample
from keras_gcp.selection.planning import keep_of


def recurrent(batch=2):
    inputs = keras.Input(batch_shape=(batch, 6, 5), name="steps")
    lstm = layers.LSTM(4, stateful=batch is not None, return_sequences=True, name="lstm")
    x = layers.Conv1D(8, 3, activation="relu", name="after")(lstm(inputs))
    x = layers.Dense(6, activation="relu", name="hidden")(layers.GlobalAveragePooling1D()(x))
    return keras.Model(inputs, layers.Dense(3, activation="softmax", name="out")(x))


def both_ways(batch=3):
    inputs = keras.Input(batch_shape=(batch, 5, 4), name="steps")
    x = layers.Dense(8, activation="relu", name="before")(inputs)
    gru = layers.GRU(3, stateful=batch is not None, return_sequences=True, name="gru")
    x = layers.Dense(6, activation="relu", name="after")(layers.Bidirectional(gru, name="two")(x))
    x = layers.GlobalMaxPooling1D()(x)
    return keras.Model(inputs, layers.Dense(3, activation="softmax", name="out")(x))


def reshaped(batch=3):
    """No recurrent layer, but its graph holds the number of examples."""
    inputs = keras.Input(batch_shape=(batch, 6, 6, 2), name="pixels")
    x = layers.Conv2D(8, 3, activation="relu", name="before")(inputs)
    x = keras.ops.reshape(x, (-1 if batch is None else batch, 16, 8))
    x = layers.Conv1D(6, 3, activation="relu", name="after")(x)
    x = layers.GlobalAveragePooling1D()(x)
    return keras.Model(inputs, layers.Dense(3, activation="softmax", name="out")(x))


NETWORKS = {"recurrent": recurrent, "both_ways": both_ways, "reshaped": reshaped}


def built(name):
    """The model after some batches, its twin that takes any number of examples, and examples."""
    keras.utils.set_random_seed(0)
    model, twin = randomise(NETWORKS[name]()), NETWORKS[name](None)
    twin.set_weights(model.get_weights())
    rng = np.random.default_rng(0)
    x = rng.normal(size=(4 * keras_state.fixed_batch(model), *model.inputs[0].shape[1:]))
    x = x.astype("float32")
    model(x[: keras_state.fixed_batch(model)])
    return model, twin, x, np.arange(len(x)) % 3


def kept_whole(model):
    """The recurrent layers: units with a state stay, those of the twin need not."""
    return [name for name in ("lstm", "two") if any(one.name == name for one in model.layers)]


def states_of(model):
    return [
        np.array(keras.ops.convert_to_numpy(state.value))
        for layer in keras_state.stateful_layers(model)
        for state in keras.tree.flatten(layer.states)
        if state is not None
    ]


def assert_same(before, after):
    assert len(before) == len(after)
    assert all(np.array_equal(a, b) for a, b in zip(before, after, strict=True))


@pytest.fixture(params=sorted(NETWORKS))
def case(request):
    return built(request.param)


def test_any_number_of_examples_is_predicted_in_whole_batches_and_states_stay(case):
    model, twin, x, _ = case
    before = states_of(model)
    assert all(state.any() for state in before)
    some = x[:-1]
    (expected,) = flat_outputs(twin, some)
    np.testing.assert_allclose(backend.predict(model, some), expected, rtol=1e-5, atol=1e-6)
    with backend.Predictor(model, batch_size=64, compile=False) as predictor:
        parts = list(predictor.batches(backend.local_weights(model), some, some))
    outputs = np.concatenate([keras.ops.convert_to_numpy(y) for _, _, y in parts])
    np.testing.assert_allclose(outputs, expected, rtol=1e-5, atol=1e-6)
    assert_same(before, states_of(model))


def test_a_cut_copy_and_a_cut_model_compute_what_the_masked_model_does(case):
    model, twin, x, _ = case
    before = states_of(model)
    plan = keras_gcp.plan(model, {"channels": 0.6}, selection={"align": 1})
    (expected,) = masked_by_hand(twin, plan, x)
    copy = keras_gcp.apply(model, plan)
    assert keras_state.fixed_batch(copy) == keras_state.fixed_batch(model)
    np.testing.assert_allclose(backend.predict(copy, x), expected, rtol=1e-4, atol=1e-5)
    assert_same(before, states_of(model))
    keras_gcp.narrow(model, plan)
    np.testing.assert_allclose(backend.predict(model, x), expected, rtol=1e-4, atol=1e-5)
    assert_same(before, states_of(model))


def test_cuts_are_compensated_as_those_of_the_twin(case):
    model, twin, x, y = case
    before = states_of(model)
    found = []
    for one in (model, twin):
        exclude = kept_whole(one)
        plan = keras_gcp.plan(one, {"channels": 0.6}, selection={"align": 1}, exclude=exclude)
        channels = trace(one, exclude)
        sample = draw_sample((x, y), None, 0, one)
        values = compensated(channels, keep_of(plan, channels), sample, parse("auto", "auto", True))
        found.append([values.get(id(v)) for v in one.weights])
    for own, wanted in zip(*found, strict=True):
        assert (own is None) == (wanted is None)
        if own is not None:
            np.testing.assert_allclose(own, wanted, rtol=1e-3, atol=1e-4)
    assert_same(before, states_of(model))


@pytest.mark.parametrize("criterion", ["taylor", "compensation_aware", "feature_relevance"])
def test_channels_are_ranked_as_those_of_the_twin(case, criterion):
    model, twin, x, y = case
    if criterion == "feature_relevance" and any(layer.name == "two" for layer in model.layers):
        pytest.skip("relevance has no rule for recurrent layers")
    before = states_of(model)
    plans = []
    for one in (model, twin):
        one.compile("sgd", "sparse_categorical_crossentropy")
        options = {"selection": {"align": 1}, "exclude": kept_whole(one)}
        plans.append(keras_gcp.plan(one, {"channels": 0.6}, criterion, (x, y), **options))
    assert plans[0].keeps_what_is_kept_by(plans[1])
    assert_same(before, states_of(model))


def test_metrics_are_those_of_the_twin_whatever_the_batch_size(case):
    model, twin, x, y = case
    before = states_of(model)
    twin.compile("sgd", "sparse_categorical_crossentropy", metrics=["accuracy"])
    model.compile("sgd", "sparse_categorical_crossentropy", metrics=["accuracy"])
    options = {"shares": (0.5,), "verbose": 0, "exclude": kept_whole(model)}
    wanted = keras_gcp.sensitivity(twin, (x, y), **options).to_dict()
    found = keras_gcp.sensitivity(model, (x, y), batch_size=5, **options).to_dict()
    assert found["groups"] == wanted["groups"]
    assert_same(before, states_of(model))


def test_a_sample_has_whole_batches():
    model = reshaped()
    x, y = np.zeros((11, 6, 6, 2), "float32"), np.arange(11) % 3
    sizes = {size: len(draw_sample((x, y), size, 0, model)) for size in (None, 1, 5, 11, 100)}
    assert sizes == {None: 9, 1: 3, 5: 3, 11: 9, 100: 9}
    batches = [(x[i : i + 4], y[i : i + 4]) for i in range(0, 11, 4)]
    assert len(draw_sample(iter(batches), 7, 0, model)) == 6
    with pytest.raises(InvalidArgument, match="batches of 3 examples.*The sample has 2"):
        draw_sample((x[:2], y[:2]), None, 0, model)


@pytest.mark.needs_tensorflow("it writes TFLite files")
def test_files_have_the_batch_size_of_the_model_and_begin_anew(tmp_path):
    model, twin, x, _ = built("recurrent")
    before = states_of(model)
    written = keras_gcp.export(model, tmp_path, ["keras", "tflite"], sample=x)
    assert [file.examples for file in written] == [2, 2]
    assert_same(before, states_of(model))
    loaded = keras.models.load_model(written[0].path, compile=False)
    np.testing.assert_allclose(
        flat_outputs(loaded, x[:2]), flat_outputs(twin, x[:2]), rtol=1e-5, atol=1e-6
    )


@pytest.mark.needs_tensorflow("it writes TFLite files")
def test_files_of_models_without_a_state_are_compared_on_all_examples(tmp_path):
    model, _, x, _ = built("reshaped")
    formats = ["keras", "saved_model", "tflite"]
    written = keras_gcp.export(model, tmp_path, formats, sample=x[:-1])
    assert [file.examples for file in written] == [9, 9, 9]


@pytest.mark.not_on("torch", "Keras cannot train stateful layers there, pruned or not")
def test_a_training_with_states_is_pruned():
    model, _, x, y = built("recurrent")
    x, y = x[:4], y[:4]
    model.compile("sgd", "sparse_categorical_crossentropy", run_eagerly=True)
    pruning = keras_gcp.GradualChannelPruning(
        (x, y),
        {"channels": 0.6},
        keras_gcp.schedules.one_shot(1),
        criterion="l2_norm",
        selection={"align": 1},
        verbose=0,
        guard=keras_gcp.AccuracyGuard((x, y), 0.9),
    )
    model.fit(x, y, batch_size=2, epochs=2, shuffle=False, verbose=0, callbacks=[pruning])
    (event,) = pruning.events
    assert event.removed_channels and event.loss_after is not None
    assert model.get_layer("after").filters < 8


def test_learning_from_a_model_with_states_is_refused_with_the_layer():
    model, _, x, y = built("recurrent")
    model.compile("sgd", "sparse_categorical_crossentropy")
    pruning = keras_gcp.GradualChannelPruning(
        (x, y),
        {"channels": 0.6},
        criterion="l2_norm",
        distillation=keras_gcp.Distillation(),
        verbose=0,
    )
    with pytest.raises(UnsupportedModel, match="'lstm'.*stateful=False"):
        model.fit(x, y, batch_size=2, epochs=3, verbose=0, callbacks=[pruning])
