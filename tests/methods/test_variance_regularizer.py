"""A penalty that lets the criterion `input_variance` rank more clearly."""

import keras
import networks
import numpy as np
import pytest
from helpers import inputs_for, randomise

import keras_gcp
from keras_gcp import criteria
from keras_gcp.channels.trace import trace
from keras_gcp.criteria.input_variance import contributed
from keras_gcp.criteria.readers import readers_with_inputs
from keras_gcp.errors import InvalidArgument, UnsupportedModel
from keras_gcp.methods import VarianceRegularizer
from keras_gcp.methods.penalties.variance import shares_of
from keras_gcp.sample import DrawnSample


def entropy(shares):
    shares = shares[shares > 0]
    return -float((shares * np.log(shares)).sum())


def entropies(model, x):
    scores = criteria.get("input_variance")(model, trace(model), DrawnSample(x, None))
    return {path: entropy(found / found.sum()) for path, found in scores.items()}


@pytest.mark.parametrize(
    "name", ["residual", "flatten_dense", "concatenated_with_itself", "depthwise"]
)
def test_the_penalty_looks_at_the_shares_that_the_criterion_ranks_by(name):
    model = randomise(networks.ALL[name]())
    channels, x = trace(model), inputs_for(model, 24)
    for reader, read in readers_with_inputs(model, channels, DrawnSample(x, None), 24):
        _, variances = contributed(reader, read, channels.tensors[reader.source.index])
        shares = keras.ops.convert_to_numpy(shares_of(reader, keras.ops.convert_to_tensor(read)))
        np.testing.assert_allclose(shares, variances / variances.sum(), rtol=1e-3, atol=1e-6)


def fitted(callbacks, epochs=1, run_eagerly=True):
    keras.utils.set_random_seed(0)
    model = networks.plain()
    model.compile(
        keras.optimizers.Adam(0.01), "sparse_categorical_crossentropy", run_eagerly=run_eagerly
    )
    x = inputs_for(model, 32)
    history = model.fit(
        x, np.arange(32) % 4, batch_size=16, epochs=epochs, verbose=0, callbacks=callbacks
    )
    return model, x, history


def test_training_with_the_penalty_lowers_the_entropy_of_the_shares():
    plain, x, without = fitted([], epochs=3)
    penalized, _, with_penalty = fitted([VarianceRegularizer(0.5, examples=16)], epochs=3)
    before, after = entropies(plain, x), entropies(penalized, x)
    assert all(after[path] < before[path] - 0.01 for path in before)
    assert with_penalty.history["loss"][0] > without.history["loss"][0] + 0.5


def test_nothing_is_left_of_it_after_the_fit():
    model, x, _ = fitted([VarianceRegularizer()])
    y = np.arange(32) % 4
    assert "compute_loss" not in vars(model)
    by_hand = keras.losses.sparse_categorical_crossentropy(y, model(x, training=False))
    np.testing.assert_allclose(
        model.evaluate(x, y, verbose=0), np.mean(keras.ops.convert_to_numpy(by_hand)), rtol=1e-4
    )


def test_it_goes_on_while_the_network_is_cut():
    pruning = keras_gcp.GradualChannelPruning(
        sample=None,
        budget={"channels": 0.6},
        schedule=keras_gcp.schedules.one_shot(1),
        criterion="l2_norm",
        selection={"align": 1},
        verbose=0,
    )
    model, x, _ = fitted([pruning, VarianceRegularizer(0.5)], 2, run_eagerly=False)
    assert len(pruning.events) == 1
    assert entropies(model, x)


def test_listed_before_what_cuts_it_says_so():
    pruning = keras_gcp.GradualChannelPruning(
        sample=None,
        budget={"channels": 0.6},
        schedule=keras_gcp.schedules.one_shot(1, unit="step"),
        criterion="l2_norm",
        selection={"align": 1},
        verbose=0,
    )
    with pytest.raises(InvalidArgument, match=r"List it after the callback that prunes"):
        fitted([VarianceRegularizer(), pruning])


@pytest.mark.parametrize("strength", [0, -1, "much", float("nan")])
def test_a_strength_that_is_none_is_refused(strength):
    with pytest.raises(InvalidArgument, match=r"`strength`.*such as 1e-3"):
        VarianceRegularizer(strength)


def test_a_model_without_channels_to_prune_is_refused():
    inputs = keras.Input((4,))
    model = keras.Model(inputs, keras.layers.Dense(3)(inputs))
    model.compile("sgd", "mse")
    with pytest.raises(UnsupportedModel, match="nothing to penalise"):
        model.fit(np.ones((4, 4)), np.ones((4, 3)), verbose=0, callbacks=[VarianceRegularizer()])
