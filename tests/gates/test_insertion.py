"""Gates are put on what lives or dies together, and open gates change nothing."""

from __future__ import annotations

import keras
import networks
import numpy as np
import pytest
from helpers import flat_outputs, inputs_for, randomise
from keras import layers

from keras_gcp import gates
from keras_gcp.errors import InvalidArgument, UnsupportedModel


@pytest.fixture(scope="module")
def residual():
    return randomise(networks.residual())


@pytest.mark.parametrize("gate", [gates.ScaleGate(), gates.ConsensusGate()], ids=lambda g: g.name)
def test_open_gates_change_no_bit_of_weights_or_outputs(residual, gate):
    gated = gates.insert(residual, gate)
    for layer in residual.layers[1:]:
        for ours, theirs in zip(
            gated.get_layer(layer.name).get_weights(), layer.get_weights(), strict=True
        ):
            np.testing.assert_array_equal(ours, theirs)
    x = inputs_for(residual)
    for ours, theirs in zip(flat_outputs(gated, x), flat_outputs(residual, x), strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_channels_that_an_addition_ties_share_a_gate(residual):
    found = {gate.name: gate.channels for gate in gates.gates_of(gates.insert(residual, scale))}
    assert found == {
        "gate_stem_conv": 8,  # and those of b1b_conv, which are added to it
        "gate_b1a_conv": 8,
        "gate_b2a_conv": 12,
        "gate_b2_shortcut": 12,  # and those of b2b_conv
    }


def scale(channels, name):
    return gates.ScaleGate(channels, name=name)


def test_channels_side_by_side_have_gates_of_their_own():
    gated = gates.insert(networks.concatenation(), gates.ScaleGate())
    assert [gate.channels for gate in gates.gates_of(gated)] == [6, 4, 8]
    reading = gated.get_layer("c_conv").input
    assert reading._keras_history.operation.name == "gate_b_conv"  # after that of a_conv


def test_a_group_that_others_stand_between_has_a_gate_for_each_stretch():
    gated = gates.insert(networks.padded_shortcut(), gates.ScaleGate())
    names = {gate.name: gate.channels for gate in gates.gates_of(gated)}
    assert names == {"gate_stem_conv": 8, "gate_a_conv_1": 2, "gate_a_conv_2": 2, "gate_b_conv": 8}


def test_channels_that_are_excluded_have_none(residual):
    gated = gates.insert(residual, gates.ScaleGate(), exclude=["b1a_conv"])
    assert "gate_b1a_conv" not in {gate.name for gate in gates.gates_of(gated)}


def test_the_precision_of_a_gate_is_that_of_its_reader():
    inputs = keras.Input((8, 8, 3))
    x = layers.Conv2D(8, 3, dtype="mixed_bfloat16", name="a")(inputs)
    x = layers.GlobalAveragePooling2D(dtype="mixed_bfloat16")(x)
    model = keras.Model(inputs, layers.Dense(4, dtype="mixed_bfloat16")(x))
    gated = gates.insert(model, gates.ScaleGate())
    (gate,) = gates.gates_of(gated)
    assert gate.compute_dtype == "bfloat16" and gate.factor.dtype == "float32"
    x = inputs_for(model)
    np.testing.assert_array_equal(flat_outputs(gated, x)[0], flat_outputs(model, x)[0])


def test_channels_that_a_layer_mixes_without_weights_get_no_gate_and_a_warning():
    inputs = keras.Input((8, 3))
    x = layers.LayerNormalization(name="norm")(layers.Dense(8, name="mixed")(inputs))
    x = layers.Dense(6, name="free")(layers.Dense(10, name="wide")(x))
    model = keras.Model(inputs, layers.Dense(4)(x))
    with pytest.warns(UserWarning, match="'mixed': layer 'norm' computes from all of them"):
        gated = gates.insert(model, gates.ScaleGate())
    assert [gate.name for gate in gates.gates_of(gated)] == ["gate_wide", "gate_free"]


def test_units_that_a_recurrent_layer_reads_itself_get_no_gate():
    inputs = keras.Input((8, 3))
    x = layers.GRU(6, name="recurrent")(layers.Dense(8, name="before")(inputs))
    model = keras.Model(inputs, layers.Dense(4)(x))
    with pytest.warns(UserWarning, match="'recurrent': layer 'recurrent' reads"):
        gated = gates.insert(model, gates.ScaleGate())
    assert [gate.name for gate in gates.gates_of(gated)] == ["gate_before"]


def test_what_cannot_be_gated_is_refused(residual):
    inputs = keras.Input((3,))
    with pytest.raises(UnsupportedModel, match="no channels that a gate can be put on"):
        gates.insert(keras.Model(inputs, layers.Dense(4)(inputs)), gates.ScaleGate())
    with pytest.raises(UnsupportedModel, match="no residual branch"):
        gates.insert(networks.plain(), gates.ScaleGate(), blocks=True)
    with pytest.raises(InvalidArgument, match="has gates already, such as 'gate_stem_conv'"):
        gates.insert(gates.insert(residual, gates.ScaleGate()), gates.ScaleGate())


@pytest.mark.parametrize("gate", [None, "scale", gates.ScaleGate, layers.ReLU()])
def test_what_is_no_gate_is_refused(residual, gate):
    with pytest.raises(InvalidArgument, match="`gate` expects a gate"):
        gates.insert(residual, gate)


def test_a_function_has_to_make_gates(residual):
    with pytest.raises(InvalidArgument, match="8 channels and the name 'gate_stem_conv'.*ReLU"):
        gates.insert(residual, lambda channels, name: layers.ReLU(name=name))
