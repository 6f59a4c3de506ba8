"""Units of recurrent layers: what lives or dies with them, what keeps them, how they are
scored."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from helpers import flat_outputs, inputs_for, random_plan, randomise
from keras import layers, ops

import keras_gcp
from channels.test_rules import assert_close, check_cut
from keras_gcp import criteria
from keras_gcp.channels.trace import trace
from keras_gcp.errors import UnsupportedModel
from keras_gcp.keras_state import Transaction
from keras_gcp.resources.single_layer import one_call
from keras_gcp.sample import DrawnSample
from keras_gcp.selection.planning import keep_of
from keras_gcp.surgery.narrow import narrow_model


def sequences():
    """An input over steps, and a convolution that reads it."""
    inputs = keras.Input((6, 3))
    return inputs, layers.Conv1D(6, 2, name="before")(inputs)


def closed(inputs, *outputs):
    x = layers.Concatenate(name="all")(list(outputs)) if len(outputs) > 1 else outputs[0]
    return keras.Model(inputs, layers.Dense(2, name="after")(layers.Flatten(name="flat")(x)))


def states_from_dense_layers():
    inputs, x = sequences()
    flat = layers.Flatten()(inputs)
    states = [layers.Dense(5, name=f"state{i}")(flat) for i in range(4)]
    both = layers.Bidirectional(layers.LSTM(5), name="it")
    return closed(inputs, both(x, initial_state=states))


def one_state_for_both():
    inputs, x = sequences()
    state = layers.Dense(5, name="state")(layers.Flatten()(inputs))
    return closed(inputs, layers.LSTM(5, name="it")(x, initial_state=[state, state]))


def every_state_returned():
    inputs, x = sequences()
    both = layers.Bidirectional(layers.LSTM(5, return_state=True, return_sequences=True), name="it")
    y, h1, c1, h2, c2 = both(x)
    product = layers.Multiply()([c1, c2])
    return closed(inputs, layers.GlobalMaxPooling1D()(y), h1, product, h2)


def shared():
    inputs, x = sequences()
    y = layers.Conv1D(6, 2, name="other")(inputs)
    both = layers.Bidirectional(layers.GRU(5), name="it")
    return closed(inputs, both(x), both(y))


def repeated():
    inputs = keras.Input((3, 6, 2))
    x = layers.TimeDistributed(layers.Conv1D(6, 2), name="before")(inputs)
    both = layers.Bidirectional(layers.LSTM(5))
    return closed(inputs, layers.TimeDistributed(both, name="it")(x))


def films_in_both_directions():
    inputs = keras.Input((3, 6, 6, 2))
    x = layers.TimeDistributed(layers.Conv2D(6, 2), name="before")(inputs)
    return closed(inputs, layers.Bidirectional(layers.ConvLSTM2D(5, 2), name="it")(x))


def states_of_films():
    inputs = keras.Input((3, 6, 6, 2))
    x = layers.TimeDistributed(layers.Conv2D(6, 2), name="before")(inputs)
    _, *states = layers.ConvLSTM2D(5, 2, padding="same", return_state=True, name="encoder")(x)
    again = layers.ConvLSTM2D(5, 2, padding="same", name="it")
    return closed(inputs, again(x, initial_state=states))


def nested():
    inner_inputs = keras.Input((5, 6))
    x = layers.Dense(5, name="enter")(inner_inputs)
    inner = keras.Model(inner_inputs, layers.LSTM(4, return_sequences=True, name="it")(x))
    inputs, x = sequences()
    return closed(inputs, inner(x))


NETWORKS = [
    states_from_dense_layers,
    one_state_for_both,
    every_state_returned,
    shared,
    repeated,
    films_in_both_directions,
    states_of_films,
    nested,
]


@pytest.mark.parametrize("build", NETWORKS)
def test_units_live_or_die_with_their_states_and_across_calls(build, tmp_path):
    model = build()
    channels = trace(model)
    assert not channels.refusals
    (units,) = [coupled for path, coupled in channels.produced.items() if path.endswith("it")]
    assert channels.prunable[units].all()
    _, narrow = check_cut(model, share=0.6)
    narrow.save(tmp_path / "narrow.keras")
    loaded = keras.models.load_model(tmp_path / "narrow.keras")
    inputs = inputs_for(narrow)
    assert_close(flat_outputs(loaded, inputs), flat_outputs(narrow, inputs))


def test_both_directions_keep_equally_many_units():
    """Keras takes the output for twice as wide as that of the forward layer."""
    inputs, x = sequences()
    model = closed(inputs, layers.Bidirectional(layers.LSTM(7), name="both")(x))
    plan = random_plan(model, share=0.6)
    forward, backward = np.split(plan.kept("both"), 2)
    np.testing.assert_array_equal(forward, backward - 7)
    layer = keras_gcp.apply(model, plan).get_layer("both")
    assert layer.forward_layer.units == layer.backward_layer.units == len(forward) < 7
    assert layer.forward_layer.state_size == [len(forward)] * 2
    assert layer.compute_output_shape((None, 5, 3)) == (None, 2 * len(forward))


@pytest.mark.parametrize("kind", ["LSTM", "Bidirectional"])
def test_a_recurrent_layer_may_be_the_output(kind):
    """Its activation is its cell's, and cannot be left out in the comparison."""
    inputs, x = sequences()
    layer = layers.GRU(4, return_sequences=True, name="it")
    layer = layers.Bidirectional(layer, name="it") if kind == "Bidirectional" else layer
    plan, _ = check_cut(keras.Model(inputs, layer(x)))
    assert plan.widths()["before"] < 6
    assert plan.widths()["it"] == plan.original_widths()["it"]


@keras.saving.register_keras_serializable("keras_gcp_tests")
class OwnCell(layers.Layer):
    """A cell that is not one of Keras'."""

    def __init__(self, units, **kwargs):
        super().__init__(**kwargs)
        self.units = self.state_size = units

    def build(self, shape):
        self.kernel = self.add_weight(shape=(shape[-1], self.units), name="kernel")

    def call(self, x, states):
        h = ops.tanh(ops.matmul(x, self.kernel) + states[0])
        return h, [h]

    def get_config(self):
        return {**super().get_config(), "units": self.units}


@pytest.mark.parametrize(
    "cell", [OwnCell(5), [layers.GRUCell(5), OwnCell(5)]], ids=["cell", "stack"]
)
def test_cells_of_ones_own_stay_with_the_reason_and_are_not_counted(cell):
    inputs, x = sequences()
    model = closed(inputs, layers.RNN(cell, name="it")(x))
    channels = trace(model)
    assert "class OwnCell) is not one of Keras'" in channels.refusals["it"]
    assert not channels.prunable[channels.produced["before"]].any()
    assert "'it'" in keras_gcp.count(model).uncounted["it"]


def whole(layer, reason, **call):
    inputs, x = sequences()
    channels = trace(closed(inputs, layer(x, **call)))
    (units,) = [coupled for path, coupled in channels.produced.items() if path == layer.name]
    assert channels.prunable[channels.produced["before"]].all()
    assert {channels.reasons.get(int(one), "free") for one in units} == {reason}


def test_activations_that_mix_units_keep_them():
    for setting in ("activation", "recurrent_activation"):
        layer = layers.LSTM(5, **{setting: "softmax"}, name="it")
        whole(layer, "activation 'softmax' of layer 'it' mixes channels")


def test_a_constant_initial_state_keeps_the_units():
    layer = layers.GRU(5, name="it")
    state = np.ones((1, 5), "float32")
    whole(
        layer, "the initial state of 'it' is a constant", initial_state=ops.convert_to_tensor(state)
    )


def test_stateful_layers_keep_their_units():
    inputs = keras.Input(batch_shape=(4, 6, 3))
    x = layers.Conv1D(6, 2, name="before")(inputs)
    model = closed(inputs, layers.LSTM(5, stateful=True, name="it")(x))
    channels = trace(model)
    assert channels.prunable[channels.produced["before"]].all()
    reasons = {channels.reasons[int(one)] for one in channels.produced["it"]}
    assert reasons == {"'it' is stateful: its units have numbers beside the weights"}


def trained(build):
    model = randomise(build())
    model.compile(keras.optimizers.Adam(1e-2), "mse", run_eagerly=True)
    x = inputs_for(model, 8)
    y = np.ones((8, 2), "float32")
    model.fit(x, y, batch_size=8, epochs=1, verbose=0)
    return model, x, y


@pytest.mark.parametrize("build", [states_from_dense_layers, states_of_films])
def test_training_goes_on_as_that_of_a_fresh_narrow_model_with_the_same_slots(build):
    model, x, y = trained(build)
    channels = trace(model)
    keep = keep_of(random_plan(model), channels)
    with Transaction() as transaction:
        narrow_model(channels, keep, transaction)
    fresh = keras.Model.from_config(model.get_config())
    fresh.set_weights(model.get_weights())
    fresh.compile(keras.optimizers.Adam(1e-2), "mse", run_eagerly=True)
    fresh.optimizer.build(fresh.trainable_variables)
    for own, other in zip(fresh.optimizer.variables, model.optimizer.variables, strict=True):
        own.assign(other)
    for one in (model, fresh):
        one.fit(x, y, batch_size=8, epochs=2, verbose=0)
    for one, other in zip(model.get_weights(), fresh.get_weights(), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-6, atol=1e-7)


def test_a_cut_that_is_taken_back_leaves_cells_as_they_were():
    model = states_of_films()
    cell = model.get_layer("it").cell
    before = model.get_config(), cell.kernel_shape, cell.input_dim, model.get_weights()
    channels = trace(model)
    keep = keep_of(random_plan(model), channels)
    with Transaction() as transaction:
        narrow_model(channels, keep, transaction)
        assert (cell.kernel_shape, cell.input_dim) != before[1:3]
        transaction.rollback()
    after = model.get_config(), cell.kernel_shape, cell.input_dim
    assert after == before[:3]
    for one, other in zip(model.get_weights(), before[3], strict=True):
        np.testing.assert_array_equal(one, other)


def classifier():
    inputs = keras.Input((5, 4))
    x, *states = layers.LSTM(6, return_state=True, name="it")(inputs)
    x = layers.Add(name="sum")([x, states[0]])
    return keras.Model(inputs, layers.Dense(3, activation="softmax", name="out")(x))


def test_norms_and_gradients_of_all_gates_score_a_unit():
    model = randomise(classifier())
    model.compile("sgd", "sparse_categorical_crossentropy")
    channels, x = trace(model), inputs_for(model, 9)
    sample = DrawnSample(x, np.arange(9) % 3)
    cell = model.get_layer("it").cell
    by_gate = [
        np.asarray(ops.convert_to_numpy(w)).reshape(-1, 4, 6)
        for w in (cell.kernel, cell.recurrent_kernel, cell.bias)
    ]
    squares = sum((w**2).sum(axis=(0, 1)) for w in by_gate[:2])
    found = criteria.get("l2_norm")(model, channels, sample)["it"]
    np.testing.assert_allclose(found, np.sqrt(squares), rtol=1e-5)
    taylor = criteria.get("taylor")(model, channels, sample)["it"]

    def loss(values):
        for w, value in zip((cell.kernel, cell.recurrent_kernel, cell.bias), values, strict=True):
            w.assign(value.reshape(w.shape))
        return model.evaluate(x, sample.y, verbose=0)

    step, slopes = 1e-2, []
    for unit in range(6):
        scale = np.ones(6)
        scale[unit] += step
        more = loss([w * scale for w in by_gate])
        scale[unit] -= 2 * step
        slopes.append((more - loss([w * scale for w in by_gate])) / (2 * step))
    np.testing.assert_allclose(taylor, np.square(slopes), rtol=2e-2, atol=1e-6)


def test_relevance_scores_units_whose_states_are_read_too():
    model = classifier()
    channels, x = trace(model), inputs_for(model, 6)
    scores = criteria.get("feature_relevance")(model, channels, DrawnSample(x, np.arange(6) % 3))
    assert scores["it"].shape == (6,) and len(np.unique(scores["it"])) > 1


def test_relevance_through_a_recurrent_layer_is_refused_by_name_before_training():
    inputs, x = sequences()
    x = layers.GRU(5, name="steps")(x)
    model = keras.Model(inputs, layers.Dense(2, activation="softmax", name="out")(x))
    model.compile("sgd", "sparse_categorical_crossentropy")
    x, y = inputs_for(model, 6), np.arange(6) % 2
    pruning = keras_gcp.GradualChannelPruning(
        (x, y), {"macs": 0.6}, keras_gcp.schedules.one_shot(1), "feature_relevance", verbose=0
    )
    with pytest.raises(UnsupportedModel, match=r"'steps' \(class GRU\) has no relevance rule"):
        model.fit(x, y, epochs=2, verbose=0, callbacks=[pruning])


@pytest.mark.parametrize("build", [states_from_dense_layers, repeated, states_of_films, shared])
def test_a_layer_by_itself_has_the_narrow_widths(build):
    """Latency is measured on such layers, made from their configuration."""
    model = build()
    channels = trace(model)
    keep = keep_of(random_plan(model, share=0.6), channels)
    narrow = keras_gcp.apply(model, random_plan(model, share=0.6))
    (call, *_) = [call for call in channels.graph.calls if call.path == "it"]
    alone = one_call(call, channels, keep)
    alone.function(*(np.zeros(shape, "float32") for shape, _ in alone.shapes))
    shapes = [tuple(w.shape) for w in alone.operation.weights]
    assert shapes == [tuple(w.shape) for w in narrow.get_layer("it").weights]
