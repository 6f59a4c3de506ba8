"""Every registered rule keeps its contract: cut a network with it, and it is the masked one."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from helpers import flat_outputs, inputs_for, masked_by_hand, random_plan, randomise
from keras import layers

import keras_gcp
from channels.cases import ALONE, ANCHORING, LAYERS, MANY, OPERATIONS, operation, side_by_side
from keras_gcp import versions
from keras_gcp.channels.registry import registered_layers, registered_names
from keras_gcp.channels.trace import trace

BACKWARDS = pytest.mark.not_on("torch", "it has no slices that run backwards")
OLD = versions.minor_version(keras.__version__) < (3, 14)

MARKS = {
    "ops.GetItem-2": BACKWARDS,
    "Normalization-1": pytest.mark.skipif(
        OLD, reason="Keras up to 3.13 cannot build it with such an axis"
    ),
    "LayerNormalization-3": pytest.mark.not_on(
        "torch", "Keras normalizes over trailing axes only there, also in an uncut network"
    ),
    **{
        f"ops.{kind}-0": pytest.mark.not_on(
            "jax", "Keras takes the default strides wrongly there, also in an uncut network"
        )
        for kind in ("MaxPool", "AveragePool")
    },
}


LONG = {
    *("Bidirectional", "ConvLSTM2D", "GRU", "LSTM", "RNN", "SimpleRNN"),
    *("EinsumDense", "MultiHeadAttention", "SpectralNormalization", "TimeDistributed"),
}
"""Layers whose cut takes long: the fast tests have their first setting, and those named below."""
FAST = {
    "LSTM-3",  # States enter and leave.
    "LSTM-4",  # Steps are masked.
    "GRU-1",  # Another formula for its gates.
    "RNN-1",  # Stacked cells.
    "Bidirectional-6",  # Both ways are different layers.
    "EinsumDense-4",  # A bias along two axes.
    "EinsumDense-7",  # Several axes of channels.
    "MultiHeadAttention-2",  # Widths and inputs of its own for each part.
    "MultiHeadAttention-6",  # Steps are masked.
    "SpectralNormalization-3",  # Channels that stay with their inputs.
    "TimeDistributed-5",  # Mixes channels.
}


def marks_of(name, i):
    case = f"{name}-{i}"
    slow = name in LONG and i > 0 and case not in FAST
    return [*([MARKS[case]] if case in MARKS else []), *([pytest.mark.slow] if slow else [])]


CASES = [
    pytest.param(name, build, id=f"{name}-{i}", marks=marks_of(name, i))
    for name, builders in (LAYERS | OPERATIONS).items()
    for i, build in enumerate(builders)
] + [
    pytest.param(name, build, id=f"{name}-alone-{i}", marks=pytest.mark.slow)
    for name, builders in ALONE.items()
    for i, build in enumerate(builders)
]


def assert_close(actual, expected, what=""):
    for a, b in zip(actual, expected, strict=True):
        scale = max(1.0, float(np.abs(b).max()))
        np.testing.assert_allclose(a / scale, b / scale, rtol=1e-4, atol=1e-5, err_msg=what)


def check_cut(model, share=0.5):
    """Cuts a model and compares it with the masked one; returns plan and narrow model."""
    randomise(model)
    plan = random_plan(model, share=share)
    narrow = keras_gcp.apply(model, plan)
    inputs = inputs_for(model)
    assert_close(flat_outputs(narrow, inputs), masked_by_hand(model, plan, inputs))
    assert plan.removed_channels > 0
    return plan, narrow


def test_every_registered_rule_has_a_network_here():
    ours = {kind.__name__ for kind in registered_layers() if kind.__module__.startswith("keras")}
    named = {
        name if name.startswith("ops.") else name.rpartition(".")[2]
        for name in registered_names()
        if not name.startswith("keras_hub.")
    }
    present = {n for n in named if not n.startswith("ops.") or operation(n[4:]) is not None}
    assert ours | present == {*LAYERS, *OPERATIONS, *ALONE, *ANCHORING}


@pytest.mark.parametrize("name, build", CASES)
def test_a_cut_around_the_operation_is_the_masked_network(name, build):
    model = build()
    channels = trace(model)
    kinds = {kind for call in channels.graph.calls for kind in type(call.operation).__mro__}
    assert name.removeprefix("ops.") in {kind.__name__ for kind in kinds}
    assert not channels.refusals
    first = next(iter(channels.produced.values()))
    assert channels.prunable[first].all(), channels.reasons
    plan, narrow = check_cut(model)
    lead = next(iter(plan.groups)).members[0].path
    assert 0 < len(plan.kept(lead)) <= plan.original_widths()[lead]
    for path, width in plan.widths().items():
        layer = narrow.get_layer(path)
        assert getattr(layer, "units", getattr(layer, "filters", None)) in (width, None)
    rebuilt = type(narrow).from_config(narrow.get_config())
    rebuilt.set_weights(narrow.get_weights())
    inputs = inputs_for(narrow)
    # PyTorch's matrix products round by where in memory a matrix lies.
    for a, b in zip(flat_outputs(rebuilt, inputs), flat_outputs(narrow, inputs), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("many", MANY)
def test_a_cut_around_operations_that_are_alike_is_the_masked_network(many):
    """Each has rows of its own in the output, so it is compared on its own."""
    names, operands, applying = MANY[many]
    model = randomise(side_by_side([applying(name) for name in names], operands)())
    channels = trace(model)
    assert {*names} <= {type(call.operation).__name__ for call in channels.graph.calls}
    assert not channels.refusals
    for path in ("left", "right")[:operands]:
        assert channels.prunable[channels.produced[path]].all(), channels.reasons
    plan, inputs = random_plan(model), inputs_for(model)
    assert len(plan.kept("left")) == 3
    (cut,) = flat_outputs(keras_gcp.apply(model, plan), inputs)
    (masked,) = masked_by_hand(model, plan, inputs)
    rows = (np.split(one, len(names), axis=1) for one in (cut, masked))
    for name, actual, expected in zip(names, *rows, strict=True):
        assert_close([actual], [expected], name)


@pytest.mark.parametrize("places, kept", [(7, 8), (9, 1), (8, 8)])
def test_a_bias_along_other_places_is_never_as_long_as_there_are_channels(places, kept):
    """Keras would add it along the channels (TensorFlow backend)."""
    inputs = keras.Input((places, 2))
    x = layers.Conv1D(8, 2, padding="same", name="before")(inputs)
    equation = {"equation": "btc,ts->bsc", "output_shape": (places, 8), "bias_axes": "s"}
    x = layers.GlobalMaxPooling1D()(layers.EinsumDense(**equation, name="it")(x))
    model = randomise(keras.Model(inputs, layers.Dense(3, name="after")(x)))
    channels = trace(model)
    (group,) = [one for one in channels.groups if one.members[0].path == "before"]
    assert (8 if group.anchored else group.least) == kept
    if kept < 8:
        check_cut(model)
