"""What gates compute, how they train, and that compiled code follows when they are frozen."""

from __future__ import annotations

import fitting
import keras
import networks
import numpy as np
import pytest
from helpers import randomise
from keras import ops

import keras_gcp
from keras_gcp import gates
from keras_gcp.errors import InvalidArgument, UnsupportedModel


def value(tensor):
    return ops.convert_to_numpy(tensor)


def test_factors_stand_where_their_channels_do():
    gate = gates.ScaleGate(2)
    x = np.ones((1, 3, 8), "float32")
    gate(x, start=1, period=4)
    gate.factor.assign([0.5, 0.25])
    once = [1, 0.5, 0.25, 1]
    np.testing.assert_array_equal(value(gate(x, start=1, period=4))[0, 0], once * 2)
    np.testing.assert_array_equal(value(gate(x, start=1))[0, 2], [1, 0.5, 0.25, 1, 1, 1, 1, 1])
    np.testing.assert_array_equal(value(gate(np.ones((1, 2, 3)), axis=1))[0, :, 0], [0.5, 0.25])


def test_a_frozen_gate_closes_what_is_below_the_threshold_and_compiled_code_follows():
    inputs = keras.Input((4,))
    gate = gates.ScaleGate(threshold=0.3)
    model = keras.Model(inputs, gate(inputs))
    gate.factor.assign([0.0, 0.2, 0.6, 1.0])
    x = np.ones((1, 4), "float32")
    np.testing.assert_allclose(model.predict(x, verbose=0)[0], [0, 0.2, 0.6, 1], rtol=1e-6)
    gate.frozen = True
    np.testing.assert_allclose(model.predict(x, verbose=0)[0], [0, 0, 0.6, 1], rtol=1e-6)
    assert gate.frozen and gate.hard().tolist() == [False, False, True, True]
    gate.frozen = False
    np.testing.assert_allclose(model.predict(x, verbose=0)[0], [0, 0.2, 0.6, 1], rtol=1e-6)


def test_a_gate_frozen_before_it_is_built_is_frozen():
    gate = gates.ScaleGate(threshold=0.5)
    gate.frozen = True
    gate(np.ones((1, 2), "float32"))
    gate.factor.assign([0.4, 0.6])
    np.testing.assert_allclose(value(gate(np.ones((1, 2), "float32")))[0], [0, 0.6], rtol=1e-6)


def test_what_a_penalty_makes_negative_is_0_so_that_gates_close():
    gated = gates.insert(networks.plain(), gates.ScaleGate(regularizer=keras.regularizers.L1(3.0)))
    model = fitting.compiled(gated, keras.optimizers.SGD(0.1))
    fitting.fit(model, [], epochs=2, examples=fitting.THREE_STEPS)
    factors = np.concatenate([value(gate.factor) for gate in gates.gates_of(gated)])
    assert factors.min() == 0 and factors.max() <= 1


def consensus(units=3, seed=0):
    gate = gates.ConsensusGate(units)
    gate.build((None, 4, 4, units))
    rng = np.random.default_rng(seed)
    for variable in (gate.first, gate.second):
        variable.assign(rng.normal(size=variable.shape))
    gate.second_shift.assign(0.1 * rng.normal(size=gate.second_shift.shape))
    return gate, rng.normal(size=(6, 4, 4, units)).astype("float32")


def probabilities(gate, x):
    means = x.mean(axis=(1, 2))
    inner = np.maximum(means @ value(gate.first) + value(gate.first_shift), 0)
    return 1 / (1 + np.exp(-(inner @ value(gate.second) + value(gate.second_shift))))


def test_decisions_are_those_of_the_formula_and_the_running_mean_follows():
    gate, x = consensus()
    opened = probabilities(gate, x) > 0.5
    assert 0 < opened.mean() < 1
    y = value(gate(x, training=True))
    np.testing.assert_array_equal(y != 0, np.broadcast_to(opened[:, None, None], y.shape))
    np.testing.assert_allclose(value(gate.values()), 0.9 + 0.1 * opened.mean(axis=0), rtol=1e-6)
    before = value(gate.values()).copy()
    gate(x)
    np.testing.assert_array_equal(value(gate.values()), before)


@pytest.mark.not_on("tensorflow", "layers are modules of PyTorch only there")
@pytest.mark.not_on("jax", "layers are modules of PyTorch only there")
@pytest.mark.parametrize(
    "gate", [gates.ScaleGate(3), gates.ConsensusGate(3), gates.BetaBernoulli(3)], ids=type
)
def test_no_weight_takes_the_name_of_a_method_of_pytorch(gate):
    gate.build((None, 3))
    assert len(list(gate.parameters())) == len(gate.variables)


@pytest.mark.needs_tensorflow("its gradient tape")
def test_gradients_are_those_of_the_probabilities():
    import tensorflow as tf

    gate, x = consensus()
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(gate(x, training=True) * x)
    gradient = tape.gradient(loss, gate.second_shift.value)
    q = probabilities(gate, x)
    by_hand = ((x * x).sum(axis=(1, 2)) * q * (1 - q)).sum(axis=0)
    np.testing.assert_allclose(gradient, by_hand, rtol=1e-4)


def test_channels_leave_in_the_order_of_their_gates_while_fit_goes_on():
    gated = fitting.compiled(gates.insert(randomise(networks.plain()), gates.ScaleGate()))
    first, second = gates.gates_of(gated)
    first.factor.assign([1, 0, 1, 0, 1, 0, 1, 0])
    second.factor.assign([0.9] * 6 + [0.1] * 6)
    pruning = fitting.pruning({"channels": 0.5}, criterion="gate_value", sample=None)
    fitting.fit(gated, [pruning], epochs=2)
    np.testing.assert_array_equal(pruning.plan.layers["a_conv"], [True, False] * 4)
    np.testing.assert_array_equal(pruning.plan.layers["b_conv"], [True] * 6 + [False] * 6)
    assert (first.channels, second.channels) == (4, 6)
    assert gates.remove(gated).get_layer("b_conv").filters == 6


def test_the_criterion_asks_for_gates():
    with pytest.raises(UnsupportedModel, match="Layers without one: 'a_conv', 'b_conv'"):
        keras_gcp.plan(networks.plain(), {"channels": 0.5}, "gate_value")


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (lambda: gates.ScaleGate(threshold=1.0), "`threshold` of ScaleGate expects a number"),
        (lambda: gates.ScaleGate(channels=0), "`channels` expects an integer of at least 1"),
        (lambda: gates.ConsensusGate(momentum=1), "`momentum` of ConsensusGate"),
        (lambda: gates.ConsensusGate(hidden=0), "`hidden` expects"),
        (lambda: gates.Gate(whole=1), "`whole` expects"),
    ],
)
def test_arguments_out_of_range_are_refused(make, told):
    with pytest.raises(InvalidArgument, match=told):
        make()
