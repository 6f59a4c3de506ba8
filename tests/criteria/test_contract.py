"""What every criterion promises. Registered criteria are picked up by themselves."""

from __future__ import annotations

import functools

import keras
import networks
import numpy as np
import pytest
from helpers import inputs_for, randomise

from keras_gcp import criteria, gates
from keras_gcp.channels.trace import trace
from keras_gcp.criteria.normalization import NORMALIZATIONS
from keras_gcp.errors import InvalidArgument, UnsupportedModel
from keras_gcp.sample import DrawnSample

CLASSIFIERS = sorted(set(networks.ALL) - {"two_outputs", "autoencoder"})

# Networks with a prunable layer that no batch normalisation follows, nor any on the way.
WITHOUT_NORMALISATION = {
    "flatten_dense",
    "nested",
    "residual",
    "sequence",
    "sequential",
    "shared_layer",
    "siamese",
    "squeeze_excite",
}


def _case(name, examples=12, gated=False):
    keras.utils.set_random_seed(0)
    model = randomise(networks.ALL[name]())
    if gated:
        model = gates.insert(model, gates.ScaleGate())
        rng = np.random.default_rng(0)
        for gate in gates.gates_of(model):
            gate.factor.assign(rng.random(gate.factor.shape))
    model.compile("sgd", "sparse_categorical_crossentropy")
    y = np.arange(examples) % model.output_shape[-1]
    return model, trace(model), DrawnSample(inputs_for(model, examples), y)


@pytest.fixture(scope="module")
def shared_case():
    """Built once for all criteria: each leaves the model as it was, which a test below proves."""
    return functools.cache(_case)


def _applies(criterion, name):
    return criterion != "bn_scale" or name not in WITHOUT_NORMALISATION


GATED = {"gate_value"}  # Criteria that look at gates, so that a network must have some.

FAST = {"depthwise", "nested", "padded_shortcut", "squeeze_excite"}
"""On these the fast tests try every criterion; on the others one by weights and one by examples."""
FAST_CRITERIA = {"l2_norm", "taylor"}

PAIRS = [
    pytest.param(c, n, marks=[] if n in FAST or c in FAST_CRITERIA else [pytest.mark.slow])
    for n in CLASSIFIERS
    for c in criteria.names()
    if _applies(c, n)
]


@pytest.mark.parametrize(("criterion", "name"), PAIRS)
def test_every_prunable_layer_gets_a_finite_score_per_channel(criterion, name, shared_case):
    model, channels, sample = shared_case(name, gated=criterion in GATED)
    scores = criteria.checked_scores(criteria.get(criterion), model, channels, sample)
    for path, coupled in channels.produced.items():
        if channels.prunable[coupled].any():
            assert scores[path].shape == coupled.shape
            assert np.isfinite(scores[path]).all()
            assert len(np.unique(scores[path].round(9))) > 1, "all channels alike"
    coupled = criteria.coupled_scores(scores, channels, "mean")
    assert np.isfinite(coupled[channels.prunable]).all()


@pytest.mark.parametrize("criterion", criteria.names())
@pytest.mark.parametrize("name", ["padded_shortcut", "depthwise"])
def test_scores_are_the_same_each_time_and_for_any_order_of_the_examples(
    criterion, name, shared_case
):
    model, channels, sample = shared_case(name, gated=criterion in GATED)
    order = np.random.default_rng(0).permutation(len(sample))
    shuffled = DrawnSample(sample.x[order], sample.y[order])
    first, again, other = (
        criteria.get(criterion, seed=7)(model, channels, s) for s in (sample, sample, shuffled)
    )
    for path in first:
        np.testing.assert_array_equal(first[path], again[path])
        np.testing.assert_allclose(first[path], other[path], rtol=1e-3, atol=1e-6)


@pytest.fixture(scope="module")
def trained_case():
    """Traced once for all criteria, with and without gates: each leaves it as it was."""

    @functools.cache
    def case(gated):
        model, channels, sample = _case("padded_shortcut", gated=gated)
        model.fit(sample.x, sample.y, verbose=0)
        model.get_layer("stem_conv").trainable = False
        return model, channels, sample

    return case


@pytest.mark.parametrize("criterion", criteria.names())
def test_the_model_is_left_as_it_was(criterion, trained_case):
    model, channels, sample = trained_case(criterion in GATED)
    before = [keras.ops.convert_to_numpy(v) for v in (*model.variables, *model.optimizer.variables)]
    state = (model.train_function, model.test_function, model.predict_function, model.optimizer)
    criteria.checked_scores(criteria.get(criterion), model, channels, sample)
    assert state == (
        model.train_function,
        model.test_function,
        model.predict_function,
        model.optimizer,
    )
    assert not model.get_layer("stem_conv").trainable
    for old, new in zip(before, (*model.variables, *model.optimizer.variables), strict=True):
        np.testing.assert_array_equal(old, keras.ops.convert_to_numpy(new))


@pytest.mark.parametrize("criterion", criteria.names())
def test_a_criterion_says_itself_whether_it_needs_a_sample(criterion, shared_case):
    model, channels, _ = shared_case("padded_shortcut", gated=criterion in GATED)
    chosen = criteria.get(criterion)
    if criteria.needs_sample(chosen):
        with pytest.raises(ValueError, match=f"'{criterion}'.*sample"):
            criteria.checked_scores(chosen, model, channels, None)
    else:
        assert criteria.checked_scores(chosen, model, channels, None)


@pytest.mark.parametrize("criterion", sorted({*criteria.names()} - {"auto"}))
def test_a_criterion_says_itself_how_its_layers_are_compared(criterion):
    kind = type(criteria.get(criterion))
    assert vars(kind)["normalize"] in NORMALIZATIONS
    assert criteria.normalization_of(criteria.get(criterion)) == kind.normalize


@pytest.fixture(scope="module")
def unusual_cases():
    """Networks that not every criterion can score."""
    models = [
        randomise(networks.ALL[name]()) for name in ("two_outputs", "autoencoder", "sequence")
    ]
    labels = np.arange(6) % 3
    return [(one, trace(one), DrawnSample(inputs_for(one, 6), labels)) for one in models]


@pytest.mark.parametrize("criterion", criteria.names())
def test_a_mistake_shows_in_the_check_before_any_work(criterion, unusual_cases):
    """What `check` lets pass has scores, so nothing but `check` need refuse anything."""
    for model, channels, sample in unusual_cases:
        chosen = criteria.get(criterion)
        try:
            criteria.check(chosen, model, channels, sample)
        except (InvalidArgument, UnsupportedModel) as error:
            assert isinstance(error, InvalidArgument) or "l2_norm" in str(error)
        else:
            chosen(model, channels, sample)


@pytest.mark.parametrize("criterion", ["feature_relevance", "taylor", "compensation_aware"])
def test_scoring_checks_once(criterion, monkeypatch):
    model, channels, sample = _case("padded_shortcut")
    chosen, asked = criteria.get(criterion), []
    own = type(chosen).check

    def counted(self, *arguments):
        asked.append(arguments)
        own(self, *arguments)

    monkeypatch.setattr(type(chosen), "check", counted)
    criteria.checked_scores(chosen, model, channels, sample)
    assert len(asked) == 1
