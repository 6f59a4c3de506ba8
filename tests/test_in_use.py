"""What failed silently in use, on other networks: five of each kind, with oracles of their own.

Names of inputs, layers that two models share, code compiled before a cut, converters that die,
multiply-adds in unusual places, and what a plan says after several events.
"""

from __future__ import annotations

import re

import keras
import networks_in_use as networks
import numpy as np
import pytest
from keras import layers

import keras_gcp

pytestmark = pytest.mark.slow

RNG = np.random.default_rng(0)
LOSS = keras.losses.SparseCategoricalCrossentropy(from_logits=True)


def inputs_for(model, count=24):
    """An array for every input, by name."""
    return {
        x.name: RNG.integers(0, 9, (count, *x.shape[1:])).astype(x.dtype)
        if "int" in x.dtype
        else RNG.normal(size=(count, *x.shape[1:])).astype("float32")
        for x in model.inputs
    }


def by_name(model, values):
    """What `fit` takes: a dict, its keys in an order that is not the model's."""
    structure = model._inputs_struct
    if not isinstance(structure, dict):
        return {name: values[name] for name in sorted(values, reverse=True)}
    return {
        key: keras.tree.map_structure(lambda symbol: values[symbol.name], structure[key])
        for key in sorted(structure, reverse=True)
    }


def outputs_of(model, values):
    """What it computes from arrays in the order of its inputs, as a list."""
    given = keras.tree.pack_sequence_as(model._inputs_struct, list(values))
    outputs = keras.tree.flatten(model(given, training=False))
    return [keras.ops.convert_to_numpy(y) for y in outputs]


# ------------------------------------------------------------------------- inputs by name

SEVERAL = [
    networks.change_detection,
    networks.masked_image,
    networks.retrieval,
    networks.stereo_with_prior,
    networks.past_and_future,
]


@pytest.mark.parametrize("make", SEVERAL, ids=lambda make: make.__name__)
def test_inputs_given_by_name_reach_the_inputs_of_that_name(make):
    model = make()
    model.compile(keras.optimizers.SGD(0.0), "sparse_categorical_crossentropy", run_eagerly=True)
    x = inputs_for(model)
    y = outputs_of(model, [x[symbol.name] for symbol in model.inputs])[0].argmax(-1)
    names = list(x)
    swapped = dict(zip(names, [x[name] for name in names[1:] + names[:1]], strict=True))
    known = model.evaluate(by_name(model, x), y, verbose=0)
    assert model.evaluate(by_name(model, swapped), y, verbose=0) > 1.01 * known

    pruning = keras_gcp.GradualChannelPruning(
        keras_gcp.Sample((by_name(model, x), y), size=None),
        {"parameters": 0.8},
        keras_gcp.schedules.one_shot(0),
        "taylor",
        selection={"align": 1},
        verbose=0,
    )
    in_order = keras.tree.pack_sequence_as(model._inputs_struct, [x[s.name] for s in model.inputs])
    planned = keras_gcp.plan(
        model, {"parameters": 0.8}, "taylor", (in_order, y), selection={"align": 1}
    )
    model.fit(by_name(model, x), y, verbose=0, callbacks=[pruning])
    assert pruning.events[0].loss_before == pytest.approx(known, rel=1e-4)
    for path, kept in pruning.plan.layers.items():
        np.testing.assert_array_equal(kept, planned.layers[path])


# --------------------------------------------------------------- layers that two models share

SHARING = [
    networks.segmenter_and_classifier,
    networks.actor_and_critic,
    networks.detector_levels,
    networks.text_tasks,
    networks.dense_skips,
]


def masked_twin(models, plan):
    """Both models copied with Keras, every map multiplied by zeros where channels will be gone.

    No layer of these networks makes something of a zero but the producing ones, so this is exact.
    """
    joint = keras.Model(models[0].inputs, [y for model in models for y in model.outputs])

    def call(layer, *args, **kwargs):
        y = layer(*args, **kwargs)
        kept = plan.layers.get(layer.name)
        return y if kept is None else y * kept.astype("float32")

    twin = keras.models.clone_model(joint, call_function=call)
    for layer in (one for one in joint.layers if one.weights):
        twin.get_layer(layer.name).set_weights(layer.get_weights())
    return twin


@pytest.mark.parametrize("first", [0, 1])
@pytest.mark.parametrize("make", SHARING, ids=lambda make: make.__name__)
def test_a_model_that_shares_layers_computes_on_without_the_removed_channels(make, first, tmp_path):
    models = make()
    for variable in (v for model in models for v in model.weights if "bias" in v.path):
        variable.assign(RNG.normal(size=variable.shape))
    pruned = models[first]
    plan = keras_gcp.plan(pruned, {"channels": 0.6}, "random", seed=3, selection={"align": 1})
    x = inputs_for(pruned)
    (values,) = x.values()
    expected = [np.asarray(y) for y in keras.tree.flatten(masked_twin(models, plan)(values))]
    keras_gcp.narrow(pruned, plan)
    actual = [y for model in models for y in keras.tree.flatten(model(values))]
    assert len(actual) == len(expected)
    for a, b in zip(actual, expected, strict=True):
        np.testing.assert_allclose(np.asarray(a), b, atol=1e-4)
    other = models[1 - first]
    other.save(tmp_path / "other.keras")
    loaded = keras.models.load_model(tmp_path / "other.keras")
    for a, b in zip(outputs_of(loaded, [values]), outputs_of(other, [values]), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-5)


# ------------------------------------------------------------- code compiled before a cut


def small_network(classes=4):
    x = inputs = keras.Input((8, 8, 2))
    x = layers.BatchNormalization()(layers.Conv2D(16, 3, activation="relu")(x))
    x = layers.Flatten()(layers.DepthwiseConv2D(3)(layers.Conv2D(12, 3)(x)))
    return keras.Model(inputs, layers.Dense(classes)(x))


def halved(model, optimizer=None):
    keras_gcp.narrow(
        model, keras_gcp.plan(model, {"macs": 0.5}, selection={"align": 1}), optimizer=optimizer
    )


def gradients_of(tf, model, x, y):
    with tf.GradientTape() as tape:
        loss = LOSS(y, model(x, training=True))
    return tape.gradient(loss, model.trainable_variables)


def step_with_signature(tf, model, optimizer):
    types = tf.TensorSpec((None, 8, 8, 2)), tf.TensorSpec((None,), tf.int64)

    @tf.function(input_signature=types)
    def step(x, y):
        optimizer.apply(gradients_of(tf, model, x, y), model.trainable_variables)

    return step


def step_in_a_module(tf, model, optimizer):
    class Trainer(tf.Module):
        @tf.function(reduce_retracing=True)
        def step(self, x, y):
            optimizer.apply(gradients_of(tf, model, x, y), model.trainable_variables)

    return Trainer().step


def accumulated(tf, model, optimizer):
    gradients = tf.function(lambda x, y: gradients_of(tf, model, x, y))

    def step(x, y):
        parts = [gradients(x[half::2], y[half::2]) for half in range(2)]
        means = [(a + b) / 2 for a, b in zip(*parts, strict=True)]
        optimizer.apply(means, model.trainable_variables)

    return step


def steps_in_a_graph(tf, model, optimizer):
    @tf.function
    def steps(x, y):
        for _ in tf.range(2):
            optimizer.apply(gradients_of(tf, model, x, y), model.trainable_variables)

    return steps


def frozen_concrete_function(tf, model, optimizer):
    @tf.function
    def step(x, y):
        optimizer.apply(gradients_of(tf, model, x, y), model.trainable_variables)

    x, y = tf.TensorSpec((16, 8, 8, 2)), tf.TensorSpec((16,), tf.int64)
    return step.get_concrete_function(x, y)


STEPS = [
    step_with_signature,
    step_in_a_module,
    accumulated,
    steps_in_a_graph,
    frozen_concrete_function,
]


@pytest.mark.needs_tensorflow("`tf.function` is TensorFlow's")
@pytest.mark.parametrize("make", STEPS, ids=lambda make: make.__name__)
def test_no_step_compiled_before_a_cut_trains_what_the_model_has_lost(make):
    import tensorflow as tf

    model, optimizer = small_network(), keras.optimizers.AdamW(1e-2)
    optimizer.build(model.trainable_variables)
    x = tf.constant(RNG.normal(size=(16, 8, 8, 2)).astype("float32"))
    y = tf.constant(np.arange(16) % 4)
    old = make(tf, model, optimizer)
    old(x, y)
    halved(model, optimizer)
    before = [keras.ops.convert_to_numpy(v) for v in model.weights]
    with pytest.raises((tf.errors.OpError, ValueError)):
        old(x, y)
    make(tf, model, optimizer)(x, y)
    for then, now in zip(before, model.weights, strict=True):
        assert not np.array_equal(then, keras.ops.convert_to_numpy(now)), now.path


@pytest.mark.needs_tensorflow("`tf.function` is TensorFlow's")
def test_the_functions_that_keras_compiles_itself_are_made_anew():
    model = small_network()
    model.compile("adam", LOSS)
    x, y = RNG.normal(size=(16, 8, 8, 2)).astype("float32"), np.arange(16) % 4
    model.fit(x, y, verbose=0), model.evaluate(x, y, verbose=0), model.predict(x, verbose=0)
    halved(model)
    before = model.get_weights()
    predicted = model.predict(x, verbose=0)
    np.testing.assert_allclose(predicted, model(x), atol=1e-4)
    model.train_on_batch(x, y)
    assert all(not np.array_equal(a, b) for a, b in zip(before, model.get_weights(), strict=True))


# ------------------------------------------------------------- converters that may die


def series(*middle):
    conv = [layers.Conv1D(n, 3, activation="relu") for n in (12, 10)]
    return keras.Sequential([keras.Input((12, 3)), *conv, *middle, layers.Dense(2)])


RECURRENT = {
    "stacked": lambda: series(layers.LSTM(6, return_sequences=True), layers.GRU(5)),
    "both ways": lambda: series(layers.Bidirectional(layers.GRU(5))),
    "backwards": lambda: series(layers.LSTM(6, go_backwards=True)),
    "cells": lambda: series(layers.RNN([layers.GRUCell(5), layers.LSTMCell(4)])),
    "unrolled": lambda: series(layers.SimpleRNN(6, unroll=True)),
}


@pytest.mark.needs_tensorflow("TFLite files")
@pytest.mark.parametrize("name", RECURRENT)
def test_an_int8_file_of_a_recurrent_network_is_written_or_refused_and_we_live(name, tmp_path):
    model = RECURRENT[name]()
    x = RNG.normal(size=(16, 12, 3)).astype("float32")
    try:
        (file,) = keras_gcp.export(model, tmp_path, ["tflite_int8"], sample=x)
    except keras_gcp.errors.KerasGCPError as error:
        assert re.search(r"'\w*(gru|lstm|rnn)", str(error)), str(error)
        assert name != "unrolled"
    else:
        assert file.path.stat().st_size > 0


@pytest.mark.needs_tensorflow("TFLite files")
@pytest.mark.parametrize("name", RECURRENT)
def test_a_training_with_a_budget_in_such_bytes_is_refused_or_goes_to_its_end(name):
    model = RECURRENT[name]()
    model.compile("adam", "mse", run_eagerly=True)
    x, y = RNG.normal(size=(16, 12, 3)).astype("float32"), RNG.normal(size=(16, 2))
    pruning = keras_gcp.GradualChannelPruning(
        (x, y),
        {"tflite_bytes_int8": 0.97},
        keras_gcp.schedules.one_shot(1),
        "l2_norm",
        selection={"align": 1},
        on_failure="skip",
        verbose=0,
    )
    try:
        history = model.fit(x, y, epochs=2, verbose=0, callbacks=[pruning])
    except keras_gcp.errors.KerasGCPError as error:
        assert "unroll" in str(error) and name != "unrolled"
    else:
        assert len(history.epoch) == 2


# ---------------------------------------------------------- multiply-adds in unusual places

COUNTED = [
    networks.language_model,
    networks.tagger,
    networks.transformer,
    networks.video,
    networks.correlation,
]


def graph_macs(model):
    """Multiply-adds of one example, from the operations of TensorFlow's own graph."""
    import tensorflow as tf

    types = [tf.TensorSpec((1, *x.shape[1:]), x.dtype) for x in model.inputs]
    packed = keras.tree.pack_sequence_as(model._inputs_struct, types)
    call = tf.function(lambda *x: model(list(x) if len(types) > 1 else x[0], training=False))
    graph = call.get_concrete_function(*keras.tree.flatten(packed)).graph
    total = 0
    for operation in graph.get_operations():
        shapes = [x.shape for x in operation.inputs]
        if operation.type == "MatMul":
            inner = shapes[0][0 if operation.get_attr("transpose_a") else 1]
            total += operation.outputs[0].shape.num_elements() * inner
        elif operation.type.startswith("BatchMatMul"):
            inner = shapes[0][-2 if operation.get_attr("adj_x") else -1]
            total += operation.outputs[0].shape.num_elements() * inner
        elif operation.type == "Conv2D":
            total += operation.outputs[0].shape.num_elements() * shapes[1][:3].num_elements()
        elif operation.type == "Einsum":
            terms, letters = operation.get_attr("equation").decode(), {}
            for term, shape in zip(terms.split("->")[0].split(","), shapes, strict=True):
                letters.update(zip(term, shape, strict=True))
            total += int(np.prod(list(letters.values())))
        else:
            assert "MatMul" not in operation.type and "Conv" not in operation.type, operation.type
            assert operation.type not in ("While", "StatelessWhile", "PartitionedCall")
    return total


@pytest.mark.needs_tensorflow("counts TensorFlow's operations")
@pytest.mark.parametrize("make", COUNTED, ids=lambda make: make.__name__)
def test_a_budget_met_is_met_by_the_operations_that_tensorflow_runs(make):
    model = make()
    assert keras_gcp.count(model).macs == graph_macs(model)
    plan = keras_gcp.plan(model, {"macs": 0.7}, "random", seed=1, selection={"align": 1})
    small = keras_gcp.apply(model, plan)
    assert "left out" not in plan.explain()
    assert keras_gcp.count(small).macs == plan.after.macs == graph_macs(small)
    assert graph_macs(small) <= 0.7 * graph_macs(model)


# ------------------------------------------------------------- what a plan says in the end


def chain(*filters):
    x = inputs = keras.Input((8, 8, 3))
    for n, width in enumerate(filters):
        x = layers.Conv2D(width, 3, padding="same", activation="relu", name=f"conv{n}")(x)
    return keras.Model(inputs, layers.Dense(3, name="out")(layers.GlobalAveragePooling2D()(x)))


ENDS = {
    "two resources": ((12, 10, 8), {"macs": 0.5, "parameters": 0.6}, 1),
    "four events": ((12, 12), {"macs": 0.4}, 1),
    "aligned": ((16, 24, 16), {"macs": 0.5}, 4),
    "channels": ((9, 7, 5), {"channels": 0.5}, 1),
    "parameters": ((8, 16, 8), {"parameters": 0.35}, 2),
}


@pytest.mark.parametrize("name", ENDS)
def test_what_a_plan_says_after_several_events_is_true_of_the_widths_it_shows(name):
    widths, budget, align = ENDS[name]
    model = chain(*widths)
    model.compile("adam", LOSS, run_eagerly=True)
    x, y = RNG.normal(size=(16, 8, 8, 3)).astype("float32"), np.arange(16) % 3
    pruning = keras_gcp.GradualChannelPruning(
        (x, y),
        budget,
        keras_gcp.schedules.linear(1, 4, min_step=0),
        "l2_norm",
        selection={"align": align, "floor": 1},
        verbose=0,
    )
    model.fit(x, y, epochs=5, verbose=0, callbacks=[pruning])
    assert len(pruning.events) > 1
    text = pruning.plan.explain()
    shown = [int(n) for n in re.findall(r"^conv\d\s+(\d+) of", text, re.M)]
    assert shown == [model.get_layer(f"conv{n}").filters for n in range(len(widths))]
    assert "nothing was removed" not in text

    original = keras_gcp.count(chain(*widths))
    limits = {resource: share * getattr(original, resource) for resource, share in budget.items()}
    wider = [
        keras_gcp.count(chain(*shown[:n], min(widths[n], kept + align), *shown[n + 1 :]))
        for n, kept in enumerate(shown)
        if kept < widths[n]
    ]
    for resource, limit in limits.items():
        line = next(
            line for line in text.splitlines() if re.match(rf"{resource}\s+[\d,.]+\s", line)
        )
        breaks = [getattr(one, resource) > limit for one in wider]
        assert ("yes: no removed block fits" in line) == all(breaks), (line, breaks)
