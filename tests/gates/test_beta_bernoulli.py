"""Kumaraswamy's distribution, relaxed draws, and the gate that both make."""

from __future__ import annotations

import keras
import networks
import numpy as np
import pytest
from helpers import flat_outputs, inputs_for, randomise
from keras import ops
from scipy import integrate, special, stats

from keras_gcp import gates
from keras_gcp.errors import InvalidArgument
from keras_gcp.gates import kumaraswamy
from keras_gcp.gates.beta_bernoulli import (
    inverse_softplus,
    parameters_at,
    positive,
    relaxed_bernoulli,
)
from keras_gcp.gates.removal import all_frozen

PAIRS = [(1.0, 1.0), (2.0, 0.5), (0.3, 4.0), (0.7, 0.2), (5.0, 3.0)]


def moment(a, b, order):
    """`E[x^n] = b B(1 + n/a, b)`."""
    return b * special.beta(1 + order / a, b)


def as_tensor(value):
    return ops.convert_to_tensor(np.asarray(value, "float32"))


def array(tensor):
    return ops.convert_to_numpy(tensor)


def probabilities_of_draws(a, b, count=200_000):
    u = np.random.default_rng(0).uniform(1e-6, 1 - 1e-6, count)
    return special.expit(array(kumaraswamy.logit_of_draw(a, b, as_tensor(u))))


def test_gamma_functions_are_those_of_scipy():
    x = np.geomspace(1e-3, 1e4, 200).astype("float32")
    np.testing.assert_allclose(
        kumaraswamy.log_gamma(as_tensor(x)), special.gammaln(x), rtol=2e-6, atol=2e-5
    )
    np.testing.assert_allclose(
        kumaraswamy.digamma(as_tensor(x)), special.digamma(x), rtol=2e-6, atol=2e-6
    )


@pytest.mark.parametrize(("a", "b"), [*PAIRS, (1e-3, 1.0), (1e-3, 1e-2), (1e-4, 0.5)])
def test_the_mean_is_that_of_the_beta_function(a, b):
    found = kumaraswamy.mean(as_tensor(a), as_tensor(b))
    expected = np.exp(np.log(b) + special.betaln(1 + 1 / a, b))
    np.testing.assert_allclose(found, expected, rtol=1e-5)


@pytest.mark.parametrize(("a", "b"), PAIRS)
def test_draws_have_the_mean_and_the_variance_of_the_distribution(a, b):
    draws = probabilities_of_draws(a, b)
    variance = moment(a, b, 2) - moment(a, b, 1) ** 2
    error = np.sqrt(variance / len(draws))
    assert abs(draws.mean() - moment(a, b, 1)) < 4 * error
    np.testing.assert_allclose(draws.var(), variance, rtol=0.02)


@pytest.mark.parametrize("alpha", [1e-4, 0.5])
@pytest.mark.parametrize(("a", "b"), PAIRS)
def test_the_divergence_is_that_of_draws(a, b, alpha):
    """The mean of the log ratio of both densities, by draws and by quadrature in u."""

    def log_ratio(u):
        # 1 - x^a = u^(1/b), so nothing is lost where x is nearly 0 or 1.
        log_x = np.log1p(-(u ** (1 / b))) / a
        own = np.log(a * b) + (a - 1) * log_x + (b - 1) / b * np.log(u)
        return own - np.log(alpha) - (alpha - 1) * log_x

    found = float(kumaraswamy.divergence_from_beta(as_tensor(a), as_tensor(b), alpha))
    draws = log_ratio(np.random.default_rng(0).uniform(size=200_000))
    assert abs(draws.mean() - found) < 4 * draws.std() / np.sqrt(len(draws))
    np.testing.assert_allclose(found, integrate.quad(log_ratio, 0, 1)[0], rtol=1e-4)


def test_the_divergence_is_0_for_the_prior_itself_only():
    same = kumaraswamy.divergence_from_beta(as_tensor(0.25), as_tensor(1.0), 0.25)
    assert abs(float(same)) < 1e-6
    other = kumaraswamy.divergence_from_beta(as_tensor([0.25, 0.2]), as_tensor([1.1, 1.0]), 0.25)
    assert np.all(array(other) > 0)


def test_cold_draws_are_0_or_1_with_the_chance_of_the_logit_and_hot_ones_are_half():
    chance = np.array([0.02, 0.3, 0.9])
    v = np.random.default_rng(0).uniform(size=(50_000, 3)).astype("float32")
    logits = as_tensor(special.logit(chance))
    cold = np.array(relaxed_bernoulli(logits, as_tensor(v), 1e-3))
    assert np.minimum(cold, 1 - cold).mean() < 1e-3
    # So it is at any temperature: which side of one half a draw falls on.
    for temperature in (1e-3, 0.1, 2.0):
        above = np.array(relaxed_bernoulli(logits, as_tensor(v), temperature)) > 0.5
        error = np.sqrt(chance * (1 - chance) / len(v))
        assert np.all(np.abs(above.mean(axis=0) - chance) < 4 * error)
    np.testing.assert_allclose(relaxed_bernoulli(logits, as_tensor(v), 1e6), 0.5, atol=1e-4)


def built(units=4, **settings):
    gate = gates.BetaBernoulli(units, **settings)
    gate.build((None, units))
    return gate


@pytest.mark.parametrize("initial", [0.05, 0.5, 0.9])
def test_a_new_gate_has_the_chance_that_was_asked_for(initial):
    gate = built(initial=initial, threshold=0.1)
    np.testing.assert_allclose(array(gate.values()), initial, rtol=1e-4)
    (found,) = array(gate(np.ones((1, 4))))
    np.testing.assert_allclose(found, initial if initial > 0.1 else 0, rtol=1e-4)


def test_factors_in_training_have_the_expected_chance_as_their_mean():
    gate = built(2000, initial=0.7, temperature=0.01)
    found = array(gate(np.ones((64, 2000), "float32"), training=True))
    assert found.std(axis=0).max() > 0.3, "factors of examples differ"
    chances = found.mean(axis=0)
    assert np.ptp(chances) > 0.5, "chances of channels differ, too: they are drawn"
    assert abs(found.mean() - 0.7) < 4 * chances.std() / np.sqrt(2000)


def test_the_penalty_is_the_divergence_however_often_a_gate_is_called():
    gate = built(3, alpha=0.2, kl_weight=0.5)
    for _ in range(2):
        gate(np.ones((2, 3), "float32"), training=True)
    a, b = positive(gate.shape_parameters, gate.speed)
    expected = 0.5 * ops.sum(kumaraswamy.divergence_from_beta(a, b, 0.2))
    np.testing.assert_allclose(array(sum(gate.losses)), array(expected), rtol=1e-6)


def test_a_gate_draws_once_for_all_that_read_its_channels_and_anew_in_the_next_call():
    inputs = keras.Input((5,))
    gate = gates.BetaBernoulli(initial=0.5)
    model = keras.Model(inputs, [gate(inputs), gate(2 * inputs)])
    x = np.ones((3, 5), "float32")
    first, second = (array(y) for y in model(x, training=True))
    np.testing.assert_allclose(second, 2 * first, rtol=1e-6)
    assert np.abs(array(model(x, training=True)[0]) - first).max() > 1e-3


def parameters_of(chances, speed):
    """Weights of a gate with these expected chances."""
    ab = [[inverse_softplus(part) / speed for part in parameters_at(one)] for one in chances]
    return np.array(ab).T


def test_channels_that_are_added_share_a_gate_and_the_narrow_network_is_the_frozen_one():
    model = randomise(networks.residual())
    gated = gates.insert(model, gates.BetaBernoulli(threshold=0.3))
    found = gates.gates_of(gated)
    # Both convolutions that are added, and the shortcut of the second block with its branch.
    assert sorted(gate.channels for gate in found) == [8, 8, 12, 12]
    rng = np.random.default_rng(0)
    for gate in found:
        opened = rng.permutation(gate.channels) % 2
        chances = np.where(opened, rng.uniform(0.4, 0.99, len(opened)), 0.1)
        gate.shape_parameters.assign(parameters_of(chances, gate.speed))
        np.testing.assert_array_equal(gate.hard(), opened)
    narrow = gates.remove(gated)
    assert narrow.count_params() < model.count_params()
    x = inputs_for(model)
    with all_frozen(gated):
        expected = flat_outputs(gated, x)
    np.testing.assert_allclose(flat_outputs(narrow, x)[0], expected[0], rtol=1e-4, atol=1e-5)


def test_more_weight_on_the_divergence_closes_more_channels():
    """Of a network that computes the right thing already, so that draws decide little."""
    rng = np.random.default_rng(0)
    x = np.tile(rng.normal(size=(256, 12)), (8, 1)).astype("float32")
    right = np.zeros((12, 2), "float32")
    right[:2] = [[2.0, -2.0], [2.0, 2.0]]
    y = x @ right

    keras.utils.set_random_seed(1)
    inputs, pair = keras.Input((12,)), [gates.BetaBernoulli(kl_weight=w) for w in (1e-6, 1e-2)]
    readers = [keras.layers.Dense(2) for _ in pair]
    # Two networks in one, so that it is compiled once.
    model = keras.Model(
        inputs, [read(gate(inputs)) for read, gate in zip(readers, pair, strict=True)]
    )
    for read in readers:
        read.kernel.assign(right)
    model.compile(keras.optimizers.Adam(0.03), ["mse", "mse"])
    model.fit(x, [y, y], batch_size=64, verbose=0)
    light, heavy = (array(gate.values()) for gate in pair)
    assert heavy[:2].min() > 0.5 > heavy[2:].max(), "what the loss needs stays open"
    assert light[2:].mean() > heavy[2:].mean() + 0.1


def test_settings_and_weights_survive_a_file(tmp_path):
    gated = gates.insert(networks.plain(), gates.BetaBernoulli(alpha=0.1, initial=0.6, speed=3.0))
    gated.save(tmp_path / "gated.keras")
    loaded = keras.models.load_model(tmp_path / "gated.keras")
    for before, after in zip(gates.gates_of(gated), gates.gates_of(loaded), strict=True):
        assert after.get_config() == before.get_config()
        np.testing.assert_array_equal(array(after.values()), array(before.values()))
    x = inputs_for(gated)
    np.testing.assert_allclose(flat_outputs(loaded, x)[0], flat_outputs(gated, x)[0], rtol=1e-5)


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"alpha": 0}, "`alpha` of BetaBernoulli expects a number above 0. Received: 0"),
        ({"temperature": -1.0}, "`temperature` of BetaBernoulli expects a number above 0"),
        ({"kl_weight": "much"}, "`kl_weight` of BetaBernoulli expects a number from 0"),
        ({"initial": 1.0}, "`initial` expects a probability from 0.0001 to 0.9999"),
        ({"speed": None}, "`speed` of BetaBernoulli expects a number above 0"),
    ],
)
def test_bad_settings_are_refused(settings, told):
    with pytest.raises(InvalidArgument, match=told):
        gates.BetaBernoulli(**settings)


def test_draws_follow_the_distribution_and_not_only_its_moments():
    a, b = 0.7, 0.6
    draws = probabilities_of_draws(a, b, 20_000)
    assert stats.kstest(draws, lambda x: 1 - (1 - x**a) ** b).pvalue > 0.01
