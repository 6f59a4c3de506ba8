"""What a count of multiply-adds leaves out is named wherever the count is used."""

from __future__ import annotations

import re

import keras
import networks
import pytest
from fitting import compiled, fit, pruning
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


def attention_by_hand(x):
    x = layers.Reshape((64, 6), name="places")(x)
    return ops.matmul(ops.softmax(ops.matmul(x, ops.transpose(x, (0, 2, 1)))), x)


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
    "products of two tensors": (
        lambda: between(attention_by_hand),
        {"matmul": "multiplies and sums", "matmul_1": "multiplies and sums"},
    ),
    "einsum with a constant": (
        lambda: between(lambda x: ops.einsum("bhwc,cd->bhwd", x, ops.ones((6, 2)))),
        {"einsum": r"operation 'einsum' \(class Einsum\) multiplies and sums"},
    ),
    "dot of two layers": (
        lambda: between(lambda x: layers.Dot(axes=(3, 3), name="it")([x, x])),
        {"it": r"layer 'it' \(class Dot\) multiplies its inputs"},
    ),
    "constant filters": (
        lambda: between(lambda x: ops.depthwise_conv(x, ops.ones((3, 3, 6, 1)))),
        {"depthwise_conv": r"\(class DepthwiseConv\) multiplies and sums"},
    ),
}


@pytest.mark.parametrize("build, expected", NAMED.values(), ids=NAMED)
def test_what_cannot_be_counted_is_named_with_the_reason(build, expected):
    keras.backend.clear_session()  # Operations are numbered.
    counted = keras_gcp.count(build())
    assert set(counted.uncounted) == set(expected)
    for path, words in expected.items():
        assert re.search(words, counted.uncounted[path])
        assert f"not counted in MACs: {counted.uncounted[path]}" in str(counted)


@pytest.mark.parametrize("name", sorted(networks.ALL))
def test_where_everything_is_counted_nothing_is_named(name):
    counted = keras_gcp.count(networks.ALL[name]())
    assert counted.uncounted == {}
    assert "not counted" not in str(counted)


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
    plan = keras_gcp.plan(model, {"macs": 0.6}, align=1)
    line = "not counted in MACs: layer 'it' (class Lambda) runs code of its own"
    assert line in plan.explain()
    again = keras_gcp.Plan.from_json(plan.to_json())
    assert again.uncounted == plan.uncounted and line in again.explain()
    older = plan.to_json().replace('"uncounted"', '"of_another_version"')
    assert keras_gcp.Plan.from_json(older).uncounted == {}


def test_a_training_says_it_before_anything_else(capsys):
    names = "abcd"

    def lambdas(x):
        for name in names:
            x = layers.Lambda(lambda t: 2 * t, name=name)(x)
        return x

    model = compiled(between(lambdas), run_eagerly=True)
    fit(model, [pruning({"macs": 0.6}, verbose=1)], epochs=2)
    lines = capsys.readouterr().out.splitlines()
    for name, line in zip(names, lines[:3], strict=False):
        assert line.startswith(f"not counted in MACs: layer '{name}' (class Lambda)")
    assert lines[2].endswith("; nor 1 more layer")
    assert lines[3].startswith("epoch 1: ")


def test_a_training_of_which_all_is_counted_says_nothing_of_it(capsys):
    model = compiled(networks.plain(), run_eagerly=True)
    fit(model, [pruning({"macs": 0.6}, verbose=1)], epochs=2)
    assert "not counted" not in capsys.readouterr().out
