"""The criterion made of relevance scores: where each layer is measured."""

from __future__ import annotations

import keras
import networks
import numpy as np
import pytest
from helpers import inputs_for, randomise
from keras import layers

from keras_gcp import criteria
from keras_gcp.channels.trace import trace
from keras_gcp.criteria.feature_relevance import FeatureRelevance
from keras_gcp.criteria.relevance import layer_table, rules
from keras_gcp.errors import InvalidArgument, UnsupportedModel
from keras_gcp.sample import DrawnSample


def _scores(model, examples=12, **arguments):
    """`(scores by the criterion, relevance of every layer)`."""
    randomise(model)
    x, y = inputs_for(model, examples), np.arange(examples) % model.output_shape[-1]
    criterion = FeatureRelevance(**arguments)
    return (
        criteria.checked_scores(criterion, model, trace(model), DrawnSample(x, y)),
        criteria.relevance_scores(model, x, y, **arguments),
    )


def test_layers_are_scored_by_the_relevance_at_their_output():
    scores, relevance = _scores(networks.plain())
    for path in ("a_conv", "b_conv"):
        np.testing.assert_allclose(scores[path], relevance[path], atol=1e-6)
        activation = relevance[path.replace("conv", "act")]  # passes unchanged
        np.testing.assert_allclose(scores[path], activation, atol=1e-6)


def test_the_last_convolution_of_a_block_is_scored_by_the_sum_it_goes_into():
    scores, relevance = _scores(networks.residual())
    for path, addition in (
        ("b1b_conv", "b1_add"),  # through batch normalisation
        ("b2b_conv", "b2_add"),
        ("b2_shortcut", "b2_add"),
    ):
        np.testing.assert_allclose(scores[path], relevance[addition], atol=1e-6)
        assert not np.allclose(scores[path], relevance[path], atol=1e-3)
    for path in ("stem_conv", "b1a_conv", "b2a_conv"):  # used elsewhere, or inside the block
        np.testing.assert_allclose(scores[path], relevance[path], atol=1e-6)


def test_an_addition_written_as_an_operation_counts_too():
    inputs = keras.Input((8, 8, 3))
    x = layers.Conv2D(4, 3, padding="same", activation="relu", name="stem")(inputs)
    y = layers.Conv2D(4, 3, padding="same", name="last")(x)
    x = layers.ReLU()(keras.ops.add(x, layers.Dropout(0.3)(y)))
    model = keras.Model(inputs, layers.Dense(3)(layers.GlobalAveragePooling2D()(x)))
    scores, relevance = _scores(model)
    (addition,) = [path for path in relevance if path.startswith("add")]
    np.testing.assert_allclose(scores["last"], relevance[addition], atol=1e-6)


def test_gates_have_scores_of_their_own():
    scores, _ = _scores(networks.squeeze_excite())
    assert (scores["reduce"] > 0).any()
    assert (scores["expand"] > 0).any()


def test_class_weights_can_be_given():
    scores, relevance = _scores(networks.plain(), class_weights=[0.0, 1.0, 0.0, 2.0])
    np.testing.assert_allclose(scores["a_conv"], relevance["a_conv"], atol=1e-6)


def test_only_layers_with_prunable_channels_are_scored():
    scores, relevance = _scores(networks.plain())
    assert set(scores) == {"a_conv", "b_conv"}
    assert "classifier" in relevance


@pytest.mark.parametrize(
    ("name", "message"),
    [("two_outputs", "2 outputs"), ("autoencoder", r"shape \(None, 10, 10, 3\)")],
)
def test_what_is_no_classifier_is_refused_with_another_criterion_named(name, message):
    model = networks.ALL[name]()
    model.compile("sgd", "mse")
    sample = DrawnSample(inputs_for(model, 4), np.arange(4))
    with pytest.raises(UnsupportedModel, match=f"{message}.*criterion='taylor'"):
        criteria.check(criteria.get("feature_relevance"), model, trace(model), sample)


def test_labels_are_checked_before_any_work():
    model = networks.plain()
    sample = DrawnSample(inputs_for(model, 6), np.arange(6))
    with pytest.raises(InvalidArgument, match="from 0 to 3"):
        criteria.check(criteria.get("feature_relevance"), model, trace(model), sample)


def test_a_branch_that_ends_in_a_table_look_up_takes_no_relevance():
    inputs = keras.Input((6,))
    main = layers.Dense(5, name="main")(inputs)
    index = keras.ops.argmax(layers.Dense(4, name="chooser")(inputs), axis=-1)
    looked_up = layers.Embedding(4, 5, name="embedding")(index)
    model = keras.Model(inputs, layers.Dense(3)(layers.Add(name="add")([main, looked_up])))
    scores, relevance = _scores(model)
    assert set(scores) == {"main", "embedding"}
    np.testing.assert_allclose(scores["main"], relevance["add"], atol=1e-6)
    assert not relevance["chooser"].any()


def test_a_layer_that_no_relevance_reaches_is_named(monkeypatch):
    monkeypatch.setitem(rules._RULES, layers.Identity, layer_table.SOURCE)
    inputs = keras.Input((6,))
    x = layers.Identity()(layers.Dense(5, name="hidden")(inputs))
    model = keras.Model(inputs, layers.Dense(3)(x))
    sample = DrawnSample(np.zeros((3, 6), "float32"), np.arange(3))
    with pytest.raises(UnsupportedModel, match="No relevance reaches layer 'hidden'"):
        criteria.check(criteria.get("feature_relevance"), model, trace(model), sample)
