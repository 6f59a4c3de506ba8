"""Channels that are dropped by chance: whole, by the example, scaled so that sums stay."""

from __future__ import annotations

import keras
import networks
import numpy as np
import pytest
from helpers import flat_outputs, inputs_for, randomise

import keras_gcp
from keras_gcp import gates
from keras_gcp.errors import InvalidArgument
from keras_gcp.gates import ChannelDropout


def built(rate=0.25, channels=8, **options):
    gate = ChannelDropout(channels, rate=rate, seed=0, **options)
    gate.build((None, 3, 3, channels))
    return gate


def factors(gate, examples=2000, training=True):
    """What the gate multiplies by, `(examples, positions, channels)`."""
    ones = np.ones((examples, 3, 3, gate.channels), "float32")
    found = keras.ops.convert_to_numpy(gate(ones, training=training))
    return found.reshape(examples, 9, -1)


def test_whole_channels_of_examples_are_dropped_at_the_rate_and_the_mean_stays():
    found = factors(built(0.25))
    np.testing.assert_allclose(np.unique(found), [0, 1 / 0.75], rtol=1e-6)
    assert (found == found[:, :1]).all()  # At all positions alike.
    shares = (found[:, 0] == 0).mean(axis=0)
    deviation = np.sqrt(0.25 * 0.75 / 2000)
    assert np.abs(shares - 0.25).max() < 4 * deviation and shares.std() > 0
    assert found.mean() == pytest.approx(1, abs=0.02)


def test_in_training_each_call_draws_anew_and_gates_of_one_seed_differ():
    gate, other = built(), built(name="other")
    assert (factors(gate) != factors(gate)).any()
    assert (factors(gate) != factors(other)).any()
    again, same = built(name="gate"), built(name="gate")
    np.testing.assert_array_equal(factors(again), factors(same))


def test_at_inference_nothing_is_dropped_until_it_measures_and_then_all_calls_drop_the_same():
    gate = built(0.5)
    assert (factors(gate, training=False) == 1).all()
    gate.measuring = True
    first, second = factors(gate, training=False), factors(gate, training=False)
    np.testing.assert_array_equal(first, second)
    assert 0.45 < (first == 0).mean() < 0.55
    drawn = gate.measuring_state[2]
    drawn.assign([3, 4])
    assert (factors(gate, training=False) != first).any()
    gate.measuring = False
    assert (factors(gate, training=False) == 1).all()


def test_the_rate_may_change_and_compiled_code_follows():
    inputs = keras.Input((2, 2, 4))
    gate = ChannelDropout(rate=0.0)
    model = keras.Model(inputs, gate(inputs))
    gate.measuring = True
    x = np.ones((400, 2, 2, 4), "float32")
    np.testing.assert_array_equal(model.predict(x, batch_size=400, verbose=0), x)
    gate.rate = 0.5
    assert gate.rate == 0.5 and gate.measuring
    assert 0.4 < (model.predict(x, batch_size=400, verbose=0) == 0).mean() < 0.6
    gate.frozen = True
    np.testing.assert_array_equal(model.predict(x, batch_size=400, verbose=0), x)


def test_tied_channels_are_dropped_together_wherever_they_are_read_while_it_measures():
    """What an example loses is what the network loses in which its channels are cut out."""
    model = randomise(networks.residual())
    gated = gates.insert(model, ChannelDropout(rate=0.5))
    gate = next(g for g in gates.gates_of(gated) if g.name == "gate_stem_conv")
    gate.measuring = True
    x = inputs_for(model, 3)
    (found,) = flat_outputs(gated, x)
    ones = np.ones((3, 1, 1, 8), "float32")
    dropped = keras.ops.convert_to_numpy(gate(ones)).reshape(3, 8)
    assert 0 < (dropped == 0).mean() < 1
    own = keras.models.clone_model(model)
    for example in range(3):
        own.set_weights(model.get_weights())
        for name in ("b1a_conv", "b2a_conv", "b2_shortcut"):  # All that reads the tied channels.
            kernel = own.get_layer(name).kernel
            kernel.assign(np.array(kernel) * dropped[example][None, None, :, None])
        (expected,) = flat_outputs(own, x[example : example + 1])
        np.testing.assert_allclose(found[example], expected[0], rtol=2e-4, atol=2e-5)


def test_a_network_with_it_trains_is_saved_and_is_the_plain_one_without_it(tmp_path):
    model = randomise(networks.plain())
    gated = gates.insert(model, ChannelDropout(rate=0.3, seed=4))
    x = inputs_for(model, 8)
    np.testing.assert_allclose(flat_outputs(gated, x)[0], flat_outputs(model, x)[0], rtol=1e-5)
    gated.compile("sgd", "sparse_categorical_crossentropy", run_eagerly=True)
    gated.fit(x, np.arange(8) % 4, verbose=0)
    gated.save(tmp_path / "gated.keras")
    loaded = keras.models.load_model(tmp_path / "gated.keras")
    gate = gates.gates_of(loaded)[0]
    assert (gate.rate, gate.seed) == (pytest.approx(0.3), 4)
    plain = gates.remove(loaded)
    assert plain.count_params() == model.count_params()
    np.testing.assert_allclose(flat_outputs(plain, x)[0], flat_outputs(gated, x)[0], rtol=1e-5)


def test_it_is_cut_along_with_its_channels():
    gated = gates.insert(networks.plain(), ChannelDropout(rate=0.5))
    narrow = keras_gcp.prune(gated, {"channels": 0.5}, selection={"align": 1}, compensation=None)
    for gate, before in zip(gates.gates_of(narrow), gates.gates_of(gated), strict=True):
        assert gate.channels < before.channels
    narrow.compile("sgd", "sparse_categorical_crossentropy", run_eagerly=True)
    narrow.fit(inputs_for(narrow, 4), np.arange(4), verbose=0)


@pytest.mark.parametrize("rate", [1.0, -0.1, "much", float("nan")])
def test_rates_that_are_none_are_refused(rate):
    with pytest.raises(InvalidArgument, match="`rate` of ChannelDropout expects a probability"):
        ChannelDropout(rate=rate)


def test_a_gate_that_is_not_built_cannot_measure():
    with pytest.raises(InvalidArgument, match="has not been built"):
        ChannelDropout().measuring = True
