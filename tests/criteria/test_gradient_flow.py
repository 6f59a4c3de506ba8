"""GraSP: the Hessian times the gradient, as scores of weights, channels and layers."""

import keras
import networks
import numpy as np
import pytest
from helpers import inputs_for
from keras import layers

import keras_gcp
from keras_gcp import criteria
from keras_gcp.channels.trace import trace
from keras_gcp.criteria.gradient_flow import GradientFlow
from keras_gcp.criteria.hessian_gradient import find_classes, hessian_gradient, kernels_of
from keras_gcp.errors import InvalidArgument, UnsupportedModel
from keras_gcp.methods import gradient_flow_scores, gradient_flow_shares
from keras_gcp.methods.grasp import _ASKER
from keras_gcp.sample import DrawnSample

EXAMPLES = 12


def network(normalized=True, activation="softmax", inner=None):
    """Two convolutions and a dense layer, not trained."""
    keras.utils.set_random_seed(0)
    inner = inner or ("softplus" if normalized else "relu")
    inputs = x = keras.Input((6, 6, 2))
    for name, width in (("a", 5), ("b", 6)):
        x = layers.Conv2D(width, 3, padding="same", use_bias=not normalized, name=name)(x)
        if normalized:
            x = layers.BatchNormalization(epsilon=1e-9)(x)
        x = layers.Activation(inner)(x)
    x = layers.GlobalAveragePooling2D()(x)
    model = keras.Model(inputs, layers.Dense(4, activation=activation, name="out")(x))
    x = inputs_for(model, EXAMPLES)
    return model, x, np.arange(EXAMPLES) % 4


def measured(model, x, y, temperature=1.0):
    """Gradients, and the Hessian times them, with the kernels."""
    channels = trace(model)
    variables = kernels_of(channels)
    head = find_classes(model, channels, _ASKER)
    return hessian_gradient(channels, head, variables, x, y, temperature, 256), variables


def assert_same(found, expected):
    """But for roundings: of single numbers not much may be left where others are subtracted."""
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5 * np.abs(expected).max())


def gradients_at(model, x, y, change):
    """g with the kernels moved by some arrays, by their `id`."""
    found, variables = measured(model, x, y)
    before = {id(v): keras.ops.convert_to_numpy(v) for v in variables}
    for variable in variables:
        variable.assign(before[id(variable)] + change[id(variable)])
    moved, _ = measured(model, x, y)
    for variable in variables:
        variable.assign(before[id(variable)])
    return found, moved


@pytest.mark.parametrize("activation", ["softmax", None])
@pytest.mark.parametrize("normalized", [True, False])
def test_the_product_is_the_change_of_the_gradient_along_itself(normalized, activation):
    """Smooth inside, so that steps may be large enough for 32 bits, which is all JAX has."""
    model, x, y = network(normalized, activation, "softplus")
    found, _ = measured(model, x, y)
    step = 0.01 / np.sqrt(squared_gradient(found))
    _, there = gradients_at(model, x, y, {k: step * g for k, g in found.gradients.items()})
    _, back = gradients_at(model, x, y, {k: -step * g for k, g in found.gradients.items()})
    for key, product in found.products.items():
        change = (there.gradients[key] - back.gradients[key]) / (2 * step)
        error = np.linalg.norm(change - product) / np.linalg.norm(product)
        assert error < 1e-2


def test_batches_of_any_size_have_the_gradient_of_all_examples_without_normalization():
    model, x, y = network(normalized=False)
    channels = trace(model)
    head, variables = find_classes(model, channels, _ASKER), kernels_of(channels)
    whole, parts = (
        hessian_gradient(channels, head, variables, x, y, 1.0, size) for size in (256, 5)
    )
    for key in whole.products:
        assert_same(parts.products[key], whole.products[key])


def squared_gradient(found):
    return sum(float(np.square(one).sum()) for one in found.gradients.values())


def test_twice_a_score_is_what_the_squared_gradient_changes_by_as_a_gate_closes():
    """Smooth inside, so that steps may be large enough for 32 bits."""
    model, x, y = network(False, "softmax", "softplus")
    criterion = GradientFlow(temperature=1.0)
    scores = criterion(model, trace(model), DrawnSample(x, y))
    step, agree, count = 1e-2, 0, 0
    for path in ("a", "b"):
        kernel = model.get_layer(path).kernel
        for channel in range(kernel.shape[-1]):
            change = {id(v): np.zeros(v.shape) for v in kernels_of(trace(model))}
            change[id(kernel)][..., channel] = (
                -step * keras.ops.convert_to_numpy(kernel)[..., channel]
            )
            _, closed = gradients_at(model, x, y, change)
            _, opened = gradients_at(model, x, y, {k: -part for k, part in change.items()})
            rise = (squared_gradient(closed) - squared_gradient(opened)) / (2 * step)
            agree += np.sign(rise) == np.sign(-2 * scores[path][channel])
            count += 1
            assert rise == pytest.approx(-2 * scores[path][channel], rel=0.01, abs=1e-6)
    assert agree >= 0.95 * count


def test_scores_of_channels_sum_to_those_of_the_weights():
    model, x, y = network()
    weights = gradient_flow_scores(model, x, y)
    assert {key: one.shape for key, one in weights.items()} == {
        "a/kernel": (3, 3, 2, 5),
        "b/kernel": (3, 3, 5, 6),
        "out/kernel": (6, 4),
    }
    channels = criteria.get("gradient_flow")(model, trace(model), DrawnSample(x, y))
    for path in ("a", "b"):
        by_channel = weights[f"{path}/kernel"].sum(axis=(0, 1, 2))
        assert_same(channels[path], -by_channel)
    unsigned = GradientFlow(signed=False)(model, trace(model), DrawnSample(x, y))
    np.testing.assert_allclose(unsigned["a"], np.abs(channels["a"]), rtol=1e-6)


def test_tied_channels_have_the_sum_over_all_layers_that_make_them():
    keras.utils.set_random_seed(0)
    model = networks.residual()
    x, y = inputs_for(model, EXAMPLES), np.arange(EXAMPLES) % 4
    weights = gradient_flow_scores(model, x, y)
    scores = criteria.get("gradient_flow")(model, trace(model), DrawnSample(x, y))
    both = sum(weights[f"{path}/kernel"].sum((0, 1, 2)) for path in ("stem_conv", "b1b_conv"))
    np.testing.assert_allclose(scores["stem_conv"], -both, rtol=1e-3, atol=1e-9)
    np.testing.assert_array_equal(scores["stem_conv"], scores["b1b_conv"])


def test_before_batch_normalization_a_channels_score_is_minus_its_squared_gradient():
    model, x, y = network()
    found, _ = measured(model, x, y)
    scores = GradientFlow(temperature=1.0)(model, trace(model), DrawnSample(x, y))
    for path in ("a", "b"):
        gradient = found.gradients[id(model.get_layer(path).kernel)]
        np.testing.assert_allclose(scores[path], -np.square(gradient).sum((0, 1, 2)), rtol=1e-3)


def test_at_most_ten_examples_of_each_class_count_whatever_their_order():
    model, x, y = network(normalized=False)
    few = GradientFlow(per_class=2)
    found = few(model, trace(model), DrawnSample(x, y))
    order = np.random.default_rng(0).permutation(EXAMPLES)
    again = few(model, trace(model), DrawnSample(x[order], y[order]))
    np.testing.assert_allclose(found["a"], again["a"], rtol=1e-9)
    more = GradientFlow(per_class=3)(model, trace(model), DrawnSample(x, y))
    assert not np.allclose(found["a"], more["a"], rtol=1e-2, atol=0)


def test_shares_of_layers_are_roots_of_the_shares_of_weights_below_the_threshold():
    model, x, y = network()
    scores = gradient_flow_scores(model, x, y)
    threshold = np.quantile(np.concatenate([one.ravel() for one in scores.values()]), 0.3)
    shares = gradient_flow_shares(model, x, y, keep=0.3)
    assert set(shares) == {"a", "b"}
    for path, share in shares.items():
        kept = (scores[f"{path}/kernel"] <= threshold).mean()
        np.testing.assert_allclose(share, np.sqrt(kept), rtol=1e-9)


def test_widths_follow_the_shares_given_as_a_ranking():
    model = networks.plain()
    free = {"align": 1, "floor": 1}
    even = keras_gcp.plan(
        model, {"channels": 0.5}, "l2_norm", selection={**free, "ranking": "uniform"}
    )
    selection = keras_gcp.Selection(ranking={"a_conv": 0.25, "b_conv": 0.75}, **free)
    plan = keras_gcp.plan(model, {"channels": 0.5}, "l2_norm", selection=selection)
    assert even.widths()["a_conv"] == 4 and even.widths()["b_conv"] == 6
    assert plan.widths()["a_conv"] == 2 and plan.widths()["b_conv"] == 8  # 0.25 / 0.75, nearly
    scores = criteria.get("l2_norm")(model, trace(model), None)["b_conv"]
    assert plan.kept("b_conv").tolist() == sorted(np.argsort(-scores)[:8].tolist())


@pytest.mark.parametrize(
    ("ranking", "words"),
    [
        ({"a_conv": 0}, r"`ranking\['a_conv'\]`.*share in \(0, 1\]"),
        ({"a_conv": 1.5}, r"share in \(0, 1\]"),
        ({}, "one layer at least"),
        ({3: 0.5}, "names of layers"),
        ("best", "ranking"),
    ],
)
def test_rankings_that_are_none_are_refused(ranking, words):
    with pytest.raises(InvalidArgument, match=words):
        keras_gcp.Selection(ranking=ranking)


def test_a_ranking_by_layers_that_are_not_there_is_refused():
    with pytest.raises(InvalidArgument, match=r"`ranking` names layer 'c_conv'"):
        keras_gcp.plan(
            networks.plain(), {"macs": 0.5}, "l2_norm", selection={"ranking": {"c_conv": 0.5}}
        )


def test_what_is_no_classifier_is_refused():
    model = networks.autoencoder()
    x = inputs_for(model, 4)
    with pytest.raises(UnsupportedModel, match="classifier"):
        gradient_flow_scores(model, x, np.arange(4))
    with pytest.raises(UnsupportedModel, match=r"'gradient_flow'.*l2_norm"):
        criteria.get("gradient_flow").check(model, trace(model), DrawnSample(x, np.arange(4)))


@pytest.mark.parametrize(
    "arguments", [{"signed": "no"}, {"temperature": 0}, {"per_class": 0}, {"batch_size": 1}]
)
def test_settings_out_of_range_are_refused(arguments):
    with pytest.raises(InvalidArgument, match=next(iter(arguments))):
        GradientFlow(**arguments)
