"""The way of relevance: gates, branches, signs, and what cannot be followed."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from keras import layers, ops

from keras_gcp.channels.trace import trace
from keras_gcp.criteria.relevance import RelevanceRule, register_relevance_rule, rules
from keras_gcp.criteria.relevance.backward_pass import BackwardPass, Probe
from keras_gcp.criteria.relevance.backward_route import GATE, MAIN, find_route
from keras_gcp.criteria.relevance.rule_functions import unchanged
from keras_gcp.criteria.relevance.rules import RuleKind
from keras_gcp.criteria.relevance.scoring import output_probe
from keras_gcp.errors import InvalidArgument, UnsupportedModel


def _classifier(x, classes=3):
    return layers.Dense(classes, name="logits")(layers.Flatten(name="flatten")(x))


def _one_hot(outputs):
    """Relevance at the logits: examples of all classes in turn."""
    return ops.one_hot(np.arange(outputs.shape[0]) % 3, outputs.shape[-1])


def _outputs(graph):
    """Name of each call to the index of its (last) output."""
    return {call.path: call.outputs[0].index for call in graph.calls}


def _totals(model, examples=6, seed=0):
    """Total relevance of each example at each layer's output, `{path: (examples,)}`."""
    channels = trace(model)
    probes, sizes, paths = [], [], []
    for call in channels.graph.calls:
        probe = output_probe(call, channels)
        if probe is not None:
            probes.append(probe)
            paths.append(call.path)
            sizes.append(np.prod([n for n in call.outputs[0].shape[1:]]) / probe.channels)
    route = find_route(channels.graph, {probe.tensor for probe in probes})
    rng = np.random.default_rng(seed)
    inputs = [
        ops.convert_to_tensor(rng.normal(size=(examples, *x.shape[1:])).astype("float32"))
        for x in channels.graph.inputs
    ]
    weights = [ops.convert_to_tensor(v) for v in model.weights]
    rows, _ = BackwardPass(route, probes, model.weights)(weights, inputs, _one_hot)
    splits = np.cumsum([probe.channels for probe in probes])[:-1]
    parts = np.split(ops.convert_to_numpy(rows), splits, axis=1)
    return {
        path: part.sum(axis=1) * size for path, part, size in zip(paths, parts, sizes, strict=True)
    }


def _squeeze_excite(inputs):
    x = layers.Conv2D(8, 3, padding="same", activation="relu", name="conv")(inputs)
    gate = layers.GlobalAveragePooling2D(keepdims=True, name="squeeze")(x)
    gate = layers.Conv2D(4, 1, activation="relu", name="reduce")(gate)
    gate = layers.Conv2D(8, 1, activation="sigmoid", name="expand")(gate)
    return layers.Multiply(name="excite")([x, gate])


def test_relevance_is_conserved_down_a_residual_network():
    """One in total at every cut through the network that all of it has to pass."""
    inputs = keras.Input((6, 6, 3))
    x = layers.Conv2D(8, 3, padding="same", activation="relu", name="stem")(inputs)
    y = layers.Conv2D(8, 3, padding="same", use_bias=False, name="conv1")(x)
    y = layers.BatchNormalization(name="bn")(y)
    y = layers.ReLU(name="relu")(y)
    y = layers.Conv2D(8, 3, padding="same", name="conv2")(y)
    s = layers.Add(name="add")([x, y])
    x = layers.ReLU(name="out")(s)
    x = layers.AveragePooling2D(2, name="pool")(x)
    totals = _totals(keras.Model(inputs, _classifier(x)))
    for path in ("logits", "flatten", "pool", "out", "add", "stem"):
        np.testing.assert_allclose(totals[path], 1, atol=1e-4, err_msg=path)
    np.testing.assert_allclose(totals["conv1"], totals["relu"], atol=1e-4)


def test_all_relevance_goes_to_the_gated_map_and_none_is_counted_twice():
    inputs = keras.Input((6, 6, 3))
    model = keras.Model(inputs, _classifier(_squeeze_excite(inputs)))
    totals = _totals(model)
    np.testing.assert_allclose(totals["excite"], 1, atol=1e-4)
    np.testing.assert_allclose(totals["conv"], 1, atol=1e-4)
    # Inside its branch the gate is credited with what it lets through.
    np.testing.assert_allclose(totals["expand"], 1, atol=1e-4)
    np.testing.assert_allclose(totals["reduce"], 1, atol=1e-4)
    graph = trace(model).graph
    outputs = _outputs(graph)
    reached = find_route(graph, set(outputs.values())).reached
    ways = {path: reached[index] for path, index in outputs.items()}
    assert {path for path, way in ways.items() if way == GATE} == {"squeeze", "reduce", "expand"}
    assert ways["conv"] == MAIN


@pytest.mark.parametrize(
    "gate_of",
    [
        lambda x: layers.Conv2D(4, 1, activation="sigmoid")(x),
        lambda x: layers.Activation("hard_sigmoid")(layers.Conv2D(4, 1)(x)),
        lambda x: ops.sigmoid(x),
        lambda x: layers.ReLU(6.0)(layers.Conv2D(4, 1)(x) + 3.0) * (1 / 6),
        lambda x: layers.Dropout(0.5)(layers.Softmax()(x)),
        lambda x: layers.Conv2D(1, 1)(x),  # one number per place, for all channels
    ],
)
@pytest.mark.parametrize("gate_first", [False, True])
def test_gates_are_recognised(gate_of, gate_first):
    inputs = keras.Input((4, 4, 4))
    x = layers.Conv2D(4, 1, name="map")(inputs)
    factors = [gate_of(x), x] if gate_first else [x, gate_of(x)]
    model = keras.Model(inputs, _classifier(layers.Multiply(name="product")(factors)))
    totals = _totals(model)
    np.testing.assert_allclose(totals["product"], 1, atol=1e-4)
    np.testing.assert_allclose(totals["map"], 1, atol=1e-4)


def test_a_product_of_two_plain_maps_is_refused():
    inputs = keras.Input((4, 4, 4))
    a, b = layers.Conv2D(4, 1, name="a")(inputs), layers.Conv2D(4, 1, name="b")(inputs)
    model = keras.Model(inputs, _classifier(layers.Multiply(name="product")([a, b])))
    graph = trace(model).graph
    with pytest.raises(UnsupportedModel, match=r"'product' \(class Multiply\).*two plain maps.*'t"):
        find_route(graph, {_outputs(graph)["a"]})
    find_route(graph, {_outputs(graph)["product"]})  # nothing below it is wanted


def test_a_layer_without_a_rule_is_named_and_only_where_relevance_has_to_pass():
    inputs = keras.Input((4, 4, 4))
    x = layers.Conv2D(4, 1, name="below")(inputs)
    x = layers.Lambda(lambda x: x**2, output_shape=(4, 4, 4), name="square")(x)
    x = layers.Conv2D(4, 1, name="above")(x)
    graph = trace(keras.Model(inputs, _classifier(x))).graph
    with pytest.raises(UnsupportedModel, match=r"'square' \(class Lambda\).*elementwise"):
        find_route(graph, {_outputs(graph)["below"]})
    find_route(graph, {_outputs(graph)["above"]})


@pytest.fixture
def register():
    """Registers a rule for the time of one test."""
    kept = dict(rules._RULES)
    yield register_relevance_rule
    rules._RULES.clear()
    rules._RULES.update(kept)


def test_a_registered_rule_is_used(register):
    class Scale(layers.Layer):
        def call(self, inputs):
            return inputs * 3.0

    inputs = keras.Input((4, 4, 4))
    x = layers.Conv2D(4, 1, name="below")(inputs)
    model = keras.Model(inputs, _classifier(Scale(name="scale")(x)))
    register(Scale)(unchanged)
    np.testing.assert_allclose(_totals(model)["below"], 1, atol=1e-4)


def test_a_rule_is_of_a_kind_that_there_is():
    assert RelevanceRule("gate", unchanged) == RelevanceRule(RuleKind.GATE, unchanged)
    with pytest.raises(InvalidArgument, match=r"`RelevanceRule.kind`.*'unchanged'.*'unchange'"):
        RelevanceRule("unchange", unchanged)


def test_a_layer_that_changes_the_shape_cannot_pass_relevance_unchanged(register):
    class Half(layers.Layer):
        def call(self, inputs):
            return inputs[..., :2]

    inputs = keras.Input((4, 4, 4))
    x = layers.Conv2D(4, 1, name="below")(inputs)
    graph = trace(keras.Model(inputs, _classifier(Half(name="half")(x)))).graph
    register(Half)(unchanged)
    with pytest.raises(UnsupportedModel, match=r"'half'.*keep the shape"):
        find_route(graph, {_outputs(graph)["below"]})


def test_relevance_does_not_go_further_than_it_is_wanted():
    inputs = keras.Input((4, 4, 4))
    x = layers.Conv2D(4, 1, name="first")(inputs)
    x = layers.Conv2D(4, 1, name="second")(x)
    graph = trace(keras.Model(inputs, _classifier(x))).graph
    route = find_route(graph, {_outputs(graph)["second"]})
    passed = {step.call.path for step in route.steps if step.rule is not None}
    assert passed == {"logits", "flatten"}
    assert route.kept == {_outputs(graph)["flatten"], _outputs(graph)["second"]}


def test_only_the_sums_before_a_normalisation_are_split_by_magnitude():
    def network(after, signed=True):
        inputs = keras.Input((6, 6, 3))
        activation = None if signed else "relu"
        a = layers.Conv2D(4, 3, activation=activation, name="a")(inputs)
        b = layers.Conv2D(4, 3, activation=activation, name="b")(inputs)
        x = layers.Add(name="add")([a, b])
        for layer in after:
            x = layer(x)
        graph = trace(keras.Model(inputs, _classifier(x))).graph
        steps = find_route(graph, set(_outputs(graph).values())).steps
        return next(step for step in steps if step.call.path == "add").absolute

    assert not network([layers.ReLU()])  # as in the authors' networks
    assert not network([layers.Conv2D(4, 3)])
    assert network([layers.BatchNormalization(), layers.ReLU()])
    assert network([layers.ReLU(), layers.DepthwiseConv2D(3)])
    assert network([layers.Activation("sigmoid")])
    assert not network([layers.BatchNormalization()], signed=False)


def test_signed_sums_do_not_explode_in_a_preactivation_network():
    """With `R * x / z` a few examples would outweigh all others by orders of magnitude."""
    keras.utils.set_random_seed(1)
    inputs = keras.Input((6, 6, 3))
    x = layers.Conv2D(6, 3, padding="same", name="stem")(inputs)
    for index in range(6):
        y = layers.ReLU()(layers.BatchNormalization(name=f"bn{index}")(x))
        y = layers.Conv2D(6, 3, padding="same")(y)
        x = layers.Add(name=f"add{index}")([x, y])
    x = layers.ReLU()(layers.BatchNormalization(name="bn")(x))
    model = keras.Model(inputs, _classifier(x))
    rng = np.random.default_rng(0)
    for index in range(6):
        model.get_layer(f"bn{index}").beta.assign(rng.normal(0, 0.5, 6))
    channels = trace(model)
    stem = next(call for call in channels.graph.calls if call.path == "stem")
    probe = output_probe(stem, channels)
    route = find_route(channels.graph, {probe.tensor})
    images = ops.convert_to_tensor(rng.normal(size=(64, 6, 6, 3)).astype("float32"))
    rows, _ = BackwardPass(route, [probe], model.weights)(
        [ops.convert_to_tensor(v) for v in model.weights], [images], _one_hot
    )
    sizes = np.abs(ops.convert_to_numpy(rows)).sum(axis=1)
    assert sizes.max() < 10 * np.median(sizes)


def test_probe_of_channels_first_layers():
    inputs = keras.Input((3, 6, 6))
    x = layers.BatchNormalization(axis=1, name="bn")(inputs)
    x = layers.MaxPooling2D(2, data_format="channels_first", name="pool")(x)
    channels = trace(keras.Model(inputs, _classifier(x)))
    pool = next(call for call in channels.graph.calls if call.path == "pool")
    assert output_probe(pool, channels) == Probe(pool.outputs[0].index, 1, 3)
