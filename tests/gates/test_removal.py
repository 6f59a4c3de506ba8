"""The plain narrow network computes what the gated one computes with frozen gates."""

from __future__ import annotations

import subprocess
import sys

import keras
import networks
import numpy as np
import pytest
from gating import decide, soft
from helpers import flat_outputs, inputs_for, masked_by_hand, random_plan, randomise
from keras import layers

import keras_gcp
from keras_gcp import gates
from keras_gcp.channels.trace import trace, trace_at
from keras_gcp.errors import InvalidArgument, UnsupportedModel, VerificationFailed
from keras_gcp.gates import blocks as residual
from keras_gcp.gates.removal import all_frozen
from keras_gcp.selection.planning import keep_of


def frozen_outputs(gated, x):
    with all_frozen(gated):
        return flat_outputs(gated, x)


def assert_equal(actual, expected, tolerance=1e-5):
    for a, b in zip(actual, expected, strict=True):
        np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance)


def test_the_narrow_network_is_the_frozen_gated_one(pair, narrow):
    model, gated = pair
    x = inputs_for(model)
    assert_equal(flat_outputs(narrow, x), frozen_outputs(gated, x))
    assert narrow.count_params() < 0.7 * model.count_params()


def test_layers_are_those_of_the_original_under_their_names(pair, narrow):
    model, _ = pair
    assert {one.name for one in narrow.layers[1:]} == {one.name for one in model.layers[1:]}
    assert not any(type(one).__module__.startswith("keras_gcp") for one in narrow.layers)


def test_the_gated_model_stays_as_it_is(pair, narrow):
    model, gated = pair
    assert not any(gate.frozen for gate in gates.gates_of(gated))
    np.testing.assert_array_equal(
        gated.get_layer("classifier").get_weights()[0],
        model.get_layer("classifier").get_weights()[0],
    )


def test_closed_gates_are_the_mask_that_cuts_are_proved_against(pair):
    """The other side is computed call by call, without gates and without the package's masks."""
    model, _ = pair
    plan, channels = random_plan(model), trace(model)
    keep = keep_of(plan, channels)
    gated = gates.insert(model, gates.ScaleGate())
    by_name = {gate.name: gate for gate in gates.gates_of(gated)}
    for group in channels.groups:
        if group.anchored is None:
            by_name[f"gate_{group.name}"].factor.assign(keep[group.coupled].astype("float32"))
    x = inputs_for(model)
    expected = masked_by_hand(model, plan, x)
    assert_equal(flat_outputs(gated, x), expected)
    narrow = gates.remove(gated)
    assert_equal(flat_outputs(narrow, x), expected)
    assert trace(narrow).widths() == plan.widths()


def test_a_gated_model_is_cut_saved_loaded_and_freed_of_its_gates(pair, tmp_path):
    _, gated = pair
    plan, x = random_plan(gated, share=0.7), inputs_for(gated)
    cut = keras_gcp.apply(gated, plan)
    assert_equal(flat_outputs(cut, x), masked_by_hand(gated, plan, x))
    widths = trace(cut).widths()
    for gate in gates.gates_of(cut):
        assert gate.channels == gate.factor.shape[0] == widths[gate.name.removeprefix("gate_")]
    cut.save(tmp_path / "gated.keras")
    loaded = keras.models.load_model(tmp_path / "gated.keras")
    for ours, theirs in zip(flat_outputs(loaded, x), flat_outputs(cut, x), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    assert_equal(flat_outputs(gates.remove(loaded), x), frozen_outputs(cut, x))


@pytest.mark.parametrize("name", ["nested", "padded_shortcut", "shared_layer"])
def test_nested_models_stretches_and_shared_layers(name):
    gated = soft(gates.insert(randomise(networks.ALL[name]()), gates.ScaleGate()))
    x = inputs_for(gated)
    assert_equal(flat_outputs(gates.remove(gated), x), frozen_outputs(gated, x))


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(networks.ALL))
@pytest.mark.parametrize("kind", [gates.ScaleGate, gates.ConsensusGate])
def test_every_pattern_of_channels(name, kind):
    gated = gates.insert(randomise(networks.ALL[name]()), kind())
    if kind is gates.ScaleGate:
        soft(gated)
    else:
        decide(gated, seed=0)
    x = inputs_for(gated)
    assert_equal(flat_outputs(gates.remove(gated), x), frozen_outputs(gated, x))
    plan = random_plan(gated)
    assert_equal(flat_outputs(keras_gcp.apply(gated, plan), x), masked_by_hand(gated, plan, x))


def test_where_all_inputs_decide_alike_dynamic_is_static(pair):
    model, _ = pair
    gated, x = decide(gates.insert(model, gates.ConsensusGate()), seed=1), inputs_for(model)
    dynamic = flat_outputs(gated, x)
    for ours, theirs in zip(dynamic, frozen_outputs(gated, x), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    assert_equal(flat_outputs(gates.remove(gated), x), dynamic)


LARGE = {
    "resnet20": lambda: keras_gcp.models.resnet20(),
    "vgg16": lambda: keras_gcp.models.vgg16(width=8),
    "mobilenet_v2": lambda: keras.applications.MobileNetV2(
        (64, 64, 3), alpha=0.35, weights=None, classes=10
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("kind", [gates.ScaleGate, gates.ConsensusGate])
@pytest.mark.parametrize("name", sorted(LARGE))
def test_networks_in_use(name, kind):
    model = randomise(LARGE[name]())
    gated = gates.insert(model, kind())
    soft(gated) if kind is gates.ScaleGate else decide(gated, seed=0)
    x = inputs_for(model)
    narrow = gates.remove(gated)
    for actual, expected in zip(flat_outputs(narrow, x), frozen_outputs(gated, x), strict=True):
        scale = np.abs(expected).max()
        np.testing.assert_allclose(actual / scale, expected / scale, atol=1e-4)
    if kind is gates.ConsensusGate:
        for ours, theirs in zip(flat_outputs(gated, x), frozen_outputs(gated, x), strict=True):
            np.testing.assert_array_equal(ours, theirs)
    assert narrow.count_params() < model.count_params()


def test_a_group_that_is_closed_as_a_whole_keeps_a_channel_that_does_nothing():
    gated = gates.insert(randomise(networks.plain()), gates.ScaleGate())
    for gate in gates.gates_of(gated):
        gate.factor.assign(np.zeros(gate.factor.shape))
    x = inputs_for(gated)
    narrow = gates.remove(gated)
    assert trace(narrow).widths() == {"a_conv": 1, "b_conv": 1, "classifier": 4}
    assert_equal(flat_outputs(narrow, x), frozen_outputs(gated, x))


def test_models_without_gates_and_gates_that_stand_elsewhere_are_refused():
    with pytest.raises(InvalidArgument, match="has no gates to remove"):
        gates.remove(networks.plain())
    inputs = keras.Input((8, 8, 3))
    x = gates.ScaleGate(name="gate")(layers.Conv2D(8, 3, name="a")(inputs))
    x = layers.Conv2D(6, 3)(layers.Activation("sigmoid")(x))  # sigmoid(0) is not 0.
    model = keras.Model(inputs, layers.Flatten()(x))
    model.get_layer("gate").factor.assign([0, 1, 0.5, 1, 0, 1, 1, 1])
    with pytest.raises(VerificationFailed):
        gates.remove(model)


@pytest.mark.slow
def test_the_narrow_network_loads_where_keras_gcp_is_not_imported(narrow, tmp_path):
    narrow.save(tmp_path / "narrow.keras")
    code = (
        "import sys; sys.modules['keras_gcp'] = None; import keras; "
        f"print(keras.models.load_model({str(tmp_path / 'narrow.keras')!r}).count_params())"
    )
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert shown.stdout.strip() == str(narrow.count_params()), shown.stderr


# ---- residual branches as a whole


def gated_blocks(network, factors, kind=gates.ScaleGate):
    gated = gates.insert(network, kind(), blocks=True)
    for gate, factor in zip(gates.gates_of(gated), factors, strict=True):
        (gate.factor if kind is gates.ScaleGate else gate.open_share).assign([factor])
    return gated


def test_a_closed_branch_goes_and_its_shortcut_stays():
    model = randomise(networks.residual())
    gated, x = gated_blocks(model, (0.0, 0.7)), inputs_for(model)
    narrow = gates.remove(gated)
    assert_equal(flat_outputs(narrow, x), frozen_outputs(gated, x))
    gone = {one.name for one in model.layers[1:]} - {one.name for one in narrow.layers}
    assert gone == {"b1a_conv", "b1a_bn", "b1a_act", "b1b_conv", "b1b_bn", "b1_add"}
    narrow = gates.remove(gated_blocks(model, (1.0, 0.0), gates.ConsensusGate))
    assert "b2_shortcut" in {one.name for one in narrow.layers}
    assert "b2b_conv" not in {one.name for one in narrow.layers}


def test_a_gate_of_a_branch_that_looks_at_the_input_is_cut_with_the_channels():
    gated = gates.insert(randomise(networks.residual()), gates.ConsensusGate(), blocks=True)
    rng = np.random.default_rng(0)
    for gate in gates.gates_of(gated):
        gate.second.assign(rng.normal(size=gate.second.shape))
    plan, x = random_plan(gated), inputs_for(gated)
    assert_equal(flat_outputs(keras_gcp.apply(gated, plan), x), masked_by_hand(gated, plan, x))


def test_a_factor_that_no_weights_of_a_branch_can_take_is_refused():
    inputs = keras.Input((8, 8, 3))
    x = layers.Conv2D(8, 3, padding="same", name="stem")(inputs)
    y = layers.Conv2D(8, 3, padding="same", activation="relu", name="branch")(x)
    x = layers.GlobalAveragePooling2D()(layers.Add(name="sum")([x, y]))
    gated = gates.insert(keras.Model(inputs, layers.Dense(4)(x)), gates.ScaleGate(), blocks=True)
    gates.gates_of(gated)[0].factor.assign([0.5])
    with pytest.raises(UnsupportedModel, match=r"'gate_sum' multiplies.*0\.5.*'branch'"):
        gates.remove(gated)
    gates.gates_of(gated)[0].factor.assign([0.0])
    assert gates.remove(gated).count_params() == 8 * 28 + 4 * 9


def test_channels_inside_a_branch_are_those_that_nothing_else_has():
    gated = gates.insert(randomise(networks.residual()), gates.ScaleGate(), blocks=True)
    channels = trace(gated)
    (first, _), _ = residual.gated_blocks(channels)
    assert set(residual.channels_inside(channels, first)) == set(channels.produced["b1a_conv"])
    extractor = keras.Model(gated.inputs, gated.get_layer("b1a_bn").output)
    assert not len(residual.channels_inside(trace_at(None, gated, (), in_place=True), first))
    assert extractor.count_params()  # It has to live until here.
