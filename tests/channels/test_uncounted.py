"""What a count of multiply-adds leaves out is named wherever the count is used."""

from __future__ import annotations

import json
import re

import keras
import networks
import pytest
from fitting import compiled, fit, pruning
from helpers import one_line
from keras import layers, ops

import keras_gcp
from keras_gcp.channels import registry


@keras.saving.register_keras_serializable("test_uncounted")
class OwnDense(layers.Layer):
    """A dense layer that keras_gcp knows nothing of."""

    def build(self, shape):
        self.kernel = self.add_weight(shape=(shape[-1], 4), name="kernel")

    def call(self, x):
        return ops.matmul(x, self.kernel)


@keras.saving.register_keras_serializable("test_uncounted")
class Swish(layers.Layer):
    def call(self, x):
        return x * ops.sigmoid(x)

    def compute_output_shape(self, shape):  # which TimeDistributed asks for
        return shape


@keras.saving.register_keras_serializable("test_uncounted")
class Block(layers.Layer):
    """Hides a convolution, and cannot be opened."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.conv = layers.Conv2D(6, 3, padding="same", name="hidden")

    def call(self, x):
        return self.conv(x)


def between(operation, shape=(8, 8, 3)):
    """A network with an operation between convolutions and a dense layer."""
    inputs = keras.Input(shape)
    x = layers.Conv2D(8, 3, padding="same", name="first")(inputs)
    x = layers.Conv2D(6, 3, padding="same", name="before")(x)
    x = layers.Flatten(name="flat")(operation(x))
    return keras.Model(inputs, layers.Dense(4, activation="softmax", name="after")(x))


@keras.saving.register_keras_serializable("test_uncounted")
class OwnCell(layers.Layer):
    state_size = output_size = 6

    def build(self, shape):
        self.kernel = self.add_weight(shape=(6, 6), name="kernel")

    def call(self, x, states):
        y = x + ops.matmul(states[0], self.kernel)
        return y, [y]


NAMED = {
    "lambda": (
        lambda: between(lambda x: layers.Lambda(lambda t: 2 * t, name="it")(x)),
        {"it": r"layer 'it' \(class Lambda\) runs code of its own"},
    ),
    "own layer": (
        lambda: between(OwnDense(name="it")),
        {"it": r"layer 'it' \(class OwnDense\) multiplies by 'kernel' \(6, 4\)"},
    ),
    "own layer without weights": (
        lambda: between(Swish(name="it")),
        {"it": r"layer 'it' \(class Swish\) runs code of its own"},
    ),
    "own layer in a wrapper": (
        lambda: between(layers.TimeDistributed(Swish(), name="it")),
        {"it": r"layer 'it' \(class TimeDistributed\) runs code of its own"},
    ),
    "product of three tensors": (
        lambda: between(lambda x: ops.einsum("bhwc,bhwc,cd->bhwd", x, x, ops.ones((6, 2)))),
        {"einsum": r"operation 'einsum' \(class Einsum\) multiplies and sums"},
    ),
    "code in an operation": (
        lambda: between(lambda x: ops.vectorized_map(lambda t: 2 * t, x)),
        {"vectorized_map": r"operation 'vectorized_map' \(class VectorizedMap\) runs code"},
    ),
    "recurrent cell of one's own": (
        lambda: between(
            lambda x: layers.RNN(OwnCell(), name="it")(layers.Reshape((64, 6), name="steps")(x))
        ),
        {"it": r"layer 'it' \(class RNN\) multiplies by 'kernel' \(6, 6\)"},
    ),
}


@pytest.mark.parametrize("build, expected", NAMED.values(), ids=NAMED)
def test_what_cannot_be_counted_is_named_with_the_reason(build, expected):
    keras.backend.clear_session()  # Operations are numbered.
    counted = keras_gcp.count(build())
    assert set(counted.uncounted) == set(expected)
    for path, words in expected.items():
        assert re.search(words, counted.uncounted[path])
        assert f"not counted in MACs: {counted.uncounted[path]}" in one_line(str(counted))


ONES = ops.ones
PRODUCTS = {
    "attention by hand": (
        lambda x: ops.matmul(ops.softmax(ops.matmul(x, ops.transpose(x, (0, 2, 1)))), x),
        2 * 64 * 64 * 6,
    ),
    "a constant from the left": (lambda x: ops.matmul(ONES((3, 64)), x), 3 * 64 * 6),
    "dot": (lambda x: ops.dot(x, ONES((6, 2))), 64 * 6 * 2),
    "inner": (lambda x: ops.inner(x, ONES((2, 6))), 64 * 6 * 2),
    "tensordot": (lambda x: ops.tensordot(x, ONES((2, 6)), axes=[[2], [1]]), 64 * 6 * 2),
    "tensordot by number": (lambda x: ops.tensordot(x, ONES((6, 2)), axes=1), 64 * 6 * 2),
    "einsum": (lambda x: ops.einsum("btc,bsc->bts", x, x), 64 * 64 * 6),
    "einsum with dots": (lambda x: ops.einsum("...c,cd->...d", x, ONES((6, 2))), 64 * 6 * 2),
    "einsum of a constant first": (lambda x: ops.einsum("dc,btc->btd", ONES((2, 6)), x), 64 * 12),
    "layer": (lambda x: layers.Dot(axes=(2, 2))([x, x]), 64 * 64 * 6),
    "scores and values": (
        lambda x: ops.dot_product_attention(*3 * [ops.reshape(x, (-1, 64, 2, 3))]),
        2 * 2 * 64 * 64 * 3,
    ),
    "convolution": (
        lambda x: ops.conv(x, ONES((3, 6, 4)), strides=2),
        31 * 3 * 6 * 4,
    ),
    "depthwise convolution": (lambda x: ops.depthwise_conv(x, ONES((3, 6, 1))), 62 * 3 * 6),
    "transposed convolution": (lambda x: ops.conv_transpose(x, ONES((3, 4, 6)), 2), 64 * 72),
    "separable convolution": (
        lambda x: ops.separable_conv(x, ONES((3, 6, 2)), ONES((1, 12, 4))),
        62 * (3 * 12 + 12 * 4),
    ),
}


@pytest.mark.parametrize("multiply, macs", PRODUCTS.values(), ids=PRODUCTS)
def test_products_of_tensors_are_counted_apart(multiply, macs):
    plain, model = (
        between(lambda x, f=f: f(layers.Reshape((64, 6), name="places")(x)))
        for f in (lambda x: x, multiply)
    )
    counted, head = keras_gcp.count(model), model.get_layer("after").kernel.shape[0] * 4
    assert counted.activation_macs == macs
    assert counted.macs - head == keras_gcp.count(plain).macs - 64 * 6 * 4 + macs
    assert counted.uncounted == {}
    plan = keras_gcp.plan(model, {"parameters": 0.99}, selection={"align": 1})
    assert plan.widths()["before"] == 6 and plan.removed_channels > 0
    assert "channels are not followed through products of tensors" in one_line(plan.explain())


@pytest.mark.parametrize("name", sorted(networks.ALL))
def test_where_everything_is_counted_nothing_is_named(name):
    counted = keras_gcp.count(networks.ALL[name]())
    assert counted.uncounted == {}
    assert "not counted" not in one_line(str(counted))


def test_a_hidden_layer_that_is_left_whole_is_named():
    model = between(Block(name="it"))
    with pytest.raises(keras_gcp.errors.UnsupportedModel):
        keras_gcp.count(model)
    counted = keras_gcp.count(model, exclude=["it"])
    assert set(counted.uncounted) == {"it"}
    assert "hides 1 convolution or dense layer ('hidden')" in counted.uncounted["it"]


def test_a_rule_that_declares_a_kernel_and_no_multiply_adds_is_named(monkeypatch):
    monkeypatch.setattr(registry, "_RULES", dict(registry._RULES))

    @keras_gcp.register_rule(OwnDense)
    def own_dense(site):
        incoming, outgoing = site.channels(0), site.fresh(4)
        site.weight(site.layer.kernel, consumes={0: incoming}, produces={1: outgoing})
        site.anchor(outgoing, "its width is fixed")
        return site.output_block(outgoing)

    counted = keras_gcp.count(between(OwnDense(name="it")))
    assert "declares no `site.macs` for it" in counted.uncounted["it"]

    @keras_gcp.register_rule(OwnDense)
    def own_dense_with_macs(site):
        site.macs(site.layer.kernel, site.output_shapes[0][1:-1])
        return own_dense(site)

    full = keras_gcp.count(between(OwnDense(name="it")))
    assert full.uncounted == {}
    assert full.macs == counted.macs + 8 * 8 * 6 * 4


def test_a_plan_says_what_its_share_of_multiply_adds_leaves_out():
    model = between(layers.Lambda(lambda t: 2 * t, name="it"))
    plan = keras_gcp.plan(model, {"macs": 0.6}, selection={"align": 1})
    line = "not counted in MACs: layer 'it' (class Lambda) runs code of its own"
    assert line in one_line(plan.explain())
    again = keras_gcp.Plan.from_json(plan.to_json())
    assert again.uncounted == plan.uncounted and line in one_line(again.explain())
    older = json.loads(plan.to_json())
    del older["uncounted"]
    assert keras_gcp.Plan.from_json(json.dumps(older)).uncounted == {}


@pytest.mark.parametrize("budget", [{"macs": 0.01}, {"macs": keras_gcp.absolute(10**9)}])
def test_refused_budgets_say_it(budget):
    model = between(layers.Lambda(lambda t: 2 * t, name="it"))
    line = r"not counted in MACs: layer 'it' \(class Lambda\)"
    with pytest.raises(keras_gcp.errors.KerasGCPError, match=line):
        keras_gcp.plan(model, budget)
    with pytest.raises(keras_gcp.errors.KerasGCPError, match=line):
        fit(compiled(model), [pruning(budget)])


def test_a_training_says_it_before_the_first_event(capsys):
    names = "abcd"

    def lambdas(x):
        for name in names:
            x = layers.Lambda(lambda t: 2 * t, name=name)(x)
        return x

    model = compiled(between(lambdas), run_eagerly=True)
    fit(model, [pruning({"macs": 0.6}, verbose=1)], epochs=2)
    before, _ = one_line(capsys.readouterr().out).split("event 1 of 1, before epoch 1: ")
    found = [before.find(f"not counted in MACs: layer '{name}' (class Lambda)") for name in names]
    assert 0 < found[0] < found[1] < found[2] and found[3] == -1
    assert before.rstrip().endswith("; nor 1 more layer")


def test_a_training_of_which_all_is_counted_says_nothing_of_it(capsys):
    model = compiled(networks.plain(), run_eagerly=True)
    fit(model, [pruning({"macs": 0.6}, verbose=1)], epochs=2)
    assert "not counted" not in capsys.readouterr().out
