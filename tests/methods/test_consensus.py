"""Gates that look at the input are pushed to agree; what they agree on is cut inside the fit."""

from __future__ import annotations

import dataclasses
from functools import partial

import fitting
import keras
import networks
import numpy as np
import pytest
from gating import decide
from helpers import flat_outputs, inputs_for, randomise
from keras import ops

import keras_gcp
from keras_gcp import gates
from keras_gcp.channels.trace import trace
from keras_gcp.errors import (
    ImpossibleBudget,
    InvalidArgument,
    UnsupportedModel,
    VerificationFailed,
)
from keras_gcp.gates.expected_costs import ExpectedMacs, ExpectedWidths
from keras_gcp.gates.floors import with_floors
from keras_gcp.gates.gate import gated_channels
from keras_gcp.methods import ActivationDensity, ConsensusPruning, VarianceRegularizer


def gated(network=networks.residual, **options):
    keras.utils.set_random_seed(0)
    return gates.insert(randomise(network()), gates.ConsensusGate(momentum=0.5), **options)


def filters_of(model):
    return {one.name: one.filters for one in model.layers if isinstance(one, keras.layers.Conv2D)}


@pytest.mark.parametrize("network", [networks.residual, networks.concatenation])
def test_expected_macs_of_decided_gates_are_those_of_the_network_that_is_left(network):
    model = decide(gated(network))
    found = gates.gates_of(model)
    share = ExpectedMacs.of(trace(model)).share(found, [gate.values() for gate in found])
    left = keras_gcp.count(gates.remove(model)).macs / keras_gcp.count(network()).macs
    assert float(ops.convert_to_numpy(share)) == pytest.approx(left, rel=1e-5)


@pytest.mark.parametrize("network", [networks.residual, networks.concatenation])
def test_expected_widths_are_what_floors_leave(network):
    """What may not close counts as open in training, too: else the cut ends above the target."""
    model = decide(gated(network), closed=0.8)
    channels, found = trace(model), gates.gates_of(model)
    free = [group for group in channels.groups if group.anchored is None]
    least = {group.name: 3 * (i % 2) + 1 for i, group in enumerate(free)}
    bound = dataclasses.replace(
        channels,
        groups=tuple(
            dataclasses.replace(g, least=least.get(g.name, g.least)) for g in channels.groups
        ),
    )
    opened = np.ones(bound.coupled_count)
    for call in bound.graph.calls:
        if isinstance(call.operation, gates.Gate):
            opened[gated_channels(bound, call)] = ops.convert_to_numpy(call.operation.values())
    stays = with_floors(bound, opened > 0.5, opened)
    widths = ExpectedWidths.of(bound)(found, [gate.values() for gate in found])
    np.testing.assert_allclose(
        ops.convert_to_numpy(widths), [stays[group.coupled].sum() for group in free]
    )


@pytest.mark.parametrize("network", [networks.residual, networks.concatenation])
def test_the_least_that_can_stay_open_is_what_is_open_if_all_gates_close(network):
    model = gated(network)
    found = gates.gates_of(model)
    closed = [ops.zeros_like(gate.values()) for gate in found]
    macs, widths = ExpectedMacs.of(trace(model)), ExpectedWidths.of(trace(model))
    assert macs.least_share == pytest.approx(float(macs.share(found, closed)), rel=1e-5)
    assert widths.least_open == pytest.approx(float(widths.open(found, closed)), rel=1e-5)


@pytest.mark.parametrize("of", ["channels", "macs"])
def test_a_target_below_what_has_to_stay_is_refused_at_once(of):
    model = fitting.compiled(gated())
    with pytest.raises(ImpossibleBudget, match=rf"1\.0% of the {of} of model .* from 0\.\d+ on"):
        fitting.fit(model, [ConsensusPruning(0.01, of=of)], epochs=1)


def undecided(model, seed=0):
    """Gates whose decisions depend on the input."""
    rng = np.random.default_rng(seed)
    for gate in gates.gates_of(model):
        gate.second.assign(rng.normal(size=gate.second.shape))
        gate.second_shift.assign(0.2 * rng.normal(size=gate.second_shift.shape))
    return model


def test_what_is_added_to_the_loss_is_the_formula():
    """One step on one batch, of a model that does not learn; decisions are asked for by hand."""
    model, (x, y) = undecided(gated()), fitting.data(count=16)
    found = gates.gates_of(model)
    for gate in found:
        gate.listen()
    before = model.get_weights()
    model(x, training=True)
    open_shares = [
        np.mean([ops.convert_to_numpy(one).mean(axis=0) for one in gate.heard()], axis=0)
        for gate in found
    ]
    model.set_weights(before)
    p = np.concatenate(open_shares)
    assert np.mean(p * (1 - p)) > 0
    losses = []
    consensus = ConsensusPruning(0.3, (0, 0), activation=2.0, polarization=5.0, freeze=1)
    for callbacks in ([], [consensus]):
        fitting.compiled(model, keras.optimizers.SGD(0.0))
        losses += model.fit(x, y, 16, 1, callbacks=callbacks, verbose=0).history["loss"]
    expected = 2 * (p.mean() - 0.3) ** 2 + 5 * np.mean(p * (1 - p))
    assert losses[1] - losses[0] == pytest.approx(expected, rel=1e-4)


class Watch(keras.callbacks.Callback):
    """What a model is at the beginning of each epoch, after the callbacks before."""

    def __init__(self):
        super().__init__()
        self.outputs, self.weights = [], []

    def on_epoch_begin(self, epoch, logs=None):
        self.outputs.append(flat_outputs(self.model, fitting.data()[0])[0])
        self.weights.append(self.model.get_weights())


@pytest.fixture(scope="module")
def trained():
    """A fit that begins with a third of the channels closed, and freezes after one epoch of two."""
    model = undecided(gated())
    for gate in gates.gates_of(model):
        closed = np.arange(gate.channels) % 3 == 0
        gate.second_shift.assign(np.where(closed, -50.0, 50.0))
    consensus, watch = ConsensusPruning(0.7, (0, 0.5), freeze=0.5, verbose=0), Watch()
    fitting.compiled(model, keras.optimizers.SGD(1e-3))
    history = fitting.fit(model, [consensus, watch], 2, fitting.THREE_STEPS).history
    return model, consensus, watch, history


def test_what_the_gates_agree_on_is_cut_while_the_fit_goes_on(trained):
    model, consensus, watch, _ = trained
    for gate in gates.gates_of(model):
        assert gate.frozen and gate.hard().all()
    widths = trace(model).widths()
    assert widths["b1a_conv"] == 5 and widths["b2a_conv"] == 8  # of 8 and 12
    assert consensus.plan.after.channels == keras_gcp.count(model).channels
    shapes = [[w.shape for w in epoch] for epoch in watch.weights]
    assert shapes[0] != shapes[1] == [w.shape for w in model.get_weights()]
    moved = [
        not np.array_equal(a, b)
        for a, b, v in zip(watch.weights[1], model.get_weights(), model.weights, strict=True)
        if v.name == "kernel"  # A bias before a normalization has no gradient.
    ]
    assert all(moved)


def test_the_narrow_plain_network_computes_what_the_trained_one_does(trained):
    model, *_ = trained
    narrow, x = gates.remove(model), fitting.data()[0]
    np.testing.assert_allclose(
        flat_outputs(narrow, x)[0], flat_outputs(model, x)[0], rtol=1e-4, atol=1e-5
    )
    assert not gates.gates_of(narrow)


def test_logs_and_states_tell_how_the_gates_are(trained):
    _, consensus, _, history = trained
    (state,) = consensus.states  # Until they are frozen.
    assert (state.epoch, state.polarization) == (0, 1.0) and state.target == pytest.approx(0.7)
    assert history["gates_open"] == [state.open] and 0.6 < state.open < 0.8
    assert history["gates_undecided"] == [state.undecided]


def test_the_model_has_its_own_loss_again(trained):
    model, *_ = trained
    assert "compute_loss" not in vars(model)
    assert not any(gate.heard() for gate in gates.gates_of(model))


def test_the_cut_changes_nothing_where_all_gates_have_decided():
    model = decide(gated())
    watch, before = Watch(), flat_outputs(model, fitting.data()[0])[0]
    fitting.compiled(model, keras.optimizers.SGD(0.0))
    for layer in model.layers:  # Moving statistics would change, too.
        layer.trainable = not isinstance(layer, keras.layers.BatchNormalization)
    consensus = ConsensusPruning(0.5, (0, 0), freeze=0.1, verbose=0)
    fitting.fit(model, [consensus, watch], epochs=1)
    assert consensus.plan.removed_channels > 0
    np.testing.assert_allclose(watch.outputs[0], before, rtol=1e-4, atol=1e-5)


def test_a_cut_that_fails_leaves_gates_and_model_as_they_were(monkeypatch):
    model = decide(gated())
    fitting.compiled(model)
    before = [np.array(value) for value in model.get_weights()]

    def fail(*_):
        raise VerificationFailed("differs")

    monkeypatch.setattr("keras_gcp.surgery.cut.verify_narrow", fail)
    with pytest.raises(VerificationFailed, match="differs"):
        fitting.fit(model, [ConsensusPruning(0.5, (0, 0), freeze=0.1, verbose=0)], epochs=1)
    for ours, theirs in zip(model.get_weights(), before, strict=True):
        np.testing.assert_array_equal(ours, theirs)
    assert not any(gate.frozen for gate in gates.gates_of(model))


def test_branches_are_frozen_in_the_fit_and_go_with_their_gates(single_channels):
    model = gated(blocks=True)
    first, second = gates.gates_of(model)
    first.second_shift.assign([-50.0])
    first.open_share.assign([0.0])
    fitting.compiled(model, keras.optimizers.SGD(1e-3))
    fitting.fit(model, [ConsensusPruning(0.5, (0, 0.5), freeze=0.5, verbose=0)], epochs=2)
    assert first.frozen and not first.hard().any() and second.hard().all()
    # Inside the closed branch there is nothing left to compute; the open one, and the stream, stay.
    assert filters_of(model) == {**filters_of(networks.residual()), "b1a_conv": 1}
    narrow, x = gates.remove(model), inputs_for(model)
    np.testing.assert_allclose(flat_outputs(narrow, x)[0], flat_outputs(model, x)[0], atol=1e-5)
    assert "b1a_conv" not in {layer.name for layer in narrow.layers}


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ({"target": 1}, r"`target` of ConsensusPruning expects a share in \(0, 1\)"),
        ({"of": "parameters"}, "`of` of ConsensusPruning expects 'channels' or 'macs'"),
        ({"ramp": (0.6, 0.2)}, "shares of the epochs in order"),
        ({"ramp": 0.5}, "shares of the epochs in order"),
        ({"freeze": 0.5}, "shares of the epochs in order"),
        ({"activation": -1}, "`activation` of ConsensusPruning expects a number from 0 on"),
        ({"polarization": "1"}, "`polarization` of ConsensusPruning"),
    ],
)
def test_arguments_out_of_range_are_refused(arguments, told):
    with pytest.raises(InvalidArgument, match=told):
        ConsensusPruning(**arguments)


@pytest.mark.parametrize("verbose", [3, -1, "loud", None])
@pytest.mark.parametrize("cutting", [ConsensusPruning, partial(ActivationDensity, np.ones((4, 8)))])
def test_callbacks_that_cut_take_the_same_verbose_and_refuse_others(cutting, verbose):
    for known in ("auto", 0, 1, 2, True, False):
        cutting(verbose=known)
    with pytest.raises(InvalidArgument, match="`verbose` expects"):
        cutting(verbose=verbose)


def test_models_and_callbacks_that_do_not_go_together_with_it_are_refused():
    plain = fitting.compiled(networks.plain())
    with pytest.raises(UnsupportedModel, match="has no ConsensusGate"):
        fitting.fit(plain, [ConsensusPruning()], epochs=1)
    model = fitting.compiled(gated(networks.plain))
    with pytest.raises(InvalidArgument, match="change what it minimises"):
        fitting.fit(model, [VarianceRegularizer(), ConsensusPruning()], epochs=1)
    blocks = fitting.compiled(gated(blocks=True))
    with pytest.raises(InvalidArgument, match="'gate_b1_add' is one of a whole residual"):
        fitting.fit(blocks, [ConsensusPruning(of="macs")], epochs=1)


def test_the_target_comes_down_before_polarization_grows():
    model = fitting.compiled(gated(networks.plain), keras.optimizers.SGD(0.0))
    consensus = ConsensusPruning(0.6, (0.5, 1), freeze=1, verbose=0)
    fitting.fit(model, [consensus], epochs=8, steps_per_epoch=1)
    targets = [one.target for one in consensus.states]
    np.testing.assert_allclose(targets, [0.8, 0.6, 0.6, 0.6, 0.6, 0.6, 0.6, 0.6], rtol=1e-6)
    strengths = [one.polarization for one in consensus.states]
    np.testing.assert_allclose(strengths, [0, 0, 0, 0, 0.25, 0.5, 0.75, 1])


@pytest.mark.slow
def test_it_trains_and_cuts_where_steps_are_compiled():
    model = undecided(gated())
    fitting.compiled(model, run_eagerly=False)
    fitting.fit(model, [ConsensusPruning(0.5, (0.2, 0.4), freeze=0.6, verbose=0)], epochs=5)
    assert all(gate.frozen for gate in gates.gates_of(model))
    assert np.isfinite(ops.convert_to_numpy(gates.remove(model).get_weights()[0])).all()
