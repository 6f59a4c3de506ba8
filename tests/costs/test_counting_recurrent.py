"""Multiply-adds of recurrent layers, attention and einsums, against the same written out."""

from __future__ import annotations

import keras
import pytest
from keras import layers

import keras_gcp

STEPS, INPUTS, UNITS = 7, 5, 6


def counted(layer, *shapes):
    """Counts of one layer, called on inputs of these shapes."""
    inputs = [keras.Input(shape) for shape in shapes]
    return keras_gcp.count(keras.Model(inputs, layer(*inputs)))


def written_out(gates, inputs=INPUTS, units=UNITS, steps=STEPS):
    """A cell's matrix products, unrolled by hand: dense layers that read inputs and states."""
    sequence = keras.Input((steps, inputs))
    state = keras.Input((units,))
    from_input = layers.Dense(gates * units, use_bias=False)
    from_state = layers.Dense(gates * units, use_bias=False)
    sums = [
        layers.Add()([from_input(sequence[:, step]), from_state(state)]) for step in range(steps)
    ]
    model = keras.Model([sequence, state], sums)
    return keras_gcp.count(model)


@pytest.mark.parametrize(
    "layer, gates",
    [
        (layers.SimpleRNN(UNITS), 1),
        (layers.GRU(UNITS, return_sequences=True), 3),
        (layers.GRU(UNITS, reset_after=False, go_backwards=True), 3),
        (layers.LSTM(UNITS, use_bias=False), 4),
        (layers.RNN(layers.LSTMCell(UNITS)), 4),
    ],
    ids=["SimpleRNN", "GRU", "GRU-reset-before", "LSTM", "RNN-LSTMCell"],
)
def test_recurrent_layers_count_like_their_steps_written_out(layer, gates):
    found, expected = counted(layer, (STEPS, INPUTS)), written_out(gates)
    assert (found.macs, found.weights) == (expected.macs, expected.weights)
    assert found.macs == STEPS * gates * (INPUTS + UNITS) * UNITS
    assert found.activation_macs == 0


def test_both_directions_and_every_cell_of_a_stack_count():
    forward = written_out(4).macs
    assert counted(layers.Bidirectional(layers.LSTM(UNITS)), (STEPS, INPUTS)).macs == 2 * forward
    stack = layers.RNN([layers.LSTMCell(UNITS), layers.StackedRNNCells([layers.GRUCell(4)])])
    second = written_out(3, inputs=UNITS, units=4).macs
    assert counted(stack, (STEPS, INPUTS)).macs == forward + second


def test_a_recurrent_layer_that_is_repeated_counts_as_often():
    layer = layers.TimeDistributed(layers.GRU(UNITS))
    assert counted(layer, (3, STEPS, INPUTS)).macs == 3 * written_out(3).macs


@pytest.mark.parametrize("sequences", [True, False], ids=["sequences", "last"])
@pytest.mark.parametrize(
    "layer, shape, positions, window",
    [
        ("ConvLSTM1D", (9,), 4, 3),  # (9 - 3) // 2 + 1
        ("ConvLSTM2D", (9, 8), 4 * 3, 9),
        ("ConvLSTM3D", (5, 5, 5), 8, 27),
    ],
)
def test_convolutional_lstm_counts_both_convolutions_at_every_output_position(
    layer, shape, positions, window, sequences
):
    found = getattr(layers, layer)(UNITS, 3, strides=2, return_sequences=sequences)
    expected = STEPS * positions * window * (INPUTS + UNITS) * 4 * UNITS
    assert counted(found, (STEPS, *shape, INPUTS)).macs == expected


def projections(places, sources, query, key, value, heads, key_dim, value_dim, output):
    """The four projections, as dense layers."""

    def dense(length, width, units):
        return counted(layers.Dense(units), (length, width)).macs

    return (
        dense(places, query, heads * key_dim)
        + dense(sources, key, heads * key_dim)
        + dense(sources, value, heads * value_dim)
        + dense(places, heads * value_dim, output)
    )


def test_attention_counts_projections_and_both_products_of_activations():
    layer = layers.MultiHeadAttention(2, 3, value_dim=5, output_shape=9, name="attention")
    found = counted(layer, (7, 6), (4, 8), (4, 10))
    products = 2 * 7 * 4 * 3 + 2 * 7 * 4 * 5  # queries with keys, scores with values
    assert found.activation_macs == found.layers["attention"].activation_macs == products
    assert found.macs == products + projections(7, 4, 6, 10, 8, 2, 3, 5, 9)
    assert found.weights == 6 * 6 + 10 * 6 + 8 * 10 + 10 * 9


def test_key_and_value_heads_that_queries_share_are_projected_once():
    layer = layers.GroupQueryAttention(3, 4, 2)
    found = counted(lambda x: layer(query=x, value=x), (8, 10))
    assert found.activation_macs == 2 * 4 * 8 * 8 * 3
    assert found.macs == found.activation_macs + 8 * 10 * (12 + 6 + 6 + 12)


def test_attention_along_one_axis_counts_the_other_as_repetition():
    layer = layers.MultiHeadAttention(2, 3, attention_axes=2)
    found = counted(lambda x: layer(x, x), (4, 6, 8))
    assert found.activation_macs == 4 * (2 * 2 * 6 * 6 * 3)
    assert found.macs == found.activation_macs + 4 * projections(6, 6, 8, 8, 8, 2, 3, 3, 8)


def test_attention_without_kernels_counts_its_products():
    def of(layer):
        return counted(lambda *x: layer(list(x)), (7, 5), (4, 5))

    dot = of(layers.Attention())
    assert dot.macs == dot.activation_macs == 2 * 7 * 4 * 5
    assert of(layers.Attention(score_mode="concat")).macs == 7 * 4 * 5  # Scores are sums there,
    assert of(layers.AdditiveAttention()).macs == 7 * 4 * 5  # and here, too.


@pytest.mark.parametrize(
    "equation, output, shape, macs",
    [
        ("btc,cd->btd", (7, 8), (7, 5), 7 * 5 * 8),
        ("...c,cd->...d", 8, (7, 5), 7 * 5 * 8),
        ("...c,cd->...d", 8, (5,), 5 * 8),
        ("btc,ts->bsc", (9, 5), (7, 5), 7 * 9 * 5),  # along time, for every channel
        ("bt...,ts->bs...", (9,), (7, 5, 4), 7 * 9 * 5 * 4),
        ("bnc,ncd->bnd", (7, 8), (7, 5), 7 * 5 * 8),  # a kernel for every position
        ("bc,chd->bhd", (2, 3), (5,), 5 * 2 * 3),
        ("bhd,hdc->bc", (6,), (2, 3), 2 * 3 * 6),
        ("bc,c->bc", (5,), (5,), 5),
    ],
)
def test_every_kernel_entry_of_an_einsum_counts_where_it_is_applied(equation, output, shape, macs):
    assert counted(layers.EinsumDense(equation, output), shape).macs == macs


def test_a_plan_says_how_much_is_between_activations():
    inputs = keras.Input((8, 6))
    x = layers.Dense(16, name="hidden")(layers.MultiHeadAttention(2, 3)(inputs, inputs))
    plan = keras_gcp.plan(
        keras.Model(inputs, layers.Dense(3)(x)), {"channels": 0.5}, selection={"align": 1}
    )
    assert "of these between activations: 768 -> 768 (100.0%)" in plan.explain()
    again = type(plan).from_json(plan.to_json())
    assert again.before.activation_macs == 768
