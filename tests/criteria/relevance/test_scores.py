"""`relevance_scores`: from relevance to one score per channel."""

from __future__ import annotations

import gc
import weakref

import keras
import networks
import numpy as np
import pytest
from helpers import inputs_for, randomise
from keras import layers

from keras_gcp.channels.trace import trace
from keras_gcp.criteria import relevance_scores
from keras_gcp.criteria.relevance.backward_pass import BackwardPass
from keras_gcp.criteria.relevance.backward_route import find_route
from keras_gcp.criteria.relevance.scoring import output_probe
from keras_gcp.criteria.relevance.statistics import class_weights_from
from keras_gcp.errors import InvalidArgument, UnsupportedModel


def _case(name="residual", examples=12):
    model = randomise(networks.ALL[name]())
    return model, inputs_for(model, examples), np.arange(examples) % model.output_shape[-1]


def _assert_same(first, second, tolerance=1e-5):
    assert first.keys() == second.keys()
    for path in first:
        np.testing.assert_allclose(first[path], second[path], atol=tolerance, err_msg=path)


@pytest.mark.parametrize("name", sorted(set(networks.ALL) - {"two_outputs", "autoencoder"}))
def test_every_layer_with_channels_gets_a_normalised_score_per_channel(name):
    model, x, y = _case(name)
    scores = relevance_scores(model, x, y)

    def layers_of(model, prefix=""):
        for layer in model.layers:
            if isinstance(layer, keras.Model):
                yield from layers_of(layer, f"{prefix}{layer.name}/")
            elif not isinstance(layer, layers.InputLayer):
                yield prefix + layer.name, layer

    for path, layer in layers_of(model):
        assert scores[path].shape == (layer.output.shape[-1],), path
        assert np.isfinite(scores[path]).all()
        assert (scores[path] >= 0).all()
        assert np.linalg.norm(scores[path]) == pytest.approx(1, rel=1e-4)


def test_the_order_of_examples_and_the_batch_size_do_not_matter():
    model, x, y = _case(examples=14)
    expected = relevance_scores(model, x, y)
    shuffled = np.random.default_rng(0).permutation(14)
    _assert_same(relevance_scores(model, x[shuffled], y[shuffled]), expected)
    # 5: two full batches and a rest; 3: enough batches to be compiled, and a rest.
    for batch_size in (5, 3):
        _assert_same(relevance_scores(model, x, y, batch_size=batch_size), expected)


def test_sparse_one_hot_and_smoothed_labels_are_the_same():
    model, x, y = _case()
    expected = relevance_scores(model, x, y)
    one_hot = np.eye(4, dtype="float32")[y]
    for labels in (y[:, None], y.astype("float32"), one_hot, 0.9 * one_hot + 0.025):
        _assert_same(relevance_scores(model, x, labels), expected)


def test_softmax_or_logits_make_no_difference():
    model, x, y = _case()
    expected = relevance_scores(model, x, y)
    logits = keras.models.clone_model(model)
    logits.set_weights(model.get_weights())
    logits.get_layer("classifier").activation = keras.activations.linear
    _assert_same(relevance_scores(logits, x, y), expected)


def test_a_dense_layer_written_as_an_einsum_scores_the_same():
    def build(hidden):
        inputs = keras.Input((4, 5))
        x = layers.Conv1D(6, 2, name="first")(inputs)
        x = layers.Flatten()(hidden(x))
        return keras.Model(inputs, layers.Dense(3, activation="softmax", name="out")(x))

    dense = randomise(build(layers.Dense(7, activation="gelu", name="hidden")))
    equation = {"equation": "...c,cd->...d", "output_shape": 7, "bias_axes": "d"}
    einsum = build(layers.EinsumDense(**equation, activation="gelu", name="hidden"))
    einsum.set_weights(dense.get_weights())
    x, y = inputs_for(dense, 9), np.arange(9) % 3
    found, expected = (relevance_scores(one, x, y) for one in (einsum, dense))
    for path in ("first", "hidden", "out"):
        np.testing.assert_allclose(found[path], expected[path], rtol=1e-4, atol=1e-6)


def test_calls_of_a_shared_layer_are_added():
    """Against the same network with two layers of equal weights."""
    model, x, y = _case("shared_layer")
    inputs = model.input
    both = [
        layers.Conv2D(6, 3, padding="same", activation="relu", name=name)(
            model.get_layer(f"{branch}_act").output
        )
        for name, branch in (("first", "a"), ("second", "b"))
    ]
    pooled = layers.GlobalAveragePooling2D()(layers.Concatenate(name="both")(both))
    twin = keras.Model(inputs, layers.Dense(4, activation="softmax", name="classifier")(pooled))
    for name in ("first", "second"):
        twin.get_layer(name).set_weights(model.get_layer("shared").get_weights())
    twin.get_layer("classifier").set_weights(model.get_layer("classifier").get_weights())
    channels = trace(twin)
    probes = [
        output_probe(call, channels)
        for call in channels.graph.calls
        if call.path in ("first", "second")
    ]
    route = find_route(channels.graph, {probe.tensor for probe in probes})
    rows, _ = BackwardPass(route, probes, twin.weights)(
        [keras.ops.convert_to_tensor(v) for v in twin.weights],
        [x],
        lambda outputs: keras.ops.one_hot(y, outputs.shape[-1]),
    )
    rows = keras.ops.convert_to_numpy(rows).reshape(len(x), 2, 6).sum(axis=1)
    expected = np.abs(np.mean([rows[y == k].mean(axis=0) for k in range(4)], axis=0))
    scores = relevance_scores(model, x, y, np.ones(4))
    np.testing.assert_allclose(scores["shared"], expected / np.linalg.norm(expected), atol=1e-5)


def test_a_layer_called_at_different_widths_is_left_out():
    relu = layers.ReLU(name="relu")
    inputs = keras.Input((6,))
    x = relu(layers.Dense(5, name="a")(inputs))
    x = relu(layers.Dense(7, name="b")(x))
    model = keras.Model(inputs, layers.Dense(3, name="c")(x))
    x = np.random.default_rng(0).normal(size=(6, 6)).astype("float32")
    assert set(relevance_scores(model, x, np.arange(6) % 3)) == {"a", "b", "c"}


# --------------------------------------------------------------------------- class weights


def test_hard_classes_weigh_more():
    weights = class_weights_from(np.array([0.8, 0.4, 0.0]))
    np.testing.assert_allclose(weights, [1 / (1 + np.exp(-1)), 1 / (1 + np.exp(-2)), 1.0])
    np.testing.assert_allclose(class_weights_from(np.zeros(3)), 1)
    assert np.isnan(class_weights_from(np.array([0.5, np.nan]))).tolist() == [False, True]


def test_class_weights_come_from_the_models_own_accuracy_on_the_sample():
    model, x, _ = _case(examples=40)
    predicted = model.predict(x, verbose=0).argmax(axis=1)
    y = np.where(np.arange(40) % 3 == 0, predicted, np.arange(40) % 4)
    hits = predicted == y
    accuracy = np.array([hits[y == k].mean() for k in range(4)])
    assert accuracy.max() > 0
    with np.errstate(divide="ignore"):
        expected = 1 / (1 + np.exp(-1 / (accuracy / accuracy.max())))
    _assert_same(relevance_scores(model, x, y), relevance_scores(model, x, y, expected))


def test_scores_are_the_weighted_mean_of_the_classes_means():
    """A class of weight 0 has no part; all the weight on one class gives that class's scores."""
    model, x, y = _case(examples=16)
    only = relevance_scores(model, x, y, [0, 0, 1, 0])
    with pytest.warns(UserWarning, match="no example of 3 of 4 classes"):
        expected = relevance_scores(model, x[y == 2], y[y == 2], [1, 1, 1, 1])
    _assert_same(only, expected)


def test_many_examples_of_a_class_do_not_outweigh_the_others():
    model, x, y = _case(examples=8)
    repeated = np.concatenate([np.arange(8), np.repeat(np.flatnonzero(y == 1), 9)])
    weights = np.ones(4)
    _assert_same(
        relevance_scores(model, x[repeated], y[repeated], weights),
        relevance_scores(model, x, y, weights),
    )


def test_classes_without_examples_are_left_out_with_a_warning():
    model, x, y = _case(examples=12)
    some = y < 2
    with pytest.warns(UserWarning, match=r"no example of 2 of 4 classes \(2, 3\)"):
        scores = relevance_scores(model, x[some], y[some], np.ones(4))
    _assert_same(scores, relevance_scores(model, x, y, [1, 1, 0, 0]))


# ------------------------------------------------------------------------------ properties


def test_a_dead_channel_has_no_relevance():
    """Nothing reads it: its column in the consumer is zero."""
    model, x, y = _case("plain", examples=20)
    kernel = keras.ops.convert_to_numpy(model.get_layer("b_conv").kernel).copy()
    kernel[:, :, 3, :] = 0
    model.get_layer("b_conv").kernel.assign(kernel)
    scores = relevance_scores(model, x, y)["a_conv"]
    assert scores[3] < 1e-6 * scores.max()
    assert np.delete(scores, 3).min() > 1e-6 * scores.max()


def test_a_channel_that_is_never_active_has_no_relevance():
    model, x, y = _case("plain", examples=20)
    beta = keras.ops.convert_to_numpy(model.get_layer("a_bn").beta).copy()
    beta[5] = -100
    model.get_layer("a_bn").beta.assign(beta)
    scores = relevance_scores(model, x, y)["a_conv"]
    assert scores[5] == 0


def test_examples_with_infinite_relevance_are_dropped_and_counted():
    inputs = keras.Input((4,))
    hidden = layers.Dense(5, activation="relu", name="hidden")(inputs)
    model = keras.Model(inputs, layers.Dense(3, name="classifier")(hidden))
    rng = np.random.default_rng(0)
    hidden_weights = [rng.normal(0, 5, (4, 5)), np.zeros(5)]
    model.get_layer("hidden").set_weights(hidden_weights)
    x = rng.normal(size=(9, 4)).astype("float32")
    y = np.arange(9) % 3
    bad = x.copy()
    bad[4] = 3e38  # finite, but not what comes of it
    with pytest.warns(UserWarning, match="1 of 9 examples have NaN or infinite relevance"):
        scores = relevance_scores(model, bad, y, np.ones(3))
    _assert_same(scores, relevance_scores(model, np.delete(x, 4, 0), np.delete(y, 4), np.ones(3)))


def test_a_diverged_model_is_named_as_such():
    model, x, y = _case("plain")
    model.get_layer("b_conv").kernel.assign(model.get_layer("b_conv").kernel * np.nan)
    with pytest.raises(UnsupportedModel, match="all 12 examples.*diverged"):
        relevance_scores(model, x, y)


@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16"])
def test_mixed_precision_gives_about_the_same_scores(policy):
    model, x, y = _case("residual")
    expected = relevance_scores(model, x, y, np.ones(4))
    keras.config.set_dtype_policy(policy)
    mixed = networks.residual()
    mixed.set_weights(model.get_weights())
    scores = relevance_scores(mixed, x, y, np.ones(4))
    for path, unit_vector in expected.items():
        assert scores[path] @ unit_vector > 0.99, path  # cosine of the angle between them


@pytest.mark.parametrize("batch_size", [2, 64])
def test_model_and_compiled_functions_stay_as_they_are(batch_size):
    model, x, y = _case("flatten_dense")
    model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
    model.fit(x, y, verbose=0)
    model.predict(x, verbose=0)
    before = [keras.ops.convert_to_numpy(v) for v in model.variables]
    functions = model.train_function, model.test_function, model.predict_function
    relevance_scores(model, x, y, batch_size=batch_size)
    assert functions == (model.train_function, model.test_function, model.predict_function)
    for old, new in zip(before, model.variables, strict=True):
        np.testing.assert_array_equal(old, keras.ops.convert_to_numpy(new))


def test_no_model_is_kept_alive():
    model, x, y = _case()
    relevance_scores(model, x, y, batch_size=3)
    gone = weakref.ref(model)
    del model
    keras.utils.clear_session()
    gc.collect()
    assert gone() is None


# --------------------------------------------------------------------------------- errors


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (np.arange(12), "whole numbers from 0 to 3.*for 8 of 12"),
        (np.full(12, -1), "whole numbers from 0 to 3"),
        (np.linspace(0, 1, 12), "whole numbers.*take another criterion"),
        (np.zeros((12, 3)), r"\(examples,\) or \(examples, 4\)"),
        (np.ones((12, 4)), "one-hot or probabilities"),
        (np.full(12, np.nan), "labels of 12 of 12"),
        (None, "no labels"),
        (np.array(["cat"] * 12), "must be numbers"),
        ([np.zeros(12), np.zeros(12)], "one array of labels"),
    ],
)
def test_labels_that_are_no_classes_are_refused(labels, message):
    model, x, _ = _case("plain")
    with pytest.raises(InvalidArgument, match=message):
        relevance_scores(model, x, labels)


@pytest.mark.parametrize(
    "weights", [[1, 1, 1], [1, 1, 1, -1], [0, 0, 0, 0], [1, 1, 1, np.nan], "a"]
)
def test_class_weights_must_fit(weights):
    model, x, y = _case("plain")
    with pytest.raises(InvalidArgument, match="each of the 4 classes"):
        relevance_scores(model, x, y, weights)


@pytest.mark.parametrize(
    ("outputs", "message"),
    [
        (lambda x: layers.Dense(1, activation="tanh")(x), r"shape \(None, 1\) and tanh"),
        (lambda x: [layers.Dense(3)(x), layers.Dense(3)(x)], "2 outputs"),
        (lambda x: layers.Dense(4, activation="relu")(layers.Reshape((4, 1))(x)), r"4, 4\).*relu"),
    ],
)
def test_a_model_that_is_no_classifier_is_refused(outputs, message):
    inputs = keras.Input((4,))
    model = keras.Model(inputs, outputs(inputs))
    with pytest.raises(UnsupportedModel, match=f"{message}.*needs a classifier.*'taylor'"):
        relevance_scores(model, np.zeros((3, 4), "float32"), np.zeros(3))
