"""What weights become so that a cut changes as little as possible."""

import keras
import networks
import numpy as np
import patterns
import pytest
from fitting import AtBeginning, Watch, compiled, data, fit, pruning
from helpers import flat_outputs, inputs_for, random_plan, randomise
from keras import layers

import keras_gcp
from keras_gcp import backend, compensation
from keras_gcp.channels.trace import trace_as_planned
from keras_gcp.errors import InvalidArgument
from keras_gcp.selection.planning import keep_of

METHODS = [("least_squares", True), ("least_squares", False), ("fold", True), ("fold", False)]


def weights_of(model):
    return [np.array(w) for w in model.get_weights()]


def error(narrow, wide, inputs):
    """Squared distance of the outputs, relative to how much the wide model's vary."""
    return sum(
        float(np.square(a - b).mean() / (b.var() + 1e-12))
        for a, b in zip(flat_outputs(narrow, inputs), flat_outputs(wide, inputs), strict=True)
    )


FAST = {
    *("concatenation", "depthwise", "flatten_dense", "grouped", "nested", "residual", "sequence"),
    "shared_layer",
}
"""One of every kind of layer and wiring."""


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=[] if name in FAST else [pytest.mark.slow])
        for name in sorted(networks.ALL)
    ],
)
def test_outputs_come_nearer_to_those_of_the_wide_model_on_every_network(name):
    model = randomise(networks.ALL[name]())
    inputs = inputs_for(model, batch=96)
    plan = random_plan(model, share=0.7)
    before = weights_of(model)
    plain = error(keras_gcp.apply(model, plan), model, inputs)
    folded = error(keras_gcp.apply(model, plan, (inputs, None), compensation="fold"), model, inputs)
    refitted = error(keras_gcp.apply(model, plan, (inputs, None)), model, inputs)
    assert folded < plain and refitted < plain
    assert all(np.array_equal(a, b) for a, b in zip(before, weights_of(model), strict=True))


@pytest.mark.parametrize("name", ["sound_in_time", "translation", "transformer"])
def test_so_do_those_of_networks_over_time(name):
    model = randomise(patterns.ALL[name]())
    inputs, others = inputs_for(model, 96), inputs_for(model, 96, seed=1)
    plan = random_plan(model, share=0.7)
    plain = error(keras_gcp.apply(model, plan), model, others)
    folded = error(keras_gcp.apply(model, plan, (inputs, None), compensation="fold"), model, others)
    refitted = error(keras_gcp.apply(model, plan, (inputs, None)), model, others)
    assert refitted < folded < 0.5 * plain


IN_TIME = {
    "gru": lambda: layers.GRU(5, name="consumer"),
    "gru reset before": lambda: layers.GRU(5, reset_after=False, name="consumer"),
    "lstm": lambda: layers.LSTM(5, return_sequences=True, name="consumer"),
    "simple": lambda: layers.SimpleRNN(5, name="consumer"),
    "both": lambda: layers.Bidirectional(layers.LSTM(5), name="consumer"),
    "cells": lambda: layers.RNN([layers.LSTMCell(4), layers.GRUCell(5)], name="consumer"),
    "heads": lambda: lambda x: layers.MultiHeadAttention(2, 3, name="consumer")(x, x),
    "einsum": lambda: layers.EinsumDense(
        "btc,chd->bthd", (6, 2, 3), bias_axes="hd", name="consumer"
    ),
}
"""Layers that read every vector of channels by kernels of their own."""


def constant_channels(kind):
    """Half of the channels behind a normalization are constants: their gamma is zero."""
    shape, consumer = {
        **{name: ((6, 3), make) for name, make in IN_TIME.items()},
        "dense": ((6,), lambda: layers.Dense(5, name="consumer")),
        "1x1": ((6, 6, 3), lambda: layers.Conv2D(5, 1, name="consumer")),
        "valid": ((6, 6, 3), lambda: layers.Conv2D(5, 3, name="consumer")),
        "same": ((6, 6, 3), lambda: layers.Conv2D(5, 3, padding="same", name="consumer")),
    }[kind]
    inputs = keras.Input(shape)
    first = layers.Conv2D(8, 3, padding="same") if len(shape) == 3 else layers.Dense(8)
    x = layers.BatchNormalization(name="bn")(first(inputs))
    x = consumer()(layers.ReLU()(x))
    model = randomise(keras.Model(inputs, layers.Activation("tanh")(x)))
    gamma = keras.ops.convert_to_numpy(model.get_layer("bn").gamma).copy()
    gamma[::2] = 0
    model.get_layer("bn").gamma.assign(gamma)
    model.get_layer("bn").beta.assign(keras.ops.abs(model.get_layer("bn").beta) + 0.5)

    def constants_last(model, channels, sample):
        lead = next(path for path in channels.produced if path != "consumer")
        return {lead: np.arange(8) % 2 + 1.0}

    return model, keras_gcp.plan(model, {"channels": 0.5}, constants_last, selection={"align": 1})


@pytest.mark.parametrize("method", ["fold", "least_squares"])
@pytest.mark.parametrize("kind", ["dense", "1x1", "valid", *IN_TIME])
def test_removing_constant_channels_is_exact(kind, method):
    model, plan = constant_channels(kind)
    x = np.random.default_rng(3).normal(size=(32, *model.input_shape[1:])).astype("float32")
    narrow = keras_gcp.apply(model, plan, x[:16], compensation=method)
    np.testing.assert_allclose(
        flat_outputs(narrow, x)[0], flat_outputs(model, x)[0], rtol=1e-4, atol=1e-5
    )


def test_at_borders_of_same_convolutions_constants_are_made_up_for_on_average():
    model, plan = constant_channels("same")
    x = np.random.default_rng(3).normal(size=(32, *model.input_shape[1:])).astype("float32")
    plain = error(keras_gcp.apply(model, plan), model, x)
    folded = error(keras_gcp.apply(model, plan, x, compensation="fold"), model, x)
    assert folded < 0.5 * plain


@pytest.mark.parametrize("method,recalibrate", METHODS)
def test_where_nothing_is_removed_nothing_changes(method, recalibrate):
    model = randomise(networks.plain())
    channels = trace_as_planned(model)
    sample = keras_gcp.sample.DrawnSample(inputs_for(model), None)
    keep = np.ones(channels.coupled_count, bool)
    settings = compensation.Compensation(method, recalibrate)
    assert compensation.compensated(channels, keep, sample, settings) == {}


def test_layers_before_the_cut_keep_every_bit():
    model = randomise(networks.plain())
    convolutions = [one for one in model.layers if isinstance(one, layers.Conv2D)]
    last = convolutions[-1].name
    others = [one.name for one in convolutions[:-1]]
    plan = keras_gcp.plan(model, {"channels": 0.9}, exclude=others, selection={"align": 1})
    assert plan.removed_channels and len(plan.kept(last)) < convolutions[-1].filters
    narrow = keras_gcp.apply(model, plan, (inputs_for(model), None))
    for name in others:
        for a, b in zip(
            model.get_layer(name).get_weights(), narrow.get_layer(name).get_weights(), strict=True
        ):
            np.testing.assert_array_equal(a, b)


def test_layers_called_twice_keep_their_weights():
    model = randomise(networks.shared_layer())
    plan = random_plan(model)
    channels = trace_as_planned(model)
    calls = [id(call.operation) for call in channels.graph.calls]
    shared = [
        call.operation for call in channels.graph.calls if calls.count(id(call.operation)) > 1
    ]
    sample = keras_gcp.sample.DrawnSample(inputs_for(model), None)
    found = compensation.compensated(
        channels, keep_of(plan, channels), sample, compensation.Compensation()
    )
    assert shared and found
    assert not {id(v) for layer in shared for v in layer.weights} & found.keys()


def test_normalizations_see_what_they_saw_before():
    """Behind a recalibrated cut, inputs are standardised to the same mean and variance."""
    model = randomise(networks.plain())
    inputs = inputs_for(model, batch=64)
    narrow = keras_gcp.apply(model, random_plan(model), (inputs, None), compensation="fold")
    for layer in model.layers:
        if not isinstance(layer, layers.BatchNormalization):
            continue
        moments = []
        for one in (model, narrow):
            inside = keras.Model(one.inputs, one.get_layer(layer.name).output)
            moments.append((inside.predict(inputs, verbose=0), one.get_layer(layer.name)))
        (wide, _), (cut, bn) = moments
        kept = np.isin(*(keras.ops.convert_to_numpy(one.gamma) for one in (layer, bn)))
        wide = wide[..., kept]
        axes = (0, 1, 2)
        np.testing.assert_allclose(cut.mean(axes), wide.mean(axes), rtol=1e-3, atol=1e-3)
        np.testing.assert_allclose(cut.var(axes), wide.var(axes), rtol=0.02, atol=1e-3)


@pytest.mark.needs_tensorflow("TensorFlow has no channels_first convolutions on a CPU, but XLA")
def test_channels_first_and_half_precision():
    keras.config.set_image_data_format("channels_first")
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        inputs = keras.Input((3, 10, 10))
        x = layers.Conv2D(8, 3, padding="same", use_bias=False)(inputs)
        x = layers.ReLU()(layers.BatchNormalization(axis=1)(x))
        x = layers.Conv2D(8, 3, padding="same", activation="relu")(x)
        x = layers.Dense(4, dtype="float32")(layers.GlobalAveragePooling2D()(x))
        model = randomise(keras.Model(inputs, x))
    finally:
        keras.config.set_image_data_format("channels_last")
        keras.config.set_dtype_policy("float32")
    x = np.random.default_rng(0).normal(size=(64, 3, 10, 10)).astype("float32")
    plan = random_plan(model)
    wide, plain, refitted = (
        backend.predict(one, x)
        for one in (model, keras_gcp.apply(model, plan), keras_gcp.apply(model, plan, x))
    )
    assert np.square(refitted - wide).sum() < 0.5 * np.square(plain - wide).sum()


def test_in_fit_a_cut_changes_the_loss_less_and_everything_trains_on():
    losses = {}
    for method in (None, "least_squares"):
        keras.utils.set_random_seed(0)
        model = compiled(randomise(networks.plain()))
        callback = pruning(compensation=method)
        before = {}
        fit(model, [callback], epochs=3)
        (event,) = callback.events
        losses[method] = abs(event.loss_after - event.loss_before)
        assert (event.seconds["compensate"] > 0) or method is None
        before = weights_of(model)
        fit(model, [], epochs=1)
        moved = [
            not np.array_equal(a, b)
            for a, b, v in zip(before, weights_of(model), model.weights, strict=True)
            if v.trainable
        ]
        assert all(moved)
    assert losses["least_squares"] < losses[None]


def test_in_fit_cuts_are_compensated_unless_told_otherwise():
    model = compiled(randomise(networks.plain()))
    callback = pruning({"channels": 0.8}, exclude=["b_conv"])
    before, after = Watch(), AtBeginning(1)
    fit(model, [callback, before, after], epochs=2)
    index = [v.path for v in model.weights].index(model.get_layer("b_conv").kernel.path)
    sliced = before.weights[0][index][:, :, callback.plan.kept("a_conv")]
    assert sliced.shape == after.weights[index].shape == (3, 3, 6, 12)
    assert not np.allclose(sliced, after.weights[index], rtol=1e-3)


def test_a_failing_compensation_leaves_the_model_as_it_was(monkeypatch):
    model = compiled(randomise(networks.plain()))

    def fails(*args, **kwargs):
        raise MemoryError("no room for the patches")

    monkeypatch.setattr("keras_gcp.compensation.reconstruction.correction", fails)
    callback = pruning()
    fit(model, [], epochs=1)
    before = weights_of(model)
    with pytest.raises(MemoryError):
        fit(model, [callback], epochs=2, initial_epoch=1)
    assert all(np.array_equal(a, b) for a, b in zip(before, weights_of(model), strict=True))


@pytest.mark.parametrize(
    "arguments,message",
    [
        ({"compensation": "lstsq"}, "`compensation` expects.*'lstsq'"),
        ({"compensation": True}, "`compensation` expects.*True"),
    ],
)
def test_unknown_settings_are_refused(arguments, message):
    with pytest.raises(InvalidArgument, match=message):
        pruning(**arguments)
    model = networks.plain()
    with pytest.raises(InvalidArgument, match=message):
        keras_gcp.prune(model, {"macs": 0.5}, **arguments)


@pytest.mark.parametrize(
    "arguments", [{"compensation": "fold"}, {"compensation": keras_gcp.Compensation(None)}]
)
def test_in_fit_compensation_without_a_sample_is_refused(arguments):
    with pytest.raises(InvalidArgument, match="needs examples"):
        pruning(sample=None, **arguments)


def test_narrow_in_place_compensates_as_apply_does():
    model = randomise(networks.plain())
    inputs = inputs_for(model, batch=64)
    plan = random_plan(model)
    copy = keras_gcp.apply(model, plan, (inputs, None))
    keras_gcp.narrow(model, plan, sample=(inputs, None))
    for a, b in zip(weights_of(copy), weights_of(model), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)


def test_the_sample_may_be_a_dataset_with_labels():
    model = randomise(networks.plain())
    x, y = data(count=64)
    narrow = keras_gcp.prune(model, {"channels": 0.6}, sample=(x, y), seed=0)
    assert keras_gcp.count(narrow).channels <= 0.6 * keras_gcp.count(model).channels


def test_a_dict_of_arguments_is_short_for_a_compensation():
    plain = compensation.parse({"method": "fold", "recalibrate": False}, has_examples=True)
    assert plain == compensation.parse(
        keras_gcp.Compensation("fold", recalibrate=False), has_examples=True
    )
    assert (
        compensation.parse(
            {"spare_frozen": False}, has_examples=True, spare_frozen=True
        ).spare_frozen
        is False
    )
    with pytest.raises(InvalidArgument, match="Compensation expects a dict with some of 'method'"):
        compensation.parse({"methods": "fold"}, has_examples=True)
    with pytest.raises(InvalidArgument, match="or a dict of its arguments such as"):
        compensation.parse(["fold"], has_examples=True)
