"""Examples join in once the large maps are behind: as many as fit, and the right ones."""

import keras
import networks
import numpy as np
import pytest
from helpers import inputs_for, random_plan, randomise
from hypothesis import given
from hypothesis import strategies as st

import keras_gcp
from keras_gcp.compensation import paired_pass
from keras_gcp.compensation.joining import examples_by_call

SIZES = st.lists(st.integers(1, 500), min_size=1, max_size=12)


@given(SIZES, st.integers(1, 60), st.integers(1, 20_000))
def test_examples_grow_and_fit(numbers, total, most):
    found = examples_by_call(numbers, total, most)
    counts = list(found.values())
    assert next(iter(found)) == 0 and list(found) == sorted(found)
    assert counts == sorted(set(counts))
    for at, count in found.items():
        assert count == 1 or count * max(numbers[at:]) <= most
    if numbers[-1] * total <= most:
        assert counts[-1] == total


@pytest.fixture
def few_at_first(monkeypatch):
    """The first layers of small networks see a few examples only."""
    monkeypatch.setattr(paired_pass._PairedPass, "most_numbers", 8 * 8 * 12 * 10)


@pytest.fixture
def seen(monkeypatch):
    """Name of a layer to what enters it in both networks, without channels that have gone."""
    found = {}
    own = paired_pass.reconstruction_for

    def recording(layer):
        reconstruct = own(layer)

        def record(place):
            kept = place.keep[place.channels.tensors[place.call.inputs[0].index].reshape(-1)]
            wide, narrow = (np.array(x[0]) for x in (place.wide_inputs, place.narrow_inputs))
            found[layer.name] = wide, narrow[..., kept]
            return reconstruct(place)

        return None if reconstruct is None else record

    monkeypatch.setattr(paired_pass, "reconstruction_for", recording)
    return found


@pytest.mark.parametrize("name", ["plain", "residual", "concatenation", "nested"])
def test_late_layers_see_all_examples_as_both_networks_compute_them(name, few_at_first, seen):
    model = randomise(networks.ALL[name]())
    x = inputs_for(model, batch=40)
    plan = random_plan(model, share=0.7)
    narrow = keras_gcp.apply(model, plan, (x, None))
    counts = [len(wide) for wide, _ in seen.values()]
    assert min(counts) < 40 and counts == sorted(counts)
    for found, network in zip(seen["classifier"], (model, narrow), strict=True):
        before = keras.Model(network.inputs, network.get_layer("classifier").input)
        expected = before.predict(x, verbose=0)
        assert found.shape == expected.shape
        np.testing.assert_allclose(np.sort(found, axis=0), np.sort(expected, axis=0), atol=1e-4)


def test_the_result_is_that_of_all_examples_at_once(few_at_first, monkeypatch):
    model = randomise(networks.plain())
    x = inputs_for(model, batch=64)
    plan = random_plan(model)
    joined = keras_gcp.apply(model, plan, (x, None))
    monkeypatch.setattr(paired_pass._PairedPass, "most_numbers", 2**30)
    at_once = keras_gcp.apply(model, plan, (x, None))
    out, expected = (one.predict(x, verbose=0) for one in (joined, at_once))
    plain = keras_gcp.apply(model, plan).predict(x, verbose=0)
    assert np.square(out - expected).sum() < 0.1 * np.square(plain - expected).sum()
